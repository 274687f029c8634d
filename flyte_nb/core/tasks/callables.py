"""Callables that are tasks and no functions: partials, and objects with ``__call__``. Runs in: where tasks are defined."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from flyte_nb.core.interface.annotations import underlying, unwrapped
from flyte_nb.core.settings.validate import name
from flyte_nb.core.values.user_code import is_task
from flyte_nb.core.values.value_hash import content_hash


def check(func: Any) -> None:
    """Refuse what cannot be a task.

    Args:
        func: What ``@env.task`` was given.

    Raises:
        TypeError: It is a class, a task, a partial of a task, or cannot be called.
    """
    if isinstance(func, type) or not callable(func):
        raise TypeError(f"@env.task makes a task of a function, not of {func!r}.")
    inner = unwrapped(func)
    if inner is not func and is_task(inner):
        raise TypeError(
            f"@env.task makes a task of a function, and {inner.name} in this partial is a task already: make a task of "
            f"functools.partial({inner.short_name}.func, ...), or pass the partial to flyte.map."
        )


def name_of(func: Any) -> str:
    """What a task is called after: the function, the one in a partial, or the class of an object."""
    func = unwrapped(func)
    return name("The name of a task's function", str(getattr(func, "__name__", None) or type(func).__name__))


def is_async(func: Any) -> bool:
    """Whether calling it gives a coroutine."""
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(underlying(func))


def overlaps(func: Any) -> bool:
    """Whether its calls can overlap on one loop: it is a coroutine function, or an asynchronous generator."""
    return is_async(func) or inspect.isasyncgenfunction(func) or inspect.isasyncgenfunction(underlying(func))


def holds_state(func: Any) -> bool:
    """Whether a callable is more than its code: a partial, or an object."""
    return not hasattr(func, "__name__") or isinstance(func, functools.partial)


def state_digits(func: Any) -> str:
    """A hash of what a callable holds, as of now; "" for a function, and where it cannot be hashed."""
    if not holds_state(func):
        return ""
    try:
        return content_hash(func).hex()
    except Exception:
        return ""
