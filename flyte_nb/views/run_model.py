"""Keep up with one run and say what changed in it, in messages of bounded size. Runs in: engine thread.

Theory of operation. A `Picture` empties its `Changes` with `patch()`, which returns what the views on screen need: the header,
tallies of groups they show, rows they show, changed stretches of the phase arrays behind the heat strips, new log lines. Runs
of up to `SMALL` actions are sent whole; of larger ones only what an `Interest` names. Every message carries the next sequence
number; a view that misses one asks for `snapshot()`, which is complete and replaces what it had. A patch costs what changed,
never the size of the run.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Action, LogLine, Phase
from flyte_nb.core.history.groups import PHASE_CODES, TERMINAL_CODES, Group
from flyte_nb.core.history.store import RunRecord
from flyte_nb.views import rows
from flyte_nb.views.errors import ErrorFolds
from flyte_nb.views.interest import MAX_ROWS, Interest, Interests
from flyte_nb.views.rows import Json

#: Runs of at most this many actions are sent whole: about 40 kB.
SMALL = MAX_ROWS
#: Groups from this size on have their phases sent as an array, for the heat strip.
HEAT_MIN = 40
#: Groups sent per message at most: each is about 200 bytes.
MAX_GROUPS = 300
#: Bytes of phase arrays per patch: with 10 patches a second it leaves half of 1 MB/s to the rest.
PHASE_BYTES = 48_000
#: Phases are compared and sent in stretches of this many.
STRETCH = 1_024
#: Log lines per patch for a view that shows the log, and their characters in all.
LOG_LINES, LOG_CHARS = 200, 32_000
#: Log lines per patch for a view that shows only the latest few.
TAIL_LINES = 12
#: Changed reports named per patch: a view looks at one.
MAX_REPORTS = 50
#: Log lines in a snapshot.
SNAPSHOT_LINES = 500
#: Latest lines of all actions, kept in order of arrival.
RING_LINES = 5_000
#: Changed actions looked at for errors per patch: about 1 ms; the rest waits for the next one.
LOOKED_AT = 5_000
#: Seconds over which throughput is measured.
RATE_WINDOW = 5.0

_FAILED = tuple(PHASE_CODES[p] for p in (Phase.FAILED, Phase.TIMED_OUT))
_DONE = tuple(PHASE_CODES[p] for p in (Phase.SUCCEEDED, Phase.RECOVERED, Phase.FAILED, Phase.TIMED_OUT))


class Message(NamedTuple):
    """What goes to the browser: a JSON value and binary buffers beside it."""

    content: Json
    buffers: list[bytes]

    @property
    def size(self) -> int:
        """Bytes in buffers, and a fair guess of the JSON's."""
        lines = self.content.get("logs", {}).get("lines", ())
        return (
            sum(map(len, self.buffers))
            + 400
            + 220 * len(self.content.get("rows", ()))
            + 160 * len(self.content.get("groups", ()))
            + sum(40 + len(line[3]) for line in lines)
        )


class Picture:
    """One run as views see it.

    Args:
        record: The run; it is watched from now on, until `close`.
        clock: Seconds since the epoch.
    """

    def __init__(self, record: RunRecord, clock: Callable[[], float] = time.time) -> None:
        self.record = record
        self.clock = clock
        self.changes = record.subscribe()
        self.interests = Interests()
        self.errors = ErrorFolds()
        self.workers = rows.Workers()
        self.counts = [0] * len(PHASE_CODES)
        #: (action name, line) of the latest lines, in order of arrival.
        self.ring: deque[tuple[str, LogLine]] = deque(maxlen=RING_LINES)
        self.seq = 0
        self._tallies: dict[str, list[int]] = {}
        #: When complete groups ended, with the tally that this was worked out for.
        self._ended: dict[str, tuple[list[int], float]] = {}
        self._backlog: list[str] = []
        self._known: set[str] = set()
        self._phases: dict[str, bytearray] = {}
        self._behind: set[str] = set()
        self._fresh: set[str] = set()
        self._rates: deque[tuple[float, int]] = deque()
        self._errors_changed = False
        self._reports: set[tuple[str, str]] = set()
        # What happened before this view was made.
        self.changes.actions.update(record.actions)
        self.changes.groups.update(record.groups)
        for name, line in _latest(record, RING_LINES):
            self.ring.append((name, line))

    def close(self) -> None:
        """Stop watching."""
        self.record.unsubscribe(self.changes)

    # -- what changed ---------------------------------------------------------------------------------------------

    def show(self, view: str, interest: Interest) -> None:
        """Note what a view has on its screen; the next patch brings what it lacks."""
        self.interests.put(view, interest)
        self._fresh |= interest.names(self.record)
        for parent in interest.open:
            for key in self.record.children.get(parent, ())[:MAX_GROUPS]:
                if key not in self._known:
                    self._known.add(key)
                    self.changes.groups.add(key)

    @property
    def small(self) -> bool:
        """Whether the run is sent whole."""
        return len(self.record.numbered) <= SMALL

    @property
    def changed(self) -> bool:
        """Whether a patch would say anything."""
        changes = self.changes
        return bool(
            changes.run or changes.actions or changes.groups or changes.logs or changes.reports
            or self._backlog or self._behind or self._fresh
        )  # fmt: skip

    def take(self) -> tuple[set[str], set[str], list[tuple[str, LogLine]], int]:
        """Empty the changes: (names of changed actions, keys of changed groups, latest new lines, how many others)."""
        changes = self.changes
        actions, changes.actions = changes.actions, set()
        groups, changes.groups = changes.groups, set()
        logs, changes.logs = changes.logs, []
        changes.run = False
        self._reports |= changes.reports
        changes.reports.clear()
        self._tally(groups)
        self._look_at(actions)
        new = sum([len(event.lines) + event.hidden for event in logs])
        for event in _latest_events(logs):
            name = event.action
            self.ring.extend([(name, line) for line in event.lines])
        room = LOG_LINES if self.interests.logs else TAIL_LINES
        lines = tail(self.ring, min(new, room), LOG_CHARS)
        return actions, groups, lines, new - len(lines)

    def catch_up(self) -> None:
        """Take in everything at once, whatever it costs: for the last picture."""
        self.take()
        while self._backlog:
            self._look_at(set())

    def _tally(self, groups: set[str]) -> None:
        total, tallies = self.counts, self._tallies
        for key in groups:
            group = self.record.groups.get(key)
            if group is None:
                continue
            old = tallies.get(key)
            if old is None:
                self.counts = total = [a + b for a, b in zip(total, group.counts, strict=True)]
            else:
                self.counts = total = [a + b - c for a, b, c in zip(total, group.counts, old, strict=True)]
            tallies[key] = group.counts.copy()

    def _look_at(self, names: set[str]) -> None:
        """Take failures in, and retried actions out of the errors."""
        errors = self.errors
        if not (self._backlog or len(errors) or any(self.counts[code] for code in _FAILED)):
            return
        if self._backlog or len(names) > LOOKED_AT:
            self._backlog.extend(names)
            batch, self._backlog = self._backlog[:LOOKED_AT], self._backlog[LOOKED_AT:]
        else:
            batch = list(names)
        actions, failed, timed_out = self.record.actions, Phase.FAILED, Phase.TIMED_OUT
        for name in batch:
            action = actions[name]
            phase = action.phase
            if (phase is failed or phase is timed_out or name in errors) and errors.note(action):
                self._errors_changed = True

    # -- messages -------------------------------------------------------------------------------------------------

    def header(self) -> Json:
        """What the one line at the top shows now."""
        return rows.header(self.record, self.counts, *self._throughput())

    def patch(self, *, force: bool = False, last: bool = False) -> Message | None:
        """What changed since the last message, for the views on screen; None if nothing (with `force`, the header alone).

        With `last` nothing is put off, whatever it costs.
        """
        if not (force or self.changed):
            return None
        actions, groups, lines, skipped = self.take()
        while last and self._backlog:
            self._look_at(set())
        record, content, buffers = self.record, self._envelope("patch"), list[bytes]()
        shown = actions if self.small else actions & self.interests.names(record)
        shown |= self._fresh
        self._fresh = set()
        content["rows"] = self._rows(shown)
        content["groups"] = self._groups(groups)
        self._add_phases(content, buffers, 4_000_000 if last else PHASE_BYTES)
        if self._errors_changed:
            self._errors_changed = False
            content["errors"] = self.errors.rows()
        if lines or skipped:
            content["logs"] = self._logs(lines, skipped)
        if self._reports:
            content["reports"] = [list(one) for one in sorted(self._reports)[:MAX_REPORTS]]
            self._reports.clear()
        return Message(content, buffers)

    def snapshot(self) -> Message:
        """The whole picture; it takes in what changed, so patches that follow build on it."""
        self.take()
        record, content, buffers = self.record, self._envelope("replay"), list[bytes]()
        self._fresh = set()
        self._phases.clear()
        self._known &= record.groups.keys()
        self._known.update(self._root_groups())
        for parent in self.interests.open:
            self._known.update(record.children.get(parent, ())[:MAX_GROUPS])
        names = set(record.numbered) if self.small else self.interests.names(record) | self._first_rows()
        content["rows"] = self._rows(names)
        content["groups"] = self._groups(set(record.groups) if self.small else set(self._known))
        self._behind = {key for key in self._known if len(record.groups[key].members) >= HEAT_MIN}
        self._add_phases(content, buffers, 4_000_000)
        content["errors"] = self.errors.rows()
        self._errors_changed = False
        room = SNAPSHOT_LINES if self.interests.logs else TAIL_LINES
        lines = tail(self.ring, room, 8 * LOG_CHARS)
        content["logs"] = self._logs(lines, max(0, record.logs.total - len(lines)))
        return Message(content, buffers)

    def _envelope(self, kind: str) -> Json:
        self.seq += 1
        return {
            "kind": kind,
            "v": rows.PROTOCOL,
            "seq": self.seq,
            "now": round(self.clock() - self.record.state.started_at, 3),
            "small": self.small,
            "run": self.header(),
        }

    def _rows(self, names: set[str]) -> list[Json]:
        record = self.record
        known = [record.actions[name] for name in names]
        known = sorted((a for a in known if a.number >= 0), key=_number)[: 2 * MAX_ROWS]
        return [rows.row(record, action, self.workers) for action in known]

    def _root_groups(self) -> list[str]:
        record = self.record
        tops = ["", *(name for name in record.numbered[:8] if record.actions[name].kind == "root")]
        return [key for top in tops for key in record.children.get(top, ())[:MAX_GROUPS]]

    def _first_rows(self) -> set[str]:
        out: set[str] = set()
        for key in self._root_groups():
            if len(out) >= MAX_ROWS:
                break
            out.update(self.record.groups[key].members[:20])
        return out

    def _groups(self, changed: set[str]) -> list[Json]:
        record = self.record
        if self.small:
            self._known |= changed
        else:
            opened = self.interests.open
            for key in changed - self._known:
                parent = record.groups[key].parent
                if parent in opened or parent == "" or record.actions[parent].kind == "root":
                    self._known.add(key)
        known = [record.groups[key] for key in changed & self._known]
        self._behind.update(group.key for group in known if len(group.members) >= HEAT_MIN)
        if len(known) > MAX_GROUPS:
            self.changes.groups.update(group.key for group in known[MAX_GROUPS:])
            known = known[:MAX_GROUPS]
        if len(known) > 1:
            known.sort(key=lambda group: record.actions[group.members[0]].number)
        return [rows.group_row(record, group, self.group_ended(group)) for group in known]

    def group_ended(self, group: Group) -> float | None:
        """When the last member of a group ended; None while any is open."""
        counts = group.counts
        if len(group.members) != sum(counts[code] for code in TERMINAL_CODES):
            return None
        known = self._ended.get(group.key)
        if known is None or known[0] != counts:
            actions = self.record.actions
            at = max((actions[name].ended_at or 0.0 for name in group.members), default=0.0)
            known = self._ended[group.key] = (counts.copy(), at)
        return known[1] or None

    def _add_phases(self, content: Json, buffers: list[bytes], budget: int) -> None:
        if not self._behind:
            return
        parts: list[Json] = []
        for key in list(self._behind):
            if budget <= 0:
                break
            group = self.record.groups[key]
            sent = self._phases.setdefault(key, bytearray())
            budget = _changed_stretches(group, sent, parts, buffers, budget)
            if budget > 0:
                self._behind.discard(key)
        if parts:
            content["phases"] = parts

    def _logs(self, lines: list[tuple[str, LogLine]], skipped: int) -> Json:
        record = self.record
        return {
            "lines": [rows.log_line(record, name, line) for name, line in lines],
            "labels": rows.labels(record, {name for name, _ in lines}),
            "skipped": skipped,
            "total": record.logs.total,
        }

    def _throughput(self) -> tuple[float, float | None]:
        """(actions a second, seconds left), 0 and None where they mean nothing."""
        done = sum(self.counts[code] for code in _DONE)
        total = sum(self.counts)
        if self.record.state.ended_at is not None:
            return 0.0, None
        now = self.clock()
        self._rates.append((now, done))
        while len(self._rates) > 2 and now - self._rates[1][0] >= RATE_WINDOW:
            self._rates.popleft()
        before, was = self._rates[0]
        if now - before < 0.5 or done - was < 5 or total < 20:
            return 0.0, None
        rate = (done - was) / (now - before)
        left = total - sum(self.counts[code] for code in TERMINAL_CODES)
        worth = left > 0 and now - self.record.state.started_at > 2 and done >= 10
        return rate, left / rate if worth else None


def _number(action: Action) -> int:
    return action.number


def _changed_stretches(group: Group, sent: bytearray, parts: list[Json], buffers: list[bytes], budget: int) -> int:
    """Append the stretches of `group.phases` that differ from `sent`, joined where they touch. Returns the budget left."""
    phases = group.phases
    at = 0
    n = len(phases)
    while at < n and budget > 0:
        # Comparing 1,024 bytes takes a tenth of a microsecond: the whole of 100,000 about 10.
        if sent[at : at + STRETCH] == phases[at : at + STRETCH]:
            at += STRETCH
            continue
        stop = at
        while stop < n and stop - at < budget and sent[stop : stop + STRETCH] != phases[stop : stop + STRETCH]:
            stop += STRETCH
        stretch = bytes(phases[at:stop])
        sent[at : at + len(stretch)] = stretch
        parts.append({"key": group.key, "at": at, "n": n})
        buffers.append(stretch)
        budget -= len(stretch)
        at = stop
    return budget


def tail(ring: deque[tuple[str, LogLine]], count: int, chars: int) -> list[tuple[str, LogLine]]:
    """The last `count` lines, fewer if they are long."""
    out: list[tuple[str, LogLine]] = []
    for at in range(len(ring) - 1, max(-1, len(ring) - 1 - count), -1):
        chars -= min(len(ring[at][1].text), rows.LINE_CHARS) + 40
        if chars < 0 and out:
            break
        out.append(ring[at])
    out.reverse()
    return out


def _latest_events(logs: list[ev.Logged]) -> list[ev.Logged]:
    """Those that hold the last `RING_LINES` lines: of a flood the ring would forget the rest at once."""
    kept = 0
    for at in range(len(logs) - 1, -1, -1):
        kept += len(logs[at].lines)
        if kept >= RING_LINES:
            return logs[at:]
    return logs


def _latest(record: RunRecord, count: int) -> list[tuple[str, LogLine]]:
    names = record.logs.actions()
    if not names:
        return []
    return record.logs.merged()[-count:]
