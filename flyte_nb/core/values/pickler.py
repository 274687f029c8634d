"""Pickler: cloudpickle, with the file names of functions, by which tracebacks find lines. Runs in: everywhere."""

from __future__ import annotations

import io
from types import CodeType
from typing import Any

import cloudpickle

from flyte_nb.core.values import process_state


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is not typed
    """Pickles by value as cloudpickle does, but never forgets where a function was written.

    From 3.1.3 on cloudpickle replaces the file name of every function by ``<dynamic-code>``, so that equal functions have equal
    pickles. A traceback, the debugger and `breakpoint()` on a worker find the lines of a cell by that name.
    """

    #: Whether locks and the like are made anew (`flyte_nb.core.values.process_state`): in the code of a task, not in arguments.
    fresh = False

    def reducer_override(self, value: object) -> Any:
        """How to pickle a value; NotImplemented for the usual way."""
        found = process_state.reduce(value, fresh=self.fresh)
        return super().reducer_override(value) if found is NotImplemented else found


def _reduce_code(code: CodeType) -> Any:
    made, arguments, *rest = _as_cloudpickle(code)
    # The first text that the constructor takes, in every version of Python, is the file name.
    at = next(i for i, part in enumerate(arguments) if isinstance(part, str))
    return made, (*arguments[:at], code.co_filename, *arguments[at + 1 :]), *rest


_as_cloudpickle = cloudpickle.Pickler.dispatch_table[CodeType]
# Of this class only: what else in the process pickles with cloudpickle (Dask, joblib) is left as it is.
Pickler.dispatch_table = cloudpickle.Pickler.dispatch_table.new_child({CodeType: _reduce_code})


def dumps(value: object, *, fresh: bool = False) -> bytes:
    """The value pickled in one piece, with protocol 5; `fresh`: locks and the like in it are made anew."""
    with io.BytesIO() as file:
        pickler = Pickler(file, protocol=5)
        pickler.fresh = fresh
        pickler.dump(value)
        return file.getvalue()


class _Bounded(io.BytesIO):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def write(self, data: Any, /) -> int:
        written = super().write(data)
        if self.tell() > self.limit:
            raise OverflowError(f"more than {self.limit} bytes")
        return written


def dumps_bounded(value: object, limit: int) -> bytes:
    """The value pickled, if it can be, in at most so many bytes; else nothing."""
    with _Bounded(limit) as file:
        try:
            Pickler(file, protocol=5).dump(value)
        except Exception:
            return b""
        return file.getvalue()
