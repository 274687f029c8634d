"""Pickler: cloudpickle, with the file names of functions, by which tracebacks find lines. Runs in: everywhere."""

from __future__ import annotations

import io
from types import CellType, CodeType, FunctionType
from typing import Any, NamedTuple

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

    def _dynamic_function_reduce(self, function: FunctionType) -> Any:
        # Functions that share a variable of the one around them share it when they arrive, too: cloudpickle gives each its own.
        made, (*arguments, closure), (attributes, slots), *rest = super()._dynamic_function_reduce(function)
        if closure:
            closure = tuple(self._cells.setdefault(id(cell), _Cell(cell)) for cell in function.__closure__ or ())
            slots["__closure__"] = tuple(map(_content_of, function.__closure__ or ()))
        return made, (*arguments, closure), (attributes, slots), *rest

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        #: By id of the original.
        self._cells: dict[int, _Cell] = {}


class _Cell:
    """A variable that functions share, on its way: it arrives empty, and each of those functions fills it."""

    def __init__(self, cell: CellType) -> None:
        self._cell = cell  # its id is taken while it is here

    def __reduce__(self) -> Any:
        return CellType, ()


class _Filled(NamedTuple):
    """The value of such a variable."""

    cell_contents: Any


def _content_of(cell: CellType) -> Any:
    try:
        return _Filled(cell.cell_contents)
    except ValueError:
        return cell  # empty


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
