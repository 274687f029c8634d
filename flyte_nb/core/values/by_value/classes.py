"""Classes by value: one class, one identity, wherever its instances go. Runs in: everywhere.

cloudpickle numbers a class that travels by value, and a process that knows the number uses the class it has. Three things are
added here:

- *Layout.* The ``__slots__`` of a class are part of it from the start (cloudpickle sets them afterwards, when it is too late:
  the instances then have a ``__dict__``, and break where the original is); an enum has its aliases, and its members what their
  ``__init__`` gave them.
- *The original stays as it is.* A result brings its classes along, and cloudpickle would write what the worker had in them
  over the class of the notebook. In the process where a class was made nothing is written to it.
- *A version of a task has classes of its own* (`Classes`), as it has globals of its own, which its methods use. What its
  arguments and its children's results bring are instances of those.
"""

from __future__ import annotations

import contextlib
import enum
import importlib
import operator
import struct
import sys
import threading
import types
import typing
import weakref
from collections.abc import Container, Iterator
from contextvars import ContextVar
from typing import Any

from cloudpickle import cloudpickle as inner

from flyte_nb.core.values.by_value.exception_parts import HEAP_TYPE
from flyte_nb.core.values.user_code import found_by_name

#: Modules that this process, a worker's, has imported from the user's files (`flyte_nb.core.transport.lazy_imports`).
from_files: Container[str] = frozenset()

#: Classes that were made from a pickle in this process, and whether they have got their attributes yet.
_made: weakref.WeakKeyDictionary[type, bool] = weakref.WeakKeyDictionary()


class Classes:
    """Classes of one version of a task, by cloudpickle's number."""

    __slots__ = ("__weakref__", "lone", "met", "named", "program", "variables")

    def __init__(self) -> None:
        #: What its code refers to.
        self.named: dict[str, type] = {}
        #: What values have brought since.
        self.met: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()
        #: Context variables that were set where its task was called.
        self.variables: dict[ContextVar[Any], Any] = {}
        #: What its code may find by name in a pickle.
        self.program: dict[str, Any] = {}
        #: Of `flyte_nb.core.values.by_value.identity`.
        self.lone: Any = None

    def get(self, number: str) -> type | None:
        """The class of a number."""
        return self.named.get(number) or self.met.get(number)

    def __repr__(self) -> str:
        return f"<Classes [{len(self.named)} named, {len(self.met)} met]>"


#: Of the task whose body runs in this context; None where the program itself is.
CLASSES: ContextVar[Classes | None] = ContextVar("flyte_nb_classes", default=None)


def is_made(cls: type) -> bool:
    """Whether a class came by value: it is that of one copy of a task's code, or of a value."""
    return cls in _made


class _Loading(threading.local):
    #: Of the version whose code this thread loads.
    code: Classes | None = None


_loading = _Loading()


@contextlib.contextmanager
def loading_code() -> Iterator[None]:
    """While the code of a task is unpickled: it makes classes of its own."""
    before, _loading.code = _loading.code, Classes()
    try:
        yield
    finally:
        _loading.code = before


def being_loaded() -> Classes | None:
    """The classes of the version that this thread loads; None if it loads none."""
    return _loading.code


def known(number: str) -> type | None:
    """The class that this process, and in it the running task, has under a number of cloudpickle's."""
    classes = _loading.code or CLASSES.get()
    found = classes.get(number) if classes is not None else None
    if found is None:
        found = inner._DYNAMIC_CLASS_TRACKER_BY_ID.get(number)  # noqa: SLF001 - here and below: cloudpickle's, since 1.3
        if found is not None and classes is not None and found in _made:
            return None  # another version's
    return found


def reduce(cls: type, reduced: Any, *, of_call: bool = False) -> Any:
    """How to pickle a class: as cloudpickle does, by our makers.

    Args:
        cls: The class.
        reduced: What cloudpickle says.
        of_call: Whether it is part of arguments: what it has at the call counts.
    """
    if type(reduced) is not tuple or len(reduced) != 6:
        return reduced  # by name
    maker, args, state, *_ = reduced
    generic = vars(cls).get("__pydantic_generic_metadata__")
    if generic and generic["origin"] is not None:  # pydantic makes one class of ``Model[int]`` in each process
        parameters = generic["args"]
        return operator.getitem, (generic["origin"], parameters if len(parameters) != 1 else parameters[0])
    if maker is inner._make_skeleton_class:  # noqa: SLF001
        kind, name, bases, given, number, _extra = args
        if kind.__name__ == "_TypedDictMeta" and bases == (dict,):  # ``TypedDict("Row", {...})``, which lacks its base
            bases = (sys.modules[kind.__module__].TypedDict,)
        extra: dict[str, Any] | None = {"quiet": True} if _has_hooks(cls) else None
        if cls.__module__ in from_files and found_by_name(cls.__module__, cls.__qualname__) is cls:
            extra = {**(extra or {}), "at": (cls.__module__, cls.__qualname__)}
        setter = set_class_at_call if of_call else set_class
        return make_class, (kind, name, bases, _with_slots(cls, given), number, extra), state, None, None, setter
    if maker is inner._make_skeleton_enum:  # noqa: SLF001
        return _reduce_enum(cls, args, state, set_enum_at_call if of_call else set_enum)
    return reduced


#: How a metaclass makes classes.
_MAKING = ("__prepare__", "__new__", "__init__")


def _has_hooks(cls: type) -> bool:
    """Whether code that travels by value was called where the class was made: ``__init_subclass__``, or a metaclass's."""
    return (
        any(
            "__init_subclass__" in vars(base) and not inner._should_pickle_by_reference(base)  # noqa: SLF001
            for base in cls.__mro__[1:-1]
        )
        or any(_own_metaclasses(type(cls)))
    )


def _own_metaclasses(kind: type) -> Iterator[type]:
    for each in kind.__mro__:
        if not vars(each).keys().isdisjoint(_MAKING) and (
            each in _made or not inner._should_pickle_by_reference(each)  # noqa: SLF001
        ):
            yield each


def _at_home(module: str, name: str) -> type | None:
    """A class that a worker has imported from the user's files: where the program runs it is that of the module there."""
    if CLASSES.get() is not None or _loading.code is not None:
        return None
    with contextlib.suppress(Exception):
        importlib.import_module(module)
    found = found_by_name(module, name)
    return found if isinstance(found, type) else None


def _ignore(_cls: type, /, **_given: Any) -> None:
    pass


@contextlib.contextmanager
def _without_hooks(kind: type, bases: Any) -> Iterator[None]:
    """While a class is made that was made before: what its bases and its metaclass do to new classes is not done again."""
    hooks: list[tuple[type, str, Any]] = [
        (base, "__init_subclass__", classmethod(_ignore))
        for each in types.resolve_bases(bases)
        for base in each.__mro__
        if "__init_subclass__" in vars(base) and base.__flags__ & HEAP_TYPE and base.__module__ != "typing"
    ]
    hooks += [
        (each, name, _of_next(each, name)) for each in _own_metaclasses(kind) for name in _MAKING if name in vars(each)
    ]
    with _hooks_lock:
        before = {(owner, name): vars(owner)[name] for owner, name, _ in hooks}
        for owner, name, instead in hooks:
            type.__setattr__(owner, name, instead)
        try:
            yield
        finally:
            for (owner, name), hook in before.items():
                type.__setattr__(owner, name, hook)


def _of_next(metaclass: Any, name: str) -> Any:
    """A method that leaves a metaclass out."""

    def call(cls: Any, /, *args: Any, **kwargs: Any) -> Any:
        method = getattr(super(metaclass, cls), name)
        return method(cls, *args, **kwargs) if name == "__new__" else method(*args, **kwargs)

    return {"__new__": staticmethod, "__prepare__": classmethod}.get(name, lambda each: each)(call)


_hooks_lock = threading.RLock()


def _with_slots(cls: type, given: dict[str, Any]) -> dict[str, Any]:
    own = vars(cls)
    if "__slots__" not in own or typing.NamedTuple in own.get("__orig_bases__", ()):  # that sees to its own
        return given
    slots = [
        name
        for name, value in own.items()
        if isinstance(value, types.MemberDescriptorType) and value.__objclass__ is cls
    ]
    slots += [name for name in ("__dict__", "__weakref__") if isinstance(own.get(name), types.GetSetDescriptorType)]
    return {**given, "__slots__": tuple(slots)}


def _reduce_enum(cls: Any, args: Any, state: Any, setter: Any) -> Any:
    bases, name, qualname, _members, *rest = args
    aliases = cls.__members__
    members = {each: member.value for each, member in aliases.items()}
    attributes, more = state
    attributes = {key: value for key, value in attributes.items() if key not in aliases}
    own = {each: found for each, member in aliases.items() if (found := of_member(member))}
    made = (bases, name, qualname, members, *rest)
    return make_enum, made, ((attributes, more), own), None, None, setter


def of_member(member: enum.Enum) -> dict[str, Any]:
    """Attributes that an enum's member has beside those of every member."""
    return {key: value for key, value in vars(member).items() if key not in _OF_EVERY_MEMBER}


_OF_EVERY_MEMBER = frozenset({"_value_", "_name_", "__objclass__", "_sort_order_", "_inverted_"})


def make_class(kind: Any, name: str, bases: Any, given: dict[str, Any], number: str, extra: Any) -> type:
    """The class of this number; called by pickle. Made, without its attributes, where it is not known."""
    found = known(number) or (_at_home(*extra["at"]) if extra and "at" in extra else None)
    if found is None:
        with _without_hooks(kind, bases) if extra is not None and extra.get("quiet") else contextlib.nullcontext():
            made = inner._make_skeleton_class(kind, name, bases, given, None, extra)  # noqa: SLF001
        found = _track(number, made)
    return found


def make_enum(
    bases: Any, name: str, qualname: str, members: dict[str, Any], module: str, number: str, extra: Any
) -> type:
    """As `make_class`, for an enum with its members."""
    found = known(number)
    if found is None:
        made = inner._make_skeleton_enum(bases, name, qualname, members, module, None, extra)  # noqa: SLF001
        found = _track(number, made)
    return found


def _track(number: str, made: type) -> type:
    classes = _loading.code or CLASSES.get()
    with inner._DYNAMIC_CLASS_TRACKER_LOCK:  # noqa: SLF001
        if classes is None:
            found = inner._DYNAMIC_CLASS_TRACKER_BY_ID.setdefault(number, made)  # noqa: SLF001
            if found is not made:  # by another thread, meanwhile
                return found  # type: ignore[no-any-return]
        else:
            space = classes.named if classes is _loading.code else classes.met
            found = space.setdefault(number, made)
            if found is not made:
                return found
            inner._DYNAMIC_CLASS_TRACKER_BY_ID[number] = made  # noqa: SLF001
        inner._DYNAMIC_CLASS_TRACKER_BY_CLASS[made] = number  # noqa: SLF001
        _made[made] = False
    return made


def set_class(cls: type, state: Any) -> type:
    """Give a class that was made just now its attributes; called by pickle."""
    if _made.get(cls) is False:
        inner._class_setstate(cls, state)  # noqa: SLF001
        _made[cls] = True
    return cls


def set_class_at_call(cls: type, state: Any) -> type:
    """As `set_class`; one that the running task's code does not bring gets what it has at the call."""
    if _is_late(cls):
        _made[cls] = False
    return set_class(cls, state)


def set_enum(cls: Any, state: Any) -> type:
    """As `set_class`, for an enum, whose members may have attributes."""
    attributes, own = state
    if _made.get(cls) is False:
        set_class(cls, attributes)
        for name, found in own.items():
            vars(cls.__members__[name]).update(found)
    return cls  # type: ignore[no-any-return]


def set_enum_at_call(cls: Any, state: Any) -> type:
    """As `set_class_at_call`, for an enum."""
    if _is_late(cls):
        _made[cls] = False
    return set_enum(cls, state)


def _is_late(cls: type) -> bool:
    if not _made.get(cls):
        return False
    classes = CLASSES.get()
    return classes is None or classes.named.get(inner._DYNAMIC_CLASS_TRACKER_BY_CLASS.get(cls)) is not cls  # noqa: SLF001


def is_plain_object(cls: type) -> bool:
    """Whether instances of a class are what ``object`` makes, with nothing in C, and pickled in the usual way.

    Args:
        cls: A class that is neither built in nor an enum.
    """
    if issubclass(cls, enum.Enum) or cls.__reduce_ex__ is not object.__reduce_ex__:
        return False
    if cls.__reduce__ is not object.__reduce__:
        return False
    fields = 0
    for base in cls.__mro__[:-1]:
        own = vars(base)
        if not base.__flags__ & HEAP_TYPE or isinstance(own.get("__new__"), types.BuiltinFunctionType):
            return False
        fields += sum(isinstance(each, types.MemberDescriptorType) for each in own.values())
    fields += (cls.__dictoffset__ > 0) + (cls.__weakrefoffset__ > 0)
    return cls.__basicsize__ <= object.__basicsize__ + fields * _POINTER


_POINTER = struct.calcsize("P")
