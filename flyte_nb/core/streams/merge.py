"""Merge: several streams as one, in order of arrival (``flyte.merge``). Runs in: the calling code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from typing import Any, TypeVar

from flyte_nb.core.streams.stream import Stream
from flyte_nb.core.streams.stream_task import in_threads

T = TypeVar("T")


async def merge(*streams: AsyncIterable[T] | Iterable[T]) -> AsyncGenerator[T, None]:
    """Items of several streams as they come; all of them begin at once, and an error of one ends the others.

    Args:
        *streams: Calls of tasks that yield, or any other asynchronous or plain iterables.

    Yields:
        The next item that has arrived, whichever stream it is of.

    Example:
        >>> async for line in flyte.merge(*(lines(host) for host in hosts)): ...
    """
    iterators: list[Any] = [aiter(each) if isinstance(each, AsyncIterable) else in_threads(each) for each in streams]
    waiting = {asyncio.ensure_future(_next(each)): each for each in iterators}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            # What has come is given before an error is raised.
            for arrived in sorted(done, key=lambda task: task.exception() is not None):
                iterator = waiting.pop(arrived)
                try:
                    item = arrived.result()
                except StopAsyncIteration:
                    continue
                yield item
                # What is there by now, and no more: a producer that stays ahead must not keep the others waiting.
                for _ in range(iterator.at_hand if isinstance(iterator, Stream) else 0):
                    if not iterator.has_more:
                        break
                    yield await anext(iterator)
                waiting[asyncio.ensure_future(_next(iterator))] = iterator
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.gather(*(each.aclose() for each in iterators if hasattr(each, "aclose")), return_exceptions=True)


async def _next(iterator: AsyncIterator[T]) -> T:
    return await anext(iterator)
