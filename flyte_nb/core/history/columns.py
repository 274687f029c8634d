"""Columns: alike calls of one task as arrays, a row an action; and mappings and lists of actions that hold rows and objects.

A million actions as an object each take gigabytes, and a second for every 30,000 of them. So calls of a map are recorded as
columns: what they have in common once, what differs in arrays, some 150 bytes an action. A row becomes an `Action` of its own
as soon as an event speaks of it alone (it goes on for long, fails, is retried, is stopped), and for as long as somebody looks.

Runs in: engine thread.
"""

from __future__ import annotations

import bisect
import io
import itertools
import pickle
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import PHASES, TERMINAL_CODES, Action, Attempt, Phase, Used
from flyte_nb.core.values.describe import brief, label_of

#: Bytes of a row's name; the rest, the version of its code, all rows have in common.
DIGEST = 8
#: Bits of the number of a batch that count; the others are its owner's (`flyte_nb.core.control.rows.Batches`).
BATCH_BITS = 28
#: Longest text of a result kept with its action, in characters.
PREVIEW_CHARS = 300
#: Rows looked for one by one before an index is made.
FINDS = 64


class RowName(str):
    """The name of an action that is a row, which knows where."""

    __slots__ = ("columns", "row")

    columns: Columns
    row: int

    def __reduce__(self) -> Any:
        return str, (str(self),)


class _Plain(pickle.Unpickler):
    """Makes built-in values and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"not a plain value: {module}.{name}")


def plain_value(data: bytes) -> Any:
    """What was pickled of built-in values.

    Raises:
        pickle.UnpicklingError: It names a class or a function.
    """
    return _Plain(io.BytesIO(data)).load()


def digest_of(name: str, suffix: str) -> bytes | None:
    """The bytes of a name; None if it is no row's with this suffix."""
    if len(name) != 2 * DIGEST + len(suffix) or not name.endswith(suffix):
        return None
    try:
        return bytes.fromhex(name[: 2 * DIGEST])
    except ValueError:
        return None


def find_in(names: bytes, suffix: str, name: str) -> int:
    """The row of a name; -1 if there is none."""
    digest = digest_of(name, suffix)
    at = names.find(digest) if digest is not None else -1
    while at > 0 and at % DIGEST:
        at = names.find(digest, at + 1)  # type: ignore[arg-type]  # it was found
    return at // DIGEST


def label_in(labels: ev.Labels, inputs: bytes, row: int) -> str:
    """The label of a row."""
    if isinstance(labels, list):
        return labels[row]
    short, names, given = labels
    try:
        return label_of(short, (plain_value(inputs)[0][:given], {}), names)
    except Exception:  # a file that was changed
        return f"{short}(...)"


def preview_of(output: bytes | None) -> str:
    """A bounded text of a result that is a plain value; "" for nothing."""
    try:
        value = plain_value(output) if output is not None else None
    except Exception:  # a file that was changed
        return ""
    return "" if value is None else brief(value, PREVIEW_CHARS)


def _used(inputs: bytes | None, output: bytes | None) -> Used:
    """What is known of what a row used: it was too quick to be measured."""
    return 0.0, 0, len(inputs or b""), len(output or b""), 0.0, 0.0


class Joined(Sequence[bytes | None]):
    """Many short texts of bytes in one: each of its own takes 50 bytes more."""

    __slots__ = ("_data", "_ends")

    def __init__(self, parts: Sequence[bytes | None]) -> None:
        self._data = b"".join([part or b"" for part in parts])
        self._ends = array("I", itertools.accumulate([len(part or b"") for part in parts]))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, at: int) -> bytes | None: ...
    @overload
    def __getitem__(self, at: slice) -> list[bytes | None]: ...
    def __getitem__(self, at: int | slice) -> Any:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        return self._data[self._ends[at - 1] if at else 0 : self._ends[at]] or None

    @property
    def nbytes(self) -> int:
        """What all have together."""
        return len(self._data)


class Columns:
    """The calls of one `flyte_nb.core.history.events.CallsQueued`."""

    __slots__ = (
        "_busy", "_ended", "_ends", "_finds", "_index", "_open", "_reports", "_started", "call", "first", "group", "inputs",
        "objects", "offset", "outputs", "owners", "previews",
    )  # fmt: skip

    def __init__(self, call: ev.CallsQueued, first: int, group: Group, offset: int) -> None:
        #: Its inputs are in `inputs`.
        self.call = call._replace(inputs=[])
        #: Number of the first row's action.
        self.first = first
        self.group = group
        #: Index of the first row among the group's members.
        self.offset = offset
        n = len(call.inputs)
        self.inputs: Joined = Joined(call.inputs)
        #: Joined once all are there.
        self.outputs: list[bytes | None] | Joined = [None] * n
        self._open = n
        self._started, self._ended = array("d", bytes(8 * n)), array("d", bytes(8 * n))
        self._busy = array("f", bytes(4 * n))
        #: By row: which of `_reports` told its end, counted from 1.
        self._ends = array("H", bytes(2 * n))
        self._reports: list[ev.CallsEnded] = []
        #: Texts of results that are not plain built-in values.
        self.previews: dict[int, str] = {}
        #: Rows that are actions of their own.
        self.objects: dict[int, Action] = {}
        #: Workers whose controllers drive them; none where this process does.
        self.owners: set[str] = set()
        self._finds = 0
        self._index: dict[bytes, int] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        return f"<Columns {self.call.run}/a{self.first} [{len(self)} of {self.call.task}]>"

    def name(self, row: int) -> RowName:
        """The name of a row's action."""
        name = RowName(self.call.names[DIGEST * row : DIGEST * (row + 1)].hex() + self.call.suffix)
        name.columns, name.row = self, row
        return name

    @property
    def all_names(self) -> Names:
        """The names of all rows, each made when it is asked for."""
        names = Names()
        names.add(self)
        return names

    def find(self, name: str) -> int:
        """The row of this name; -1 if there is none."""
        names = self.call.names
        if self._index is None:
            self._finds += 1
            if self._finds < FINDS:
                return find_in(names, self.call.suffix, name)
            self._index = {names[DIGEST * row : DIGEST * (row + 1)]: row for row in range(len(self))}
        digest = digest_of(name, self.call.suffix)
        return self._index.get(digest, -1) if digest is not None else -1

    def label(self, row: int) -> str:
        """As of `flyte_nb.core.values.describe.label_of`."""
        return label_in(self.call.labels, self.inputs[row] or b"", row)

    def phase(self, row: int) -> Phase:
        """The phase of a row."""
        return PHASES[self.group.phases[self.offset + row]]

    @property
    def last_end(self) -> float:
        """When the last row ended that has; 0 if none has."""
        return max((each.at for each in self._reports), default=0.0)

    def preview(self, row: int) -> str:
        """A bounded text of the result."""
        return self.previews.get(row) or preview_of(self.outputs[row])

    def action(self, row: int) -> Action:
        """A row as an action: its own if it has one, else what is known of it now."""
        found = self.objects.get(row)
        if found is not None:
            return found
        call, phase = self.call, self.phase(row)
        action = Action(
            call.run, self.name(row), self.first + row, call.parent, call.task, self.label(row), call.group, "task", phase,
            call.at, max_attempts=call.max_attempts, inputs=self.inputs[row], controller_state=(0, Phase.QUEUED, 0),
        )  # fmt: skip
        if self._ends[row]:
            report = self._reports[self._ends[row] - 1]
            if self._started[row]:
                started, ended, used = self._started[row], self._ended[row], _used(self.inputs[row], self.outputs[row])
                place = (*report.location, self._busy[row])
                action.attempt = Attempt(0, started, ended, *place, phase.is_success, None, used)
                action.started_at = started
            action.ended_at, action.controller_state = report.at, (1, phase, 0)
            action.output, action.preview = self.outputs[row], self.preview(row)
        return action

    def own(self, row: int) -> Action:
        """A row as an action of its own from now on: it is about to change."""
        action = self.objects.get(row)
        if action is None:
            action = self.objects[row] = self.action(row)
        return action

    def end(self, event: ev.CallsEnded) -> array[int]:
        """Take in how some rows ended, but for those that are actions of their own; returns the others."""
        rows, started, ended, busy = array("I", event.rows), array("d"), array("d"), array("f")
        started.frombytes(event.started)
        ended.frombytes(event.ended)
        busy.frombytes(event.busy)
        self._reports.append(event._replace(rows=b"", started=b"", ended=b"", busy=b"", outputs=[], previews={}))
        report = len(self._reports)
        self.previews.update({rows[at]: text for at, text in event.previews.items()})
        low, n = (rows[0] if rows else 0), len(rows)
        if n and rows[-1] - low + 1 == n and not any(low <= row < low + n for row in self.objects):
            self._started[low : low + n], self._ended[low : low + n], self._busy[low : low + n] = started, ended, busy
            self.outputs[low : low + n] = event.outputs  # type: ignore[index]  # not joined: some are open
            self._ends[low : low + n] = array("H", [report]) * n
            self._has_ended(n)
            return rows
        others = array("I")
        for at, row in enumerate(rows):
            if row not in self.objects:
                others.append(row)
                self._started[row], self._ended[row], self._busy[row] = started[at], ended[at], busy[at]
                self.outputs[row], self._ends[row] = event.outputs[at], report  # type: ignore[index]
        self._has_ended(len(others))
        return others

    def _has_ended(self, count: int) -> None:
        self._open -= count
        if count and not self._open:
            self.outputs = Joined(self.outputs)

    def queued(self, row: int) -> ev.ActionQueued:
        """The call of one row, as an event of its own."""
        call = self.call
        return ev.ActionQueued(
            call.run, str(self.name(row)), call.parent, call.task, self.label(row), call.group, call.at, "task",
            call.max_attempts, self.inputs[row],
        )  # fmt: skip

    def unended(self) -> Iterator[Action]:
        """Rows that have not ended, as actions of their own."""
        phases = self.group.phases[self.offset : self.offset + len(self)]
        if going := set(phases).difference(TERMINAL_CODES):
            yield from [self.own(row) for row, code in enumerate(phases) if code in going]

    def event_of(self, event: ev.CallsEnded, at: int) -> ev.ActionEnded:
        """The end of one row, as an event of its own."""
        row, output = array("I", event.rows)[at], event.outputs[at]
        started, ended = (array("d", data)[at] for data in (event.started, event.ended))
        place = (*event.location, array("f", event.busy)[at])
        used = _used(self.inputs[row], output)
        attempt = Attempt(0, started, ended, *place, event.phase.is_success, None, used)
        preview = event.previews.get(at) or preview_of(output)
        return ev.ActionEnded(
            event.run, str(self.name(row)), 1, event.phase, event.at, None, False, output, preview,
            attempt if started else None,
        )  # fmt: skip

    def durations(self, step: int = 1) -> list[float]:
        """Seconds that every so many of the rows took, of those that have ended and are not actions of their own."""
        return [
            ended - started for started, ended in zip(self._started[::step], self._ended[::step], strict=True) if ended
        ]

    def nbytes(self) -> int:
        """What the rows take in memory, as estimated."""
        outputs = self.outputs if isinstance(self.outputs, Joined) else Joined(self.outputs)
        return self.inputs.nbytes + outputs.nbytes + 50 * len(self)


class Names(Sequence[str]):
    """Names of actions in order: of those that are objects, and of rows."""

    __slots__ = ("_length", "_parts", "_starts")

    def __init__(self) -> None:
        self._parts: list[list[str] | Columns] = []
        self._starts: list[int] = []
        self._length = 0

    def append(self, name: str) -> None:
        """Add one name."""
        last = self._parts[-1] if self._parts else None
        if type(last) is not list:
            self._add([name], 1)
        else:
            last.append(name)
            self._length += 1

    def _add(self, part: list[str] | Columns, length: int) -> None:
        self._parts.append(part)
        self._starts.append(self._length)
        self._length += length

    def add(self, columns: Columns) -> None:
        """Add the names of all rows."""
        self._add(columns, len(columns))

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> Any:
        if isinstance(at, slice):
            start, stop, step = at.indices(self._length)
            return list(self._between(start, stop)) if step == 1 else [self[i] for i in range(start, stop, step)]
        index = at + self._length if at < 0 else at
        if not 0 <= index < self._length:
            raise IndexError(at)
        number = bisect.bisect_right(self._starts, index) - 1
        part, index = self._parts[number], index - self._starts[number]
        return part[index] if isinstance(part, list) else part.name(index)

    def _between(self, start: int, stop: int) -> Iterator[str]:
        for number in range(max(bisect.bisect_right(self._starts, start) - 1, 0), len(self._parts)):
            first, part = self._starts[number], self._parts[number]
            if first >= stop:
                return
            low, high = max(start - first, 0), min(stop - first, len(part))
            yield from part[low:high] if isinstance(part, list) else map(part.name, range(low, high))

    def __iter__(self) -> Iterator[str]:
        return self._between(0, self._length)

    def columns(self) -> list[Columns]:
        """Those whose rows are in it."""
        return [part for part in self._parts if type(part) is Columns]

    def lone(self) -> Iterator[str]:
        """The names that are not of rows."""
        return (name for part in self._parts if type(part) is list for name in part)


class Group:
    """Children of one parent that belong together: a ``flyte.map``, a ``flyte.group``, or calls of one task."""

    __slots__ = ("counts", "key", "label", "members", "named", "parent", "phases", "task")

    def __init__(self, key: str, parent: str, label: str, task: str, named: bool) -> None:
        #: Stable identity within its run.
        self.key = key
        #: Name of the parent action.
        self.parent = parent
        #: The group's name, or the task's where no group was named.
        self.label = label
        #: Task of its first member.
        self.task = task
        #: Whether the user named it (``flyte.group``, ``flyte.map``).
        self.named = named
        #: Action names, in order of arrival.
        self.members = Names()
        #: One byte per member: `Phase.code`.
        self.phases = bytearray()
        #: How many members are in each phase, by code.
        self.counts = [0] * len(PHASES)

    def count(self, *phases: Phase) -> int:
        """How many members are in one of these phases."""
        return sum(self.counts[phase.code] for phase in phases)

    @property
    def left(self) -> int:
        """How many members have not ended."""
        return len(self.members) - sum(self.counts[code] for code in TERMINAL_CODES)

    def durations(self, actions: Mapping[str, Action], limit: int) -> list[float]:
        """Seconds that the latest attempts of members took which have ended; of about `limit` members, evenly chosen."""
        step = max(1, len(self.members) // limit)
        parts = self.members.columns()
        alone = [actions[name] for name in itertools.islice(self.members.lone(), 0, None, step)]
        alone += [action for columns in parts for action in columns.objects.values()]
        attempts = [action.attempt for action in alone if action.attempt is not None]
        took = [a.ended_at - a.started_at for a in attempts if a.ended_at is not None and a.started_at is not None]
        return [*took, *(each for columns in parts for each in columns.durations(step))]


class Actions(Mapping[str, Action]):
    """The actions of a run, by name."""

    __slots__ = ("_columns", "objects")

    def __init__(self) -> None:
        #: Those that are no rows, in order of arrival.
        self.objects: dict[str, Action] = {}
        self._columns: list[Columns] = []

    def add(self, columns: Columns) -> None:
        """Add an action for each row."""
        self._columns.append(columns)

    def row(self, name: str) -> RowName | None:
        """The name of a row, which knows where it is; None if it is no row's."""
        if type(name) is RowName:
            return name
        for columns in reversed(self._columns):
            if (row := columns.find(name)) >= 0:
                return columns.name(row)
        return None

    def __getitem__(self, name: str) -> Action:
        found = self.objects.get(name)
        if found is not None:
            return found
        row = self.row(name)
        if row is None:
            raise KeyError(name)
        return row.columns.action(row.row) if row.columns.phase(row.row).is_terminal else self.own(row)

    def own(self, name: str) -> Action:
        """The action of this name, as an object that stays.

        Raises:
            KeyError: There is none.
        """
        found = self.objects.get(name)
        if found is None:
            row = self.row(name)
            if row is None:
                raise KeyError(name)
            found = row.columns.own(row.row)
        return found

    def __iter__(self) -> Iterator[str]:
        yield from self.objects
        for columns in self._columns:
            yield from map(columns.name, range(len(columns)))

    def __len__(self) -> int:
        return len(self.objects) + sum(map(len, self._columns))

    def unended(self) -> Iterator[Action]:
        """Those that have not ended; they may change meanwhile."""
        yield from [action for action in self.objects.values() if not action.phase.is_terminal]
        for columns in list(self._columns):
            yield from columns.unended()
