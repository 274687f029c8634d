"""Annotations of a function: resolved, and the outputs they mean. Runs in: where tasks are defined."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable
from typing import Any

from flyte_nb.core.interface import type_check


def unwrapped(func: Any) -> Any:
    """What a partial, or a partial of one, is of; anything else as it is."""
    while isinstance(func, functools.partial):
        func = func.func
    return func


def underlying(func: Any) -> Any:
    """The function that has the annotations: the one in a partial, or an object's ``__call__``."""
    func = unwrapped(func)
    if hasattr(func, "__name__") or not callable(func):
        return func
    return type(func).__call__


def resolve_hints(func: Callable[..., Any]) -> dict[str, Any]:
    """Annotations of a function, by parameter name and "return", with strings evaluated.

    An annotation that names something unknown becomes ``Any``. ``Annotated`` is kept, for what it carries.
    """
    func = underlying(func)
    annotations = getattr(func, "__annotations__", None) or {}
    try:
        if not any(isinstance(hint, tuple) for hint in annotations.values()):
            return typing.get_type_hints(func, include_extras=True)
    except Exception:
        pass
    scope = _scope(func)
    return {name: _resolve(hint, scope) for name, hint in annotations.items()}


def _scope(func: Callable[..., Any]) -> dict[str, Any]:
    plain = inspect.unwrap(func)
    scope: dict[str, Any] = dict(
        getattr(plain, "__globals__", None) or vars(sys.modules.get(func.__module__) or typing)
    )
    code = getattr(plain, "__code__", None)
    # A class defined beside a nested function is known to it only if its body uses it.
    for name, cell in zip(getattr(code, "co_freevars", ()), getattr(plain, "__closure__", None) or (), strict=False):
        try:
            scope.setdefault(name, cell.cell_contents)
        except ValueError:
            continue  # not filled yet
    return scope


def _resolve(hint: Any, scope: dict[str, Any]) -> Any:
    """Evaluate one annotation through a stand-in that has no other."""
    if isinstance(hint, tuple):
        return tuple(_resolve(each, scope) for each in hint)

    def stand_in() -> None: ...

    stand_in.__annotations__ = {"value": hint}
    try:
        return typing.get_type_hints(stand_in, globalns=scope, localns={}, include_extras=True)["value"]
    except Exception:
        return Any if isinstance(hint, str) or _has_forward_reference(hint) else hint


def _has_forward_reference(hint: Any) -> bool:
    if isinstance(hint, typing.ForwardRef | str):
        return True
    return any(_has_forward_reference(arg) for arg in typing.get_args(hint) if arg is not hint)


# -- Outputs ------------------------------------------------------------------------------------------------------------


def outputs_of(returns: Any, name: str = "") -> dict[str, Any]:
    """Names and types of the results that a return annotation means.

    Args:
        returns: The resolved annotation; `inspect.Parameter.empty` for none.
        name: Full name of the task, for messages.

    Raises:
        TypeError: It is a tuple of one, or of any length.
    """
    returns = type_check.strip(returns) if not isinstance(returns, tuple) else returns
    if returns in _NOTHING:
        return {}
    if isinstance(returns, tuple):
        members: tuple[Any, ...] = returns
    elif typing.get_origin(returns) is tuple and typing.get_args(returns):
        members = typing.get_args(returns)
    elif isinstance(returns, type) and issubclass(returns, tuple) and hasattr(returns, "_fields"):
        types = typing.get_type_hints(returns) if hasattr(returns, "__annotations__") else {}
        return {field: types.get(field, Any) for field in returns._fields}
    else:
        return {"o0": returns}
    if len(members) == 1:
        raise TypeError(
            f"Task {name} returns a tuple of one, {type_check.display(returns)}: a single result has no tuple. "
            "Annotate the value itself."
        )
    if Ellipsis in members:
        raise TypeError(
            f"Task {name} returns a tuple of any length, {type_check.display(returns)}: a task has a fixed number of results. "
            "Return a list instead."
        )
    return {f"o{i}": member for i, member in enumerate(members)}


#: Annotations of a function without a result.
_NOTHING = (None, type(None), inspect.Parameter.empty, typing.NoReturn, typing.Never)


def one_hint(returns: Any) -> Any:
    """``-> (int, str)``, which Flyte takes, as Python writes it."""
    return tuple.__class_getitem__(returns) if isinstance(returns, tuple) else returns
