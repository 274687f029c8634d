"""Functions and methods in two forms: a call that blocks, and ``.aio``, which awaits. Runs in: everywhere."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from flyte_nb.core.values.user_code import found_by_name

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")


class Dual(Generic[P, R]):
    """A function with an ``.aio`` twin: Flyte's convention.

    Args:
        function: The form that blocks, if there is anything to wait for.
        aio: The form that awaits; None for a function that never waits: ``.aio`` then calls it. For one that does, see
            `blocking`.
        name: What it is called; the function's name by default.

    Example:
        >>> report.log("<p>half way</p>")
        >>> await report.log.aio("<p>half way</p>")
    """

    def __init__(
        self, function: Callable[P, R], aio: Callable[..., Coroutine[Any, Any, R]] | None = None, *, name: str = ""
    ) -> None:
        self._function: Any = function
        self._aio: Any = aio
        functools.update_wrapper(self, function)
        if name:
            self.__name__ = self.__qualname__ = name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function; blocks until it is done."""
        return self._function(*args, **kwargs)  # type: ignore[no-any-return]

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same, awaited."""
        if self._aio is not None:
            return await self._aio(*args, **kwargs)  # type: ignore[no-any-return]
        return self._function(*args, **kwargs)  # type: ignore[no-any-return]

    @overload
    def __get__(self, instance: None, owner: type) -> Dual[P, R]: ...
    @overload
    def __get__(self: Dual[Concatenate[Any, Q], S], instance: object, owner: type | None = None) -> Dual[Q, S]: ...
    def __get__(self, instance: object, owner: type | None = None) -> Any:
        # As a method: both forms are given the instance.
        if instance is None:
            return self
        aio = self._aio.__get__(instance, owner) if self._aio is not None else None
        return type(self)(self._function.__get__(instance, owner), aio, name=self.__name__)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # By name, as a function: a task of the user's may refer to `flyte.run`.
        found = found_by_name(self.__module__, self.__qualname__)
        return self.__qualname__ if found is self else super().__reduce_ex__(protocol)

    def __repr__(self) -> str:
        return f"<{getattr(self, '__qualname__', 'function')}, also as .aio>"


def blocking(function: Callable[P, R]) -> Dual[P, R]:
    """Decorate a function or method that may block for long: its ``.aio`` form runs it in a thread."""

    async def aio(*args: P.args, **kwargs: P.kwargs) -> R:
        return await wait_in_a_thread(function, *args, **kwargs)

    return Dual(function, aio)


async def wait_in_a_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """As `asyncio.to_thread`, for what may wait for long: in a thread of its own.

    The loop's executor has a few threads, which waits would take from all others, also after they were broken off.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[R] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)

    def work() -> None:
        value, error = None, None
        try:
            value = function(*args, **kwargs)
        except BaseException as exc:
            error = exc
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, value, error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), name="flyte-wait", daemon=True).start()
    return await future


class DualIterator(Dual[P, Iterable[R]]):
    """A function that gives many values: calling it gives an iterable, ``.aio`` an async iterator.

    Example:
        >>> for action in Action.listall(for_run_name="r3"): ...
        >>> async for action in Action.listall.aio(for_run_name="r3"): ...
    """

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]:  # type: ignore[override]
        """The values one after another."""
        values = self._function(*args, **kwargs)
        if isinstance(values, AsyncIterable):
            async for value in values:
                yield value
        else:
            for value in values:
                yield value

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return super().__get__(instance, owner)


class Polled(Generic[R]):
    """Values that are polled for: for ``for``, and for ``async for``.

    Args:
        looks: Makes a generator that gives None where there is nothing new.
        every: Seconds to sleep after such a look.
        around: Entered while it is waited for a value.
    """

    def __init__(
        self, looks: Callable[[], Iterator[R | None]], every: float,
        around: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:  # fmt: skip
        self._looks = looks
        self._every = every
        self._around = around

    def __iter__(self) -> Iterator[R]:
        looks = self._looks()
        while (value := self._next(looks)) is not None:
            yield value

    async def __aiter__(self) -> AsyncIterator[R]:
        looks = self._looks()
        while (value := await wait_in_a_thread(self._next, looks)) is not None:
            yield value

    def _next(self, looks: Iterator[R | None]) -> R | None:
        """The next value; None when there are no more."""
        with self._around():
            for value in looks:
                if value is not None:
                    return value
                time.sleep(self._every)
        return None
