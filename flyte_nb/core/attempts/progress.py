"""Progress of an attempt: ``flyte.progress``, ``flyte.track``, bars of tqdm, rich and the like, items that it yields.

Runs in: worker.

Whoever makes progress writes a few attributes, a million times if need be; what is sent is decided by a look at them, a few
times a second (`Progress.due`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

from flyte_nb.core.attempts.body import Body
from flyte_nb.core.attempts.family import running
from flyte_nb.core.history import events as ev

T = TypeVar("T")
#: Seconds between two events of one attempt; seconds after which an unfinished line is shown as it stands.
EVERY_S, STANDS_S = 0.25, 0.3
#: Longest text that travels, in characters.
MAX_TEXT = 120


#: Done, of how much, the text beside it, the unit.
State = tuple[float, float | None, str, str]

_MARKUP = re.compile(r"\[/?[a-z0-9_ #]*\]")
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?) ?%")
_COUNTS = re.compile(
    r"(?<![\w.:/-])(\d[\d,]*(?:\.\d+)?) ?([kKMGT]?i?B?) ?/ ?(\d[\d,]*(?:\.\d+)?) ?([kKMGT]?i?B?)(?![\w/])"
)
_BAR = re.compile(r"[\u2500-\u259f\u25a0-\u25ff\u2800-\u28ff]{3,}|\|[\u2580-\u259f#=>.\- ]{2,}\||\[[#=>.\- ]{3,}\]")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f]")
_SCALE = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


class Progress:
    """How far one attempt is, as it said itself, and what was sent of it."""

    __slots__ = ("_at", "_line", "_rate", "_sent", "done", "is_tracked", "text", "total", "unit")

    def __init__(self) -> None:
        self.done: float | None = None
        self.total: float | None = None
        self.text = self.unit = ""
        #: Whether a `track` is under way: those within it are not the row's.
        self.is_tracked = False
        self._sent: tuple[Any, ...] | None = None
        #: The whole line that was looked at last, and what it said.
        self._line: tuple[str, State | None] = ("", None)
        self._at = 0.0
        self._rate = 0.0

    def due(self, body: Body, now: float) -> ev.Progressed | None:
        """What to send of an attempt now, if anything is new. Called on its host's loop, which runs no code of the user's."""
        if now - self._at < EVERY_S:
            return None
        state = self._state(body, now)
        if state is None or state == self._sent:
            return None
        done, before = state[0], self._sent[0] if self._sent is not None else 0.0
        if self._at and done >= before:
            rate = (done - before) / (now - self._at)
            self._rate = rate if not self._rate else 0.6 * self._rate + 0.4 * rate
        elif body.started_at and now > body.started_at:
            self._rate = done / (now - body.started_at)
        self._sent, self._at = state, now
        return ev.Progressed(*body.work[:3], now, *state[:2], self._rate, *state[2:])

    def _state(self, body: Body, now: float) -> State | None:
        if self.done is not None:
            return self.done, self.total, self.text[:MAX_TEXT], self.unit
        outlet = body.outlet
        if outlet is not None and outlet.count:
            return outlet.count, None, f"last {outlet.shown}{outlet.waits}", "items"
        if body.drawing is not None and (drawn := read_drawing(body.drawing)) is not None:
            return drawn
        standing = body.output.standing(now - STANDS_S)
        if standing:
            return read_bar(standing) or (0.0, None, standing[-MAX_TEXT:], "")
        latest = body.output.latest
        if latest is not self._line[0]:
            self._line = (latest, read_bar(latest))
        return self._line[1]


def read_drawing(thread: Any) -> State | None:
    """What a bar of rich's says, of which its first unfinished task counts; None where it draws something else, or no more."""
    shown = getattr(getattr(getattr(thread, "live", None), "_get_renderable", None), "__self__", None)
    tasks = getattr(shown, "_tasks", None)
    if type(tasks) is not dict or not thread.is_alive():
        return None
    visible = [task for task in list(tasks.values()) if task.visible]
    if not visible:
        return None
    task = next((task for task in visible if not task.finished), visible[-1])
    return float(task.completed), task.total, _MARKUP.sub("", str(task.description))[:MAX_TEXT], ""


def read_bar(line: str) -> State | None:
    """What a line of tqdm, Keras, pip and the like says: done, of how much, the text beside its bar, the unit; None: no bar."""
    line = _ANSI.sub("", line)
    percent, counts, bar = _PERCENT.search(line), _COUNTS.search(line), _BAR.search(line)
    if bar is None or (percent is None and counts is None):
        return None
    if counts is not None:
        done, total = (_number(counts[i], counts[i + 1] or counts[4]) for i in (1, 3))
        unit = "B" if counts[4].endswith("B") else ""
    else:
        assert percent is not None
        done, total, unit = float(percent[1]), 100.0, "%"
    text = line
    for found in (percent, counts, bar):
        if found is not None:
            text = text.replace(found[0], " ", 1)
    text = " ".join(text.replace("|", " ").split()).strip(" :-")
    return done, total, text[:MAX_TEXT], unit


def _number(digits: str, scale: str) -> float:
    return float(digits.replace(",", "")) * _SCALE.get(scale.rstrip("B").rstrip("i"), 1.0)


def _mine() -> Progress | None:
    body: Any = running()
    if body is None:
        return None
    if body.progress is None:
        body.progress = Progress()
    return body.progress  # type: ignore[no-any-return]


def progress(done: float, total: float | None = None, text: str = "") -> None:
    """Show in the row of the running action how far it is. Cheap: what is shown is looked at a few times a second.

    Args:
        done: How much is done.
        total: Of how much; None if that is not known.
        text: A few words.

    Example:
        >>> flyte.progress(step, 10_000, f"loss {loss:.3f}")
    """
    found = _mine()
    if found is not None:
        found.total, found.text, found.done = total, text, done


def track(items: Iterable[T], total: float | None = None, text: str = "") -> Generator[T, None, None]:
    """Iterate, and show in the running action's row how many items are done. Of nested ones the outermost is shown.

    Args:
        items: What to iterate over.
        total: How many there are, where ``len`` does not tell.
        text: A few words.

    Yields:
        The items.

    Example:
        >>> for path in flyte.track(paths): ...
    """
    found = _mine()
    if found is None or found.is_tracked:
        yield from items
        return
    found.is_tracked, found.unit = True, "items"
    try:
        known = getattr(items, "__len__", None)
        found.total, found.text, found.done = total if total is not None or known is None else known(), text, 0
        for number, item in enumerate(items, 1):
            yield item
            found.done = number
    finally:
        found.is_tracked = False


def look(body: Body) -> ev.Progressed | None:
    """What is to be sent of an attempt that tells how far it is, or has printed a part of a line."""
    if body.progress is None:
        body.progress = Progress()
    found: Progress = body.progress
    return found.due(body, time.time())
