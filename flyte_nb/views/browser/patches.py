"""Patches: what changed in one run, for the browser, in messages of bounded size. Runs in: engine thread.

Theory of operation. `PatchStream.patch()` takes what changed in the `RunModel` and returns what the views on screen need: the
header, tallies of groups they show, rows they show, changed stretches of the phase arrays behind the heat strips, new log
lines. Runs of up to `SMALL` actions are sent whole; of larger ones only what an `Interest` names. Every message carries the
next sequence number; a view that misses one asks for `snapshot()`, which is complete and replaces what it had. A patch costs
what changed, never the size of the run.
"""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from typing import NamedTuple

from flyte_nb.core.history.columns import Group, RowName
from flyte_nb.core.history.facts import PHASES, TERMINAL_CODES
from flyte_nb.views.browser import rows
from flyte_nb.views.browser.interest import SCREEN_ROWS, Interest, Interests
from flyte_nb.views.browser.rows import Json
from flyte_nb.views.run_model import HEAT_MIN, LOG_CHARS, TAIL_LINES, NamedLine, RunModel, RunUpdate

#: Runs of at most this many actions are sent whole: about 40 kB.
SMALL = SCREEN_ROWS
#: Groups sent per message at most: each is about 200 bytes.
MAX_GROUPS = 300
#: Bytes of phase arrays per patch: with 10 patches a second it leaves half of 1 MB/s to the rest.
PHASE_BYTES = 48_000
#: Bytes of phase arrays in a message that puts nothing off.
ALL_PHASE_BYTES = 4_000_000
#: Phases are compared and sent in stretches of this many.
STRETCH = 1_024
#: Log lines per patch for a view that shows the log.
LOG_LINES = 200
#: Changed reports named per patch: a view looks at one.
MAX_REPORTS = 50
#: Log lines in a snapshot.
SNAPSHOT_LINES = 500
#: Seconds over which throughput is measured.
RATE_WINDOW = 5.0

#: Phases that count as work done: they have ended, and not because somebody stopped them.
_DONE_CODES = tuple(phase.code for phase in PHASES if phase.is_success or phase.is_failure)


class Message(NamedTuple):
    """What goes to the browser: a JSON value and binary buffers beside it."""

    content: Json
    buffers: list[bytes]

    @property
    def size(self) -> int:
        """Bytes in buffers, and a fair guess of the JSON's."""
        lines = self.content.get("logs", {}).get("lines", ())
        rows, groups = len(self.content.get("rows", ())), len(self.content.get("groups", ()))
        fixed = 400 + 220 * rows + 160 * groups
        return fixed + sum(map(len, self.buffers)) + sum(40 + len(line[3]) for line in lines)


class Throughput:
    """Actions a second over the last `RATE_WINDOW` seconds."""

    def __init__(self) -> None:
        self._done: deque[tuple[float, int]] = deque()

    def measure(self, counts: list[int], now: float, open_for: float) -> tuple[float, float | None]:
        """(actions a second, seconds left) from the counts of now; 0 and None where they mean nothing."""
        done, total = sum(counts[code] for code in _DONE_CODES), sum(counts)
        self._done.append((now, done))
        while len(self._done) > 2 and now - self._done[1][0] >= RATE_WINDOW:
            self._done.popleft()
        before, was = self._done[0]
        if now - before < 0.5 or done - was < 5 or total < 20:
            return 0.0, None
        rate = (done - was) / (now - before)
        left = total - sum(counts[code] for code in TERMINAL_CODES)
        return rate, left / rate if left > 0 and open_for > 2 and done >= 10 else None


class PatchStream:
    """The numbered messages that keep the browser's picture of a run up to date."""

    def __init__(self, model: RunModel) -> None:
        self.model = model
        self.record = model.record
        self.interests: Interests = Interests()
        self.workers: rows.Workers = rows.Workers()
        self.seq: int = 0
        self._throughput = Throughput()
        #: Keys of groups that were sent.
        self._sent: set[str] = set()
        #: Keys of groups whose tallies are left to the next patch.
        self._deferred: set[str] = set()
        #: Names of actions that came on screen.
        self._fresh: set[str] = set()
        #: Phase arrays as the browser has them, and keys of groups where they are behind.
        self._phases: dict[str, bytearray] = {}
        self._behind: set[str] = set()
        self._errors_version = 0

    def __repr__(self) -> str:
        return f"<PatchStream {self.record.state.run} [{self.seq} messages, {len(self._behind)} heat strips behind]>"

    def show(self, view: str, interest: Interest) -> None:
        """Note what a view has on its screen; the next patch brings what it lacks."""
        self.interests.put(view, interest)
        self._fresh |= interest.names(self.record)
        for parent in interest.open:
            new = set(self.record.children.get(parent, ())[:MAX_GROUPS]) - self._sent
            self._sent |= new
            self._deferred |= new

    @property
    def small(self) -> bool:
        """Whether the run is sent whole."""
        return len(self.record.numbered) <= SMALL

    def header(self) -> Json:
        """What the one line at the top shows now."""
        state, model = self.record.state, self.model
        rate: tuple[float, float | None] = (0.0, None)
        share = None
        if state.ended_at is None:
            now = model.clock()
            rate = self._throughput.measure(model.counts, now, now - state.started_at)
            share = model.progress.share()
        out = rows.header(self.record, model.counts, *rate, share)
        return {**out, "before": model.before} if model.before else out

    def patch(self, *, force: bool = False, last: bool = False) -> Message | None:
        """What changed since the last message, for the views on screen; None if nothing (with `force`, the header alone).

        With `last` nothing is put off, whatever it costs.
        """
        model = self.model
        if not (force or model.changed or self._deferred or self._behind or self._fresh):
            return None
        changes = model.take(LOG_LINES if self.interests.logs else TAIL_LINES, last=last)
        content, buffers = self._envelope("patch"), list[bytes]()
        content["rows"] = self._rows(self._shown(changes) | self._fresh)
        self._fresh = set()
        changed, self._deferred = changes.groups | self._deferred, set()
        content["groups"] = self._groups(changed)
        self._add_phases(content, buffers, ALL_PHASE_BYTES if last else PHASE_BYTES)
        if self._errors_version != model.errors.version or (last and len(model.errors)):
            content["errors"] = self._errors()
        if changes.lines or changes.skipped:
            content["logs"] = self._logs(changes.lines, changes.skipped)
        if model.reports:
            content["reports"] = [list(one) for one in sorted(model.reports)[:MAX_REPORTS]]
            model.reports.clear()
        return Message(content, buffers)

    def _shown(self, changes: RunUpdate) -> set[str]:
        """Changed actions that are sent."""
        if self.small:
            return changes.actions
        names = self.interests.names(self.record)
        rows = {
            n for n in names if type(n) is RowName and any(n.row in part for part in changes.rows.get(n.columns, ()))
        }
        return rows | (changes.actions & names)

    def snapshot(self) -> Message:
        """The whole picture; it takes in what changed, so patches that follow build on it."""
        self.model.take()
        record, content, buffers = self.record, self._envelope("replay"), list[bytes]()
        self._fresh, self._deferred = set(), set()
        self._phases.clear()
        self._sent &= record.groups.keys()
        self._sent.update(self._root_groups())
        for parent in self.interests.open:
            self._sent.update(record.children.get(parent, ())[:MAX_GROUPS])
        names = set(record.numbered) if self.small else self.interests.names(record) | self._first_rows()
        content["rows"] = self._rows(names)
        content["groups"] = self._groups(set(record.groups) if self.small else set(self._sent))
        self._behind = {key for key in self._sent if len(record.groups[key].members) >= HEAT_MIN}
        self._add_phases(content, buffers, ALL_PHASE_BYTES)
        content["errors"] = self._errors()
        lines = self.model.log.last(SNAPSHOT_LINES if self.interests.logs else TAIL_LINES, 8 * LOG_CHARS)
        content["logs"] = self._logs(lines, max(0, record.logs.total - len(lines)))
        return Message(content, buffers)

    def _envelope(self, kind: str) -> Json:
        self.seq += 1
        return {
            "kind": kind, "v": rows.PROTOCOL, "seq": self.seq,
            "now": round(self.model.clock() - self.record.state.started_at, 3), "small": self.small,
            "run": self.header(),
        }  # fmt: skip

    def _rows(self, names: set[str]) -> list[Json]:
        record = self.record
        known = [record.actions[name] for name in names]
        known = sorted((a for a in known if a.number >= 0), key=attrgetter("number"))[: 2 * SCREEN_ROWS]
        return [rows.row(record, action, self.workers, self.model.labels) for action in known]

    def _root_groups(self) -> list[str]:
        record = self.record
        tops = ["", *(name for name in record.numbered[:8] if record.actions[name].kind == "root")]
        return [key for top in tops for key in record.children.get(top, ())[:MAX_GROUPS]]

    def _first_rows(self) -> set[str]:
        out: set[str] = set()
        for key in self._root_groups():
            if len(out) >= SCREEN_ROWS:
                break
            out.update(self.record.groups[key].members[:20])
        return out

    def _groups(self, changed: set[str]) -> list[Json]:
        record = self.record
        if self.small:
            self._sent |= changed
        else:
            opened = self.interests.open
            for key in changed - self._sent:
                parent = record.groups[key].parent
                if parent in opened or parent == "" or record.actions[parent].kind == "root":
                    self._sent.add(key)
        known = [record.groups[key] for key in changed & self._sent]
        self._behind.update(group.key for group in known if len(group.members) >= HEAT_MIN)
        if len(known) > MAX_GROUPS:
            self._deferred.update(group.key for group in known[MAX_GROUPS:])
            known = known[:MAX_GROUPS]
        if len(known) > 1:
            known.sort(key=lambda group: record.actions[group.members[0]].number)
        model = self.model
        return [
            rows.group_row(record, group, model.group_ended(group), model.labels, model.progress.text(group))
            for group in known
        ]

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

    def _errors(self) -> list[Json]:
        errors = self.model.errors
        self._errors_version = errors.version
        return [rows.error_row(fold, self.model.labels) for fold in errors.most()]

    def _logs(self, lines: list[NamedLine], skipped: int) -> Json:
        record = self.record
        return {
            "lines": [rows.log_line(record, name, line) for name, line in lines],
            "labels": rows.labels(record, {name for name, _ in lines}, self.model.labels), "skipped": skipped,
            "total": record.logs.total,
        }  # fmt: skip


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
