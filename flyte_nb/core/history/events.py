"""Everything that can happen to a run, as small frozen facts. Runs in: everywhere.

Each event has one author. `RunOpened`/`RunClosed`/`RunReopened`/`RunNoted`: the session. `ActionQueued`/`ActionNoted`/
`ActionEnded`: the controller that awaits the action; it numbers the states of one action with ``seq``, and tells of many alike
at once with `CallsQueued`/`CallsEnded`. `AttemptEnded`: the same, from the worker's outcome. `AttemptStarted`/`Logged`/
`Reported`/`Progressed`: the worker. Authors race, so `flyte_nb.core.history.reducer` folds them in any order to the same state.
"""

from __future__ import annotations

from typing import NamedTuple

from flyte_nb.core.history.facts import NOTHING_USED, Attempt, ErrorNote, LogLine, Phase, Used


class RunOpened(NamedTuple):
    """A cell awaited its first task, or ``flyte.run`` was called."""

    run: str
    title: str
    kind: str
    at: float
    cell: str = ""
    prompt: int = 0
    recovers: str = ""


class RunClosed(NamedTuple):
    """Nothing of the run executes any more."""

    run: str
    phase: Phase
    at: float
    error: ErrorNote | None = None


class RunReopened(NamedTuple):
    """Actions of a closed run are executed again."""

    run: str
    at: float


class RunNoted(NamedTuple):
    """All of the run waits for something; or, with an empty note, does not any more."""

    run: str
    note: str
    #: When the cluster was there, if that is the news.
    ready_at: float | None = None


class ActionQueued(NamedTuple):
    """A task call was awaited: the controller's first event of the action (sequence number 0)."""

    run: str
    action: str
    parent: str
    task: str
    label: str
    group: str
    at: float
    kind: str = "task"
    max_attempts: int = 1
    inputs: bytes | None = None
    #: (name, address) of the links that this call was given; None: those of its task.
    links: tuple[tuple[str, str], ...] | None = None


#: Labels of alike calls, in order; or, where inputs are plain values: the task's short name, names of its inputs, and how many
#: of them were given.
Labels = list[str] | tuple[str, tuple[str, ...], int]


class CallsQueued(NamedTuple):
    """Alike calls were made, one after another: an `ActionQueued` of each."""

    run: str
    #: Unique within the run.
    batch: int
    parent: str
    task: str
    group: str
    at: float
    max_attempts: int
    #: Names of the actions, 8 bytes each; as text they are in hexadecimal, and `suffix` behind it.
    names: bytes
    suffix: str
    inputs: list[bytes]
    labels: Labels


class CallsEnded(NamedTuple):
    """Some of them have ended, all alike at their first attempt, at one place: an `ActionEnded` of each."""

    run: str
    batch: int
    phase: Phase
    at: float
    #: Which ones (32 bits each); when each attempt began and ended (doubles), and its slot time (floats).
    rows: bytes
    started: bytes
    ended: bytes
    busy: bytes
    outputs: list[bytes | None]
    #: Texts of results that are not plain values, by their place here.
    previews: dict[int, str]
    #: Worker, process and slot.
    location: tuple[str, int, str] = ("", 0, "")


class ActionNoted(NamedTuple):
    """The action's phase changed without ending: paused, resumed, cancelling, waiting, backing off."""

    run: str
    action: str
    seq: int
    phase: Phase
    at: float
    note: str = ""
    #: The attempt it refers to: QUEUED for attempt 1 is outdated once attempt 1 has started.
    attempt: int = 0


class ActionEnded(NamedTuple):
    """The action has ended: the controller's last event of it."""

    run: str
    action: str
    seq: int
    phase: Phase
    at: float
    error: ErrorNote | None = None
    cached: bool = False
    output: bytes | None = None
    preview: str = ""
    #: Its last attempt, where no `AttemptEnded` has reported it.
    attempt: Attempt | None = None


class AttemptStarted(NamedTuple):
    """The body began on a worker. Left out when the attempt ends within the same flush (`AttemptEnded` implies it)."""

    run: str
    action: str
    attempt: int
    at: float
    worker: str = ""
    pid: int = 0
    slot: str = ""


class AttemptEnded(NamedTuple):
    """The body returned or raised."""

    run: str
    action: str
    attempt: int
    started_at: float
    at: float
    ok: bool
    worker: str = ""
    pid: int = 0
    slot: str = ""
    busy: float = 0.0
    error: ErrorNote | None = None
    used: Used = NOTHING_USED


class Logged(NamedTuple):
    """Lines that an attempt printed, in order."""

    run: str
    action: str
    attempt: int
    lines: tuple[LogLine, ...]
    #: Lines left out before these because too many came at once (they are in the worker's file).
    hidden: int = 0


class Progressed(NamedTuple):
    """How far an attempt is, a few times a second at most."""

    run: str
    action: str
    attempt: int
    at: float
    done: float
    total: float | None = None
    #: A second.
    rate: float = 0.0
    text: str = ""
    unit: str = ""


class Reported(NamedTuple):
    """The whole current HTML of one tab of an action's report."""

    run: str
    action: str
    tab: str
    html: str


Event = (
    RunOpened | RunClosed | RunReopened | RunNoted | ActionQueued | ActionNoted | ActionEnded
    | AttemptStarted | AttemptEnded | Logged | Reported | Progressed | CallsQueued | CallsEnded
)  # fmt: skip
