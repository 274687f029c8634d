"""Code of tasks on a worker: the versions that owners have sent, made into tasks when first needed. Runs in: worker process."""

from __future__ import annotations

import copyreg
import functools
import gc
import threading
from collections.abc import Callable, Iterable

from flyte_nb.core.transport.code_versions import TravellingCode
from flyte_nb.core.transport.companions import COMPANIONS
from flyte_nb.core.transport.patched import InPlace
from flyte_nb.core.transport.payload import Payload, loads_code, nbytes
from flyte_nb.engine.links.blob_fetch import Fetcher
from flyte_nb.worker.process.task_state import Copy, TaskState

#: Seconds after which the garbage of dropped versions is collected: functions and their globals refer to each other, and
#: Python's own collector does not see how large an array among them is.
COLLECT_AFTER_S = 1.0
#: Versions from this size on are collected so; smaller ones wait for Python's own collector.
LARGE_BYTES = 1024 * 1024


class CodeNotLoadedError(Exception):
    """A task's code cannot be used on this worker."""


class _Version:
    """One version of a task's code."""

    __slots__ = ("guard", "owners", "payload", "state", "waiting")

    def __init__(self, payload: Payload) -> None:
        #: Peers that have sent it and not dropped it.
        self.owners: set[str] = set()
        self.payload = payload
        #: Its task, with the state that this begins with; None while nobody has needed it.
        self.state: TaskState | None = None
        self.guard = threading.Lock()
        #: Called once its large buffers are on this machine; None when they are.
        self.waiting: list[Callable[[], None]] | None = None


class InForce:
    """Whose imports a process has just now."""

    def __init__(self) -> None:
        self.version: TravellingCode | None = None
        self.guard: threading.RLock = threading.RLock()


class CodeStore:
    """The versions that are here. On the worker's loop, where nothing else is said.

    Args:
        fetcher: Fetches large buffers from other machines.
        call_later: Of the worker's loop.
        in_force: What is shared with the stores of other kernels in this process.
        owns_process: Whether the process is the worker's; else it is the user's, whose modules stay as they are.
    """

    def __init__(
        self, fetcher: Fetcher, call_later: Callable[..., object], in_force: InForce, *, owns_process: bool = True
    ) -> None:
        self._in_force = in_force
        self._owns_process = owns_process
        self._fetcher = fetcher
        self._call_later = call_later
        self._versions: dict[str, _Version] = {}
        self._collecting = False

    def take(self, owner: str, name: str, payload: Payload) -> None:
        """A peer sends a version."""
        version = self._versions.get(name)
        if version is None:
            version = self._versions[name] = _Version(payload)
            version.waiting = []
            self._fetcher.payload(payload, lambda here: self._arrived(version, here))
        version.owners.add(owner)

    @staticmethod
    def _arrived(version: _Version, payload: Payload) -> None:
        version.payload = payload
        waiting, version.waiting = version.waiting or [], None
        for then in waiting:
            then()

    def drop(self, owner: str, name: str) -> None:
        """A peer has no more use for a version."""
        version = self._versions.get(name)
        if version is None:
            return
        version.owners.discard(owner)
        if not version.owners:
            del self._versions[name]
            if not self._collecting and nbytes(version.payload) >= LARGE_BYTES:
                self._collecting = True
                self._call_later(COLLECT_AFTER_S, self._collect)

    def _collect(self) -> None:
        self._collecting = False
        gc.collect()

    def forget(self, owner: str) -> None:
        """A peer is gone."""
        for name in [name for name, version in self._versions.items() if owner in version.owners]:
            self.drop(owner, name)

    def missing(self, names: Iterable[str]) -> list[_Version]:
        """Those versions whose large buffers are still on their way."""
        found = (self._versions.get(name) for name in names)
        return [version for version in found if version is not None and version.waiting is not None]

    def copy(self, name: str) -> Copy:
        """The task of a version with its globals as they were sent, for an attempt that begins; from any thread.

        `Copy.activate` is to be called when it is the attempt's turn: then imports are those of its version.

        Raises:
            CodeNotLoadedError: It cannot be made: a module that it imports is not installed, say.
        """
        version = self._versions.get(name)
        if version is None:
            raise CodeNotLoadedError(f"version {name} of the code of the task is not here")
        if version.state is None:
            with version.guard:
                if version.state is None:
                    version.state = TaskState(lambda: self._load(version), nbytes(version.payload))
        copy = version.state.take()
        if copy.activate is not None:
            copy.activate()
        return copy

    def _load(self, version: _Version) -> Copy:
        with self._in_force.guard:
            try:
                found = loads_code(version.payload)
            except Exception as exc:
                remedy = f". Install {exc.name} on the workers" if isinstance(exc, ImportError) and exc.name else ""
                raise CodeNotLoadedError(
                    f"the code of the task cannot be loaded here: {type(exc).__name__}: {exc}{remedy}"
                ) from exc
            if not isinstance(found, TravellingCode):
                return Copy(found)
            # Before they are installed: then they could not be told from what the process has by itself.
            if found.task.classes is not None:
                found.task.classes.program.update({each.__qualname__: each for each in found.asked_for})
            modules = [module for name, module in found.imports.modules.items() if name in found.own_modules]
            if not self._owns_process:
                return Copy(found.task, None, modules)
            copy = Copy(found.task, functools.partial(self._activate, found), modules)
            copyreg.dispatch_table.update(found.reducers)
            if found.patches:
                copy.patch(InPlace(found.patches))
            self._in_force.version = None
            found.imports.install(first=True)
            COMPANIONS.arrived(found.task.classes, found.companions)
            return copy

    def _activate(self, found: TravellingCode) -> None:
        if self._in_force.version is found:
            return
        with self._in_force.guard:
            self._in_force.version = found
            found.imports.install()

    def __repr__(self) -> str:
        made = sum(version.state is not None for version in self._versions.values())
        return f"<CodeStore [{len(self._versions)} versions, {made} in use]>"


def when_here(versions: list[_Version], then: Callable[[], None]) -> None:
    """Call `then` once the large buffers of all these versions are here."""
    left = len(versions)

    def one() -> None:
        nonlocal left
        left -= 1
        if not left:
            then()

    for version in versions:
        assert version.waiting is not None
        version.waiting.append(one)
