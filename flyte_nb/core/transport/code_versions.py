"""Code versions: what a task is at the moment of a call, its code and all that this refers to. Runs in: where tasks are called.

Arguments are those of the moment of the call, and so is everything else that a body sees. A task is pickled when it is called
first, and again only when something that its code refers to has changed since (`flyte_nb.core.transport.bindings`). Each
pickle is a version, named by its content; actions say which one they were called with, and workers keep the latest few.
"""

from __future__ import annotations

import copyreg
import hashlib
import os
import threading
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from flyte_nb.core.transport.bindings import Bindings, Recorder, asked_for, installed_names, spaces_of
from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.companions import COMPANIONS
from flyte_nb.core.transport.lazy_imports import Imports, LazyImports, look_in, sys_path
from flyte_nb.core.transport.patched import Patch, patches
from flyte_nb.core.transport.payload import Payload, can_pickle, key_bytes, or_by_file, pack
from flyte_nb.core.transport.task_code import why_not
from flyte_nb.core.values.by_value import modules
from flyte_nb.core.values.by_value.classes import Classes
from flyte_nb.core.values.source_lines import cells_of, take_cells
from flyte_nb.core.values.user_code import is_user_code

#: How often a task is pickled anew whose globals are changed meanwhile by another thread.
TRIES = 3


class VersionedTask(Protocol):
    """What is known here of a task: `flyte_nb.core.tasks.task.Task`."""

    name: str
    #: What `CodeVersions` remembers of it (`_Memo`): kept here, since it refers to the task in turn.
    code_memo: Any
    #: Those of the version that it came with; None where its program runs.
    classes: Classes | None

    @property
    def as_sent(self) -> Any:
        """Itself, or a task that workers cannot tell from it: both share versions."""


class CodeVersion:
    """A task as it was at some moment."""

    __slots__ = ("__weakref__", "id", "payload")

    def __init__(self, name: str, payload: Payload) -> None:
        #: A hash of its content.
        self.id: str = name
        #: The task, pickled by value.
        self.payload: Payload = payload

    def __repr__(self) -> str:
        return f"<CodeVersion {self.id}>"


class TravellingCode(NamedTuple):
    """A task on its way to a worker, where it is more than the task."""

    task: Any
    imports: Imports
    #: `flyte_nb.core.transport.companions.COMPANIONS` of its process.
    companions: tuple[Callable[[], object], ...] = ()
    #: Names of the modules that came along for the task itself.
    own_modules: frozenset[str] = frozenset()
    #: Classes and functions that its code finds without naming them.
    asked_for: tuple[Any, ...] = ()
    #: What the program has put into installed modules that it uses.
    patches: tuple[Patch, ...] = ()
    #: How the program has types pickled, by `copyreg`.
    reducers: tuple[tuple[type, Any], ...] = ()


class _Memo(NamedTuple):
    """The latest version of a task, and what tells whether the task is still the same."""

    versions: CodeVersions
    version: CodeVersion
    bindings: Bindings
    imports: LazyImports
    #: `Companions.version`, and how many modules were left to their files, then.
    companions: int
    by_file: int


def _functions(reached: list[Any]) -> list[types.FunctionType]:
    return [each for each in reached if isinstance(each, types.FunctionType)]


class _WithCells:
    """Code on its way, and behind it the source of the cells that it turned out to be from."""

    def __init__(self, value: object, reached: list[Any]) -> None:
        self._value, self._reached = value, reached

    def __reduce__(self) -> Any:
        return _arrived, (_Beforehand() if modules.BY_FILE else None, self._value, _CellsOf(self._reached))


class _Beforehand:
    """What has to be known of modules before code that names classes in them."""

    def __reduce__(self) -> Any:
        path = tuple(entry or os.getcwd() for entry in sys_path())  # noqa: PTH109
        return look_in, (path, frozenset(modules.BY_FILE))


class _CellsOf:
    """Source of the cells that functions are from; asked when these have been pickled."""

    def __init__(self, reached: list[Any]) -> None:
        self._reached = reached

    def __reduce__(self) -> Any:
        return dict, (cells_of(each.__code__.co_filename for each in _functions(self._reached)),)


def _arrived(_before: None, value: Any, cells: dict[str, str]) -> Any:
    take_cells(cells)
    return value


class CodeVersions:
    """The versions of the tasks that this process calls.

    Args:
        blobs: Where large buffers (a global array) are put.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._by_id: weakref.WeakValueDictionary[str, CodeVersion] = weakref.WeakValueDictionary()
        self._lock = threading.RLock()
        #: What was reached when something was pickled last.
        self._reached: list[Any] = []
        #: ``sys.path`` as workers of this machine have it from their start.
        self._path = sys_path()

    def of(self, task: VersionedTask) -> CodeVersion:
        """The version of a task that a call of this moment has. From any thread.

        Raises:
            UnpicklableError: It cannot be sent to a worker; the message names what is at fault.
        """
        task = task.as_sent
        memo: _Memo | None = task.code_memo
        if (
            memo is not None
            and memo.versions is self
            and memo.bindings.same()
            and memo.imports.same()
            and memo.companions == COMPANIONS.version
            and memo.by_file == len(modules.BY_FILE)
        ):
            return memo.version
        with self._lock:
            return self._renew(task)

    def _renew(self, task: VersionedTask) -> CodeVersion:
        for left in reversed(range(TRIES)):
            companions = COMPANIONS.version
            try:
                payload, reached, imports = or_by_file(lambda: self._pickle(task), self._met)
                bindings = Bindings(reached, self._blobs, imports.watched)
                break
            except RuntimeError as exc:  # "dictionary changed size during iteration": another thread's
                if not left or "changed size" not in str(exc):
                    raise why_not(task, exc) from exc
            except Exception as exc:
                raise why_not(task, exc) from exc
        name = hashlib.blake2b(key_bytes(payload), digest_size=10).hexdigest()
        version = self._by_id.get(name)
        if version is None:
            version = self._by_id[name] = CodeVersion(name, payload)
        task.code_memo = _Memo(self, version, bindings, imports, companions, len(modules.BY_FILE))
        return version

    def _met(self) -> set[str]:
        return {each.__name__ if type(each) is types.ModuleType else each.__module__ for each in self._reached}

    def _pickle(self, task: VersionedTask) -> tuple[Payload, list[Any], LazyImports]:
        """The task, pickled with what it needs; what was reached in doing so; what its code imports while it runs."""
        payload, reached, imports = self._closure(task)
        if along := COMPANIONS.of(task.classes):
            # They stay as they were registered. What they refer to is neither compared at each call nor state of the task:
            # it would make each attempt that overlaps another of its task unpickle all of it anew.
            payload, _, _ = self._closure(task, along, frozenset(imports.loaded))
        return payload, reached, imports

    def _closure(
        self, task: VersionedTask, along: tuple[Callable[[], object], ...] = (), own: frozenset[str] | None = None
    ) -> tuple[Payload, list[Any], LazyImports]:
        payload, reached = self._dump(task)
        imports, by_file = LazyImports(_functions(reached)), frozenset[str]()
        asked: dict[Any, None] = dict.fromkeys(asked_for(reached))
        own_patches = patches(installed_names(reached))
        reducers = tuple((kind, how) for kind, how in copyreg.dispatch_table.items() if is_user_code(how))
        while (
            imports
            or own_patches
            or reducers
            or along
            or asked
            or imports.path != self._path
            or any(isinstance(each, types.ModuleType) for each in reached)
        ):
            try:
                along_with = [*imports.loaded.values(), *(each for each in reached if type(each) is types.ModuleType)]
                kept = frozenset(imports.loaded) if own is None else own
                payload, reached = self._dump(
                    TravellingCode(task, imports.packed(), along, kept, tuple(asked), own_patches, reducers), along_with
                )
            except Exception:
                stay = frozenset(n for n, module in imports.loaded.items() if not can_pickle(module, fresh=True))
                if not stay:
                    raise
                by_file |= stay
                imports = LazyImports(_functions(reached), by_file)
                continue
            # Modules that came along have functions, which import modules.
            more = LazyImports(_functions(reached), by_file)
            asked.update(dict.fromkeys(late := asked_for(reached, asked)))
            # What they use may be patched, too. (Compared by number: values of a user's may have no truth value.)
            found = patches(installed_names(reached))
            if more.loaded.keys() <= imports.loaded.keys() and not late and len(found) <= len(own_patches):
                return payload, reached, more
            imports, own_patches = more, found
        return payload, reached, imports

    def _dump(self, value: object, along: Iterable[types.ModuleType] = ()) -> tuple[Payload, list[Any]]:
        reached = self._reached = []

        def recorder(*args: Any, **kwargs: Any) -> Recorder:
            made = Recorder(*args, **kwargs)
            made.reached, made.modules = reached, spaces_of(along)
            return made

        return pack(recorder, _WithCells(value, reached), self._blobs), reached

    def __repr__(self) -> str:
        return f"<CodeVersions [{len(self._by_id)} in use]>"
