"""Outputs of a return annotation: their names and types. Runs in: everywhere."""

from __future__ import annotations

import inspect
import typing
from typing import Any

from flyte_nb.core.interface import type_check


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
