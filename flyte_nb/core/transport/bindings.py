"""Bindings: what a task's code refers to, and a quick answer to whether any of it has changed. Runs in: where tasks are called.

A task travels by value with the globals, closure cells, defaults, class attributes and modules that its code reaches. Which
ones those are is learnt from the pickler itself, while it pickles (`Recorder`). Later calls ask in two steps. First: is each
name still bound to the same object (about 30 ns a name)? Then, where some of those objects can change in place (lists, arrays,
instances): is their content the same? It is pickled with functions, classes and modules left out, since their own names are
looked at already; large buffers are compared where they lie, as those of arguments are (`flyte_nb.core.transport.blobs`).
"""

from __future__ import annotations

import abc
import builtins
import copyreg
import datetime as dt
import decimal
import enum
import fractions
import functools
import hashlib
import itertools
import logging
import operator
import pathlib
import re
import sys
import types
import typing
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import cloudpickle

from flyte_nb.core.transport import patched
from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.payload import key_bytes, pack
from flyte_nb.core.values import pickler
from flyte_nb.core.values.bounded import BoundedBytes
from flyte_nb.core.values.by_value import classes
from flyte_nb.core.values.code_hash import names_of
from flyte_nb.core.values.user_code import content_of, is_pythons, is_task, names_in_texts

#: Content up to this size is kept to be compared; of more its hash is.
KEPT_BYTES = 4_096

_MISSING = object()
_cloudpickle: Any = cloudpickle.cloudpickle

#: What of a task's own attributes is looked at.
_OF_TASK = ("func", "config")
_CODE = (types.FunctionType, type, types.ModuleType)
#: Types whose instances cannot change in place, or whose content is looked at by other bindings: identity says it all.
_FIXED = frozenset({
    int, float, complex, bool, str, bytes, type(None), type(...), type(NotImplemented), range, slice, object,
    types.FunctionType, types.BuiltinFunctionType, types.ModuleType, types.CodeType, types.GetSetDescriptorType,
    types.MemberDescriptorType, types.WrapperDescriptorType, types.MethodDescriptorType, types.ClassMethodDescriptorType,
    types.MethodWrapperType, types.GenericAlias, types.UnionType, property, staticmethod, classmethod,
    functools.cached_property, logging.Logger, re.Pattern, typing.TypeVar, decimal.Decimal, fractions.Fraction, uuid.UUID,
    dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone, pathlib.PosixPath,
    pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath, operator.itemgetter, operator.attrgetter,
})  # fmt: skip


def is_fixed(value: object) -> bool:
    """Whether a value cannot change in place, so that its identity stands for its content."""
    kind = type(value)
    if kind in _FIXED or isinstance(value, type):
        return True
    if kind is tuple or kind is frozenset:
        return all(map(is_fixed, value))  # type: ignore[call-overload]
    return is_task(value)


class Recorder(pickler.Pickler):
    """Pickles a task, and notes the functions, classes, modules and tasks that travel by value with it."""

    fresh = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reached: list[Any] = []
        #: Modules that travel, by id of their namespace: it is shared with their functions where they arrive, too.
        self.modules: dict[int, _Vars] = {}

    def reducer_override(self, value: object) -> Any:
        """How to pickle a value."""
        if isinstance(value, _CODE):
            if not by_reference(value):
                self.reached.append(value)
                if type(value) is types.ModuleType and id(vars(value)) in self.modules:
                    state = {name: each for name, each in vars(value).items() if name != "__builtins__"}
                    return types.ModuleType, (value.__name__,), state, None, None, _fill
        elif is_task(value):
            self.reached.append(value)
        return super().reducer_override(value)

    def _function_getnewargs(self, function: types.FunctionType) -> Any:
        made = super()._function_getnewargs(function)
        space = self.modules.get(id(function.__globals__))
        return made if space is None else (made[0], space, *made[2:])


class _Vars:
    """The namespace of a module that travels."""

    def __init__(self, module: types.ModuleType) -> None:
        self.module = module

    def __reduce__(self) -> Any:
        return vars, (self.module,)


def _fill(module: types.ModuleType, state: dict[str, Any]) -> None:
    vars(module).update(state, __builtins__=builtins.__dict__)


def spaces_of(modules: Iterable[types.ModuleType]) -> dict[int, _Vars]:
    """For `Recorder.modules`."""
    return {id(vars(module)): _Vars(module) for module in modules}


def by_reference(value: Any) -> bool:
    """Whether a function, class or module travels as its name, to be imported by it."""
    if isinstance(value, type) and (value is type(None) or value in _cloudpickle._BUILTIN_TYPE_NAMES):  # noqa: SLF001
        return True
    return bool(_cloudpickle._should_pickle_by_reference(value))  # noqa: SLF001 - its own decision


def globals_of(function: types.FunctionType) -> tuple[str, ...]:
    """Names of globals that a function's code refers to, functions defined in it included."""
    names = _cloudpickle._extract_code_globals(function.__code__)  # noqa: SLF001 - its own answer
    return tuple(dict.fromkeys((*names, *names_in_texts(function.__code__))))


#: What reads values whose classes and functions are given by name, and what it is called.
_READERS = frozenset({"pickle", "cloudpickle", "dill", "joblib", "torch"})
_READING = frozenset({"load", "loads", "Unpickler"})
#: Bytes of a class or function, with all that it refers to, that goes along for such code.
MAX_ASKED = 256 * 1024


def _asks_for_subclasses(reached: list[Any]) -> bool:
    return any("__subclasses__" in names_of(each.__code__) for each in reached if isinstance(each, types.FunctionType))


def _read_by(reached: list[Any]) -> list[dict[str, Any]]:
    """Namespaces of functions that read pickles."""
    found = {}
    for each in reached:
        if isinstance(each, types.FunctionType):
            names = names_of(each.__code__)
            if (names & _READING and names & _READERS) or "read_pickle" in names:
                found[id(each.__globals__)] = each.__globals__
    return list(found.values())


def _program(space: dict[str, Any]) -> list[Any]:
    """Classes and functions that a program defines, by their names."""
    name = space.get("__name__")
    return [
        value
        for key, value in list(space.items())
        if isinstance(value, types.FunctionType | type) and value.__module__ == name and value.__qualname__ == key
    ]


def _is_small(value: object) -> bool:
    with BoundedBytes(MAX_ASKED) as file:
        made = pickler.Pickler(file, protocol=5)
        made.fresh = made.trying = True
        try:
            made.dump(value)
        except Exception:
            return False
    return True


def asked_for(reached: list[Any], known: Iterable[Any] = ()) -> list[Any]:
    """Classes and functions that code finds without naming them, and that go along with it.

    Subclasses of what it reaches, where it asks for them (``Base.__subclasses__()``), and what a pickle that it reads may name.
    """
    found: dict[Any, None] = {}
    if _asks_for_subclasses(reached):
        queue: list[type] = [each for each in reached if isinstance(each, type)]
        for cls in queue:
            children: list[type] = type.__subclasses__(cls)
            queue += [each for each in children if each not in found]
            found.update(dict.fromkeys(children))
    for space in _read_by(reached):
        found.update(dict.fromkeys(each for each in _program(space) if _is_small(each)))
    here = {*map(id, reached), *map(id, known)}
    return [each for each in found if id(each) not in here and not by_reference(each)]


def installed_names(reached: list[Any]) -> list[tuple[Any, list[str]]]:
    """What code names of installed modules: programs patch them."""
    return list(patched.owners(each for each in reached if isinstance(each, types.FunctionType)))


def _registered(cls: Any) -> Any:
    return abc._get_dump(cls)[0]  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other way to see them


def _registries(reached: list[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """What can be asked of classes and programs: functions that tell it, of what, and what they tell now."""
    asks = _asks_for_subclasses(reached)
    for space in _read_by(reached):
        yield _program, space, _program(space)
    for cls in (each for each in reached if isinstance(each, type)):
        if asks:
            yield type.__subclasses__, cls, type.__subclasses__(cls)
        if isinstance(cls, abc.ABCMeta):
            yield _registered, cls, _registered(cls)


class _Names:
    """Names in one namespace, and what they were bound to."""

    __slots__ = ("names", "size", "space", "values")

    def __init__(self, space: Mapping[str, Any], names: tuple[str, ...] | None = None) -> None:
        self.space = space
        #: Of a class or module all names count, and that there are no others.
        self.size = len(space) if names is None else -1
        self.names = names if names is not None else tuple(space)
        self.values = tuple(map(space.get, self.names, itertools.repeat(_MISSING)))

    def same(self) -> bool:
        """Whether they are bound to the same objects."""
        space = self.space
        return (self.size < 0 or len(space) == self.size) and all(
            map(operator.is_, map(space.get, self.names, itertools.repeat(_MISSING)), self.values)
        )


class Bindings:
    """What the code of one task refers to, as it was when the task was pickled.

    Args:
        reached: Functions, classes, modules and tasks that travel by value with it.
        blobs: Where large buffers are compared.
        modules: Names of modules that its code imports while it runs.
    """

    __slots__ = (
        "_blobs",
        "_cells",
        "_content",
        "_functions",
        "_installed",
        "_mutable",
        "_names",
        "_reducers",
        "_registries",
    )

    def __init__(self, reached: list[Any], blobs: Blobs | None, modules: Sequence[str] = ()) -> None:
        self._blobs = blobs
        functions = [each for each in reached if isinstance(each, types.FunctionType)]
        self._functions = [(each, _parts(each)) for each in functions]
        cells = {id(cell): cell for each in functions for cell in each.__closure__ or ()}
        self._cells = [(cell, content_of(cell, _MISSING)) for cell in cells.values()]
        self._reducers = len(copyreg.dispatch_table)
        self._registries = list(_registries(reached))
        used = [(vars(owner).get, name) for owner, names in installed_names(reached) for name in names]
        #: How to find each name of an installed module's that code uses; the names; what they were bound to.
        self._installed = (*zip(*used, strict=True), tuple(get(name) for get, name in used)) if used else None
        self._names = list(_namespaces(reached))
        if modules:
            self._names.append(_Names(sys.modules, tuple(modules)))
        #: What can change in place. In order, so that its pickle is the same again.
        self._mutable = list({id(each): each for each in self._values() if not is_fixed(each)}.values())
        #: Their content; None if it cannot be compared.
        self._content = self._read() if self._mutable else b""

    def same(self) -> bool:
        """Whether nothing that the code refers to has changed. From any thread."""
        for names in self._names:
            if not names.same():
                return False
        if len(copyreg.dispatch_table) != self._reducers:
            return False
        if self._installed is not None:
            find, called, values = self._installed
            if not all(map(operator.is_, map(operator.call, find, called), values)):
                return False
        for function, parts in self._functions:
            if not all(map(operator.is_, parts, _parts(function))):
                return False
        for cell, value in self._cells:
            if content_of(cell, _MISSING) is not value:
                return False
        for tell, cls, told in self._registries:
            if tell(cls) != told:
                return False
        return not self._mutable or (self._content is not None and self._read() == self._content)

    def _values(self) -> Iterator[Any]:
        for names in self._names:
            if names.names == _OF_TASK:
                yield names.values[0]  # a partial or an object; settings never change in place
                continue
            whole = names.size >= 0  # a class or module
            for name, value in zip(names.names, names.values, strict=True):
                if not (whole and is_pythons(name, value)):
                    yield value
        for function, (_, defaults, keywords, *_) in self._functions:
            yield from defaults or ()
            yield from (keywords or {}).values()
            if vars(function):
                yield vars(function)
        yield from (value for _, value in self._cells if value is not _MISSING)

    def _read(self) -> bytes | None:
        try:
            content = key_bytes(pack(_Content, self._mutable, self._blobs))
        except Exception:
            return None
        return content if len(content) <= KEPT_BYTES else hashlib.sha1(content, usedforsecurity=False).digest()


def _parts(function: types.FunctionType) -> tuple[Any, ...]:
    """What a function is made of beside its globals: reloading an edited module puts new code into it."""
    parts = (function.__code__, function.__defaults__, function.__kwdefaults__, function.__closure__)
    return (*parts, len(vars(function)))


def _namespaces(reached: list[Any]) -> Iterator[_Names]:
    used: dict[int, tuple[dict[str, Any], dict[str, None]]] = {}
    for each in reached:
        if isinstance(each, types.FunctionType):
            _, names = used.setdefault(id(each.__globals__), (each.__globals__, {}))
            names.update(dict.fromkeys(globals_of(each)))
        elif isinstance(each, type | types.ModuleType):
            yield _Names(vars(each))
        else:  # a task
            yield _Names(vars(each), _OF_TASK)
    yield from (_Names(space, tuple(names)) for space, names in used.values() if names)


class _Content(pickler.Pickler):
    """Pickles what can change in place; what has bindings of its own stands there as its identity."""

    fresh = True

    def reducer_override(self, value: object) -> Any:
        """How to pickle a value; NotImplemented for the usual way."""
        if isinstance(value, _CODE) or is_task(value):
            return id, (id(value),)
        if isinstance(value, enum.Enum) and (own := classes.of_member(value)):
            return id, (id(value),), own
        if type(value) in self.dispatch_table.maps[0] and type(value) is not types.CodeType:
            return id, (id(value),)  # a table whose encoder would write it for each look (`flyte_nb.io.extend`)
        return super().reducer_override(value)
