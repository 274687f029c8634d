"""Check values against annotations, obvious mismatches only. Runs in: everywhere.

An annotation is compiled once into a `Check`. Values are never changed. What cannot be judged (classes of the user's or
of a library, unknown generics) fits.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import enum
import functools
import numbers
import sys
import types
import typing
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, TypeAlias

from flyte_nb.core.interface.columns import columns_of, has_columns, is_table

#: Whether a value fits.
Check: TypeAlias = Callable[[Any], bool]

#: Elements of a container that are looked at: enough to catch ``list[int]`` given strings, cheap for a million.
MAX_ELEMENTS = 20

#: Nesting followed in an annotation; deeper levels fit. Ends aliases that refer to themselves.
MAX_ANNOTATION_DEPTH = 12

_NONE = type(None)


def compile_check(annotation: Any, depth: int = 0) -> Check | None:
    """Make the check for an annotation.

    Args:
        annotation: A resolved type hint.
        depth: How deep in another annotation it stands.

    Returns:
        The check; None if every value fits.
    """
    if depth > MAX_ANNOTATION_DEPTH:
        return None
    columns = columns_of(annotation)
    if columns:
        return _columns_check(annotation.__origin__, columns)
    annotation = strip(annotation)
    if annotation is None or annotation is _NONE:
        return _is_none
    origin = typing.get_origin(annotation)
    if origin is None:
        return _class_check(annotation)
    args = typing.get_args(annotation)
    if origin is typing.Union or origin is types.UnionType:
        return _union_check(args, depth)
    if origin is typing.Literal:
        return functools.partial(_is_literal, args)
    if origin is type:
        return _is_type
    if origin is tuple:
        return _tuple_check(args, depth)
    if origin is collections.abc.Callable:
        return callable
    return _container_check(origin, args, depth)


def strip(annotation: Any) -> Any:
    """The annotation inside ``Annotated``, ``NewType``, ``Required``, ``Final`` and type aliases."""
    for _ in range(MAX_ANNOTATION_DEPTH):
        if hasattr(annotation, "__metadata__"):
            annotation = annotation.__origin__
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif typing.get_origin(annotation) in (typing.Required, typing.NotRequired, typing.Final, typing.ClassVar):
            annotation = typing.get_args(annotation)[0]
        elif type(annotation).__name__ == "TypeAliasType":  # ``type X = ...``, from Python 3.12 on
            annotation = annotation.__value__
        else:
            break
    return annotation


def display(annotation: Any) -> str:
    """An annotation as a user writes it: ``int``, ``list[int]``, ``int | None``."""
    if annotation is None or annotation is _NONE:
        return "None"
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("__main__.", "")


def _is_none(value: Any) -> bool:
    return value is None


def _is_type(value: Any) -> bool:
    return isinstance(value, type) or typing.get_origin(value) is not None


def _is_literal(allowed: tuple[Any, ...], value: Any) -> bool:
    for each in allowed:
        try:
            if type(value) is type(each) and value == each:
                return True
            # A str that is an Enum member, numpy.str_, ...
            if isinstance(value, type(each)) and not isinstance(value, bool) and value == each:
                return True
            # A member of an enum whose class was defined again, or stands on another worker: its name stays.
            if isinstance(each, enum.Enum) and _same_class(type(each), value) and each.name == value.name:
                return True
        except Exception:  # noqa: S112 - __eq__ of anything
            continue
    return False


def _union_check(args: tuple[Any, ...], depth: int) -> Check | None:
    exact, checks = set(), []
    for arg in args:
        check = compile_check(arg, depth + 1)
        if check is None:
            return None
        checks.append(check)
        if isinstance(arg, type) and typing.get_origin(arg) is None:
            exact.add(arg)
    exact_types, all_checks = frozenset(exact), tuple(checks)

    def fits_one(value: Any) -> bool:
        return type(value) in exact_types or any(check(value) for check in all_checks)

    return fits_one


# -- Classes -----------------------------------------------------------------------------------------------------------


def _is_int(value: Any) -> bool:
    return isinstance(value, numbers.Integral) or hasattr(type(value), "__index__")


def _is_float(value: Any) -> bool:
    return isinstance(value, numbers.Real) or (_from_array_library(value) and hasattr(type(value), "__float__"))


def _is_complex(value: Any) -> bool:
    return isinstance(value, numbers.Complex) or _from_array_library(value)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or (type(value).__name__ in ("bool", "bool_") and _from_array_library(value))


def _from_array_library(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] in ("numpy", "cupy", "jax", "jaxlib", "torch", "tensorflow")


def _is_array(value: Any) -> bool:
    return hasattr(type(value), "__array__") and hasattr(type(value), "__len__")


def _is_list(value: Any) -> bool:
    if isinstance(value, list | tuple | range):
        return True
    if isinstance(value, str | bytes | bytearray | collections.abc.Mapping):
        return False
    return isinstance(value, collections.abc.Sequence) or _is_array(value)


def _instance_of(*classes: type) -> Check:
    def fits(value: Any) -> bool:
        return isinstance(value, classes)

    return fits


_is_tuple = _instance_of(tuple, list, range)
_is_mapping = _instance_of(collections.abc.Mapping)
_is_set = _instance_of(collections.abc.Set)


#: Checks of the classes that can be judged without knowing the program.
_BUILT_IN: dict[Any, Check] = {
    int: _is_int, float: _is_float, complex: _is_complex, bool: _is_bool, str: _instance_of(str),
    bytes: _instance_of(bytes, bytearray, memoryview), list: _is_list, tuple: _is_tuple, dict: _is_mapping,
    set: _is_set, frozenset: _is_set, type: _is_type, collections.abc.Callable: callable,
    **{cls: _instance_of(cls) for cls in (dt.datetime, dt.date, dt.timedelta, dt.time)},
}  # fmt: skip


def _class_check(cls: Any) -> Check | None:
    try:
        known = _BUILT_IN.get(cls)
    except TypeError:  # not hashable: no class
        return None
    if known is not None:
        return known
    if cls is typing.Callable:
        return callable
    if not isinstance(cls, type):
        return None  # Any, a TypeVar, a string that could not be resolved, ...
    if typing.is_typeddict(cls):
        return _is_mapping
    if issubclass(cls, enum.Enum):
        return functools.partial(_same_class, cls)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return functools.partial(_is_named_tuple, cls)
    if dataclasses.is_dataclass(cls) or _is_pydantic(cls):
        return functools.partial(_same_class, cls)
    if cls.__module__ == "collections.abc" and cls in _ABSTRACT:
        return functools.partial(_is_abstract, cls)
    if hasattr(cls, "__flyte_of__"):
        return functools.partial(_same_class, cls)
    if is_table(cls):
        return _is_no_reference
    return None


def _columns_check(cls: type, columns: tuple[str, ...]) -> Check:
    """A table with other columns does not fit: `flyte_nb.core.interface.coerce` selects those that are wanted."""
    return lambda value: isinstance(value, cls) and has_columns(value, columns)


def _is_no_reference(value: Any) -> bool:
    return not hasattr(type(value), "__flyte_as__")


def _is_pydantic(cls: type) -> bool:
    pydantic = sys.modules.get("pydantic")  # a model exists only where it has been imported
    base = getattr(pydantic, "BaseModel", None)
    return isinstance(base, type) and issubclass(cls, base)


def _same_class(cls: type, value: Any) -> bool:
    if isinstance(value, cls):
        return True
    # A class defined in a cell is another object when the cell runs again, and on a worker: its name stays.
    return any(c.__qualname__ == cls.__qualname__ and c.__module__ == cls.__module__ for c in type(value).__mro__)


def _is_named_tuple(cls: Any, value: Any) -> bool:
    return _same_class(cls, value) and len(value) == len(cls._fields)


# -- Containers --------------------------------------------------------------------------------------------------------

_ABSTRACT: frozenset[Any] = frozenset(
    getattr(collections.abc, name)
    for name in (
        "Collection", "Container", "Iterable", "Iterator", "Mapping", "MutableMapping", "MutableSequence", "MutableSet",
        "Reversible", "Sequence", "Set", "Sized",
    )
)  # fmt: skip
_SEQUENCES = frozenset({list, collections.abc.Sequence, collections.abc.MutableSequence})
_SETS = frozenset({set, frozenset, collections.abc.Set, collections.abc.MutableSet})


def _is_abstract(cls: Any, value: Any) -> bool:
    return isinstance(value, cls) or _is_array(value) or (cls in _SEQUENCES and _is_list(value))


def _all_fit(check: Check, values: Iterable[Any]) -> bool:
    return all(check(value) for value in islice(values, MAX_ELEMENTS))


def _container_check(origin: Any, args: tuple[Any, ...], depth: int) -> Check | None:
    outer = _class_check(origin)
    if outer is None or not args:
        return outer
    if issubclass(origin, collections.abc.Mapping):
        return _mapping_check(outer, args, depth)
    if origin not in _SEQUENCES and origin not in _SETS and origin is not collections.abc.Collection:
        return outer  # looking into an iterator would consume it
    inner = compile_check(args[0], depth + 1)
    if inner is None:
        return outer

    def fits(value: Any) -> bool:
        if not outer(value):
            return False
        return not isinstance(value, list | tuple | set | frozenset) or _all_fit(inner, value)

    return fits


def _mapping_check(outer: Check, args: tuple[Any, ...], depth: int) -> Check:
    checks = [compile_check(arg, depth + 1) for arg in args[:2]]
    keys, values = ([*checks, None, None])[:2]

    def fits(value: Any) -> bool:
        if not outer(value):
            return False
        return (keys is None or _all_fit(keys, value)) and (values is None or _all_fit(values, value.values()))

    return fits if keys or values else outer


def _tuple_check(args: tuple[Any, ...], depth: int) -> Check:
    if len(args) == 2 and args[1] is Ellipsis:
        inner = compile_check(args[0], depth + 1)
        return _is_tuple if inner is None else lambda value: _is_tuple(value) and _all_fit(inner, value)
    if any(typing.get_origin(arg) is typing.Unpack for arg in args):
        return _is_tuple
    checks = tuple(compile_check(arg, depth + 1) for arg in args)

    def fits(value: Any) -> bool:
        if not _is_tuple(value) or len(value) != len(checks):
            return False
        return all(check is None or check(item) for check, item in zip(checks, value, strict=True))

    return fits
