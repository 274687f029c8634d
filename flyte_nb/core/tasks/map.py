"""``flyte.map``: one task over many inputs, results in order as soon as they are there. Runs in: the calling code.

Submission goes in batches and results come back in batches: with a coroutine and a wake-up per item, 10,000 no-ops took
twice as long. Inputs are consumed lazily where ``concurrency`` bounds what is in flight, so endless iterables work there.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import itertools
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator
from typing import Any, Literal, TypeAlias, TypeVar, overload

from flyte_nb.core.control.calls import Settled
from flyte_nb.core.control.flight import Ticket
from flyte_nb.core.control.gateway import Gateway
from flyte_nb.core.tasks.context import Context, current
from flyte_nb.core.tasks.from_sync import run_coroutine
from flyte_nb.core.tasks.prepare import prepare
from flyte_nb.core.tasks.task import Task, inside_trace
from flyte_nb.core.transport.mailbox import Mailbox, mailbox_of, running_loop

T = TypeVar("T")

#: Seconds that a map which ends early waits for its cancelled items. A body has a few seconds for its clean-up, then its
#: process is replaced: what takes longer has lost its worker.
END_PATIENCE = 15.0

#: Calls prepared before they are handed over: large enough to spare wake-ups, small enough to start workers early.
SUBMIT_BATCH = 256


class _Target:
    """What a map calls: a task, or a partial of one."""

    def __init__(self, func: Any) -> None:
        partial = func if isinstance(func, functools.partial) else None
        task = partial.func if partial else func
        if not isinstance(task, Task):
            what = getattr(task, "__name__", repr(task))
            raise TypeError(
                f"flyte.map takes a task or a functools.partial of one, not {what}. Decorate it with @env.task."
            )
        self.task: Task[..., Any] = task
        self.args: tuple[Any, ...] = partial.args if partial else ()
        self.kwargs: dict[str, Any] = partial.keywords if partial else {}
        if partial:
            self._check_partial()

    def _check_partial(self) -> None:
        names = list(self.task.interface.inputs)
        free = [n for n in names[len(self.args) :] if n not in self.kwargs]
        slot = names[len(self.args)] if len(self.args) < len(names) else None
        if slot is not None and slot in self.kwargs and free:
            raise TypeError(
                f"Parameter '{slot}' is provided both as positional argument and keyword argument: the mapped value of "
                f"{self.task.name} goes there. Bind the other parameters instead."
            )
        if len(free) != 1:
            raise TypeError(
                f"Partial function must leave exactly one parameter unspecified: the partial of {self.task.name} leaves "
                f"{len(free)} ({', '.join(free) or 'none'})."
            )

    def call(self, values: tuple[Any, ...]) -> Any:
        """Call outside a run: the plain function."""
        return self.task.func(*self.args, *values, **self.kwargs)


class _Window:
    """Calls of one map in flight: submits ahead, collects in order."""

    def __init__(
        self,
        context: Context,
        target: _Target,
        inputs: Iterator[tuple[Any, ...]],
        group: str,
        limit: int,
        return_exceptions: bool,
    ) -> None:
        self.gateway: Gateway = context.gateway
        self._context = context
        self._target = target
        self._inputs = inputs
        self._group = group
        self._limit = limit
        self._return_exceptions = return_exceptions
        #: Results by index that came before their turn.
        self.done: dict[int, Settled] = {}
        self.tickets: dict[int, Ticket] = {}
        self.submitted = 0
        #: Whether the inputs are used up.
        self.exhausted = False
        #: First failure in order of arrival, for ``return_exceptions=False``.
        self.failed: Settled | None = None
        self.wake: Callable[[], None] = lambda: None

    def fill(self) -> None:
        """Submit as many calls as may be in flight."""
        room = self._limit - len(self.tickets) if self._limit > 0 else -1
        batch: list[Ticket] = []
        while room and not self.exhausted:
            try:
                values = next(self._inputs)
            except StopIteration:
                self.exhausted = True
                break
            room -= 1
            index = self.submitted
            self.submitted += 1
            try:
                call = prepare(
                    self._context, self._target.task, (*self._target.args, *values), self._target.kwargs, self._group
                )
            except Exception as exc:
                self.tickets[index] = Ticket(None, _nobody)  # type: ignore[arg-type]
                self._settle(index, Settled("raised", None, error=exc))
                continue
            ticket = self.tickets[index] = Ticket(call, functools.partial(self._settle, index))
            batch.append(ticket)
            if len(batch) >= SUBMIT_BATCH:
                self._hand_over(batch)
                batch = []
        if batch:
            self._hand_over(batch)

    def _hand_over(self, batch: list[Ticket]) -> None:
        self.gateway.submit_all(batch)
        time.sleep(0)  # let the engine begin with them: it waits for the GIL

    def _settle(self, index: int, settled: Settled) -> None:
        # On the controller's thread.
        self.done[index] = settled
        if settled.kind != "ok" and self.failed is None:
            self.failed = settled
        self.wake()

    def cancel(self, then: Callable[[], None]) -> bool:
        """Cancel what is still out.

        Args:
            then: Called, on the controller's thread, when nothing of it executes any more.

        Returns:
            Whether anything was.
        """
        out = [t for index, t in self.tickets.items() if index not in self.done and t.call is not None]
        if out:
            self.gateway.drop_all(out, "the map ended early", then)
        return bool(out)

    def has(self, index: int) -> bool:
        """Submit what may be in flight now; whether there is an input with this index."""
        if not self.exhausted and (self._limit > 0 or not self.submitted):
            self.fill()
        return not self.exhausted or index < self.submitted

    def take(self, index: int) -> Settled | None:
        """The result with this index if it is there; any failure, as soon as there is one, where failures are raised."""
        settled = self.done.pop(index, None)
        if settled is not None:
            del self.tickets[index]
            return settled
        return None if self._return_exceptions else self.failed

    def open(self, settled: Settled) -> Any:
        """The value, or its error: raised, or as a value."""
        return _open(settled, self._return_exceptions)


def _end(window: _Window) -> None:
    """Cancel the items that are out, and wait for their end."""
    ended = threading.Event()
    # A forgotten generator is closed by the garbage collector in whatever thread it runs: the controller's must go on.
    if window.cancel(ended.set) and running_loop() is not window.gateway.loop:
        with window.gateway.blocking():
            ended.wait(END_PATIENCE)


async def _end_aio(window: _Window, box: Mailbox) -> None:
    """Cancel the items that are out, and await their end."""
    ended = asyncio.Event()
    if window.cancel(lambda: box.post(ended.set)):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), END_PATIENCE)


def _nobody(_settled: Settled) -> None:
    """Ignore the result of a call that could not be prepared."""


def _zipped(iterables: tuple[Iterable[Any], ...]) -> Iterator[tuple[Any, ...]]:
    return zip(*iterables, strict=False) if iterables else iter(())


def _open(settled: Settled, return_exceptions: bool) -> Any:
    if not return_exceptions:
        return settled.result()
    try:
        return settled.result()
    except Exception as exc:  # a CancelledError is none
        return exc


def _group_name(target: _Target, group_name: str | None) -> str:
    return f"{target.task.name}_{group_name or 'map'}"


class MapResults(Generator[T, None, None]):
    """What ``flyte.map`` gives: a generator of results. It may also be awaited, which gives all of them as a list."""

    def __init__(self, results: Generator[T, None, None], aio: Callable[[], AsyncGenerator[T, None]]) -> None:
        self._results = results
        self._aio = aio

    def __next__(self) -> T:
        return next(self._results)

    def send(self, value: None, /) -> T:
        """As of any generator."""
        return self._results.send(value)

    def throw(self, *args: Any) -> T:
        """As of any generator."""
        return self._results.throw(*args)

    def close(self) -> None:
        """Cancel what is outstanding, and wait for its end."""
        self._results.close()

    def __aiter__(self) -> AsyncIterator[T]:
        return self._aio()

    def __await__(self) -> Generator[Any, None, list[T]]:
        async def collect() -> list[T]:
            return [result async for result in self._aio()]

        return collect().__await__()


#: What can be mapped: a task, or a partial of one.
_Async: TypeAlias = Task[..., Coroutine[Any, Any, T]] | functools.partial[Coroutine[Any, Any, T]]
_Sync: TypeAlias = Task[..., T] | functools.partial[T]


class _Map:
    """``flyte.map``; `aio` is its asynchronous form."""

    @overload
    def __call__(
        self,
        func: _Async[T],
        *args: Iterable[Any],
        group_name: str | None = None,
        concurrency: int = 0,
        return_exceptions: Literal[False] = ...,
    ) -> MapResults[T]: ...
    @overload
    def __call__(
        self,
        func: _Async[T],
        *args: Iterable[Any],
        group_name: str | None = None,
        concurrency: int = 0,
        return_exceptions: bool,
    ) -> MapResults[T | Exception]: ...
    @overload
    def __call__(
        self,
        func: _Sync[T],
        *args: Iterable[Any],
        group_name: str | None = None,
        concurrency: int = 0,
        return_exceptions: Literal[False] = ...,
    ) -> MapResults[T]: ...
    @overload
    def __call__(
        self, func: _Sync[T], *args: Iterable[Any], group_name: str | None = None, concurrency: int = 0,
        return_exceptions: bool,
    ) -> MapResults[T | Exception]: ...  # fmt: skip
    def __call__(
        self, func: Any, *args: Iterable[Any], group_name: str | None = None, concurrency: int = 0,
        return_exceptions: bool = True,
    ) -> MapResults[Any]:  # fmt: skip
        """Call a task once per input; yield the results in order, each as soon as it and all before it are there.

        Nothing happens until the first iteration. Leaving the loop early cancels what is outstanding. Works in sync and
        async code, inside and outside tasks (outside a run it calls the function directly).

        Args:
            func: A task, sync or async, or a `functools.partial` of one that leaves one parameter free.
            *args: Iterables, zipped; the shortest decides the length.
            group_name: Name of the group in views: ``<task>_<group_name>``, "map" if None.
            concurrency: Calls in flight at once; 0 = all.
            return_exceptions: Whether a failure is yielded in its place (arithmetic on it raises it) or raised. As in
                Flyte, and unlike `asyncio.gather`, this is True by default.

        Yields:
            Results in the order of the inputs.

        Raises:
            TypeError: `func` is no task, or a partial that does not leave exactly one parameter free.
        """
        given: dict[str, Any] = {
            "group_name": group_name, "concurrency": concurrency, "return_exceptions": return_exceptions,
        }  # fmt: skip
        results = _results(func, args, **given)
        return MapResults(results, lambda: self.aio(func, *args, **given))

    @overload
    def aio(
        self,
        func: _Async[T],
        *args: Iterable[Any],
        group_name: str | None = None,
        concurrency: int = 0,
        return_exceptions: Literal[False],
    ) -> AsyncGenerator[T, None]: ...
    @overload
    def aio(
        self,
        func: _Async[T],
        *args: Iterable[Any],
        group_name: str | None = None,
        concurrency: int = 0,
        return_exceptions: bool = True,
    ) -> AsyncGenerator[T | Exception, None]: ...
    @overload
    def aio(
        self,
        func: _Sync[T],
        *args: Iterable[Any],
        group_name: str | None = None,
        concurrency: int = 0,
        return_exceptions: Literal[False],
    ) -> AsyncGenerator[T, None]: ...
    @overload
    def aio(
        self, func: _Sync[T], *args: Iterable[Any], group_name: str | None = None, concurrency: int = 0,
        return_exceptions: bool = True,
    ) -> AsyncGenerator[T | Exception, None]: ...  # fmt: skip
    async def aio(
        self, func: Any, *args: Iterable[Any], group_name: str | None = None, concurrency: int = 0,
        return_exceptions: bool = True,
    ) -> AsyncGenerator[Any, None]:  # fmt: skip
        """`map` for async code: ``async for result in flyte.map.aio(task, inputs): ...``. Arguments as there."""
        context = current()
        target = _Target(func)
        inputs = _zipped(args)
        if context is None:
            async for result in _map_plain(target, inputs, concurrency, return_exceptions):
                yield result
            return
        if context.trace:
            raise inside_trace(target.task, context)
        window = _Window(context, target, inputs, _group_name(target, group_name), concurrency, return_exceptions)
        arrived = asyncio.Event()
        box = mailbox_of(asyncio.get_running_loop())
        window.wake = lambda: box.post(arrived.set)
        try:
            for index in itertools.count():
                if not window.has(index):
                    return
                while (settled := window.take(index)) is None:
                    await arrived.wait()
                    arrived.clear()
                yield window.open(settled)
        finally:
            await _end_aio(window, box)


def _results(
    func: Any, args: tuple[Iterable[Any], ...], *, group_name: str | None, concurrency: int, return_exceptions: bool
) -> Generator[Any, None, None]:
    context = current()
    target = _Target(func)
    inputs = _zipped(args)
    if context is None:
        for values in inputs:
            try:
                result = target.call(values)
                if inspect.iscoroutine(result):
                    result = asyncio.run(result) if running_loop() is None else run_coroutine(result)
            except Exception as exc:
                if not return_exceptions:
                    raise
                result = exc
            yield result
        return
    if context.trace:
        raise inside_trace(target.task, context)
    window = _Window(context, target, inputs, _group_name(target, group_name), concurrency, return_exceptions)
    arrived = threading.Event()
    window.wake = arrived.set
    try:
        for index in itertools.count():
            if not window.has(index):
                return
            while (settled := window.take(index)) is None:
                with context.gateway.blocking():
                    arrived.wait()
                arrived.clear()
            yield window.open(settled)
    finally:
        _end(window)


async def _map_plain(
    target: _Target, inputs: Iterator[tuple[Any, ...]], concurrency: int, return_exceptions: bool
) -> AsyncGenerator[Any, None]:
    """`map.aio` outside a run: the function itself, overlapping, at most `concurrency` at a time."""

    async def one(values: tuple[Any, ...]) -> Any:
        if target.task.is_async:
            return await target.call(values)
        return await asyncio.to_thread(target.call, values)

    pending: deque[asyncio.Task[Any]] = deque()
    try:
        for values in inputs:
            pending.append(asyncio.ensure_future(one(values)))
            if 0 < concurrency <= len(pending):
                yield await _settled(pending.popleft(), return_exceptions)
        while pending:
            yield await _settled(pending.popleft(), return_exceptions)
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def _settled(task: asyncio.Task[Any], return_exceptions: bool) -> Any:
    try:
        return await task
    except Exception as exc:
        if not return_exceptions:
            raise
        return exc


map = _Map()  # noqa: A001 - Flyte's name
