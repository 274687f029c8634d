"""``NewType``, ``ParamSpec`` and ``TypeVarTuple`` of the user's, by value: pickle takes them by name. Runs in: everywhere."""

from __future__ import annotations

import typing
from typing import Any

from cloudpickle import cloudpickle as inner

#: Kinds of what `reduce` takes. Type variables are cloudpickle's own business.
KINDS = frozenset({typing.NewType, typing.ParamSpec, typing.TypeVarTuple})


def reduce(value: Any) -> Any:
    """How to pickle one; NotImplemented for that of an installed module."""
    found = inner._lookup_module_and_qualname(value, value.__name__)  # noqa: SLF001 - as cloudpickle does for type variables
    if found is not None and not inner._is_registered_pickle_by_value(found[0]):  # noqa: SLF001
        return NotImplemented
    arguments: tuple[Any, ...] = (value.__name__,)
    if isinstance(value, typing.NewType):
        arguments = (value.__name__, value.__supertype__)
    elif isinstance(value, typing.ParamSpec):
        arguments = (value.__name__, value.__bound__, value.__covariant__, value.__contravariant__)
    return _made, (type(value), value.__module__, *arguments)


def _made(kind: Any, module: str, name: str, *more: Any) -> Any:
    if kind is typing.ParamSpec:
        bound, covariant, contravariant = more
        made: Any = kind(name, bound=bound, covariant=covariant, contravariant=contravariant)
    else:
        made = kind(name, *more)
    made.__module__ = module
    return made
