"""JSON schema of a task's inputs. Runs in: everywhere."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import inspect
import json
import types
import typing
from collections.abc import Mapping
from typing import Any

from flyte_nb.core.interface.type_check import strip

#: Nesting described; deeper levels are "anything". Ends classes that refer to themselves.
MAX_SCHEMA_DEPTH = 6

_SIMPLE: dict[Any, dict[str, Any]] = {
    int: {"type": "integer"}, float: {"type": "number"}, str: {"type": "string"}, bool: {"type": "boolean"},
    type(None): {"type": "null"}, None: {"type": "null"},
    list: {"type": "array"}, tuple: {"type": "array"}, set: {"type": "array"}, dict: {"type": "object"},
    bytes: {"type": "string", "format": "byte"},
    dt.datetime: {"type": "string", "format": "date-time"},
    dt.date: {"type": "string", "format": "date"},
    dt.timedelta: {"type": "string", "format": "duration"},
}  # fmt: skip


def schema_of_inputs(inputs: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    """The schema of an object with one property per input.

    Args:
        inputs: Per parameter: (type, default), as in `Interface.inputs`.

    Returns:
        A JSON schema. Types that JSON has no word for allow anything.
    """
    properties: dict[str, Any] = {}
    for name, (hint, default) in inputs.items():
        schema = dict(schema_of(hint))
        if default is not inspect.Parameter.empty and _is_json(default):
            schema["default"] = default
        properties[name] = schema
    required = [name for name, (_, default) in inputs.items() if default is inspect.Parameter.empty]
    return {"type": "object", "properties": properties, "required": required}


def schema_of(hint: Any, depth: int = 0) -> dict[str, Any]:
    """The schema of one resolved annotation, which stands this deep in another one."""
    hint = strip(hint)
    if depth > MAX_SCHEMA_DEPTH:
        return {}
    try:
        if hint in _SIMPLE:
            return _SIMPLE[hint]
    except TypeError:
        return {}
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union or origin is types.UnionType:
        return {"anyOf": [schema_of(arg, depth + 1) for arg in args]}
    if origin is typing.Literal:
        return {"enum": [each.name if isinstance(each, enum.Enum) else each for each in args]}
    if origin in (list, set, frozenset) and args:
        return {"type": "array", "items": schema_of(args[0], depth + 1)}
    if origin is tuple and args and Ellipsis not in args:
        return {"type": "array", "prefixItems": [schema_of(arg, depth + 1) for arg in args]}
    if origin is dict and len(args) == 2:
        return {"type": "object", "additionalProperties": schema_of(args[1], depth + 1)}
    if isinstance(hint, type):
        return _class_schema(hint, depth)
    return {}


def _class_schema(cls: type, depth: int) -> dict[str, Any]:
    if issubclass(cls, enum.Enum):
        return {"enum": [member.value for member in cls]}
    if callable(own := getattr(cls, "model_json_schema", None)):  # pydantic
        return own()  # type: ignore[no-any-return]
    if dataclasses.is_dataclass(cls) or typing.is_typeddict(cls):
        try:
            fields = typing.get_type_hints(cls)
        except Exception:
            return {"type": "object"}  # A reference to something unknown.
        return {"type": "object", "properties": {name: schema_of(each, depth + 1) for name, each in fields.items()}}
    return {}


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
