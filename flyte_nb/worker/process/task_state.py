"""State of a task's own code: each attempt begins with the globals as they were sent. Runs in: worker process.

On Flyte every action imports its program anew. Here a task is unpickled once per process and executed many times: what one
attempt appends to a global list must not be there for the next. So the state that can be changed is compared after each
attempt, and a task whose state has changed is unpickled anew; one that has any is executed by one attempt at a time, and those
that overlap get copies. A task without such state, which is most, is shared and costs one comparison of names. `ReusePolicy`
keeps globals on purpose.
"""

from __future__ import annotations

import asyncio
import dis
import enum
import functools
import io
import operator
import pickle
import queue
import sys
import threading
import types
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from flyte_nb.core.attempts import seeds
from flyte_nb.core.tasks.task import Task
from flyte_nb.core.transport.patched import InPlace
from flyte_nb.core.values.by_value import classes
from flyte_nb.core.values.user_code import content_of, found_by_name, is_pythons

#: Unchanged copies of a task that are kept for attempts to come.
MAX_COPIES = 64
#: Bytes of a pickled task from which attempts that overlap share one copy: copies would fill the memory.
SHARED_FROM = 8 * 1024 * 1024
#: Copies in use at once, and bytes of all of them, beyond which attempts share one.
MAX_USED, MAX_USED_BYTES = 1_000, 64 * 1024 * 1024
#: Bytes of a fingerprint's pickle that are kept as they are; of more, a hash.
_KEPT = 4_096

#: Bytes of a buffer from which sums are taken of it, and of the rows that it is laid out in for that; rows that fit into a
#: processor's cache together.
_LARGE, _ROW, _ROWS = 1024 * 1024, 8_192, 64

#: Values that cannot be changed, or that are not a task's to have.
_ATOMS = (
    type(None), bool, int, float, complex, str, bytes, range, types.BuiltinFunctionType, types.MethodDescriptorType,
    types.GenericAlias, types.CodeType, type(Ellipsis), type(NotImplemented), operator.itemgetter, operator.attrgetter,
)  # fmt: skip


def _is_by_value(space: dict[str, Any], name: object) -> bool:
    """Whether a namespace came with the task, instead of being an installed module's."""
    module = sys.modules.get(name) if isinstance(name, str) else None
    return module is None or name == "__main__" or vars(module) is not space


class _Watched:
    """What can change of a task that is executed: its namespaces, and the values in them."""

    def __init__(self, task: Task[..., Any], modules: Iterable[types.ModuleType]) -> None:
        self.spaces: list[dict[str, Any] | types.MappingProxyType[str, Any]] = []
        self.values: list[Any] = []
        self.cells: list[types.CellType] = []
        #: Whether a function of it binds globals anew.
        self.binds: bool = False
        self._seen: set[int] = set()
        self._first = task.func
        self._walk(task.func)
        for module in modules:
            self._walk(module)

    def _walk(self, value: Any) -> None:
        if isinstance(value, _ATOMS) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, types.ModuleType):
            if _is_by_value(vars(value), value.__name__):
                self._space(vars(value))
        elif isinstance(value, Task):
            self._walk(value.func)
        elif isinstance(value, types.MethodType):
            self._walk(value.__func__)
            self._walk(value.__self__)
        elif isinstance(value, (staticmethod, classmethod)):
            self._walk(value.__func__)
        elif isinstance(value, property):
            for function in (value.fget, value.fset, value.fdel):
                self._walk(function)
        elif isinstance(value, (tuple, frozenset)):
            for item in value:
                self._walk(item)
        elif not _is_of_process(value):
            self.values.append(value)

    def _function(self, function: types.FunctionType) -> None:
        for cell in function.__closure__ or ():
            self.cells.append(cell)
            self._walk(content_of(cell))
        for item in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._walk(item)
        self._walk(getattr(function, "__wrapped__", None))
        if _is_by_value(function.__globals__, function.__module__):
            self.binds = self.binds or _binds(function.__code__)
            if vars(function) or function is not self._first:
                self._space(vars(function))
            self._space(function.__globals__)

    def _space(self, space: dict[str, Any]) -> None:
        if id(space) in self._seen:
            return
        self._seen.add(id(space))
        self.spaces.append(space)
        for name, item in list(space.items()):
            if not is_pythons(name, item):
                self._walk(item)

    def _class(self, cls: type) -> None:
        if cls.__module__ != "__main__" and found_by_name(cls.__module__, cls.__qualname__) is cls:
            return  # an installed module's
        self.spaces.append(vars(cls))
        for name, item in list(vars(cls).items()):
            if isinstance(item, types.FunctionType) or not is_pythons(name, item):
                self._walk(item)
        for base in (*cls.__bases__, type(cls)):
            self._walk(base)


@functools.lru_cache(maxsize=4096)
def _binds(code: types.CodeType) -> bool:
    return any(
        step.opname in {"STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF"} and not _is_own_cell(code, step)
        for step in dis.get_instructions(code)
    ) or any(_binds(const) for const in code.co_consts if isinstance(const, types.CodeType))


def _is_own_cell(code: types.CodeType, step: dis.Instruction) -> bool:
    return step.opname == "STORE_DEREF" and step.argval not in code.co_freevars


#: Packages of locks, loggers, pools and the like: each process has its own, and they hold nothing of an action's.
_OF_PROCESS = frozenset(
    {"_thread", "threading", "logging", "_contextvars", "concurrent", "asyncio", "flyte_nb", "functools", "weakref"}
)
#: What of those packages' holds something of an action's all the same.
_HOLDS = (functools.partial, threading.Event, asyncio.Event, asyncio.Queue, threading.local)
#: What counts by identity.
_BY_IDENTITY = (type, types.FunctionType, types.ModuleType, types.BuiltinFunctionType, Task)


def _is_of_process(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] in _OF_PROCESS and not isinstance(value, _HOLDS)


def _held(value: Any) -> Any:
    """What an event or a queue holds, as far as it can be seen."""
    if isinstance(value, threading.Event | asyncio.Event):
        return value.is_set()
    return list(value._queue) if isinstance(value, asyncio.Queue) else value.qsize()  # type: ignore[attr-defined]  # noqa: SLF001


class _Fingerprinter(pickle.Pickler):
    """Pickles state to compare it: functions, classes, modules and what cannot be pickled count by identity."""

    def reducer_override(self, value: Any) -> Any:
        """As `pickle.Pickler`'s."""
        if value is int:
            return NotImplemented
        if isinstance(value, _BY_IDENTITY) or _is_of_process(value):
            return int, (id(value),)
        if isinstance(value, threading.Event | asyncio.Event | asyncio.Queue | queue.SimpleQueue):
            return list, (_held(value),)
        if isinstance(value, enum.Enum) and (own := classes.of_member(value)):
            return int, (id(value),), own
        try:
            value.__reduce_ex__(5)
        except Exception:
            return int, (id(value),)
        return NotImplemented


def _checksum(data: memoryview) -> int:
    """A checksum of a buffer; of a large one from sums of its rows and columns, in a quarter of the time of a CRC."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or data.nbytes < _LARGE:
        return zlib.crc32(data)
    whole = data.nbytes // _ROW * _ROW
    table = numpy.frombuffer(data[:whole], "u8").reshape(-1, _ROW // 8)
    found = zlib.crc32(data[whole:])
    for at in range(0, len(table), _ROWS):
        part = table[at : at + _ROWS]
        found = zlib.crc32(numpy.add.reduce(part, axis=0), zlib.crc32(numpy.add.reduce(part, axis=1), found))
    return found


def fingerprint(value: Any) -> tuple[Any, ...]:
    """What tells whether a value was changed: equal as long as it was not."""
    if isinstance(value, threading.local):
        value = vars(
            value
        )  # this thread's part; within other values it is a library's, a connection for each thread, say
    buffers: list[pickle.PickleBuffer] = []
    with io.BytesIO() as file:
        try:
            _Fingerprinter(file, 5, buffer_callback=buffers.append).dump(value)
        except Exception:  # a class that fails in a way of its own: it counts by identity
            return (id(value),)
        data = file.getvalue()
    hashes = [_checksum(buffer.raw()) for buffer in buffers]
    return (data if len(data) <= _KEPT else hash(data), *hashes)


class Copy:
    """One unpickled copy of a task, and what it was like when it was unpickled.

    Args:
        task: The task.
        activate: Makes classes and imports those that came with it; None if nothing did.
        modules: Came with it, to be found by imports while it runs.
    """

    def __init__(
        self, task: Task[..., Any], activate: Callable[[], None] | None = None, modules: Iterable[types.ModuleType] = ()
    ) -> None:
        self.task = task
        self.activate = activate
        #: Set at its turns; None if there are none, or the function sets them.
        self.patches: InPlace | None = None
        self.is_patched: bool = False
        #: Where it is given back.
        self.state: TaskState
        self.watched: _Watched = _Watched(task, modules)
        #: What names were bound to, and cells held.
        self._spaces = [(space, tuple(space.values())) for space in self.watched.spaces]
        self._cells = [(cell, content_of(cell)) for cell in self.watched.cells]
        self._prints = [(value, fingerprint(value)) for value in self.watched.values]
        #: Generators of random numbers among its globals, with their states.
        self.generators: list[tuple[Any, bytes]] = seeds.generators(self.watched.values)

    def patch(self, patches: InPlace) -> None:
        """Have it executed with these patches."""
        self.is_patched = True
        if self.task.is_async:
            self.patches = patches  # at each step
        else:
            self.task.func = patches.wrap(self.task.func)

    @property
    def is_exclusive(self) -> bool:
        """Whether attempts that overlap could see each other's changes."""
        return bool(self.watched.values) or self.watched.binds

    def is_changed(self) -> bool:
        """Whether anything of it is not as it was."""
        for space, before in self._spaces:
            if len(space) != len(before) or not all(map(operator.is_, before, space.values())):
                return True
        for cell, content in self._cells:
            if content_of(cell) is not content:
                return True
        return bool(self._prints) and any(fingerprint(value) != found for value, found in self._prints)


class TaskState:
    """A task's code in this process.

    Args:
        load: Unpickles it.
        size: Bytes of its pickle.
    """

    def __init__(self, load: Callable[[], Copy], size: int) -> None:
        self._unpickle = load
        self._lock = threading.Lock()
        first = self._load()
        #: The one copy of a warm environment's, which keeps its globals.
        self._kept = first if first.task.config.reusable is not None else None
        self._is_shared = not first.is_exclusive or size >= SHARED_FROM
        self._free = [first]
        #: Copies in use, and by how many attempts, where each is to have its own.
        self._used: dict[Copy, int] = {}
        self._most = min(MAX_USED, MAX_USED_BYTES // max(size, 1))

    def _load(self) -> Copy:
        copy = self._unpickle()
        copy.state = self
        return copy

    def take(self) -> Copy:
        """A copy as it was sent, for an attempt that begins."""
        if self._kept is not None:
            return self._kept
        if self._is_shared:
            if free := self._free:  # which is replaced, never changed
                return free[0]
        else:
            with self._lock:
                found = self._free.pop() if self._free else None
                if found is None and len(self._used) >= self._most:
                    found = next(reversed(self._used))
                if found is not None:
                    self._used[found] = self._used.get(found, 0) + 1
                    return found
        fresh = self._load()
        with self._lock:
            if self._is_shared:
                self._free = [fresh]
            else:
                self._used[fresh] = 1
        return fresh

    def give_back(self, copy: Copy, drew: Callable[[bytes], object]) -> None:
        """An attempt has ended.

        Args:
            copy: What it executed.
            drew: Called with what each captured generator of random numbers that it used had begun with.
        """
        if self._kept is not None:
            return
        changed = copy.is_changed()
        if changed:
            for seed in seeds.drawn(copy.generators):
                drew(seed)
        if self._is_shared and not changed:
            return
        with self._lock:
            if self._is_shared:
                if self._free == [copy]:
                    self._free = []
                return
            self._used[copy] -= 1
            if self._used[copy]:
                return
            del self._used[copy]
            if not changed and len(self._free) < MAX_COPIES:
                self._free.append(copy)
