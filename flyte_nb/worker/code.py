"""Code of tasks on a worker: the versions that owners have sent, made into tasks when first needed. Runs in: worker process."""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from flyte_nb.core.tasks.task import Task
from flyte_nb.core.transport.code_versions import TravellingCode, state_names
from flyte_nb.core.transport.payload import Payload, loads_code, nbytes
from flyte_nb.engine.links.blob_fetch import Fetcher

#: Seconds after which the garbage of dropped versions is collected: functions and their globals refer to each other, and
#: Python's own collector does not see how large an array among them is.
COLLECT_AFTER_S = 1.0
#: Versions from this size on are collected so; smaller ones wait for Python's own collector.
LARGE_BYTES = 1024 * 1024


class CodeNotLoadedError(Exception):
    """A task's code cannot be used on this worker."""


class _Version:
    """One version of a task's code."""

    __slots__ = ("guard", "owners", "parts", "payload", "states", "task", "waiting")

    def __init__(self, payload: Payload) -> None:
        #: Peers that have sent it and not dropped it.
        self.owners: set[str] = set()
        self.payload = payload
        self.task: Task[..., Any] | None = None
        #: What beside the task makes it up; None if that is all.
        self.parts: TravellingCode | None = None
        #: Attributes of its classes, while those of another version are in force.
        self.states: dict[type, dict[str, Any]] = {}
        self.guard = threading.Lock()
        #: Called once its large buffers are on this machine; None when they are.
        self.waiting: list[Callable[[], None]] | None = None


class CodeStore:
    """The versions that are here. On the worker's loop, where nothing else is said.

    Args:
        fetcher: Fetches large buffers from other machines.
        call_later: Of the worker's loop.
        in_force: What is shared with the stores of other kernels in this process.
        owns_process: Whether the process is the worker's; else it is the user's, whose classes and modules stay as they are.
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

    def task(self, name: str) -> tuple[Task[..., Any], Callable[[], None] | None]:
        """The task of a version, the same object each time, so that its globals stay warm; from any thread.

        Returns:
            The task, and what is to be called when it is the turn of an attempt of it: then classes and imports are those
            of its version. None if it has none of its own.

        Raises:
            CodeNotLoadedError: It cannot be made: a module that it imports is not installed, say.
        """
        version = self._versions.get(name)
        if version is None:
            raise CodeNotLoadedError(f"version {name} of the code of the task is not here")
        if version.task is None:
            with version.guard:
                if version.task is None:
                    self._load(version)
        assert version.task is not None
        if version.parts is None or not self._owns_process:
            return version.task, None
        self._activate(version)
        return version.task, functools.partial(self._activate, version)

    def _load(self, version: _Version) -> None:
        with self._in_force.guard:
            self._in_force.states.save()
            try:
                found = loads_code(version.payload)
            except Exception as exc:
                raise CodeNotLoadedError(
                    f"the code of the task cannot be loaded here: {type(exc).__name__}: {exc}"
                ) from exc
            if isinstance(found, TravellingCode):
                version.parts, self._in_force.version = found, None
                if self._owns_process:
                    self._in_force.states.loaded(version)
                    found.imports.install(first=True)
                found = found.task
        version.task = found

    def _activate(self, version: _Version) -> None:
        if self._in_force.version is version:
            return
        assert version.parts is not None
        with self._in_force.guard:
            self._in_force.version = version
            version.parts.imports.install()
            self._in_force.states.activate(version)

    def __repr__(self) -> str:
        made = sum(version.task is not None for version in self._versions.values())
        return f"<CodeStore [{len(self._versions)} versions, {made} in use]>"


class ClassStates:
    """The attributes of the user's classes, by version: a class is one object in a process, whatever version named it."""

    def __init__(self) -> None:
        #: Whose attributes a class has now.
        self._active: weakref.WeakKeyDictionary[type, _Version] = weakref.WeakKeyDictionary()

    def save(self) -> None:
        """Remember the attributes that classes have: a version is about to be loaded, which sets its own."""
        for cls, version in list(self._active.items()):
            version.states[cls] = _read(cls)

    def loaded(self, version: _Version) -> None:
        """A version has been loaded, and its classes have its attributes."""
        assert version.parts is not None
        for cls, names in version.parts.classes.items():
            if cls in self._active:
                _remove(cls, set(state_names(cls)) - set(names))
            self._active[cls] = version

    def activate(self, version: _Version) -> None:
        """Give its classes the attributes that they have in this version."""
        assert version.parts is not None
        for cls in version.parts.classes:
            active = self._active.get(cls)
            if active is version:
                continue
            now = _read(cls)
            if active is not None:
                active.states[cls] = now
            state = version.states.get(cls, now)
            _remove(cls, now.keys() - state.keys())
            for name, value in state.items():
                if now.get(name, _Version) is not value:
                    setattr(cls, name, value)
            self._active[cls] = version


class InForce:
    """Whose classes and imports a process has just now."""

    def __init__(self) -> None:
        self.version: _Version | None = None
        self.states = ClassStates()
        self.guard = threading.RLock()


def _read(cls: type) -> dict[str, Any]:
    return {name: vars(cls)[name] for name in state_names(cls)}


def _remove(cls: type, names: Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(AttributeError, TypeError):
            delattr(cls, name)


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
