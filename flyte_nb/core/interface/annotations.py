"""Annotations of a function: resolved, missing, and the outputs they mean. Runs in: where tasks are defined."""

from __future__ import annotations

import dis
import functools
import inspect
import logging
import sys
import typing
from collections.abc import Callable
from typing import Any

from flyte_nb.core.interface import type_check

_log = logging.getLogger("flyte")

#: Tasks whose missing annotations have been mentioned. Bounded: a notebook may make functions for ever.
MAX_MENTIONED = 1_000
_mentioned: set[str] = set()


def underlying(func: Any) -> Any:
    """The function that has the annotations: the one in a partial, or an object's ``__call__``."""
    while isinstance(func, functools.partial):
        func = func.func
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


# -- Missing ones -------------------------------------------------------------------------------------------------------


def mention_missing(func: Callable[..., Any], name: str, signature: inspect.Signature, returns: Any) -> None:
    """Log what is not checked, or will be refused, for want of an annotation; `returns` is the resolved one."""
    missing = [n for n, p in signature.parameters.items() if p.annotation is inspect.Parameter.empty]
    if missing:
        _once(
            name,
            f"Task {name} has no type annotation for {', '.join(missing)}: any value is taken, and pickled. "
            "Annotate it to have calls checked.",
        )
    if returns is inspect.Parameter.empty and _returns_something(func):
        _once(
            f"{name} ->",
            f"Task {name} returns a value and has no return annotation: as in Flyte, the value will be refused. "
            "Write `-> int`, or whatever it returns.",
        )


def _once(key: str, sentence: str) -> None:
    if key not in _mentioned and len(_mentioned) < MAX_MENTIONED:
        _mentioned.add(key)
        _log.warning("%s", sentence)


def _returns_something(func: Callable[..., Any]) -> bool:
    """Whether a function has a `return` with a value, as far as its bytecode shows."""
    code = getattr(inspect.unwrap(func), "__code__", None)
    if code is None:
        return False
    before = None
    for step in dis.get_instructions(code):
        if step.opname == "RETURN_CONST":  # since Python 3.12
            if step.argval is not None:
                return True
        elif step.opname == "RETURN_VALUE" and not (
            before is not None and before.opname == "LOAD_CONST" and before.argval is None
        ):
            return True
        before = step
    return False


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
