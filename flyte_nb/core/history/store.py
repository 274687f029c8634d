"""The run store: applies events, counts phases by group, and collects changes for views. Runs in: engine thread."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import PHASES, TERMINAL_CODES, Action, Phase, RunState
from flyte_nb.core.history.logbook import LogBook
from flyte_nb.core.history.reducer import fold

#: Closed runs kept; the oldest beyond it are forgotten, with their logs and inputs.
MAX_RUNS = 200
#: Bytes that closed runs may take in memory, as estimated; the oldest beyond it are forgotten. The latest one stays, whatever
#: it takes: it is what a person looks at.
MAX_BYTES = 200_000_000
#: Bytes of an action beside what is kept of its inputs, its result and its failure (measured).
ACTION_BYTES = 1_800
#: Bytes of a line of a log beside its text, and its share of the log (measured).
LINE_BYTES = 300
#: What becomes of old runs, for sentences.
FORGETS = f"old runs go once there are {MAX_RUNS} of them, or {MAX_BYTES // 1_000_000} MB; their pictures stay in the notebook"
#: Names of forgotten runs that are remembered, so that it can be said of them.
MAX_FORGOTTEN = 10_000
#: Longest report kept per tab, in characters.
MAX_REPORT = 2_000_000


class Group:
    """Children of one parent that belong together: a ``flyte.map``, a ``flyte.group``, or calls of one task."""

    __slots__ = ("counts", "key", "label", "members", "named", "parent", "phases", "task")

    def __init__(self, key: str, parent: str, label: str, task: str, named: bool) -> None:
        #: Stable identity within its run.
        self.key: str = key
        #: Name of the parent action.
        self.parent: str = parent
        #: The group's name, or the task's where no group was named.
        self.label: str = label
        #: Task of its first member.
        self.task: str = task
        #: Whether the user named it (``flyte.group``, ``flyte.map``).
        self.named: bool = named
        #: Action names, in order of arrival.
        self.members: list[str] = []
        #: One byte per member: `Phase.code`.
        self.phases: bytearray = bytearray()
        #: How many members are in each phase, by code.
        self.counts: list[int] = [0] * len(PHASES)

    def count(self, *phases: Phase) -> int:
        """How many members are in one of these phases."""
        return sum(self.counts[phase.code] for phase in phases)


class Changes:
    """What changed in one run since its subscriber, a view, last emptied this. Each subscriber has its own."""

    __slots__ = ("actions", "groups", "logs", "reports", "run")

    def __init__(self) -> None:
        #: Whether the run itself changed.
        self.run: bool = True
        #: Names of changed actions.
        self.actions: set[str] = set()
        #: Keys of groups whose tally changed.
        self.groups: set[str] = set()
        #: Lines printed since then.
        self.logs: list[ev.Logged] = []
        #: (action, tab) of changed reports.
        self.reports: set[tuple[str, str]] = set()


class RunRecord:
    """Everything known of one run."""

    def __init__(self, state: RunState) -> None:
        self.state: RunState = state
        #: By name, in order of arrival; includes actions not yet announced by their controller (number -1).
        self.actions: dict[str, Action] = {}
        #: Names by number: ``numbered[17]`` is the name of ``a17``.
        self.numbered: list[str] = []
        #: By `Group.key`, in order of first member.
        self.groups: dict[str, Group] = {}
        #: Names of children by parent's name, as group keys in order.
        self.children: dict[str, list[str]] = {}
        self.logs: LogBook = LogBook()
        #: HTML by (action name, tab).
        self.reports: dict[tuple[str, str], str] = {}
        self.subscribers: list[Changes] = []
        #: Tasks whose code has changed since: what they returned is not used again.
        self.changed_tasks: frozenset[str] = frozenset()
        self._positions: dict[str, tuple[Group, int]] = {}
        #: What it takes in memory, once it has closed.
        self.nbytes: int = 0

    def measure(self) -> None:
        """Estimate what the run takes in memory."""
        lines = self.logs.total - self.logs.hidden
        size = (
            ACTION_BYTES * len(self.actions)
            + LINE_BYTES * lines
            + self.logs.chars
            + sum(map(len, self.reports.values()))
        )
        for action in self.actions.values():
            size += len(action.inputs or b"") + len(action.output or b"")
            if action.error is not None:
                size += len(action.error.message) + len(action.error.record or b"")
        self.nbytes = size

    def subscribe(self) -> Changes:
        """A change set that this record fills from now on; `unsubscribe` it when done."""
        changes = Changes()
        self.subscribers.append(changes)
        return changes

    def unsubscribe(self, changes: Changes) -> None:
        """Stop filling it."""
        if changes in self.subscribers:
            self.subscribers.remove(changes)

    def update(self, **fields: Any) -> None:
        """Replace fields of the run's state."""
        self.state = self.state._replace(**fields)
        for changes in self.subscribers:
            changes.run = True

    def find(self, name: str) -> Action | None:
        """The action of this name or number (``"a17"``); None if there is none."""
        if name in self.actions:
            return self.actions[name]
        if name[:1] == "a" and name[1:].isdigit() and int(name[1:]) < len(self.numbered):
            return self.actions[self.numbered[int(name[1:])]]
        return None

    def group_of(self, name: str) -> tuple[Group, int] | None:
        """The group of an action and its index among the members; None for a root."""
        return self._positions.get(name)

    def children_of(self, name: str) -> list[Action]:
        """Children of an action, group by group, each in order of arrival."""
        return [self.actions[m] for key in self.children.get(name, ()) for m in self.groups[key].members]

    def count(self, *phases: Phase) -> int:
        """How many actions (the root aside) are in one of these phases."""
        return sum(group.count(*phases) for group in self.groups.values())

    @property
    def unfinished(self) -> bool:
        """Whether an action (the root of a cell aside) has not ended; from the groups' tallies, whatever the run's size."""
        grouped = sum(len(group.members) for group in self.groups.values())
        return grouped > sum(group.counts[code] for group in self.groups.values() for code in TERMINAL_CODES)

    def apply(self, event: ev.Event) -> None:
        """Fold one event about an action's state."""
        name: str = event.action  # type: ignore[union-attr]
        action = self.actions.get(name)
        if action is None:
            action = self.actions[name] = fold(None, event)
        else:
            fold(action, event)
        position = self._positions.get(name)
        if position is not None:
            group, index = position
            code, old = action.phase.code, group.phases[index]
            if code == old:
                position = None  # the group's counts are unchanged
            else:
                group.phases[index] = code
                group.counts[old] -= 1
                group.counts[code] += 1
        elif type(event) is ev.ActionQueued and action.number < 0:
            action.number = len(self.numbered)
            self.numbered.append(name)
            # The root of a cell is implied; that of a `flyte.run` is an action like any other.
            if event.kind != "root" or self.state.kind == "run":
                position = self._join(action)
        for changes in self.subscribers:
            changes.actions.add(name)
            if position is not None:
                changes.groups.add(position[0].key)

    def _join(self, action: Action) -> tuple[Group, int]:
        key = f"{action.parent}/{'g:' + action.group if action.group else 't:' + action.task}"
        group = self.groups.get(key)
        if group is None:
            group = Group(key, action.parent, action.group or action.task, action.task, bool(action.group))
            self.groups[key] = group
            self.children.setdefault(action.parent, []).append(key)
        position = self._positions[action.name] = (group, len(group.members))
        group.members.append(action.name)
        code = action.phase.code
        group.phases.append(code)
        group.counts[code] += 1
        return position


class RunStore:
    r"""Folds events into `RunRecord`\\ s. One thread writes; others ask that thread.

    Listeners are called after an event is folded, on the writing thread.
    """

    def __init__(self) -> None:
        self.runs: dict[str, RunRecord] = {}
        #: Names of the runs that were forgotten, oldest first.
        self.forgotten: OrderedDict[str, None] = OrderedDict()
        #: Called with each `RunOpened`, `RunClosed` and `RunReopened`, after folding.
        self.listeners: list[Callable[[ev.Event], None]] = []
        #: Given each event as it arrives, if there is one: what records them.
        self.tap: Callable[[ev.Event], None] | None = None

    def extend(self, events: Iterable[ev.Event]) -> None:
        """Fold events, in any order of arrival."""
        for event in events:
            self.append(event)

    def append(self, event: ev.Event) -> None:
        """Fold one event. Events of a run that is unknown (dropped, or not yet opened) are ignored."""
        kind = type(event)
        if self.tap is not None and kind is not ev.Progressed:  # which the next one replaces
            self.tap(event)
        if kind is ev.RunOpened:
            self._open(event)  # type: ignore[arg-type]
            return
        record = self.runs.get(event.run)
        if record is None:
            return
        if kind is ev.Logged:
            record.logs.add(event.action, event.lines, event.hidden)  # type: ignore[union-attr]
            for changes in record.subscribers:
                changes.logs.append(event)  # type: ignore[arg-type]
        elif kind is ev.Reported:
            key = (event.action, event.tab)  # type: ignore[union-attr]
            record.reports[key] = event.html[:MAX_REPORT]  # type: ignore[union-attr]
            for changes in record.subscribers:
                changes.reports.add(key)
        elif kind is ev.RunNoted:
            record.update(note=event.note)  # type: ignore[union-attr]
        elif kind is ev.RunClosed:
            record.update(note="", phase=event.phase, ended_at=event.at, error=event.error)  # type: ignore[union-attr]
            record.measure()
            self._announce(event)
        elif kind is ev.RunReopened:
            record.update(phase=Phase.RUNNING, ended_at=None, error=None, note="")
            self._announce(event)
        else:
            record.apply(event)

    def _announce(self, event: ev.Event) -> None:
        for listener in list(self.listeners):
            listener(event)

    def _open(self, event: ev.RunOpened) -> None:
        state = RunState(
            event.run, event.title, event.kind, Phase.RUNNING, event.at, None, event.cell, event.prompt, recovers=event.recovers
        )  # fmt: skip
        self.runs[event.run] = RunRecord(state)
        self._forget_old()
        self._announce(event)

    def adopt(self, record: RunRecord) -> None:
        """Take a run of an earlier kernel: it comes before those of this one."""
        self.runs = {record.state.run: record, **self.runs}

    def _forget_old(self) -> None:
        closed = [record for record in self.runs.values() if record.state.ended_at is not None]
        surplus = len(self.runs) - MAX_RUNS
        size = sum(record.nbytes for record in closed)
        needed = self._recovered()
        for record in closed[:-1]:
            if record.state.run in needed:
                continue
            if surplus <= 0 and size <= MAX_BYTES:
                return
            surplus -= 1
            size -= record.nbytes
            self.forgotten[record.state.run] = None
            del self.runs[record.state.run]
        while len(self.forgotten) > MAX_FORGOTTEN:
            self.forgotten.popitem(last=False)

    def _recovered(self) -> set[str]:
        """Names of runs whose results those that go on may ask for."""
        found: set[str] = set()
        for record in self.runs.values():
            older = record.state.recovers if record.state.ended_at is None else ""
            while older and older not in found:
                found.add(older)
                before = self.runs.get(older)
                older = before.state.recovers if before is not None else ""
        return found

    def missing(self, name: str) -> str:
        """Why there is no run, or action, of this name, as a sentence."""
        run = name.partition("/")[0]
        if run in self.forgotten:
            return f"{run} is not kept any more: {FORGETS}."
        if run != name or (name[:1] == "a" and name[1:].isdigit()):
            return f"There is no action {name}; `%flyte status` shows the latest run."
        return f"There is no run or action {name}; `%flyte runs` lists the runs." if name else "No runs yet."

    def find(self, name: str, default_run: str = "") -> tuple[RunRecord, Action] | None:
        """The action called ``a17`` (in `default_run`, or the latest run that has it) or ``r3/a17``."""
        run, _, action = name.rpartition("/")
        if run:
            records = [self.runs[run]] if run in self.runs else []
        elif default_run in self.runs:
            records = [self.runs[default_run]]
        else:
            # A replay is of an action that is still of interest under its number: the replay's own actions come last.
            records = list(reversed(self.runs.values()))
            records.sort(key=lambda record: record.state.kind == "replay")
        for record in records:
            found = record.find(action)
            if found is not None:
                return record, found
        return None
