"""Fixed values: what stands for a value that cannot change in place, as text, the same everywhere. Runs in: everywhere."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import functools
import pathlib
import re
import types
import uuid
import zoneinfo
from collections.abc import Iterable, Iterator
from typing import Any

from flyte_nb.core.values.user_code import found_by_name, is_task, is_user_code

#: Items of a container in a class that are looked at, and how deep.
MAX_ITEMS, MAX_DEPTH = 500, 4

#: Types whose instances are told by their ``repr``.
BY_REPR = frozenset({
    bool, int, float, complex, str, bytes, type(None), type(...), range, slice, decimal.Decimal, fractions.Fraction, uuid.UUID,
    dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone, pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath,
    pathlib.PureWindowsPath, zoneinfo.ZoneInfo, types.GenericAlias, types.UnionType,
})  # fmt: skip


def constant_text(value: object) -> str:
    """A constant's type and ``repr``."""
    if isinstance(value, frozenset):  # its order differs from process to process
        return f"frozenset({sorted(repr(each) for each in value)})"
    if type(value) is int:
        return f"int:{value:x}"  # in decimals, Python writes out 4,300 digits
    return f"{type(value).__name__}:{value!r}"


def fixed_text(value: Any) -> str | None:
    """What stands for a value that cannot change in place; None for any other.

    Args:
        value: Anything that code reads.
    """
    kind = type(value)
    if kind in BY_REPR or (kind.__module__ == "numpy" and hasattr(kind, "__array_priority__") and not value.shape):
        return constant_text(value)
    if isinstance(value, enum.Enum):
        return f"{kind.__module__}.{kind.__qualname__}.{value.name}={value.value!r}"
    if kind is re.Pattern:
        return f"pattern:{value.pattern!r}{value.flags}"
    if isinstance(value, dt.date | dt.time | dt.timedelta):  # those of pandas
        return constant_text(value)
    if kind is functools.partial:
        return _texts("partial", [*value.args, *(each for pair in value.keywords.items() for each in pair)])
    if kind is tuple or (issubclass(kind, tuple) and hasattr(kind, "_fields")):
        return _texts(kind.__qualname__, value)
    if kind is frozenset:
        parts = [fixed_text(each) for each in value]
        return None if None in parts else f"frozenset({sorted(map(str, parts))})"
    settings = vars(kind).get("__dataclass_params__")
    if settings is not None and settings.frozen:
        return _texts(kind.__qualname__, [getattr(value, name, None) for name in kind.__dataclass_fields__])
    if is_own_code(value):
        return None
    if kind is types.ModuleType:
        return f"module:{value.__name__}"
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if isinstance(module, str) and isinstance(name, str) and found_by_name(module, name) is value:
        return f"{module}.{name}"
    return None


def _texts(kind: str, values: Iterable[Any]) -> str | None:
    parts = [fixed_text(each) for each in values]
    return None if None in parts else f"{kind}({parts})"


def is_own_code(value: Any) -> bool:
    """Whether a value is a task, or a function, class or module of the user's."""
    return is_task(value) or (isinstance(value, types.FunctionType | type | types.ModuleType) and is_user_code(value))


def data_text(value: Any, depth: int = 0) -> str | None:
    """What stands for data in the body of a class: what is fixed, and lists, sets and dictionaries of such."""
    if type(value) not in (list, set, dict, tuple) or depth > MAX_DEPTH or len(value) > MAX_ITEMS:
        return fixed_text(value)
    items = [item for pair in value.items() for item in pair] if type(value) is dict else list(value)
    parts = [data_text(each, depth + 1) for each in items]
    if None in parts:
        return None
    return f"{type(value).__name__}({sorted(map(str, parts)) if type(value) is set else parts})"


def attributes(cls: type) -> Iterator[tuple[str, Any]]:
    """Values of a class's own, by name; of fields their defaults."""
    fields = {name: field for kept in _FIELDS for name, field in (vars(cls).get(kept) or {}).items()}
    for name, value in (*vars(cls).items(), *fields.items()):
        found = getattr(value, "default", value) if name in fields else value
        if not name.startswith("__") and name != "_abc_impl" and not _is_code(found):
            yield f"{cls.__qualname__}.{name}", found


#: Where classes keep fields with their defaults (pydantic), defaults (NamedTuple) and members (enum).
_FIELDS = ("__pydantic_fields__", "_field_defaults", "_member_map_")


_METHODS = (
    property, staticmethod, classmethod, functools.cached_property, types.MemberDescriptorType, types.GetSetDescriptorType,
)  # fmt: skip


def _is_code(value: Any) -> bool:
    return isinstance(value, _METHODS) or is_own_code(value)
