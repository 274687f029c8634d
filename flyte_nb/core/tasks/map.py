"""``flyte.map``: one task over many inputs, results in order as soon as they are there. Runs in: the calling code."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
)
from typing import Any, Literal, TypeAlias, TypeVar, overload

from flyte_nb.core.settings.validate import names_options
from flyte_nb.core.tasks.context import current
from flyte_nb.core.tasks.from_sync import run_coroutine
from flyte_nb.core.tasks.map_window import MAX_AHEAD, Target, Window
from flyte_nb.core.tasks.task import Task
from flyte_nb.core.transport.mailbox import mailbox_of, running_loop

T = TypeVar("T")


class MapResults(Generator[T, None, None]):
    """What ``flyte.map`` gives: a generator of results. It may also be awaited, which gives all of them as a list."""

    def __init__(self, results: Generator[T, None, None], aio: Callable[[], AsyncGenerator[T, None]]) -> None:
        self._results = results
        self._aio = aio

    def __iter__(self) -> Generator[T, None, None]:  # noqa: PYI058 - as its base has it
        return self._results

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
#: What it is mapped over: values that are there, or that come.
Inputs: TypeAlias = Iterable[Any] | AsyncIterable[Any]


class _Map:
    """``flyte.map``; `aio` is its asynchronous form."""

    @overload
    def __call__(
        self, func: _Async[T], *args: Inputs, group_name: str | None = None, concurrency: int = 0,
        return_exceptions: Literal[False] = ...,
    ) -> MapResults[T]: ...  # fmt: skip
    @overload
    def __call__(
        self, func: _Async[T], *args: Inputs, group_name: str | None = None, concurrency: int = 0,
        return_exceptions: bool,
    ) -> MapResults[T | Exception]: ...  # fmt: skip
    @overload
    def __call__(
        self, func: _Sync[T], *args: Inputs, group_name: str | None = None, concurrency: int = 0,
        return_exceptions: Literal[False] = ...,
    ) -> MapResults[T]: ...  # fmt: skip
    @overload
    def __call__(
        self, func: _Sync[T], *args: Inputs, group_name: str | None = None, concurrency: int = 0,
        return_exceptions: bool,
    ) -> MapResults[T | Exception]: ...  # fmt: skip
    @names_options
    def __call__(
        self, func: Any, *args: Inputs, group_name: str | None = None, concurrency: int = 0,
        return_exceptions: bool = True,
    ) -> MapResults[Any]:  # fmt: skip
        """Call a task once per input; yield the results in order, each as soon as it and all before it are there.

        Nothing happens until the first iteration. Leaving the loop early cancels what is outstanding. Works in sync and
        async code, inside and outside tasks (outside a run it calls the function directly).

        Args:
            func: A task, sync or async, or a `functools.partial` of one that leaves one parameter free.
            *args: Iterables, zipped; the shortest decides the length.
            group_name: Name of the group in views: ``<task>_<group_name>``, "map" if None.
            concurrency: Calls in flight at once; 0 = all, and of a generator, which may be endless, the next few thousand.
            return_exceptions: Whether a failure is yielded in its place (arithmetic on it raises it) or raised. As in
                Flyte, and unlike `asyncio.gather`, this is True by default.

        Yields:
            Results in the order of the inputs.

        Raises:
            TypeError: `func` is no task, or a partial that does not leave exactly one parameter free.
        """
        target = Target(func, args)
        return MapResults(
            _results(target, args, group_name, concurrency, return_exceptions),
            lambda: _aio(target, args, group_name, concurrency, return_exceptions),
        )

    @overload
    def aio(
        self, func: _Async[T], *args: Inputs, group_name: str | None = None, concurrency: int = 0,
        return_exceptions: Literal[False],
    ) -> AsyncGenerator[T, None]: ...  # fmt: skip
    @overload
    def aio(
        self, func: _Async[T], *args: Inputs, group_name: str | None = None, concurrency: int = 0,
        return_exceptions: bool = True,
    ) -> AsyncGenerator[T | Exception, None]: ...  # fmt: skip
    @overload
    def aio(
        self, func: _Sync[T], *args: Inputs, group_name: str | None = None, concurrency: int = 0,
        return_exceptions: Literal[False],
    ) -> AsyncGenerator[T, None]: ...  # fmt: skip
    @overload
    def aio(
        self, func: _Sync[T], *args: Inputs, group_name: str | None = None, concurrency: int = 0,
        return_exceptions: bool = True,
    ) -> AsyncGenerator[T | Exception, None]: ...  # fmt: skip
    @names_options
    def aio(
        self, func: Any, *args: Inputs, group_name: str | None = None, concurrency: int = 0,
        return_exceptions: bool = True,
    ) -> AsyncGenerator[Any, None]:  # fmt: skip
        """`map` for async code: ``async for result in flyte.map.aio(task, inputs): ...``. Arguments as there."""
        return _aio(Target(func, args), args, group_name, concurrency, return_exceptions)


def _is_async(iterable: object) -> bool:
    """Whether it is for `async for`: a stream, or an asynchronous generator."""
    return isinstance(iterable, AsyncIterable)


_over_streams: Callable[..., AsyncGenerator[Any, None]]


def over_streams_with(map_over: Callable[..., AsyncGenerator[Any, None]]) -> None:
    """Register what maps over streams (`flyte_nb.core.streams`, above this room)."""
    global _over_streams
    _over_streams = map_over


async def _aio(
    target: Target, args: tuple[Any, ...], group_name: str | None, concurrency: int, return_exceptions: bool
) -> AsyncGenerator[Any, None]:
    context = current()
    if any(_is_async(each) for each in args):
        async for result in _over_streams(target, args, group_name, concurrency, return_exceptions):
            yield result
        return
    inputs = target.inputs(args)
    if context is None:
        async for result in _map_plain(target, inputs, concurrency, return_exceptions):
            yield result
        return
    window = Window(context, target, inputs, group_name, concurrency, return_exceptions)
    arrived = asyncio.Event()
    box = mailbox_of(asyncio.get_running_loop())
    window.wake = lambda: box.post(arrived.set)
    try:
        for settled in window.arrivals():
            if settled is None:
                await arrived.wait()
                arrived.clear()
            elif isinstance(settled, list):
                for values in window.values(settled):
                    for value in values:
                        yield value
            else:
                yield window.open(settled)
    finally:
        await window.end_aio(box)


def _results(
    target: Target, args: tuple[Any, ...], group_name: str | None, concurrency: int, return_exceptions: bool
) -> Generator[Any, None, None]:
    context = current()
    inputs = target.inputs(args)
    if context is None:
        for values in inputs:
            try:
                result = target.call(values)
                if inspect.iscoroutine(result):
                    result = run_coroutine(result) if running_loop() else asyncio.run(result)
            except Exception as exc:
                if not return_exceptions:
                    raise
                result = exc
            yield result
        return
    window = Window(context, target, inputs, group_name, concurrency, return_exceptions)
    arrived = threading.Event()
    window.wake = arrived.set
    try:
        for settled in window.arrivals():
            if settled is None:
                with context.gateway.blocking():
                    arrived.wait()
                arrived.clear()
            elif isinstance(settled, list):
                for some in window.values(settled):
                    yield from some
            else:
                yield window.open(settled)
    finally:
        window.end()


async def _map_plain(
    target: Target, inputs: Iterator[tuple[Any, ...]], concurrency: int, return_exceptions: bool
) -> AsyncGenerator[Any, None]:
    """`map.aio` outside a run: the function itself, overlapping, at most `concurrency` at a time."""

    async def one(values: tuple[Any, ...]) -> Any:
        if target.task.is_async:
            return await target.call(values)
        return await asyncio.to_thread(target.call, values)

    limit = concurrency if concurrency > 0 or target.sized else MAX_AHEAD
    pending: deque[asyncio.Task[Any]] = deque()
    try:
        for values in inputs:
            pending.append(asyncio.ensure_future(one(values)))
            if 0 < limit <= len(pending):
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


map: _Map = _Map()  # noqa: A001 - Flyte's name
