"""A run as plain text: one useful screen, and lines for pipes and CI. Runs in: engine thread."""

from __future__ import annotations

import time
from collections.abc import Iterator

from flyte_nb.core.history.facts import Action, LogLine, Phase
from flyte_nb.core.history.groups import Group
from flyte_nb.views.outline import Line, outline
from flyte_nb.views.picture import Picture
from flyte_nb.views.rows import Json, is_implied
from flyte_nb.views.words import LOOKS, cut, duration, elapsed, error_line, number, plain, summary, tally

#: One screen.
MAX_LINES = 24
WIDTH = 100
BAR = 20
#: Longest text, in characters: it is in every saved notebook beside the HTML.
MAX_CHARS = 4_000


def screen(picture: Picture) -> str:
    """The run on one screen: header, tree, errors, last log lines."""
    record = picture.record
    now = picture.clock()
    out = [headline(picture, now)]
    errors = picture.errors.rows()
    lines = outline(record, 14 if errors or picture.ring else 20)
    if len(lines) > 1 or any(line.group for line in lines):
        out.extend(_tree_line(picture, line, now) for line in lines)
    out.extend(f"  ✗ {fold_text(fold)}" for fold in errors[:4])
    if len(errors) > 4:
        out.append(f"  ✗ and {len(errors) - 4} other errors")
    room = max(0, MAX_LINES - len(out) - 1)
    tail = list(picture.ring)[-min(room, 8) :] if room else []
    hidden = record.logs.total - len(tail)
    if tail and hidden > 0:
        out.append(f"  … {number(hidden)} log lines above these")
    out.extend(f"  │ {log_line(picture, name, line)}" for name, line in tail)
    return cut("\n".join(cut(plain(line), WIDTH) for line in out), MAX_CHARS)


def fold_text(fold: Json) -> str:
    """``"397 × KeyError: 'a'  (first: a17 square(17))"``."""
    if fold["n"] == 1:
        return f"{fold['text']}  (a{fold['id']} {fold['label']})"
    return f"{number(fold['n'])} × {fold['text']}  (first: a{fold['id']} {fold['label']})"


def headline(picture: Picture, now: float) -> str:
    """``"✓ r3 succeeded in 2.10 s: 1,000 done"``."""
    state = picture.record.state
    look = LOOKS[state.phase]
    took = duration(elapsed(state.started_at, state.ended_at, now))
    what = summary(picture.counts)
    said = f"{look.icon} {state.run} {look.word} {'in' if state.ended_at is not None else 'for'} {took}"
    title = f" · {state.title}" if state.title else ""
    return said + (f": {what}" if what else "") + title


def _tree_line(picture: Picture, line: Line, now: float) -> str:
    pad = "  " * (line.depth + 1)
    if line.group is not None:
        return pad + group_text(picture, line.group, now)
    if line.action is not None:
        return pad + action_text(line.action, now)
    return f"{pad}… {number(line.left_out)} more"


def group_text(picture: Picture, group: Group, now: float) -> str:
    """``"map square [######....] 600 done, 3 failed  2.10 s"``."""
    first = picture.record.actions[group.members[0]]
    took = duration(elapsed(first.queued_at, picture.group_ended(group), now))
    return f"{cut(group.label, 40)} [{bar(group.counts, len(group.members))}] {summary(group.counts)}  {took}"


def action_text(action: Action, now: float) -> str:
    """``"✓ square(3)  0.10 s"``."""
    look = LOOKS[action.phase]
    took = duration(elapsed(action.started_at, action.ended_at, now))
    marks = " (cached)" if action.cached else ""
    if action.attempt is not None and action.attempt.number:
        marks += f" attempt {action.attempt.number + 1}/{action.max_attempts}"
    note = f"  {plain(action.note)}" if action.note else ""
    error = f"  {error_line(action, 80)}" if action.phase.is_failure else ""
    return f"{look.icon} {cut(action.label or action.task, 60)}  {took or look.word}{marks}{note}{error}"


def bar(counts: list[int], total: int, width: int = BAR) -> str:
    """A bar of `width` characters: ``#`` done, ``x`` failed, ``/`` cancelled, ``=`` paused, ``>`` running, ``.`` queued."""
    marks = {"done": "#", "failed": "x", "cancelled": "/", "paused": "=", "running": ">", "queued": "."}
    out = ""
    seen = 0
    for name, _, n in tally(counts):
        seen += n
        # Rounding the running sum keeps the whole at `width`; a segment that isn't empty gets a character if there is room.
        upto = max(round(seen * width / max(1, total)), min(width, len(out) + 1))
        out += marks[name] * (upto - len(out))
    return out[:width].ljust(width, ".")


def log_line(picture: Picture, name: str, line: LogLine) -> str:
    """``"square(3): text"``."""
    action = picture.record.actions.get(name)
    implied = action is None or is_implied(picture.record, action)
    label = "" if action is None or implied else cut(action.label or action.task, 30)
    return f"{label}: {plain(line.text)}" if label else plain(line.text)


#: Actions of which every start and end gets a line; in larger runs only groups' progress and failures do.
CHATTY = 20
#: Failures that get a line of their own.
MAX_FAILURES = 20
#: Seconds between two progress lines; they double with every ten.
PROGRESS_EVERY = 2.0
#: Log lines per second that reach the pipe; others are counted.
LOGS_PER_FLUSH = 100


#: Phases that get a line of their own in a run of any size.
_LOUD = frozenset({Phase.PAUSED, *(phase for phase in Phase if phase.is_failure)})


class PlainLines:
    """A line per notable change of state, for a pipe or a CI log; bounded whatever happens."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._said: dict[str, Phase] = {}
        self._failures = 0
        self._opened = False
        self._closed = False
        self._progress_at = 0.0
        self._progresses = 0
        self._last = ""

    def flush(self) -> Iterator[str]:
        """Lines to print now. Takes what changed from the picture."""
        picture = self._picture
        actions, _, lines, skipped = picture.take()
        record, now = picture.record, picture.clock()
        run = record.state.run
        if not self._opened:
            self._opened = True
            stamp = time.strftime("%H:%M:%S", time.localtime(record.state.started_at))
            yield f"{run} ▶ started at {stamp}{' · ' + record.state.title if record.state.title else ''}"
        if skipped > 0:
            yield f"{run} │ … {number(skipped)} log lines hidden"
        for name, line in lines:
            yield f"{run} │ {log_line(picture, name, line)}"
        yield from self._changes(actions, now)
        if record.state.ended_at is None:
            yield from self._progress(now)
        elif not self._closed:
            self._closed = True
            for fold in picture.errors.rows()[:10]:
                if fold["n"] > 1:
                    yield f"{run} ✗ {fold_text(fold)}"
            yield headline(picture, now)

    def _changes(self, names: set[str], now: float) -> Iterator[str]:
        record = self._picture.record
        run = record.state.run
        chatty = len(record.numbered) <= CHATTY
        # Of a large run only what is loud gets a line: to sort the rest would take a tenth of the run's time.
        changed = (record.actions[n] for n in names)
        found = [a for a in changed if (chatty or a.phase in _LOUD) and a.number >= 0 and not is_implied(record, a)]
        for action in sorted(found, key=lambda a: (a.ended_at or now, a.number)):
            if self._said.get(action.name) is action.phase:
                continue
            loud = action.phase in _LOUD
            if loud:
                self._failures += 1
            if (chatty and action.phase is not Phase.QUEUED) or (loud and self._failures <= MAX_FAILURES):
                self._said[action.name] = action.phase
                yield f"{run} {action_text(action, now)}"
            elif loud and self._failures == MAX_FAILURES + 1:
                self._said[action.name] = action.phase
                yield f"{run} ✗ more failures are counted, not listed"

    def _progress(self, now: float) -> Iterator[str]:
        picture = self._picture
        if len(picture.record.numbered) <= CHATTY or now < self._progress_at:
            return
        said = summary(picture.counts)
        if said != self._last:
            self._last = said
            self._progress_at = now + PROGRESS_EVERY * 2 ** (self._progresses // 10)
            self._progresses += 1
            took = duration(elapsed(picture.record.state.started_at, None, now))
            yield f"{picture.record.state.run} [{bar(picture.counts, sum(picture.counts))}] {said}  {took}"
