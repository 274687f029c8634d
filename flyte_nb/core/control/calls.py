"""A task call on its way to the controller, and what its caller gets back. Runs in: everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from flyte_nb.core.history.facts import ErrorNote
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.settings.config import TaskConfig
from flyte_nb.core.transport.payload import (
    Payload,
)

#: Digits of an action's name that say which call of which parent it is: with a million actions, one chance in 10 million that
#: two are alike.
PLACE_DIGITS = 16


class TaskSpec(Protocol):
    """What a controller and an executor know of a task: `flyte_nb.core.tasks.task.Task`, or a condition's stand-in for one."""

    name: str
    config: TaskConfig

    @property
    def short_name(self) -> str:
        """What views call it."""


class ResumePoint(NamedTuple):
    """State from which an action that has ended is executed again."""

    #: Sequence number of the last state that its controller published.
    seq: int
    #: Attempts it has had.
    attempts: int
    #: What its last attempt came to where nobody was left to hear of it (its worker, and its owner's, ran out of memory).
    error: ErrorNote | None = None


class Call:
    """A task call on its way to the controller."""

    __slots__ = (
        "_cache_key", "_keyed_task", "custom", "group", "kind", "label", "name", "parent", "payload", "record", "run", "task",
    )  # fmt: skip

    def __init__(
        self, task: TaskSpec, run: RunInfo, name: str, parent: str, payload: Payload, label: str, group: str,
        custom: tuple[tuple[str, str], ...], record: Payload | ResumePoint | None = None, kind: str = "task",
        cache_key: bytes = b"",
    ) -> None:  # fmt: skip
        self.task = task
        self.run = run
        #: Deterministic within the run.
        self.name = name
        #: Name of the calling action.
        self.parent = parent
        #: Serialized (args, kwargs).
        self.payload = payload
        #: "square(3)".
        self.label = label
        self.group = group
        self.custom = custom
        #: What became of the same call in an earlier attempt of the parent: its result, or where it stands; None: it is new.
        self.record = record
        self.kind = kind
        self._cache_key = cache_key
        self._keyed_task = task

    @property
    def cache_key(self) -> bytes:
        """What identifies the call for the cache (`caching.key_of`); empty: it takes no part, as with other code."""
        return self._cache_key if self.task is self._keyed_task else b""


def place_of(name: str) -> str:
    """The part of an action's name that its code has no part in."""
    return name[:PLACE_DIGITS]


Deliver = Callable[["Settled"], None]


class Settled:
    """What an awaiting caller gets: a value to unpickle, or an error to raise."""

    __slots__ = ("call", "code", "error", "kind", "message", "payload")

    def __init__(
        self, kind: str, call: Call | None, payload: Payload | None = None, error: Any = None, code: str = "",
        message: str = "",
    ) -> None:  # fmt: skip
        #: "ok", "error", "cancelled" or "aborted".
        self.kind = kind
        self.call = call
        self.payload = payload
        #: The `ErrorNote` of the last attempt, if it failed.
        self.error = error
        #: Class name in `flyte_nb.errors` that the caller gets, where it is not the error's own.
        self.code = code
        self.message = message
