"""Stream task: a task whose function yields; its calls are streams. Runs in: everywhere."""

from __future__ import annotations

import asyncio
import inspect
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any, ParamSpec, TypeVar

from flyte_nb.core.interface.annotations import resolve_hints, underlying
from flyte_nb.core.interface.interface import EMPTY, Interface
from flyte_nb.core.streams.inlet import KEPT_BYTES, KEPT_IF_CACHED, KEPT_OF_RUN, Collector, Inlet
from flyte_nb.core.streams.outlet import BUFFER
from flyte_nb.core.streams.stream import Stream
from flyte_nb.core.tasks.context import current
from flyte_nb.core.tasks.task import Task, inside_trace

P = ParamSpec("P")
R = TypeVar("R")

_ASYNC: tuple[Any, ...] = (AsyncIterator, AsyncGenerator)
_SYNC: tuple[Any, ...] = (Iterator, Generator)


def yields(func: Any) -> bool:
    """Whether calling a function gives items one after another: it is a generator, or annotated as an iterator."""
    return _is_generator(func) or (
        not inspect.iscoroutinefunction(underlying(func)) and _origin(func) in (*_ASYNC, *_SYNC)
    )


def _is_generator(func: Any) -> bool:
    tests = inspect.isgeneratorfunction, inspect.isasyncgenfunction
    return any(test(func) or test(underlying(func)) for test in tests)


def _is_async(func: Any) -> bool:
    return inspect.isasyncgenfunction(func) or inspect.isasyncgenfunction(underlying(func)) or _origin(func) in _ASYNC


def _origin(func: Any) -> Any:
    try:
        hint = resolve_hints(func).get("return")
    except Exception:
        return None
    return typing.get_origin(hint) or hint


class StreamTask(Task[P, R]):
    """What ``@env.task`` makes of a function that yields.

    Attributes:
        items: Interface of one item.
    """

    is_stream = True

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.is_async = _is_async(self.func)
        plain = self.interface
        # The outputs of its run, and its record, are the list of its items.
        arguments = typing.get_args(plain.returns)
        self._set_interface(plain, list[arguments[0]] if arguments else EMPTY)  # type: ignore[valid-type]
        self._dress()

    def _set_interface(self, plain: Interface, returns: Any) -> None:
        outputs = {} if returns is EMPTY else {"o0": returns}
        self.interface = Interface(plain.name, plain.inputs, outputs, plain.signature, returns)

    def _dress(self) -> None:
        super()._dress()
        self.__dict__.pop("_is_coroutine", None)
        arguments = typing.get_args(self.interface.returns)
        item = arguments[0] if arguments and arguments[0] not in (None, type(None)) else EMPTY
        self.items = Interface(self.name, {}, {} if item is EMPTY else {"o0": item}, inspect.Signature(), item)

    @property
    def ahead(self) -> int:
        """Items that it may be ahead of its consumer."""
        return self.config.buffer or BUFFER

    def inlet(self, *, cached: bool) -> Inlet:
        """The consumer's end of a new call."""
        return Inlet(self.name, self.ahead, KEPT_IF_CACHED if cached else KEPT_BYTES)

    def collector(self) -> Inlet:
        """The consumer's end of a call that nobody iterates over yet."""
        return Collector(self.name, self.ahead, KEPT_OF_RUN)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the task: a `Stream`, which begins where it is first iterated over. Outside a run: call the function.

        Raises:
            errors.TraceDoesNotAllowNestedTasksError: Inside a ``@flyte.trace`` function.
            errors.ArgumentError: The arguments do not fit.
        """
        context = current()
        if context is None:
            return self.func(*args, **kwargs)
        if context.trace:
            raise inside_trace(self, context)
        self.interface.bind(args, kwargs)
        return Stream(self, args, kwargs)  # type: ignore[return-value]

    def aio(self, *args: Any, **kwargs: Any) -> Any:
        """The same for ``async for``, be the task ``def`` or ``async def``."""
        if current() is not None:
            return self(*args, **kwargs)
        items = self.func(*args, **kwargs)
        return items if isinstance(items, AsyncIterator) else in_threads(items)


async def in_threads(items: Any) -> AsyncGenerator[Any, None]:
    """Items of a plain iterable, each fetched in a thread."""
    iterator, over = iter(items), object()
    try:
        while (item := await asyncio.to_thread(next, iterator, over)) is not over:
            yield item
    finally:
        if (close := getattr(iterator, "close", None)) is not None:
            close()
