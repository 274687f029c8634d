"""Wording and looks of phases, durations, counts and errors, the same in every view. Runs in: engine thread."""

from __future__ import annotations

import math
import os
import re
import tempfile
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from flyte_nb.core.failures import wording
from flyte_nb.core.history import parts
from flyte_nb.core.history.columns import Group
from flyte_nb.core.history.facts import Action, Attempt, Phase, Progress, RunState
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.history.timing import OWN_CODE
from flyte_nb.core.history.worker_names import name_of
from flyte_nb.core.tasks.registry import REGISTRY
from flyte_nb.core.values import redact
from flyte_nb.core.values.describe import bytes_text, plain


class Look(NamedTuple):
    """How a phase is shown. Never by colour alone: icon, word and colour go together."""

    icon: str
    word: str
    #: For graphics on light and on dark ground: contrast of at least 3:1 on white and on #111.
    colour: str
    #: Name of the nearest colour in a terminal.
    terminal: str


LOOKS: dict[Phase, Look] = {
    Phase.QUEUED: Look("○", "queued", "#8a919c", "bright_black"),
    Phase.WAITING_FOR_RESOURCES: Look("◔", "waiting", "#8a919c", "bright_black"),
    Phase.INITIALIZING: Look("◌", "starting", "#5b8def", "blue"),
    Phase.RUNNING: Look("▶", "running", "#3b78e7", "blue"),
    Phase.PAUSED: Look("Ⅱ", "paused", "#b7791f", "yellow"),
    Phase.CANCELLING: Look("◐", "cancelling", "#a86a2b", "yellow"),
    Phase.SUCCEEDED: Look("✓", "succeeded", "#1f9d63", "green"),
    Phase.FAILED: Look("✗", "failed", "#d9363e", "red"),
    Phase.ABORTED: Look("⊘", "cancelled", "#8b6f9c", "magenta"),
    Phase.TIMED_OUT: Look("◷", "timed out", "#d9363e", "red"),
    Phase.RECOVERED: Look("↺", "recovered", "#168f9c", "cyan"),
    Phase.ABANDONED: Look("?", "abandoned", "#8b6f9c", "magenta"),
}


class Segment(NamedTuple):
    """Phases that are one segment of a bar, and one word of a summary."""

    word: str
    #: Its character in a bar of text.
    mark: str
    phases: tuple[Phase, ...]

    @property
    def look(self) -> Look:
        """That of its first phase."""
        return LOOKS[self.phases[0]]


#: In the order of a bar: what ended well, ended badly, stopped, moves, waits.
SEGMENTS = (
    Segment("done", "#", (Phase.SUCCEEDED, Phase.RECOVERED)),
    Segment("failed", "x", (Phase.FAILED, Phase.TIMED_OUT)),
    Segment("cancelled", "/", (Phase.ABORTED, Phase.ABANDONED, Phase.CANCELLING)),
    Segment("paused", "=", (Phase.PAUSED,)),
    Segment("running", ">", (Phase.RUNNING, Phase.INITIALIZING)),
    Segment("queued", ".", (Phase.QUEUED, Phase.WAITING_FOR_RESOURCES)),
)
_SEGMENT_CODES = tuple((segment, tuple(phase.code for phase in segment.phases)) for segment in SEGMENTS)

#: What the siblings of a failed action do, in the order in which its error states it.
SIBLINGS: tuple[tuple[str, tuple[Phase, ...]], ...] = (
    ("succeeded", (Phase.SUCCEEDED, Phase.RECOVERED)),
    ("still running", (Phase.RUNNING, Phase.INITIALIZING)),
    ("paused", (Phase.PAUSED,)),
    ("waiting", (Phase.QUEUED, Phase.WAITING_FOR_RESOURCES)),
    ("being cancelled", (Phase.CANCELLING,)),
    ("cancelled", (Phase.ABORTED, Phase.ABANDONED)),
)

#: Parts of an action's time (`flyte_nb.core.history.parts`), and of a run's, as they are called.
PARTS = {
    parts.CLUSTER: "the cluster started", parts.CACHE: "looked for in the cache", parts.SLOT: "waited for a slot",
    parts.LOADING: "loading code and arguments", parts.RUNNING: "running", parts.CHILDREN: "awaiting its actions",
    parts.IDLE: "waiting for anything else", parts.PERSON: "waiting for a person", parts.BETWEEN: "between attempts",
    parts.RESULT: "its result's way back", OWN_CODE: "the cell's own code, and between calls",
}  # fmt: skip


def part_word(part: str, task: str) -> str:
    """What a part of the time of a task's action is called; where the task asks for GPUs, that they were waited for."""
    known = REGISTRY.latest(task) if part == parts.SLOT else None
    resources = known.config.resources if known is not None else None
    return f"{PARTS[part]} with GPU={resources.gpus}" if resources is not None and resources.gpus else PARTS[part]


#: Share of the whole from which on a part is worth a word, and seconds.
WORTH, WORTH_S = 0.004, 0.005

#: Characters in which the first line of a text that says something is looked for.
FIRST_LINE_CHARS = 4_000
#: Characters beyond a limit in which the end of a secret is looked for before the text is cut.
MORE_CHARS = 2_000

_AT_BREAKPOINT = "breakpoint at "
#: Phases that the mark alone tells: the commonest.
_UNSAID = (Phase.QUEUED, Phase.RUNNING, Phase.SUCCEEDED)
_CELL_FILE = re.compile(r"(\d+\.py)(?=:)")


def tally(counts: list[int]) -> list[tuple[Segment, int]]:
    """Segments of a bar that are not empty, and how many actions each has, from counts by phase code."""
    found = ((segment, sum(counts[code] for code in codes)) for segment, codes in _SEGMENT_CODES)
    return [(segment, n) for segment, n in found if n]


def summary(counts: list[int], *, saved: bool = False) -> str:
    """``"640 done, 3 failed, 2 running"``; "" for no actions. `saved`: to be read later, when "2 under way" do not run."""
    words = ((n, "under way" if saved and segment.word == "running" else segment.word) for segment, n in tally(counts))
    return ", ".join(f"{number(n)} {word}" for n, word in words)


def saved_mark(phase: Phase) -> str:
    """A phase's icon, to be read later: of what ran, that it had begun."""
    return "▷" if phase is Phase.RUNNING else LOOKS[phase].icon


def saved_word(state: RunState, now: float) -> str:
    """``"succeeded"``, to be read later: "not ended at 03:12:44" where it goes on, "cut off at 03:12:44" where it never did."""
    if state.ended_at is None:
        return f"not ended at {time.strftime('%H:%M:%S', time.localtime(now))}"
    return state.note if state.note.startswith("cut off at ") else LOOKS[state.phase].word


def number(n: int) -> str:
    """``12,340``."""
    return f"{n:,}"


def duration(seconds: float | None) -> str:
    """``"0.04 s"``, ``"12.4 s"``, ``"2 m 05 s"``, ``"1 h 02 m"``; "" for None or nonsense."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    seconds = max(0.0, seconds)
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} m"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def cut(text: str, limit: int) -> str:
    """`text`, at most `limit` characters long, with an ellipsis where it was cut."""
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


def cut_middle(text: str, limit: int) -> str:
    """`text`, at most `limit` characters long, without its middle: calls of one task differ at their ends, addresses too."""
    if len(text) <= limit:
        return text
    end = max(0, limit - 1) // 2
    return f"{text[: limit - 1 - end]}…{text[len(text) - end :]}"


def label_text(label: str, limit: int) -> str:
    """The label of a call as it is printed and saved: plain, without secrets, at most `limit` characters long."""
    return cut_middle(redact.scrub_code(plain(label)), limit)


def shown(text: str, limit: int) -> str:
    """`text` as it is shown and saved: plain, without secrets, cut at `limit` characters."""
    return cut(redact.scrub_code(plain(text[: limit + MORE_CHARS])), limit)


def first_line(text: str, limit: int = 200) -> str:
    """The first non-empty line of `text`, cut at `limit` characters."""
    start = text[:FIRST_LINE_CHARS] if len(text) <= FIRST_LINE_CHARS else text.lstrip()[:FIRST_LINE_CHARS]
    for line in start.splitlines():
        if line.strip():
            return cut(plain(line.strip()), limit)
    return ""


def note_of(action: Action) -> str:
    """A word on its phase: what its controller notes, else how far it is while it runs, or who gave its result."""
    note = action.note
    if action.phase is Phase.RUNNING and action.controller_state[1] is Phase.QUEUED:
        note = ""  # "retrying": it has begun since
    if note.startswith(_AT_BREAKPOINT):
        return _AT_BREAKPOINT + location(note.removeprefix(_AT_BREAKPOINT))
    if note or action.progress is None or action.phase.is_terminal:
        return note or ("given by hand" if given_by_hand(action) else "")
    return progress_text(action.progress)


def progress_text(progress: Progress, width: int = 10) -> str:
    """``"▰▰▰▰▱▱▱▱▱▱ 40%  400 / 1,000 items · 12.5/s · loss 0.31"``."""
    said = amounts_text(progress)
    if not progress.total:
        return said
    share = min(max(progress.done / progress.total, 0.0), 1.0)
    bar = f"{'▰' * round(share * width):▱<{width}} {share:.0%}"
    return (" · " if progress.unit == "%" else "  ").join(filter(None, (bar, said)))


def amounts_text(progress: Progress) -> str:
    """``"400 / 1,000 items · 12.5/s · loss 0.31"``: `progress_text` without its bar."""
    _, _, done, total, rate, text, unit = progress
    parts = []
    if total and unit != "%":
        parts.append(f"{_amount(done, unit)} / {_amount(total, unit)} {_word(unit, total)}".rstrip())
    elif not total and (done or not text):
        parts.append(f"{_amount(done, unit)} {_word(unit, done)}".rstrip())
    if rate and unit != "%" and not text.endswith("/s]"):
        parts.append(f"{rate:,.0f}/s" if rate >= 10 and unit != "B" else f"{_amount(rate, unit)}/s")
    return " · ".join((*parts, text) if text else parts)


def _amount(n: float, unit: str) -> str:
    if unit == "B":
        power = min(int(math.log(n, 1000)) if n >= 1 else 0, 4)
        return f"{n / 1000**power:.{power and 1}f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
    return f"{n:,.0f}" if n == int(n) else f"{n:,.3g}"


def _word(unit: str, n: float) -> str:
    return "" if unit in {"B", "%"} else unit.removesuffix("s") if n == 1 else unit


def error_line(action: Action | RunState, limit: int = 200) -> str:
    """``"KeyError: 'a'"``; "" without an error."""
    error = action.error
    if error is None and isinstance(action, Action) and action.attempt is not None and not action.phase.is_success:
        error = action.attempt.error
    if error is None:
        return ""
    message = first_line(error.message, limit)
    code = plain(error.code)
    return cut(f"{code}: {message}" if message else code, limit)


def location(where: str) -> str:
    """``"3639608944.py:12 in work"``, as workers call a cell, as readers do: ``"Cell In[5]:12 in work"``."""
    if where.startswith("In ["):
        return f"Cell In{where[3:]}"
    found = _CELL_FILE.match(where)
    if found is None:
        return where
    # ipykernel's name for the file of a cell; only the kernel whose cell it is knows the rest.
    known = wording.current().file(f"{tempfile.gettempdir()}{os.sep}ipykernel_{os.getpid()}{os.sep}{found[1]}")
    return known + where[found.end() :] if known.startswith("Cell ") else where


def group_name(group: Group) -> str:
    """As its author has named it, else its task's name without that of the environment."""
    return group.label if group.named else group.label.rpartition(".")[2]


def result_line(action: Action, limit: int = 120) -> str:
    """What a row says beside its call: its error; else its result and a note; else what its mark alone does not tell."""
    error = error_line(action, limit)
    if error:
        return error
    result = cut(first_line(action.preview, limit), limit) if action.phase.is_terminal else ""
    said = " · ".join(filter(None, (result, shown(note_of(action), limit))))
    return said or ("" if action.phase in _UNSAID else LOOKS[action.phase].word)


def worth_saying(found: Mapping[str, float]) -> list[tuple[str, float]]:
    """Parts of a time that are worth a word, in order; the largest in any case."""
    whole, largest = sum(found.values()), max(found.values(), default=0.0)
    said = ((part, s) for part, s in found.items() if s == largest or (s > WORTH * whole and s >= WORTH_S))
    return [(part, seconds) for part, seconds in said if seconds > 0]


def parts_text(found: Mapping[str, float], attempts: Iterable[Attempt] = (), task: str = "") -> str:
    """``"waited for a slot 2.00 s, running 8.00 s (CPU 98 %)"``."""
    cpu = sum(attempt.usage.cpu for attempt in attempts)
    share = cpu / found[parts.RUNNING] if cpu and found.get(parts.RUNNING) else 0.0
    return ", ".join(
        f"{part_word(part, task)} {duration(seconds)}{f' (CPU {share:.0%})' if share and part == parts.RUNNING else ''}"
        for part, seconds in worth_saying(found)
    )


def usage_text(attempt: Attempt) -> str:
    """``"on w0, CPU 7.90 s, process up to 310 MB, 1.2 kB in, 8 bytes out"``: what was measured of an attempt."""
    usage = attempt.usage
    said = [f"on {name_of(attempt.worker)}"] if attempt.worker else []
    if usage.cpu:
        said.append(f"CPU {duration(usage.cpu)}")
    if usage.memory:
        said.append(f"process up to {bytes_text(usage.memory)}")
    if usage.taken:
        said.append(f"{bytes_text(usage.taken)} in")
    if usage.given:
        said.append(f"{bytes_text(usage.given)} out")
    return ", ".join(said)


def time_text(record: RunRecord, action: Action, now: float) -> str:
    """``"waited for a slot 2.00 s, running 8.00 s (CPU 98 %); on w0, process up to 310 MB"``: where an action's time went."""
    if action.attempt is None:
        return ""
    spent = parts_text(parts.parts_of(record, action, now), action.all_attempts, action.task)
    return "; ".join(text for text in (spent, usage_text(action.attempt)) if text)


def given_by_hand(action: Action) -> bool:
    """Whether a person has said what a failed action shall have returned."""
    return action.phase.is_success and action.attempt is not None and action.attempt.ok is False


def attempt_text(action: Action) -> str:
    """``"attempt 2 of 3"``; "" for the first. A retry by hand is not among those that the task allows."""
    attempt = action.attempt
    if attempt is None or not attempt.number:
        return ""
    number, most = attempt.number + 1, action.max_attempts
    return f"attempt {number} of {most}" if number <= most else f"attempt {number}"


def ran(action: Action, now: float) -> float | None:
    """Seconds in which it was executed: all attempts, and neither what was between them nor what a person took."""
    if action.attempt is None:
        return elapsed(action.started_at, action.ended_at, now)
    if action.notes:
        return sum(span.end - span.begin for span in parts.spans_of(action, now) if span.part == parts.RUNNING)
    spent = [elapsed(attempt.started_at, attempt.ended_at or action.ended_at, now) for attempt in action.all_attempts]
    return sum(each for each in spent if each is not None)


def ran_itself(record: RunRecord, action: Action, now: float) -> float:
    """`ran` without what it awaited its own actions for: what makes it slow, and not them."""
    return max((ran(action, now) or 0.0) - parts.awaited(record, action, now), 0.0)


def elapsed(started: float | None, ended: float | None, now: float) -> float | None:
    """Seconds between start and end (or now); None if it never started."""
    if started is None:
        return None
    return max(0.0, (now if ended is None else ended) - started)
