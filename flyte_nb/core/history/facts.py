r"""What is known about runs, actions and attempts. Runs in: everywhere.

Facts that travel are ``NamedTuple``\\ s: as frozen as frozen dataclasses, and several times cheaper to make and to pickle.
`Action` is the one exception: the reducer folds every event into it, and making a new 22-field value per event took 25 us
per action where changing it in place takes 12, which is what lets a run hold 100,000 actions. Only
`flyte_nb.core.history.reducer` writes it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from flyte_nb.core.history.worker_names import name_of


class Phase(enum.StrEnum):
    """Where an action or a run stands. Flyte 2's phases, and two of ours (`CANCELLING`, `ABANDONED`).

    The one table of facts about phases, a row each: value, code, urgency, and how it ended where it has. How a phase is called
    and drawn is in `flyte_nb.views.words`; which one follows from which events, in `flyte_nb.core.history.reducer`.
    """

    #: One byte in a group's array of phases and in messages to the browser (``js/src/protocol.ts`` has the same numbers): a
    #: new phase takes the next free one, an old one keeps its own.
    code: int
    #: Rank where actions are sorted by state: what needs the reader, then what moves, then what waits, then the rest.
    urgency: int
    #: Whether nothing can follow.
    is_terminal: bool
    #: Whether it ended with a result.
    is_success: bool
    #: Whether it ended with an error of its own (a cancelled action did not).
    is_failure: bool

    def __new__(cls, value: str, code: int = -1, urgency: int = -1, ended: str = "") -> Self:
        """A row of the table: `ended` with a "result", an "error", or "stopped"; "" while it has not.

        The defaults are for type checkers, to whom ``Phase("failed")``, which looks a phase up, is a call of this.
        """
        self = str.__new__(cls, value)
        self._value_ = value
        self.code, self.urgency = code, urgency
        self.is_terminal, self.is_success, self.is_failure = ended != "", ended == "result", ended == "error"
        return self

    #: Known, not yet given to a worker.
    QUEUED = "queued", 0, 6
    #: Waits for a resource (a GPU, say) that no worker has free.
    WAITING_FOR_RESOURCES = "waiting_for_resources", 1, 5
    #: Given to a worker, its body has not begun.
    INITIALIZING = "initializing", 2, 4
    #: Its body has begun.
    RUNNING = "running", 3, 3
    #: Parked: a condition, a failure under ``on_failure="pause"``, or a breakpoint.
    PAUSED = "paused", 4, 1
    #: Asked to stop, has not confirmed yet.
    CANCELLING = "cancelling", 5, 2
    SUCCEEDED = "succeeded", 6, 10, "result"
    FAILED = "failed", 7, 0, "error"
    #: Cancelled, and confirmed so: nothing of it executes any more.
    ABORTED = "aborted", 8, 8, "stopped"
    TIMED_OUT = "timed_out", 9, 0, "error"
    #: Taken from an earlier run's record instead of executed.
    RECOVERED = "recovered", 10, 9, "result"
    #: Asked to stop, but its worker could not be reached to confirm.
    ABANDONED = "abandoned", 11, 7, "stopped"


#: How the note of a run begins that waits for its cluster.
CLUSTER_STARTS = "the cluster starts"
#: The note of an action that a person has started again.
BY_HAND = "retried by hand"
#: States of an action that are remembered beside the last (`Action.notes`).
MAX_NOTES = 40
#: Phases by code.
PHASES = tuple(sorted(Phase, key=lambda phase: phase.code))
TERMINAL = frozenset(phase for phase in Phase if phase.is_terminal)
#: Codes of the phases that end an action.
TERMINAL_CODES = tuple(phase.code for phase in PHASES if phase.is_terminal)
#: Phases that the controller alone decides: they hold whatever a worker reports of the attempt.
CONTROLLER_DECIDES = TERMINAL | {Phase.PAUSED, Phase.CANCELLING, Phase.WAITING_FOR_RESOURCES}


class ErrorNote(NamedTuple):
    """A failure, small enough to travel with every event and to be shown in a row."""

    #: "user", "system" or "unknown", as in Flyte.
    kind: str
    #: Name of the exception class, or of Flyte's error.
    code: str
    #: ``str(exception)``, cut at `MAX_MESSAGE` characters.
    message: str
    #: "file.py:12 in work", the innermost frame of the user's code; of a loss, its worker's name; "" if unknown.
    where: str = ""
    #: The bounded failure record (`flyte_nb.core.failures.capture.FailureRecord`), pickled; None where there is none.
    record: bytes | None = None
    #: False for an error that no retry may follow (`flyte.errors.NonRecoverableError`).
    recoverable: bool = True


#: Longest message kept in an `ErrorNote`, in characters: two screens of text; the full one is in the record.
MAX_MESSAGE = 4_000


class Usage(NamedTuple):
    """What an attempt has used, as its worker measured; 0 for what was too short to be, or cannot be there."""

    #: Seconds of CPU, while it held a slot: of its whole process where that has one slot, else of its own thread.
    cpu: float = 0.0
    #: Largest size of its process in bytes, as looked at while the attempt was under way.
    memory: int = 0
    #: Bytes of its arguments, and of its result.
    taken: int = 0
    given: int = 0
    #: Seconds in which its code was loaded before it began, and its arguments after that: imports, most of it.
    loading: float = 0.0
    unpacking: float = 0.0


#: A `Usage` as it travels and is kept: a plain tuple, which costs the garbage collector nothing.
Used = tuple[float, int, int, int, float, float]
NOTHING_USED: Used = tuple(Usage())  # type: ignore[assignment]  # of its fields


class Attempt(NamedTuple):
    """One execution of an action on a worker. All times are seconds since the epoch."""

    #: Counts from 0.
    number: int
    started_at: float | None = None
    ended_at: float | None = None
    #: Address of the Dask worker, or "local".
    worker: str = ""
    pid: int = 0
    #: Name of the compute lane in that worker ("0", "1", ...): the row in a timeline.
    slot: str = ""
    #: Seconds it held a compute slot (a suspended action holds none); known once it has ended.
    busy: float = 0.0
    #: None while it runs; then whether it returned.
    ok: bool | None = None
    error: ErrorNote | None = None
    #: As of `usage`.
    used: Used = NOTHING_USED

    @property
    def usage(self) -> Usage:
        """What it has used; known once it has ended."""
        return Usage(*self.used)


class Progress(NamedTuple):
    """How far an attempt is."""

    attempt: int
    at: float
    done: float
    #: Of how much; None if that is not known.
    total: float | None = None
    #: A second.
    rate: float = 0.0
    text: str = ""
    #: What is counted: "items", "B"; "%": a share is all that is known.
    unit: str = ""


@dataclass(slots=True, eq=True, repr=False)
class Action:
    """One awaited task call; written by the reducer only. All times are seconds since the epoch."""

    run: str
    #: Deterministic within the run; "a0" is the root.
    name: str
    #: Order of arrival in this kernel's store: users see ``a<number>``.
    number: int
    #: Name of the parent action; "" for the root.
    parent: str
    #: Full task name, "env.function".
    task: str
    #: "square(3)": bounded, known before it starts.
    label: str
    #: Name of the group it belongs to (``flyte.group``, ``flyte.map``); "" for none.
    group: str
    #: "task", "trace", "condition", "sleep", "dask" or "root".
    kind: str
    phase: Phase
    queued_at: float
    started_at: float | None = None
    ended_at: float | None = None
    #: Attempts it may use in all.
    max_attempts: int = 1
    #: The latest attempt; None before the first one starts.
    attempt: Attempt | None = None
    #: Attempts before the latest, oldest first.
    earlier: tuple[Attempt, ...] = ()
    error: ErrorNote | None = None
    #: Whether the result came from the cache.
    cached: bool = False
    #: A word on the phase: "backing off 2.0 s", "breakpoint at cell.py:4".
    note: str = ""
    #: Serialized arguments, for replay and retry; None once dropped.
    inputs: bytes | None = None
    #: Serialized small result, for replay; None if there is none or it is large.
    output: bytes | None = None
    #: Bounded text of the result; "" if none.
    preview: str = ""
    #: The last state that its controller published: (sequence number, phase, attempt that it refers to). -1: none yet.
    controller_state: tuple[int, Phase, int] = (-1, Phase.QUEUED, 0)
    #: Workers whose controllers have announced it: it is theirs, until they are lost. None for what its home drives.
    owners: tuple[str, ...] = ()
    #: How far its latest attempt is; None where nothing tells.
    progress: Progress | None = None
    #: (name, address) of the links that its call was given; None: those of its task.
    links: tuple[tuple[str, str], ...] | None = None
    #: The latest states that its controller published, ends aside: sequence number, when, phase, whether a person retried it.
    notes: tuple[tuple[int, float, Phase, bool], ...] = ()

    def done(self) -> bool:
        """Whether it has ended."""
        return self.phase.is_terminal

    @property
    def all_attempts(self) -> tuple[Attempt, ...]:
        """Its attempts, the latest one last; none before the first begins.

        One whose end nobody has told, since it was lost with its worker, had ended by the time that the next one began.
        """
        if self.attempt is None or not self.earlier:
            return self.earlier if self.attempt is None else (self.attempt,)
        found = [self.attempt]
        for each in reversed(self.earlier):
            ended = each.ended_at if each.ended_at is not None else found[-1].started_at
            found.append(each if ended == each.ended_at else each._replace(ended_at=ended, ok=False))
        return tuple(reversed(found))

    @property
    def next_seq(self) -> int:
        """Sequence number of the next state that a controller publishes of it."""
        return self.controller_state[0] + 1

    @property
    def id(self) -> str:
        """The short name users see and type: ``a17``."""
        return f"a{self.number}"

    def retry(self) -> None:
        """Run it again, if it failed or is parked, with the code that its task has now: `Run.retry`."""
        _command(self, "retry")

    def resume(self, value: Any) -> None:
        """Let it succeed with a value, if it is parked: `Run.resume`."""
        _command(self, "resume", value)

    def fail(self) -> None:
        """Let it fail with its error, if it is parked: `Run.fail`."""
        _command(self, "fail")

    def __repr__(self) -> str:
        latest = self.attempt
        tries = f" attempt {latest.number + 1}/{self.max_attempts}" if latest and self.max_attempts > 1 else ""
        place = f" on {name_of(latest.worker)}" if latest and latest.worker else ""
        return f"<Action {self.run}/{self.id} {self.label} {self.phase.name}{tries}{place}>"


_command: Callable[..., None]


def command_with(command: Callable[..., None]) -> None:
    """Register what carries out commands on an action: ``command(action, "retry" | "resume" | "fail", *args)``.

    Facts know nothing of the runs that they belong to (`flyte_nb.core.runs`), which are above them.
    """
    global _command
    _command = command


class RunState(NamedTuple):
    """One run: a cell that awaited tasks, or a ``flyte.run(...)``."""

    #: Short name, unique in this kernel: "r3".
    run: str
    #: What the user sees beside it: the first line of the cell, or the task's name.
    title: str
    #: "cell", "run", or "replay" of an action in the kernel.
    kind: str
    phase: Phase
    started_at: float
    ended_at: float | None = None
    #: Notebook cell id; "" elsewhere.
    cell: str = ""
    #: The prompt number of the cell, as in ``In [7]``; 0 if none.
    prompt: int = 0
    error: ErrorNote | None = None
    #: Name of the run this one recovers; "" for none.
    recovers: str = ""
    #: What all of it waits for: "the cluster starts: 2 worker processes"; "" for nothing.
    note: str = ""
    #: When the cluster was there, if it was not when the run began.
    ready_at: float | None = None

    @property
    def headline(self) -> str:
        """The title, after what it waits for."""
        return f"{self.note} · {self.title}" if self.note else self.title


class LogLine(NamedTuple):
    """One line that an action printed."""

    #: Seconds since the epoch, on the worker's clock.
    at: float
    #: "stdout", "stderr", "warning", or a logging level name in lower case ("info", "error", ...).
    stream: str
    text: str
