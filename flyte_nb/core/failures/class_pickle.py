"""Pickle classes and exceptions of the user's, by cloudpickle's number of the class, for failure records. Runs in: everywhere.

A class that the user defined in the notebook exists on a worker because cloudpickle brought it there, and its exceptions
must come back as instances of the *notebook's* class, or ``except MyError`` would not match. cloudpickle numbers such
classes; going by that number finds the original. A class that is unknown here is rebuilt from its pickle, once.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from typing import Any, NamedTuple

from flyte_nb.core.values import dual_class
from flyte_nb.core.values.bounded import BoundedBytes
from flyte_nb.core.values.by_value import exception_parts
from flyte_nb.core.values.user_code import found_by_name

#: Largest pickled class, in bytes: one whose methods use a large global travels by name only.
MAX_CLASS = 64_000
#: Rebuilt classes remembered.
MAX_REBUILT = 256


class Shipped(NamedTuple):
    """A pickled class; ``key`` is cloudpickle's number for it, or a hash."""

    key: str
    data: bytes


_packed: weakref.WeakKeyDictionary[type, Shipped | None] = weakref.WeakKeyDictionary()
_rebuilt: dict[str, type] = {}
_lock = threading.Lock()


def is_importable(obj: Any) -> bool:
    """Whether every process that has the module finds this class or function by its name. ``__main__`` doesn't count."""
    module, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return False
    return found_by_name(module, name) is obj


def pack_class(cls: type) -> Shipped | None:
    """Pickle a class by value; None if that is impossible or too large. Remembered per class."""
    with _lock:
        if cls in _packed:
            return _packed[cls]
    # Not imported at the top: needed on the way of failures only, and it takes 10 ms.
    from flyte_nb.core.values.pickler import Pickler

    stream = BoundedBytes(2 * MAX_CLASS)
    shipped: Shipped | None = None
    try:
        Pickler(stream).dump(cls)
        data = stream.getvalue()
        if len(data) <= MAX_CLASS:
            shipped = Shipped(_number(cls) or hashlib.sha256(data).hexdigest()[:32], data)
    except Exception:
        shipped = None  # The exception then travels as its nearest importable base.
    with _lock:
        _packed[cls] = shipped
    return shipped


def find_class(key: str, data: bytes | None, module: str, qualname: str) -> type:
    """The class that `pack_class` packed: the one this process knows already, if it does.

    Args:
        key: From `Shipped`; "" to go by name only.
        data: From `Shipped`; None if it was not shipped.
        module: Its ``__module__``.
        qualname: Its ``__qualname__``.

    Raises:
        LookupError: It is not known here and was not shipped.
    """
    known = _known(key) or _rebuilt.get(key)
    if known is not None:
        return known
    if data is not None:
        import cloudpickle

        made = cloudpickle.loads(data)
        with _lock:
            if len(_rebuilt) >= MAX_REBUILT:
                _rebuilt.clear()
            _rebuilt[key] = made
        return made  # type: ignore[no-any-return]
    found = found_by_name(module, qualname)
    if not isinstance(found, type):  # None, where the name is unknown.
        raise LookupError(f"there is no class {module}.{qualname} in this process")  # noqa: TRY004 - it was not found
    return found


def _number(cls: type) -> str:
    try:
        from cloudpickle import cloudpickle as inner

        return str(inner._get_or_create_tracker_id(cls))  # noqa: SLF001 - since cloudpickle 0.6; the hash does without it
    except Exception:
        return ""


def _known(key: str) -> type | None:
    try:
        from flyte_nb.core.values.by_value import classes

        return classes.known(key) if key else None
    except Exception:
        return None


def reduce_exception(error: BaseException) -> tuple[Any, ...]:
    """How an exception is pickled into a record: as its parts, so that its constructor is never called.

    Its cause and traceback are left out (the record has them), and so is a record that it carries itself.
    """
    attributes = {name: value for name, value in error.__dict__.items() if not name.startswith("_flyte_failure")}
    if dual_class.original_of(type(error)) is not None:
        return dual_class.reduce_to(error, attributes, None)
    args: tuple[Any, ...] = error.args
    outside = dict(exception_parts.members(error))
    if issubclass(type(error), BaseExceptionGroup):
        args, outside = (error.message, list(error.exceptions)), {}  # type: ignore[attr-defined]
    return exception_parts.put_together, (type(error), args, outside, attributes, None)
