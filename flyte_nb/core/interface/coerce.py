"""Coerce plain data to what an annotation names: a dict to a dataclass, a text to an enum. Runs in: everywhere.

Flyte builds dataclasses and pydantic models from dicts, enums from the names of their members (else their values) and
NamedTuples from tuples, so that a caller needs none of the task's classes; and a table stands for a reference to it
(`flyte_nb.io.DataFrame`) and the other way round. Nothing else is changed; a value that fits as it is never comes here.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import enum
import types
import typing
from typing import Any

from flyte_nb.core.interface import type_check
from flyte_nb.core.interface.columns import columns_of, select


def coerce(annotation: Any, value: Any, depth: int = 0) -> Any:
    """The value, with plain data replaced by what the annotation names.

    Args:
        annotation: A resolved type hint.
        value: What was given. Not changed.
        depth: How deep in another value it stands.

    Returns:
        A new value, or the same one where nothing can be built of it.
    """
    columns = columns_of(annotation)
    annotation = type_check.strip(annotation)
    if depth > type_check.MAX_ANNOTATION_DEPTH or value is None or annotation is Any:
        return value
    if columns:
        return _of_table(annotation, value, columns)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Union or origin is types.UnionType:
        return _of_union(args, value, depth)
    if origin is typing.Literal:
        return _of_literal(args, value)
    if origin in _SETS and type(value) in (set, frozenset) and args:
        return type(value)(coerce(args[0], item, depth + 1) for item in value)
    if origin in _LISTS and type(value) is list and args:
        return [coerce(args[0], item, depth + 1) for item in value]
    if origin is tuple and type(value) is tuple and args:
        members = [args[0]] * len(value) if args[-1] is Ellipsis else args
        if len(members) != len(value):
            return value
        return tuple(coerce(a, v, depth + 1) for a, v in zip(members, value, strict=True))
    if origin in _DICTS and type(value) is dict and len(args) == 2:
        return {coerce(args[0], k, depth + 1): coerce(args[1], v, depth + 1) for k, v in value.items()}
    return _of_class(annotation, value, depth) if isinstance(annotation, type) else value


def _of_table(cls: Any, value: Any, columns: tuple[str, ...]) -> Any:
    table = _of_class(cls, value, 0)
    return select(table, columns) if isinstance(table, cls) else table


_LISTS = (list, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Iterable)
_SETS = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def _of_union(args: tuple[Any, ...], value: Any, depth: int) -> Any:
    checks = [(arg, type_check.compile_check(arg)) for arg in args]
    if any(check is not None and check(value) for _, check in checks):
        return value
    for arg, check in checks:
        with contextlib.suppress(Exception):
            made = coerce(arg, value, depth + 1)
            if check is not None and check(made):
                return made
    return value


def _of_class(cls: Any, value: Any, depth: int) -> Any:
    if isinstance(value, cls):
        return value
    if hasattr(value, "__flyte_as__"):  # a reference to a table, where the table is wanted
        return value.__flyte_as__(cls)
    if hasattr(cls, "__flyte_of__"):  # a table, where a reference to it is wanted
        return cls.__flyte_of__(value)
    if issubclass(cls, enum.Enum):
        return member_of(cls, value)
    if hasattr(cls, "_fields") and type(value) in (tuple, list) and len(value) == len(cls._fields):
        hints = _hints(cls)
        return cls(*(coerce(hints.get(n, Any), v, depth + 1) for n, v in zip(cls._fields, value, strict=True)))
    if type(value) is not dict:
        return value
    if hasattr(cls, "model_validate"):
        return cls.model_validate(_with_members(cls, value, depth))
    if dataclasses.is_dataclass(cls):
        made: Any = cls
        hints = _hints(made)
        return made(**{name: coerce(hints.get(name, Any), item, depth + 1) for name, item in value.items()})
    return value


def member_of(cls: type[enum.Enum], value: Any) -> enum.Enum:
    """The member that a text or a number means: of that name, as Flyte reads it, else of that value.

    Raises:
        ValueError: There is none; the message has those that there are.
    """
    found = _named_member(cls, value)
    if found is not None:
        return found
    try:
        return cls(value)
    except ValueError:
        names = ", ".join(list(cls.__members__)[:20])
        raise ValueError(f"{value!r} is neither name nor value of a member of {cls.__name__}: {names}") from None


def _named_member(cls: type[enum.Enum], value: Any) -> enum.Enum | None:
    """The member of this name; None if there is none, or the value is no plain text."""
    return cls.__members__.get(value) if isinstance(value, str) and not isinstance(value, enum.Enum) else None


def _of_literal(members: tuple[Any, ...], value: Any) -> Any:
    """A member of an enum among those of a Literal, by its name, else its value."""
    known = [each for each in members if isinstance(each, enum.Enum)]
    if not isinstance(value, enum.Enum):
        for part in ("name", "value"):
            for each in known:
                if type(getattr(each, part)) is type(value) and getattr(each, part) == value:
                    return each
    return value


def _with_members(cls: Any, data: dict[str, Any], depth: int) -> dict[str, Any]:
    """The data of a pydantic model, with members for names of members, which pydantic does not know."""
    hints = _hints(cls)
    made = {}
    for key, value in data.items():
        hint = hints.get(key) or next((hints.get(n) for n, f in cls.model_fields.items() if f.alias == key), None)
        made[key] = _member_within(hint, value, depth + 1) if hint is not None else value
    return made


def _member_within(hint: Any, value: Any, depth: int) -> Any:
    """A field of a model, with members where enums are wanted; all else is pydantic's to read."""
    hint = type_check.strip(hint)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if depth > type_check.MAX_ANNOTATION_DEPTH:
        return value
    if origin is typing.Union or origin is types.UnionType:
        for arg in args:
            made = _member_within(arg, value, depth + 1)
            if made is not value:
                return made
        return value
    if origin is typing.Literal:
        return _of_literal(args, value)
    if type(value) in (list, tuple, set) and args and origin in (*_LISTS, *_SETS, tuple):
        return type(value)(_member_within(args[0], item, depth + 1) for item in value)
    if type(value) is dict and origin in _DICTS and len(args) == 2:
        return {_member_within(args[0], k, depth + 1): _member_within(args[1], v, depth + 1) for k, v in value.items()}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        member = _named_member(hint, value)
        return value if member is None else member
    if type(value) is dict and hasattr(hint, "model_fields"):
        return _with_members(hint, value, depth)
    return value


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except Exception:
        return {}
