"""Lines of plain text about a run for a pipe or a CI log, one per notable change. Runs in: engine thread."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TextIO

from flyte_nb.core.history.facts import CLUSTER_STARTS, PHASES, Phase
from flyte_nb.core.values.describe import plain
from flyte_nb.views.printed.text import action_text, bar, fold_text, headline, log_line
from flyte_nb.views.run_model import RunModel, is_implied
from flyte_nb.views.surface import Mode, Surface
from flyte_nb.views.words import duration, elapsed, number, summary

#: Actions of which every start and end gets a line; in larger runs only groups' progress and failures do.
CHATTY = 20
#: Failures that get a line of their own.
MAX_FAILURES = 20
#: What a run waits for, each said once: so many.
MAX_NOTES = 10
#: Seconds between two progress lines; they double with every ten.
PROGRESS_EVERY = 2.0

#: Phases that get a line of their own in a run of any size.
_LOUD = frozenset({Phase.PAUSED, *(phase for phase in PHASES if phase.is_failure)})


class PlainLines(Surface):
    """A line per notable change of state; bounded whatever happens. A closed stream makes it `Mode.SILENT`."""

    mode: Mode = Mode.LINES

    def __init__(self, model: RunModel, stream: TextIO) -> None:
        super().__init__(model)
        self._stream = stream
        self._listed: dict[str, Phase] = {}
        self._failures = 0
        self._opened = False
        self._closed = False
        self._progress_at = 0.0
        self._progresses = 0
        self._last = ""
        self._notes = {""}

    def update(self) -> int:
        """Write what changed."""
        if self.mode is Mode.SILENT:
            return super().update()
        out = "".join(f"{plain(line)}\n" for line in self.lines())
        if out:
            try:
                self._stream.write(out)
                self._stream.flush()
            except (OSError, ValueError):  # The reader of the pipe has gone, or the stream was closed at exit.
                self.mode = Mode.SILENT
        return 0

    def close(self) -> None:
        """Write the result."""
        self.update()

    def lines(self) -> Iterator[str]:
        """Lines to print now, of what changed."""
        model = self.model
        changes = model.take()
        record, now = model.record, model.clock()
        run = record.state.run
        if not self._opened:
            self._opened = True
            stamp = time.strftime("%H:%M:%S", time.localtime(record.state.started_at))
            yield f"{run} ▶ started at {stamp}{' · ' + record.state.title if record.state.title else ''}"
        note = record.state.note
        if note not in self._notes and not note.startswith(CLUSTER_STARTS) and len(self._notes) < MAX_NOTES:
            self._notes.add(note)
            yield f"{run} … {note}"
        if changes.skipped > 0:
            yield f"{run} │ … {number(changes.skipped)} log lines hidden"
        for name, line in changes.lines:
            yield f"{run} │ {log_line(model, name, line)}"
        yield from self._changes(changes.actions, now)
        if record.state.ended_at is None:
            yield from self._progress(now)
        elif not self._closed:
            self._closed = True
            for fold in model.errors.most()[:10]:
                if len(fold.names) > 1:
                    yield f"{run} ✗ {fold_text(model, fold)}"
            yield headline(model, now)

    def _changes(self, names: set[str], now: float) -> Iterator[str]:
        record = self.model.record
        run = record.state.run
        chatty = len(record.numbered) <= CHATTY
        # Of a large run only what is loud gets a line: to sort the rest would take a tenth of the run's time.
        changed = (record.actions[n] for n in names)
        found = [a for a in changed if (chatty or a.phase in _LOUD) and a.number >= 0 and not is_implied(record, a)]
        for action in sorted(found, key=lambda a: (a.ended_at or now, a.number)):
            if self._listed.get(action.name) is action.phase:
                continue
            loud = action.phase in _LOUD
            if loud:
                self._failures += 1
            if (chatty and action.phase is not Phase.QUEUED) or (loud and self._failures <= MAX_FAILURES):
                self._listed[action.name] = action.phase
                yield f"{run} {action_text(self.model, action, now)}"
            elif loud and self._failures == MAX_FAILURES + 1:
                self._listed[action.name] = action.phase
                yield f"{run} ✗ more failures are counted, not listed"

    def _progress(self, now: float) -> Iterator[str]:
        model = self.model
        if len(model.record.numbered) <= CHATTY or now < self._progress_at:
            return
        counts = summary(model.counts)
        if counts != self._last:
            self._last = counts
            self._progress_at = now + PROGRESS_EVERY * 2 ** (self._progresses // 10)
            self._progresses += 1
            took = duration(elapsed(model.record.state.started_at, None, now))
            yield f"{model.record.state.run} [{bar(model.counts, sum(model.counts))}] {counts}  {took}"
