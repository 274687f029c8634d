"""Work and its outcome: how a controller asks an executor for an attempt, and how that ended. Runs in: everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from flyte_nb.core.control.calls import ResumePoint
from flyte_nb.core.history.facts import NOTHING_USED, ErrorNote, Used
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.transport.payload import Payload

#: (name, result) of each child of an action that succeeded in an earlier attempt; of the others, where to resume them.
Records = tuple[tuple[str, Payload | ResumePoint], ...]


class Work(NamedTuple):
    """One attempt to execute: everything a worker needs beside the task and the run."""

    run: str
    action: str
    attempt: int
    #: Serialized (args, kwargs).
    payload: Payload
    label: str = ""
    group: str = ""
    custom: tuple[tuple[str, str], ...] = ()
    #: Seconds the body may run; 0 = no bound.
    max_runtime: float = 0.0
    #: To be replayed.
    records: Records = ()
    parent: str = ""
    #: What it does when it fails, where that differs from its run's: "raise" or "pause".
    on_failure: str = ""
    #: `flyte_nb.core.transport.code_versions.CodeVersion.id` of its task's code; "" where code does not travel.
    version: str = ""
    #: Where it is one: number of the rows, and row (`flyte_nb.core.control.rows`).
    row: tuple[int, int] | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        """Unique over all runs."""
        return (self.run, self.action, self.attempt)


#: Where an attempt is executed: address of the worker ("local" without a cluster), its process number, and the compute slot's
#: name. One tuple for all attempts of a lane; no class, which would be pickled with every message.
Location = tuple[str, int, str]
#: Location of an attempt that was not executed.
NOWHERE: Location = ("", 0, "")


class Outcome(NamedTuple):
    """How an attempt ended."""

    run: str
    action: str
    attempt: int
    #: "ok", "error", "cancelled", "timeout" (max_runtime), "oom" (too much memory); or, where its worker went away, "lost",
    #: "unexplained" or "stranded", by how much it may be to blame (`decide.BLAME`).
    kind: str
    value: Payload | None = None
    error: ErrorNote | None = None
    #: Seconds since the epoch; 0 if the body never began.
    started_at: float = 0.0
    ended_at: float = 0.0
    #: Bounded text of the value.
    preview: str = ""
    location: Location = NOWHERE
    #: Seconds that it held a compute slot: what it waited for in between does not count.
    busy: float = 0.0
    #: What it used; `NOTHING_USED` for a quick row.
    used: Used = NOTHING_USED
    #: Whether its body is known to have called nothing: there is nothing to replay. Not told of those that succeeded.
    called_nothing: bool = False


class Executor(Protocol):
    """Executes attempts. Called on the controller's thread."""

    def start(self, task: Any, run: RunInfo, work: Work, done: Callable[[Outcome], None], code: Any = None) -> None:
        """Execute an attempt some time; `done` is called exactly once, on the controller's thread.

        `code` is the version of its task's code that it is to run (`Call.code`); None: that of now.
        """

    def cancel(self, work: Work, reason: str) -> None:
        """Stop a started attempt early: its `done` is still called, with kind "cancelled" if it was stopped."""

    def took(self, work: Work, count: int) -> None:
        """The consumer of a started attempt that yields has taken so many items; negative: it wants no more."""

    def tell_again(self, run: str) -> None:
        """A run's facts have changed: attempts that are started from now on are given the new ones."""


class Handle(Protocol):
    """A scheduled callback."""

    def cancel(self) -> None:
        """Cancel it."""


class Clock(Protocol):
    """Time and timers of a controller."""

    def time(self) -> float:
        """Seconds since the epoch."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> Handle:
        """Call back after `delay` seconds, on the controller's thread."""
