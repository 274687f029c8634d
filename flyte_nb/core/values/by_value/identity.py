"""Identity of lone objects: ``MISSING = object()`` is one object in every process that it reaches. Runs in: everywhere.

A sentinel is compared with ``is``: in a default, in a module's global, in a class. It stands for nothing but itself, so it
crosses as its name, and each process has one object of that name; what made it has its own. Taken for sentinels are instances
of ``object`` itself, and stateless instances of other classes that a module names (`dataclasses.MISSING`, which is in the
fields of every data class), or a class or default of the user's. As a version of a task has classes of its own
(`flyte_nb.core.values.by_value.classes`), it has instances of its own of these.
"""

from __future__ import annotations

import itertools
import secrets
import sys
import threading
import types
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import cloudpickle

from flyte_nb.core.values.by_value.classes import CLASSES, being_loaded
from flyte_nb.core.values.user_code import attribute, found_by_name

#: Lone objects remembered: many more than programs name.
MAX_KNOWN = 10_000


class Known:
    """The lone objects of this process, or of one version of a task's code in it."""

    __slots__ = ("by_name", "made", "names")

    def __init__(self) -> None:
        #: By name, the one used longest ago first.
        self.by_name: OrderedDict[str, object] = OrderedDict()
        #: Their names, by id.
        self.names: dict[int, str] = {}
        #: Names of objects that were made here, of which this process has no module.
        self.made: set[str] = set()

    def name_of(self, value: object) -> str | None:
        """The name of an object, if it is known and still meant by it."""
        name = self.names.get(id(value))
        if name is None or self.by_name.get(name) is not value or self.is_past(name, value):
            return None
        return name

    def is_past(self, name: str, value: object) -> bool:
        """Whether the program means another object by the name now: the cell that names it ran again."""
        if name in self.made:
            return False
        now = _in_module(name)
        return now is not value and type(now) is type(value)

    def remember(self, name: str, value: object) -> None:
        """Take an object as that of a name."""
        with _lock:
            before = self.by_name.pop(name, None)
            if self.names.get(id(before)) == name:  # its cell ran again: the name means the new one
                del self.names[id(before)]
            self.by_name[name] = value
            self.names[id(value)] = name
            while len(self.by_name) > MAX_KNOWN:
                gone, old = self.by_name.popitem(last=False)
                self.names.pop(id(old), None)
                self.made.discard(gone)

    def __repr__(self) -> str:
        return f"<Known [{len(self.by_name)} lone objects]>"


_lock = threading.Lock()
_of_process = Known()


def _known(cls: type) -> Known:
    classes = being_loaded() or CLASSES.get()
    if classes is None or cls is object:
        return _of_process
    if classes.lone is None:
        classes.lone = Known()
    return classes.lone  # type: ignore[no-any-return]


#: Of objects that have no name, in this process.
_place, _numbers = secrets.token_hex(6), itertools.count()
#: Slots of a class and its bases.
_slots: weakref.WeakKeyDictionary[type, tuple[str, ...]] = weakref.WeakKeyDictionary()


def is_stateless(value: object) -> bool:
    """Whether an instance of a plain class has no attributes of its own."""
    if attribute(value, "__dict__"):
        return False
    cls = type(value)
    slots = _slots.get(cls)
    if slots is None:
        slots = _slots[cls] = tuple(
            name
            for base in cls.__mro__
            for name, found in vars(base).items()
            if isinstance(found, types.MemberDescriptorType)
        )
    return not any(hasattr(value, name) for name in slots)


class Names:
    """Names of lone objects, looked up once per pickle: in the user's modules, and in that of an object's own class."""

    def __init__(self) -> None:
        self._users: dict[int, str] | None = None
        self._others: dict[str, dict[int, str]] = {}

    def reduce(self, value: object) -> Any:
        """How to pickle a lone object; NotImplemented for one that nothing names, unless it is an ``object()``."""
        known = _known(type(value))
        name = known.name_of(value)
        if name is None:
            name = self._name(value)
            if name is None:
                return NotImplemented
            known.remember(name, value)
        return find, (name, type(value))

    def _name(self, value: object) -> str | None:
        kind = type(value)
        # First where its class is: other modules import `dataclasses.MISSING`, and may be unknown to the receiver.
        name = self._of(kind.__module__).get(id(value)) if kind is not object else None
        if name is None:
            if self._users is None:
                self._users = dict(_named())
            name = self._users.get(id(value))
        return f"{_place}:{next(_numbers)}" if name is None and kind is object else name

    def _of(self, module: str) -> dict[int, str]:
        found = self._others.get(module)
        if found is None:
            space = getattr(sys.modules.get(module), "__dict__", {})
            found = self._others[module] = {id(value): f"{module}:{name}" for name, value in list(space.items())}
        return found


def find(name: str, cls: type) -> object:
    """The object of a name in this process; called by pickle."""
    known = _known(cls)
    with _lock:
        found = known.by_name.get(name)
    if not _fits(found, cls) or known.is_past(name, found):
        found = _in_module(name)
        if not _fits(found, cls):
            found = object.__new__(cls)
            known.made.add(name)
        known.remember(name, found)
    return found


def _fits(value: object, cls: type) -> bool:
    return type(value) is cls and (cls is object or is_stateless(value))


def _in_module(name: str) -> object:
    module, _, path = name.partition(":")
    return found_by_name(module, path)


def _named() -> Iterator[tuple[int, str]]:
    """Ids and names of what may be a lone object in the user's modules: globals, attributes of classes, defaults."""
    for module in ("__main__", *sorted(cloudpickle.list_registry_pickle_by_value())):
        found: list[tuple[str, Any]] = list(getattr(sys.modules.get(module), "__dict__", {}).items())
        classes = [(name, value) for name, value in found if isinstance(value, type) and value.__module__ == module]
        found += [(f"{name}.{key}", value) for name, cls in classes for key, value in vars(cls).items()]
        for name, value in reversed(found):
            for where, default in _defaults(value):
                yield id(default), f"{module}:{name}({where})"
            yield id(value), f"{module}:{name}"


def _defaults(value: Any) -> list[tuple[str, object]]:
    # Of a task, its function's.
    if not isinstance(value, types.FunctionType) and isinstance(value, type | types.ModuleType):
        return []
    function = value if isinstance(value, types.FunctionType) else _function_of(value)
    if function is None:
        return []
    named: dict[str, object] = {str(i): each for i, each in enumerate(function.__defaults__ or ())}
    return list({**named, **(function.__kwdefaults__ or {})}.items())


def _function_of(value: object) -> types.FunctionType | None:
    held = attribute(value, "__dict__")
    function = held.get("func") if type(held) is dict else None
    return function if isinstance(function, types.FunctionType) else None
