"""Policy of pickling into failure records: which values may be, by their class. Runs in: everywhere.

The rule: pickling must not run the user's code, and must not touch what belongs to one process.
"""

from __future__ import annotations

import asyncio
import enum
import types
from typing import Any


class Verdict(enum.Enum):
    """What to do with the instances of a class."""

    #: Let pickle have it.
    KEEP = enum.auto()
    #: Let pickle have it if it is short.
    SIZED = enum.auto()
    #: Let pickle have it if its data is small.
    ARRAY = enum.auto()
    #: A named tuple: let pickle have it, after a look at the names of its fields.
    FIELDS = enum.auto()
    #: Has ``__slots__``: the same, after a look at their names.
    SLOTS = enum.auto()
    CLASS = enum.auto()
    FUNCTION = enum.auto()
    MODULE = enum.auto()
    #: Belongs to this process, or has nothing to show: its type only.
    OPAQUE = enum.auto()
    #: Its attributes, past its own methods.
    OUTLINE = enum.auto()


_EXACT: dict[type, Verdict] = {
    **dict.fromkeys((list, tuple, dict, set, frozenset, bytes, bytearray), Verdict.SIZED),
    **dict.fromkeys((range, slice, type(...), type(NotImplemented), object), Verdict.KEEP),
    types.FunctionType: Verdict.FUNCTION,
    types.BuiltinFunctionType: Verdict.KEEP,
    types.ModuleType: Verdict.MODULE,
    types.SimpleNamespace: Verdict.KEEP,
}

#: Packages whose classes pickle quickly and without harm.
_TRUSTED = frozenset(
    {
        "_collections", "_datetime", "_decimal", "_pydatetime", "array", "argparse", "builtins", "collections", "copyreg",
        "dataclasses", "datetime", "decimal", "_pydecimal", "enum", "fractions", "http", "ipaddress", "numpy", "operator",
        "pandas", "pathlib", "pickle", "polars", "pyarrow", "pydantic", "pydantic_core", "random", "re", "statistics",
        "string", "time", "types", "typing", "uuid", "zoneinfo", "pytz",
    }
)  # fmt: skip
_ARRAYS = frozenset({"numpy", "pandas", "polars", "pyarrow", "torch"})
#: Built-in classes that belong to a process: pickling them fails, or makes no sense elsewhere.
_OPAQUE_BUILTINS = frozenset(
    {
        "generator", "coroutine", "async_generator", "frame", "traceback", "memoryview", "mappingproxy", "cell", "code",
        "method", "staticmethod", "classmethod", "property", "super", "map", "filter", "zip", "enumerate", "reversed",
        "list_iterator", "dict_keys", "dict_values", "dict_items", "module", "weakref", "weakproxy", "method-wrapper",
        "coroutine_wrapper", "async_generator_asend", "builtin_method",
    }
)  # fmt: skip
_OPAQUE_PACKAGES = frozenset(
    {
        "_asyncio", "_contextvars", "_io", "_queue", "_socket", "_ssl", "_thread", "_weakref", "asyncio", "concurrent",
        "contextvars", "dask", "distributed", "io", "itertools", "logging", "multiprocessing", "queue", "select", "selectors",
        "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "weakref", "zmq",
    }
)  # fmt: skip
#: Methods and attributes that pickling, or merely looking, would run.
_HOOKS = (
    "__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs__", "__getnewargs_ex__", "__getattribute__",
    "__getattr__", "__class__",
)  # fmt: skip
#: The same for subclasses of the built-in containers, which pickle iterates over.
_CONTAINER_HOOKS = ("__iter__", "items", "__len__")

#: Classes remembered. A notebook that re-runs its class cells would otherwise keep them all alive.
MAX_VERDICTS = 2_000
_remembered: dict[type, Verdict] = {}


def verdict(cls: type) -> Verdict:
    """What to do with an instance of exactly this class."""
    found = _remembered.get(cls)
    if found is None:
        if len(_remembered) >= MAX_VERDICTS:
            _remembered.clear()
        found = _remembered[cls] = _judge(cls)
    return found


def _judge(cls: type) -> Verdict:
    if cls in _EXACT:
        return _EXACT[cls]
    if issubclass(cls, BaseException):
        return Verdict.KEEP  # Taken apart by our own reducer.
    if issubclass(cls, type):
        return Verdict.CLASS
    if issubclass(cls, types.ModuleType):
        return Verdict.MODULE
    root = _root(cls.__module__)
    if root in _OPAQUE_PACKAGES or (root == "builtins" and cls.__name__ in _OPAQUE_BUILTINS):
        return Verdict.OPAQUE
    if root == "flyte_nb" or issubclass(cls, asyncio.Future):
        return Verdict.OUTLINE
    if cls.__name__ == "cython_function_or_method":
        return Verdict.FUNCTION
    if any(_root(base.__module__) in _ARRAYS for base in cls.__mro__):
        # Of torch, tensors only: its modules hold hooks, streams and device memory.
        return Verdict.ARRAY if root != "torch" or cls.__name__ in ("Tensor", "Parameter") else Verdict.OUTLINE
    if _runs_own_code(cls):
        return Verdict.OUTLINE
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return Verdict.FIELDS
    slots = root not in _TRUSTED and any(vars(base).get("__slots__") for base in cls.__mro__)
    return Verdict.SLOTS if slots else Verdict.KEEP


def _runs_own_code(cls: type) -> bool:
    container = issubclass(cls, list | tuple | dict | set | frozenset)
    return any(not _is_trusted(cls, name) for name in (*_HOOKS, *(_CONTAINER_HOOKS if container else ())))


def _is_trusted(cls: type, name: str) -> bool:
    for base in cls.__mro__:
        if name not in vars(base):
            continue
        if _root(base.__module__) in _TRUSTED:
            return True
        # Named tuples and data classes put functions of the standard library into the user's class.
        return name != "__class__" and _root(getattr(vars(base)[name], "__module__", None)) in _TRUSTED
    return True


def _root(module: Any) -> str:
    return module.partition(".")[0] if isinstance(module, str) else ""
