"""Pickle an exception with its cause, whatever its constructor takes and whatever it holds. Runs in: everywhere.

For errors that a task raised: what of them cannot be pickled is left out. (An exception that is a value, an argument say, is
pickled as any value: `flyte_nb.core.values.by_value.exceptions`.)
"""

from __future__ import annotations

import io
import pickle
from typing import Any

from flyte_nb.core.values.by_value.exception_parts import members, put_together
from flyte_nb.core.values.pickler import Pickler

#: Longest pickled exception, in bytes. One that drags a data frame along travels as its text.
MAX_PACKED = 4 * 1024 * 1024


def pack(error: BaseException) -> bytes | None:
    """Pickle any exception, whatever its constructor looks like, with its cause and the exceptions of a group, for `unpack`.

    Attributes that cannot be pickled are left out. None if it cannot be pickled at all, or is larger than `MAX_PACKED`.
    """
    for modest in (False, True):
        try:
            packed = _dump(error, modest=modest)
        except Exception:  # noqa: S112 - pickling runs the user's code; the second try is more modest
            continue
        if len(packed) <= MAX_PACKED:
            return packed
    return None


def unpack(packed: bytes) -> BaseException | None:
    """The exception that `pack` pickled; None if this process lacks what it takes, such as the module of its class."""
    try:
        error = pickle.loads(packed)
    except Exception:
        return None
    return error if isinstance(error, BaseException) else None


def _is_picklable(value: object) -> bool:
    try:
        return len(_dump(value)) <= MAX_PACKED
    except Exception:
        return False


def _dump(value: object, *, modest: bool = False) -> bytes:
    """Pickle a value; `modest`: without those parts of exceptions that cannot be pickled."""

    class ErrorPickler(Pickler):
        def reducer_override(self, obj: Any) -> Any:
            if not isinstance(obj, BaseException) or hasattr(type(obj), "_flyte_original_type"):
                return super().reducer_override(obj)  # a dual error pickles itself
            args, outside, attributes = obj.args, dict(members(obj)), dict(obj.__dict__)
            if modest:
                args = tuple(each if _is_picklable(each) else repr(each)[:200] for each in args)
                outside, attributes = (
                    {key: each for key, each in found.items() if _is_picklable(each)} for found in (outside, attributes)
                )
            if isinstance(obj, BaseExceptionGroup):
                args, outside = (obj.message, list(obj.exceptions)), {}
            return put_together, (type(obj), args, outside, attributes, obj.__cause__)

    stream = io.BytesIO()
    ErrorPickler(stream).dump(value)
    return stream.getvalue()
