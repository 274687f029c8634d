"""Functions and methods in two forms: a call that blocks, and ``.aio``, which awaits. Runs in: everywhere."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Dual(Generic[P, R]):
    """A function with an ``.aio`` twin: Flyte's convention.

    Args:
        function: The form that blocks, if there is anything to wait for.
        aio: The form that awaits; None for a function that never waits: ``.aio`` then calls it.
        name: What it is called; the function's name by default.

    Example:
        >>> report.log("<p>half way</p>")
        >>> await report.log.aio("<p>half way</p>")
    """

    def __init__(
        self, function: Callable[P, R], aio: Callable[..., Coroutine[Any, Any, R]] | None = None, *, name: str = ""
    ) -> None:
        self._function = function
        self._aio = aio
        functools.update_wrapper(self, function)
        if name:
            self.__name__ = self.__qualname__ = name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function; blocks until it is done."""
        return self._function(*args, **kwargs)

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same, awaited."""
        if self._aio is not None:
            return await self._aio(*args, **kwargs)
        return self._function(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        # As a method: both forms are given the instance.
        if instance is None:
            return self
        aio = functools.partial(self._aio, instance) if self._aio is not None else None
        bound: Callable[..., R] = functools.partial(self._function, instance)  # type: ignore[arg-type]
        return Dual(bound, aio)

    def __repr__(self) -> str:
        return f"<{getattr(self, '__qualname__', 'function')}, also as .aio>"


class DualIterator(Dual[P, Iterable[R]]):
    """A function that gives many values: calling it gives an iterable, ``.aio`` an async iterator.

    Example:
        >>> for action in Action.listall(for_run_name="r3"): ...
        >>> async for action in Action.listall.aio(for_run_name="r3"): ...
    """

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]:  # type: ignore[override]
        """The values one after another."""
        for value in self._function(*args, **kwargs):
            yield value

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        bound: Callable[..., Iterable[R]] = functools.partial(self._function, instance)  # type: ignore[arg-type]
        return DualIterator(bound)
