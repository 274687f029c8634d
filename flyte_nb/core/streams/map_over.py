"""Map over a stream: its items go to the next task as they come (``flyte.map.aio(task, stream)``). Runs in: the calling code.

Calls are made as items arrive, at most ``concurrency`` of them in flight; results come in the order of the items. A consumer
that is slow holds back the calls, and these the stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Any

from flyte_nb.core.streams.stream_task import in_threads
from flyte_nb.core.tasks.context import current, group_name
from flyte_nb.core.tasks.map_window import Target
from flyte_nb.core.tasks.prepare import prepare

#: Calls in flight where ``concurrency`` does not say.
CONCURRENCY = 64


async def map_over(
    target: Target, args: tuple[Any, ...], group: str | None, concurrency: int, return_exceptions: bool
) -> AsyncGenerator[Any, None]:
    """Results of a task over asynchronous iterables, of which the shortest decides the length."""
    calls = _Calls(target, group, concurrency or CONCURRENCY)
    sources: list[AsyncIterator[Any]] = [
        aiter(each) if hasattr(type(each), "__aiter__") else _plain(each) for each in args
    ]
    pulling = asyncio.ensure_future(calls.pull(sources))
    try:
        while (call := await calls.oldest()) is not None:
            try:
                result = await call
            except Exception as exc:
                if not return_exceptions:
                    raise
                result = exc
            calls.room.release()
            yield result
        await pulling
    finally:
        left = [pulling, *calls.pending]
        for each in left:
            each.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.gather(*(each.aclose() for each in sources if hasattr(each, "aclose")), return_exceptions=True)


async def _plain(values: Iterable[Any]) -> AsyncGenerator[Any, None]:
    if isinstance(values, list | tuple | range):
        for value in values:
            yield value
    else:
        async for value in in_threads(values):
            yield value


class _Calls:
    """Calls in flight, oldest first."""

    def __init__(self, target: Target, group: str | None, concurrency: int) -> None:
        self._target = target
        self._context = current()
        self._group = f"{target.task.name}_{group_name(group) if group else 'map'}"
        self.room = asyncio.Semaphore(concurrency)
        self.pending: deque[asyncio.Future[Any]] = deque()
        self._news = asyncio.Event()
        self._is_over = False

    async def pull(self, sources: list[AsyncIterator[Any]]) -> None:
        """Make a call of each item that comes, while there is room."""
        try:
            while True:
                await self.room.acquire()
                try:
                    values = tuple([await anext(each) for each in sources])
                except StopAsyncIteration:
                    return
                self.pending.append(asyncio.ensure_future(self._call(values)))
                self._news.set()
        finally:
            self._is_over = True
            self._news.set()

    async def oldest(self) -> asyncio.Future[Any] | None:
        """The oldest call, as soon as there is one; None if none follows."""
        while not self.pending:
            if self._is_over:
                return None
            self._news.clear()
            await self._news.wait()
        return self.pending.popleft()

    async def _call(self, values: tuple[Any, ...]) -> Any:
        target, context = self._target, self._context
        if context is not None:
            call = prepare(context, target.task, (*target.args, *values), target.kwargs, self._group)
            return await context.gateway.wait(call)
        if target.task.is_async:
            return await target.call(values)
        return await asyncio.to_thread(target.call, values)
