"""Model of a run that all its views draw from: tallies, errors, latest log lines, and what changed. Runs in: engine thread.

A `RunModel` empties the run's change set (`core.history.store.Changes`) with each `take`, so an update costs what changed
since the last one, never the size of the run. One surface takes from it; nothing here depends on which.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection
from itertools import repeat
from typing import NamedTuple

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.columns import Columns, Group
from flyte_nb.core.history.facts import PHASES, Action, LogLine
from flyte_nb.core.history.store import RunRecord
from flyte_nb.views.equal_errors import ErrorFolds
from flyte_nb.views.labels import Labels
from flyte_nb.views.progress_sums import ProgressSums

#: Groups from this size on are drawn as a heat strip, a cell per action.
HEAT_MIN = 40
#: Characters of new log lines taken at once.
LOG_CHARS = 32_000
#: Longest log line shown live, in characters; the whole line is in the log that "download" fetches.
LIVE_LINE_CHARS = 1_000
#: New log lines taken at once, for a view that shows the latest few.
TAIL_LINES = 12
#: Latest lines of all actions, in order of arrival.
RING_LINES = 5_000
#: Changed actions looked at for errors at once: about 1 ms; the rest is left to the next time.
LOOKED_AT = 5_000

_FAILURE_CODES = tuple(phase.code for phase in PHASES if phase.is_failure)

#: A line with the name of the action that printed it.
NamedLine = tuple[str, LogLine]


class LatestLines:
    """The last `RING_LINES` lines of all actions, in order of arrival."""

    def __init__(self, record: RunRecord) -> None:
        self._ring: deque[NamedLine] = deque(record.logs.merged()[-RING_LINES:], maxlen=RING_LINES)

    def __len__(self) -> int:
        return len(self._ring)

    def add(self, logs: list[ev.Logged]) -> int:
        """Take lines in; returns how many were printed, hidden ones included."""
        first, lines = len(logs), 0
        # Of a flood only what stays in the ring is put there.
        while first and lines < RING_LINES:
            first -= 1
            lines += len(logs[first].lines)
        for event in logs[first:]:
            name = event.action
            self._ring.extend([(name, line) for line in event.lines])
        return sum([len(event.lines) + event.hidden for event in logs])

    def last(self, count: int, chars: float = float("inf")) -> list[NamedLine]:
        """The last `count` lines, fewer if they have more than `chars` characters."""
        ring, out = self._ring, list[NamedLine]()
        for at in range(len(ring) - 1, max(-1, len(ring) - 1 - count), -1):
            chars -= min(len(ring[at][1].text), LIVE_LINE_CHARS) + 40
            if chars < 0 and out:
                break
            out.append(ring[at])
        out.reverse()
        return out


class RunUpdate(NamedTuple):
    """What changed since the last look."""

    #: Names of actions that are no rows; rows.
    actions: set[str]
    rows: dict[Columns, list[Collection[int]]]
    #: Keys of groups.
    groups: set[str]
    #: The latest new log lines, and how many others there are.
    lines: list[NamedLine]
    skipped: int


class RunModel:
    """One run as views see it.

    Args:
        record: The run; its changes are collected from now on, until `close`.
        clock: Seconds since the epoch.
    """

    def __init__(self, record: RunRecord, clock: Callable[[], float] = time.time) -> None:
        self.record = record
        self.clock = clock
        #: The run of the same cell before this one; "" for none.
        self.before: str = ""
        #: What its actions are called.
        self.labels: Labels = Labels(record)
        self.errors: ErrorFolds = ErrorFolds()
        self.progress: ProgressSums = ProgressSums(record)
        #: Actions in each phase, by code.
        self.counts: list[int] = [0] * len(PHASES)
        self.log: LatestLines = LatestLines(record)
        #: (action, tab) of changed reports; emptied by the surface that sends them.
        self.reports: set[tuple[str, str]] = set()
        #: Failures as tracebacks by action's name, of those that were read for a static page or an opened action.
        self.failure_texts: dict[str, str] = {}
        self._news = record.subscribe()
        self._tallies: dict[str, list[int]] = {}
        #: When complete groups ended, with the tally that this was worked out for.
        self._ended: dict[str, tuple[list[int], float]] = {}
        self._backlog: list[str] = []
        # What happened before this view was made.
        self._news.actions.update(record.actions.objects)
        self._news.actions.update(
            action.name for columns in record.columns.values() for action in columns.objects.values()
        )
        self._news.groups.update(record.groups)

    def __repr__(self) -> str:
        state = "changed" if self.changed else "up to date"
        return f"<RunModel {self.record.state.run} [{sum(self.counts)} actions, {len(self.errors)} errors, {state}]>"

    def close(self) -> None:
        """Stop collecting changes."""
        self.record.unsubscribe(self._news)

    @property
    def changed(self) -> bool:
        """Whether there is anything to take."""
        news = self._news
        return bool(news.run or news.actions or news.rows or news.groups or news.logs or news.reports or self._backlog)

    def take(self, room: int = TAIL_LINES, *, last: bool = False) -> RunUpdate:
        """Take in what changed, and return it with at most `room` of the new log lines. With `last` no error is put off."""
        news = self._news
        actions, news.actions = news.actions, set()
        rows, news.rows = news.rows, {}
        groups, news.groups = news.groups, set()
        logs, news.logs = news.logs, []
        news.run = False
        self.reports |= news.reports
        news.reports.clear()
        groups |= self.progress.note(actions)
        self._tally(groups)
        self._fold_errors(actions)
        while last and self._backlog:
            self._fold_errors(set())
        printed = self.log.add(logs)
        lines = self.log.last(min(printed, room), LOG_CHARS)
        return RunUpdate(actions, rows, groups, lines, printed - len(lines))

    def _tally(self, groups: set[str]) -> None:
        total, tallies = self.counts, self._tallies
        for key in groups:
            group = self.record.groups.get(key)
            if group is None:
                continue
            old = tallies.get(key) or repeat(0)
            self.counts = total = [a + b - c for a, b, c in zip(total, group.counts, old, strict=False)]
            tallies[key] = group.counts.copy()

    def _fold_errors(self, names: set[str]) -> None:
        """Add failures to the errors, and drop retried actions from them."""
        errors = self.errors
        if not (self._backlog or len(errors) or any(self.counts[code] for code in _FAILURE_CODES)):
            return
        if self._backlog or len(names) > LOOKED_AT:
            self._backlog.extend(names)
            batch, self._backlog = self._backlog[:LOOKED_AT], self._backlog[LOOKED_AT:]
        else:
            batch = list(names)
        actions = self.record.actions
        for name in batch:
            action = actions[name]
            if action.phase.is_failure or name in errors:
                errors.note(action)

    def group_ended(self, group: Group) -> float | None:
        """When the last member of a group ended; None while any is open."""
        counts = group.counts
        if group.left:
            return None
        known = self._ended.get(group.key)
        if known is None or known[0] != counts:
            known = self._ended[group.key] = (counts.copy(), self.record.last_end(group))
        return known[1] or None


def roots(record: RunRecord) -> list[str]:
    """Names whose children stand at the top of the tree: none's, and those of a cell's implied root."""
    return ["", *(name for name in record.numbered[:8] if is_implied(record, record.actions[name]))]


def is_implied(record: RunRecord, action: Action) -> bool:
    """Whether it is the root of a cell, which is not executed and no view shows; that of a `flyte.run` is a row."""
    return action.kind == "root" and record.group_of(action.name) is None
