"""``flyte.syncify``: async functions that sync code can call. Runs in: everywhere."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import Any

from flyte_nb.core.tasks.from_sync import run_and_keep, run_generator


async def _in_a_task(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await asyncio.create_task(coroutine)


_END = object()


async def _each_in_a_task(generator: AsyncGenerator[Any, Any]) -> AsyncIterator[Any]:
    context = contextvars.copy_context()

    async def step() -> Any:
        return await anext(generator, _END)

    try:
        while (item := await asyncio.get_running_loop().create_task(step(), context=context)) is not _END:
            yield item
    finally:
        await generator.aclose()


class _Iterated:
    """An async iterable that a synchronised function returned: sync code can go through it as well.

    It is as the value in all else, and what the function has left running goes on as long as anybody has it.
    """

    def __init__(self, value: AsyncIterable[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._value = value
        self._loop = loop
        self._items: Iterator[Any] | None = None
        weakref.finalize(self, _stop, loop)

    def __iter__(self) -> Iterator[Any]:
        yield from run_generator(aiter(self._value), self._loop)

    def __next__(self) -> Any:
        if self._items is None:
            self._items = run_generator(aiter(self._value), self._loop)
        return next(self._items)

    def __aiter__(self) -> AsyncIterator[Any]:
        return aiter(self._value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._value, name)

    @property  # type: ignore[misc]  # it can be written otherwise
    def __class__(self) -> type:
        return type(self._value)


#: What Python looks for in an object's class only.
_SPECIAL = (
    "__aenter__", "__aexit__", "__anext__", "__bool__", "__call__", "__contains__", "__enter__", "__eq__", "__exit__",
    "__getitem__", "__hash__", "__len__", "__repr__", "__setitem__", "__str__",
)  # fmt: skip


def _forwarding(name: str) -> Callable[..., Any]:
    def call(self: _Iterated, *args: Any) -> Any:
        found = getattr(self._value, name)(*args)
        return self if found is self._value else found

    return call


@functools.lru_cache(maxsize=128)
def _kind_for(kind: type) -> type[_Iterated]:
    return type(
        kind.__name__, (_Iterated,), {name: _forwarding(name) for name in _SPECIAL if getattr(kind, name, None)}
    )


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    with contextlib.suppress(RuntimeError):  # closed
        loop.call_soon_threadsafe(loop.stop)


def _is_for_async_code(value: object) -> bool:
    return isinstance(value, AsyncIterable) and not isinstance(value, Iterable)


class _Synchronised:
    """What `Syncify` makes of a function: calling it blocks, ``.aio`` awaits."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        made = self._function(*args, **kwargs)
        if inspect.isasyncgen(made):
            return run_generator(made)
        value, loop = run_and_keep(made, _is_for_async_code)
        if loop is None:
            return value
        kind: Any = type(value)
        return _kind_for(kind)(value, loop)

    def aio(self, *args: Any, **kwargs: Any) -> Any:
        """The function, awaited: in an asyncio task of its own, so that context variables set in it stay in it."""
        made: Any = self._function(*args, **kwargs)
        return _each_in_a_task(made) if inspect.isasyncgen(made) else _in_a_task(made)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        return _Synchronised(functools.partial(self._function, instance))


class _SynchronisedMethod:
    """The same for a ``classmethod`` or ``staticmethod``."""

    def __init__(self, method: Any) -> None:
        self._method = method

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return _Synchronised(self._method.__get__(instance, owner))


class Syncify:
    """A decorator for async functions, methods and generators: ``f(...)`` blocks, ``f.aio(...)`` awaits.

    Unlike Flyte's, ``f.aio`` runs on the caller's own loop and ``f()`` on one of its own, so neither can deadlock.

    Args:
        name: Accepted for Flyte's sake.

    Raises:
        TypeError: What is decorated is neither an async function nor an async generator.

    Example:
        >>> @syncify
        ... async def fetch(n: int) -> int:
        ...     return n + 1
        >>> fetch(1)
        2
    """

    def __init__(self, name: str = "default_syncer") -> None:
        self.name = name

    def __call__(self, function: Any) -> Any:
        """Decorate a function."""
        if isinstance(function, (classmethod, staticmethod)):
            return _SynchronisedMethod(function)
        plain = inspect.unwrap(function) if callable(function) else function
        if not (inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain)):
            raise TypeError(
                f"Syncify takes async functions, coroutines and async generators, not {function!r}. "
                "A plain function needs no syncify."
            )
        return _Synchronised(function)


syncify: Syncify = Syncify()


__all__ = ["Syncify", "syncify"]
