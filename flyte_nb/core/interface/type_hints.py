"""Resolve a function's annotations, as far as they can be. Runs in: everywhere."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable
from typing import Any


def resolve_hints(func: Callable[..., Any]) -> dict[str, Any]:
    """Annotations of a function, by parameter name and "return", with strings evaluated.

    Args:
        func: A function.

    Returns:
        What can be resolved; an annotation that names something unknown becomes ``Any``. ``Annotated`` is kept, for what
        it carries.
    """
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
