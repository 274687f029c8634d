"""The run store: applies events, counts phases by group, and collects changes for views. Runs in: engine thread."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from typing import Any

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.columns import BATCH_BITS, Actions, Columns, Group, Names
from flyte_nb.core.history.facts import Action, Phase, RunState
from flyte_nb.core.history.logbook import LogBook
from flyte_nb.core.history.reducer import fold

#: Closed runs kept; the oldest beyond it are forgotten, with their logs and inputs.
MAX_RUNS = 200
#: Bytes that closed runs may take in memory, as estimated; the oldest beyond it are forgotten. The latest one stays, whatever
#: it takes: it is what a person looks at.
MAX_BYTES = 200_000_000
#: Bytes of an action beside what is kept of its inputs, its result and its failure (measured).
ACTION_BYTES = 1_800
#: Bytes of a line of a log beside its text, and its share of the log (measured, by what the process takes).
LINE_BYTES = 500
#: What becomes of old runs, for sentences.
FORGETS = f"old runs go once there are {MAX_RUNS} of them, or {MAX_BYTES // 1_000_000} MB; their pictures stay in the notebook"
#: Names of forgotten runs that are remembered, so that it can be said of them.
MAX_FORGOTTEN = 10_000
#: Longest report kept per tab, in characters.
MAX_REPORT = 2_000_000


class Changes:
    """What changed in one run since its subscriber, a view, last emptied this. Each subscriber has its own."""

    __slots__ = ("actions", "groups", "logs", "reports", "rows", "run")

    def __init__(self) -> None:
        #: Whether the run itself changed.
        self.run: bool = True
        #: Names of changed actions.
        self.actions: set[str] = set()
        #: Changed actions that are rows, each part as it came.
        self.rows: dict[Columns, list[Collection[int]]] = {}
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
        self.actions = Actions()
        #: Names by number: ``numbered[17]`` is the name of ``a17``.
        self.numbered = Names()
        #: By `CallsQueued.batch`.
        self.columns: dict[int, Columns] = {}
        #: By `Group.key`, in order of first member.
        self.groups: dict[str, Group] = {}
        #: Names of children by parent's name, as group keys in order.
        self.children: dict[str, list[str]] = {}
        self.logs: LogBook = LogBook()
        #: HTML by (action name, tab).
        self.reports: dict[tuple[str, str], str] = {}
        self.subscribers: list[Changes] = []
        #: Versions of its tasks' code, by name, as of their first call in it.
        self.versions: dict[str, str] = {}
        #: Tasks whose code has changed since: what they returned is not used again.
        self.changed_tasks: frozenset[str] = frozenset()
        self._positions: dict[str, tuple[Group, int]] = {}
        #: Names of actions that were not announced yet.
        self._early: set[str] = set()
        #: By parent: its rows. A parent that is executed again may call them again.
        self._rows_of: dict[str, list[Columns]] = {}
        #: By `CallsQueued.batch`: those of which some were known: all are actions of their own.
        self._again: dict[int, Columns] = {}
        #: What it takes in memory, once it has closed.
        self.nbytes: int = 0

    def measure(self) -> None:
        """Estimate what the run takes in memory."""
        size = ACTION_BYTES * len(self.actions.objects) + self.logs.chars + sum(map(len, self.reports.values()))
        size += LINE_BYTES * (self.logs.total - self.logs.hidden)
        size += sum(columns.nbytes() + ACTION_BYTES * len(columns.objects) for columns in self.columns.values())
        for action in self.actions.objects.values():
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
        found = self._positions.get(name)
        if found is None and (row := self.actions.row(name) if name not in self.actions.objects else None) is not None:
            found = row.columns.group, row.columns.offset + row.row
        return found

    def children_of(self, name: str) -> list[Action]:
        """Children of an action, group by group, each in order of arrival."""
        return [self.actions[m] for key in self.children.get(name, ()) for m in self.groups[key].members]

    def awaits(self, name: str) -> bool:
        """Whether a child of an action has not ended."""
        return any(self.groups[key].left for key in self.children.get(name, ()))

    def count(self, *phases: Phase) -> int:
        """How many actions (the root aside) are in one of these phases."""
        return sum(group.count(*phases) for group in self.groups.values())

    @property
    def unfinished(self) -> bool:
        """Whether an action (the root of a cell aside) has not ended; from the groups' tallies, whatever the run's size."""
        return any(group.left for group in self.groups.values())

    def apply(self, event: ev.Event) -> None:
        """Fold one event about an action's state."""
        name: str = event.action  # type: ignore[union-attr]
        objects = self.actions.objects
        action = objects.get(name)
        if action is None and self.columns and (type(event) is not ev.ActionQueued or event.parent in self._rows_of):
            action = self._promote(name)
        if action is None:
            action = objects[name] = fold(None, event)
            if type(event) is not ev.ActionQueued:
                self._early.add(name)
        else:
            fold(action, event)
        self._changed(action, event)

    def _promote(self, name: str) -> Action | None:
        """The action of a row, as an object; None if it is no row's."""
        row = self.actions.row(name)
        if row is None:
            return None
        self._positions[name] = (row.columns.group, row.columns.offset + row.row)
        return row.columns.own(row.row)

    def _changed(self, action: Action, event: ev.Event) -> None:
        name = action.name
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
            self._early.discard(name)
            # The root of a cell is implied; that of a `flyte.run` is an action like any other.
            if event.kind != "root" or self.state.kind == "run":
                position = self._join(action)
        for changes in self.subscribers:
            changes.actions.add(name)
            if position is not None:
                changes.groups.add(position[0].key)

    def queue_calls(self, event: ev.CallsQueued) -> None:
        """Take in alike calls, as columns."""
        may_be_known = event.parent in self.children
        group = self._group(event.parent, event.group, event.task)
        columns = Columns(event, len(self.numbered), group, len(group.members))
        n = len(columns)
        if may_be_known and self._has_some(columns):
            self._again[event.batch] = columns
            for row in range(n):
                self.apply(columns.queued(row))
            return
        self.columns[event.batch] = columns
        self._rows_of.setdefault(event.parent, []).append(columns)
        for names in (self.numbered, group.members):
            names.add(columns)
        self.actions.add(columns)
        group.phases.extend(bytes([Phase.QUEUED.code]) * n)
        group.counts[Phase.QUEUED.code] += n
        for changes in self.subscribers:
            changes.rows.setdefault(columns, []).append(range(n))
            changes.groups.add(group.key)
        for name in list(self._early):
            if (row := columns.find(name)) >= 0:
                self._announce_row(columns, row, name)

    def _has_some(self, columns: Columns) -> bool:
        """Whether some of these are known: their parent is executed again, or a part of what is called goes alone."""
        parent = columns.call.parent
        found, before = self.actions.objects.get(parent), self._rows_of.get(parent, ())
        if found is not None and found.kind == "root" and self.state.kind != "run":
            return False  # a cell's
        owner = columns.call.batch >> BATCH_BITS
        if before and all(one.call.batch >> BATCH_BITS == owner for one in before):
            return False  # none calls the same twice
        names = map(columns.name, range(len(columns)))
        return any(name in self._positions or any(one.find(name) >= 0 for one in before) for name in names)

    def _announce_row(self, columns: Columns, row: int, name: str) -> None:
        """A worker was heard of a row before its owner."""
        action = columns.objects[row] = self.actions.objects.pop(name)
        fold(action, columns.queued(row))
        action.number = columns.first + row
        group, at = self._positions[name] = columns.group, columns.offset + row
        group.counts[group.phases[at]] -= 1
        group.phases[at] = action.phase.code
        group.counts[action.phase.code] += 1
        self._early.discard(name)
        for changes in self.subscribers:
            changes.actions.add(name)

    def owned(self, event: ev.CallsQueued, worker: str) -> None:
        """A worker's controller drives these."""
        if event.batch in self.columns:
            self.columns[event.batch].owners.add(worker)
        elif (again := self._again.get(event.batch)) is not None:
            for action in map(self.actions.own, map(again.name, range(len(again)))):
                if worker not in action.owners:
                    action.owners = (*action.owners, worker)

    def end_calls(self, event: ev.CallsEnded) -> None:
        """Take in how some of them ended."""
        columns = self.columns.get(event.batch)
        if columns is None:
            again = self._again.get(event.batch)
            for at in range(len(event.rows) // 4 if again is not None else 0):
                self.apply(again.event_of(event, at))  # type: ignore[union-attr]
            return
        rows, group, code = columns.end(event), columns.group, event.phase.code
        if 4 * len(rows) != len(event.rows):
            for at, row in enumerate(array("I", event.rows)):
                if row in columns.objects:
                    self.apply(columns.event_of(event, at))
        if not rows:
            return
        low, n = columns.offset + rows[0], len(rows)
        changed: Collection[int] = range(rows[0], rows[0] + n)
        if rows[-1] - rows[0] + 1 == n:
            group.phases[low : low + n] = bytes([code]) * n
        else:
            changed = frozenset(rows)
            for row in rows:
                group.phases[columns.offset + row] = code
        group.counts[Phase.QUEUED.code] -= n
        group.counts[code] += n
        for changes in self.subscribers:
            changes.rows.setdefault(columns, []).append(changed)
            changes.groups.add(group.key)

    def last_end(self, group: Group) -> float:
        """When the last member of a group ended that has; 0 if none has."""
        parts = group.members.columns()
        lone = [self.actions[name] for name in group.members.lone()]
        for columns in parts:
            lone += columns.objects.values()
        ends = [action.ended_at or 0.0 for action in lone]
        return max(*ends, *[columns.last_end for columns in parts], 0.0, 0.0)

    def _group(self, parent: str, name: str, task: str) -> Group:
        key = f"{parent}/{'g:' + name if name else 't:' + task}"
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group(key, parent, name or task, task, bool(name))
            self.children.setdefault(parent, []).append(key)
        return group

    def _join(self, action: Action) -> tuple[Group, int]:
        group = self._group(action.parent, action.group, action.task)
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
        elif kind is ev.CallsQueued:
            record.queue_calls(event)  # type: ignore[arg-type]
        elif kind is ev.CallsEnded:
            record.end_calls(event)  # type: ignore[arg-type]
        elif kind is ev.RunNoted:
            ready_at = record.state.ready_at or event.ready_at  # type: ignore[union-attr]
            record.update(note=event.note, ready_at=ready_at)  # type: ignore[union-attr]
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
