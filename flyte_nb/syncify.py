"""``flyte.syncify``: async functions that sync code can call. Runs in: everywhere."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from flyte_nb.core.tasks.from_sync import run_coroutine, run_generator


class _Synchronised:
    """What `Syncify` makes of a function: calling it blocks, ``.aio`` is the function itself."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.aio = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        made = self.aio(*args, **kwargs)
        return run_generator(made) if inspect.isasyncgen(made) else run_coroutine(made)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        return _Synchronised(functools.partial(self.aio, instance))


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


syncify = Syncify()


__all__ = ["Syncify", "syncify"]
