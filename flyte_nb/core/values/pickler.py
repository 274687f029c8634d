"""Pickler: cloudpickle, with what it would lose of functions, classes, exceptions and arrays. Runs in: everywhere."""

from __future__ import annotations

import gc
import io
from collections.abc import Callable
from types import CellType, CodeType, FunctionType, MappingProxyType, MethodType
from typing import Any, NamedTuple

import cloudpickle

from flyte_nb.core.values import process_state
from flyte_nb.core.values.bounded import BoundedBytes
from flyte_nb.core.values.by_value import buffers, classes, exceptions, figures, identity, modules, type_names
from flyte_nb.core.values.user_code import names_in_texts


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is not typed
    """Pickles by value as cloudpickle does, and keeps what that would lose.

    From 3.1.3 on cloudpickle replaces the file name of every function by ``<dynamic-code>``, so that equal functions have equal
    pickles. A traceback, the debugger and `breakpoint()` on a worker find the lines of a cell by that name. What is kept of
    classes, lone objects, exceptions and arrays is in `flyte_nb.core.values.by_value`.
    """

    #: Whether locks and the like are made anew (`flyte_nb.core.values.process_state`): in the code of a task, not in arguments.
    fresh = False
    #: Whether these are the arguments of a call.
    of_call = False
    #: Whether it is tried whether something can be pickled.
    trying = False

    #: Modules of classes that were met.
    met: set[str] | None = None
    #: Of lone objects.
    _names: identity.Names | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        modules.register_user_modules()
        super().__init__(*args, **kwargs)
        #: Variables that functions share, by id of the original.
        self._cells: dict[int, _Cell] = {}
        #: Locks and the like of code that came along with a value, by id.
        self._anew: dict[int, process_state.Anew] = {}

    def reducer_override(self, value: object) -> Any:
        """How to pickle a value; NotImplemented for the usual way."""
        kind = type(value)
        if self.fresh and (with_content := process_state.WITH_CONTENT.get(kind)) is not None:
            return with_content(value, (lambda _: True) if self.trying else self._can_pickle)
        found = process_state.reduce(value, fresh=self.fresh)
        if found is not NotImplemented:
            return found
        try:
            way = _ways[kind]
        except KeyError:
            if len(_ways) >= MAX_TYPES:
                _ways.clear()
            way = _ways[kind] = self._way(kind)
        return way(self, value) if way is not None else NotImplemented

    @staticmethod
    def _way(kind: type) -> Callable[[Pickler, Any], Any] | None:
        if issubclass(kind, type):
            return Pickler._class
        if issubclass(kind, FunctionType):
            return cloudpickle.Pickler.reducer_override  # type: ignore[no-any-return]
        if kind is object:
            return Pickler._object
        if issubclass(kind, BaseException):
            return Pickler._exception if exceptions.is_ours(kind) else None
        if buffers.reducer_of(kind) is not None:
            return Pickler._buffer
        if kind in type_names.KINDS:
            return Pickler._type_name
        if kind is MappingProxyType:
            return Pickler._proxy
        if figures.is_figure(kind):
            return Pickler._figure
        return Pickler._instance if classes.is_plain_object(kind) else None

    def _class(self, value: Any) -> Any:
        if self.met is not None:
            self.met.add(value.__module__)
        reduced = super().reducer_override(value)
        if not self.fresh and type(reduced) is tuple and len(reduced) == 6:
            made, arguments, (attributes, slots), *rest = reduced
            reduced = made, arguments, (self._of_code(attributes), slots), *rest
        return classes.reduce(value, reduced, of_call=self.of_call)

    def _of_code(self, named: dict[str, Any]) -> dict[str, Any]:
        """What code names, with locks and the like to be made anew: they are none of the value that brought the code."""
        return named if self.fresh else {name: self._own(value) for name, value in named.items()}

    def _own(self, value: Any) -> Any:
        if type(value) is MethodType and process_state.is_made_anew(
            value.__self__
        ):  # `functools.singledispatch` keeps such
            return process_state.AnewMethod(self._own(value.__self__), value.__name__)
        if self.fresh or not process_state.is_made_anew(value):
            return value
        return self._anew.setdefault(id(value), process_state.Anew(value, self._anew))

    def _type_name(self, value: Any) -> Any:
        return type_names.reduce(value)

    def _proxy(self, value: Any) -> Any:
        return MappingProxyType, tuple(gc.get_referents(value))  # a proxy of the mapping itself, not of a copy

    def _figure(self, value: Any) -> Any:
        return figures.reduce(value)

    def _object(self, value: object) -> Any:
        if self._names is None:
            self._names = identity.Names()
        return self._names.reduce(value)

    def _buffer(self, value: object) -> Any:
        return buffers.reducer_of(type(value))(value)

    def _instance(self, value: object) -> Any:
        return self._object(value) if identity.is_stateless(value) else NotImplemented

    def _exception(self, error: BaseException) -> Any:
        return exceptions.reduce(error, None if self.trying else self._can_pickle)

    def _can_pickle(self, value: object) -> bool:
        with io.BytesIO() as file:
            other = type(self)(file, protocol=5)
            other.fresh, other.trying = self.fresh, True
            try:
                other.dump(value)
            except Exception:
                return False
        return True

    def _dynamic_function_reduce(self, function: FunctionType) -> Any:
        # Functions that share a variable of the one around them share it when they arrive, too: cloudpickle gives each its own.
        made, (*arguments, closure), (attributes, slots), *rest = super()._dynamic_function_reduce(function)
        if closure:
            closure = tuple(self._cells.setdefault(id(cell), _Cell(cell)) for cell in function.__closure__ or ())
            slots["__closure__"] = tuple(map(self._content_of, function.__closure__ or ()))
        space = function.__globals__
        named = {name: space[name] for name in names_in_texts(function.__code__) if name in space}
        slots["__globals__"] = self._of_code({**slots["__globals__"], **named} if named else slots["__globals__"])
        return made, (*arguments, closure), (self._of_code(attributes), slots), *rest

    def _content_of(self, cell: CellType) -> Any:
        try:
            return _Filled(self._own(cell.cell_contents))
        except ValueError:
            return cell  # empty


#: Types whose way is remembered. A notebook that runs its class cells again would otherwise keep them all alive.
MAX_TYPES = 2_000
#: How instances of a type are pickled; None for the usual way. (Functions, not bound methods: a pickler that refers to itself
#: would keep all that it has pickled until the next collection.)
_ways: dict[type, Callable[[Pickler, Any], Any] | None] = {}


class _Cell:
    """A variable that functions share, on its way: it arrives empty, and each of those functions fills it."""

    def __init__(self, cell: CellType) -> None:
        self._cell = cell  # its id is taken while it is here

    def __reduce__(self) -> Any:
        return CellType, ()


class _Filled(NamedTuple):
    """The value of such a variable."""

    cell_contents: Any


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


def dumps_bounded(value: object, limit: int) -> bytes:
    """The value pickled, if it can be, in at most so many bytes; else nothing."""
    with BoundedBytes(limit) as file:
        try:
            Pickler(file, protocol=5).dump(value)
        except Exception:
            return b""
        return file.getvalue()
