"""Search, sort order and time axis of a run's actions, computed a slice at a time. Runs in: engine thread.

100,000 actions take about 50 ms to look through. The engine thread has other work, so both functions are coroutines that
yield to the loop every `SLICE` actions.
"""

from __future__ import annotations

import array
import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flyte_nb.core.history.facts import PHASES, Action, Attempt, Phase
from flyte_nb.core.history.store import RunRecord
from flyte_nb.views.browser.rows import Json
from flyte_nb.views.error_folds import ErrorFolds
from flyte_nb.views.run_model import NamedLine, is_implied
from flyte_nb.views.words import error_line, plain

#: Actions looked at before the loop has its turn: about 2 ms.
SLICE = 4_000
#: Log lines looked at before the loop has its turn: about 2 ms.
LOG_SLICE = 2_000
#: Log lines found that are sent.
MAX_LINES = 1_000
#: Results sent: more than anyone scrolls through; the number of all results is stated.
MAX_RESULTS = 20_000
#: Spans sent for a time axis; shorter ones that touch are merged.
MAX_SPANS = 12_000
#: Lanes sent for a time axis.
MAX_LANES = 256
#: Spans that are packed into lanes by time (sorting more would hold up the engine): beyond, lanes are those that the worker reported.
MAX_PACKED = 20_000
#: Seconds by which two spans of one lane may overlap: clocks of two processes.
OVERLAP = 0.0005
#: Added to the phase code of an action that has children: it is suspended for most of its time and holds no slot.
PARENT = 16


@dataclass(frozen=True, slots=True)
class Query:
    """What a reader is looking for."""

    #: Words that all must occur in the label, the task or the error, whatever the case; "a17" finds that action, "task:fit"
    #: those of a task, ">2s" and "<50ms" those that took longer or shorter.
    text: str = ""
    #: Phases wanted; none: all.
    phases: frozenset[Phase] = frozenset()
    #: Full task name; "": all.
    task: str = ""
    #: Key of an error fold; "": all.
    error: str = ""
    #: "order", "state" (failed first), "label", "task", "duration" or "worker".
    sort: str = "order"
    descending: bool = False


def parse_query(args: Mapping[str, Any]) -> Query:
    """A `Query` from a browser's message; what is malformed is left out."""

    def text(key: str) -> str:
        value = args.get(key)
        return value[:500] if isinstance(value, str) else ""

    states = args.get("states")
    codes = [c for c in states if isinstance(c, int) and 0 <= c < len(PHASES)] if isinstance(states, list) else []
    return Query(
        text=text("text").strip(),
        phases=frozenset(PHASES[c] for c in codes),
        task=text("task"),
        error=text("error"),
        sort=text("sort") or "order",
        descending=args.get("desc") is True,
    )


async def search(record: RunRecord, query: Query, errors: ErrorFolds, now: float) -> tuple[array.array[int], int]:
    """Numbers of the actions found, sorted, at most `MAX_RESULTS`; and how many there are in all."""
    matches = _matcher(query, now)
    fold = errors.get(query.error) if query.error else None
    if fold is not None:
        candidates = [action.name for action in fold.ordered()]
    else:
        candidates = record.numbered[:] if not query.error else []
    found: list[Action] = []
    for start in range(0, len(candidates), SLICE):
        for name in candidates[start : start + SLICE]:
            action = record.actions[name]
            if matches(action) and not is_implied(record, action):
                found.append(action)
        await asyncio.sleep(0)
    key = _sort_key(query.sort, now)
    if key is not None:
        found.sort(key=key, reverse=query.descending)
    elif query.descending:
        found.reverse()
    return array.array("I", [action.number for action in found[:MAX_RESULTS]]), len(found)


_TOOK = re.compile(r"([<>])(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def _matcher(query: Query, now: float) -> Callable[[Action], bool]:
    words = query.text.casefold().split()
    limits = [
        (found[1] == ">", float(found[2]) * _UNITS[found[3] or ""]) for w in words if (found := _TOOK.fullmatch(w))
    ]
    tasks = [word[5:] for word in words if word.startswith("task:")]
    words = [word for word in words if not (_TOOK.fullmatch(word) or word.startswith("task:"))]
    number = int(words[0][1:]) if len(words) == 1 and words[0][:1] == "a" and words[0][1:].isdigit() else -1

    def matches(action: Action) -> bool:
        if query.phases and action.phase not in query.phases:
            return False
        if query.task and action.task != query.task:
            return False
        if any(task not in action.task.casefold() for task in tasks):
            return False
        if limits and not _took_between(action, limits, now):
            return False
        if not words or action.number == number:
            return True
        hay = f"{action.label} {action.task} {action.group}".casefold()
        if action.error is not None:
            hay += " " + error_line(action).casefold()
        return all(word in hay for word in words)

    return matches


def _took_between(action: Action, limits: list[tuple[bool, float]], now: float) -> bool:
    if action.started_at is None:
        return False
    took = (action.ended_at or now) - action.started_at
    return all(took > limit if longer else took < limit for longer, limit in limits)


def _sort_key(sort: str, now: float) -> Callable[[Action], Any] | None:
    def took(action: Action) -> float:
        if action.started_at is None:
            return 0.0
        return (action.ended_at or now) - action.started_at

    keys: dict[str, Callable[[Action], Any]] = {
        "state": lambda action: (action.phase.urgency, action.number),
        "label": lambda action: action.label,
        "task": lambda action: (action.task, action.number),
        "duration": took,
        "worker": lambda action: action.attempt.worker if action.attempt else "",
    }
    return keys.get(sort)


async def search_log(record: RunRecord, text: str) -> tuple[list[NamedLine], int]:
    """Lines of all actions that hold `text`, or whose action's label does, by time: the last `MAX_LINES`, and how many."""
    wanted = text.casefold()
    found: list[NamedLine] = []
    seen = 0
    for name in record.logs.actions():
        action = record.actions.get(name)
        whole = action is not None and wanted in action.label.casefold()
        for line in list(record.logs.of(name)):
            seen += 1
            if whole or wanted in plain(line.text).casefold():
                found.append((name, line))
            if seen % LOG_SLICE == 0:
                await asyncio.sleep(0)
    found.sort(key=lambda pair: pair[1].at)
    return found[-MAX_LINES:], len(found)


#: (attempt, phase code, action number, end in seconds since the epoch)
_Span = tuple[Attempt, float, int, float]


def _start(span: _Span) -> float:
    return span[0].started_at or 0.0


class _Lanes:
    """Spans by lane, merged where they are too short to be seen."""

    def __init__(self, start: float, grain: float) -> None:
        self._start = start
        self._grain = grain
        self.keys: dict[tuple[str, str], int] = {}
        self.left_out = 0
        #: Per lane: [start, end, code, action number, how many were merged, busy seconds].
        self._spans: list[list[list[float]]] = []

    def pack(self, spans: list[_Span]) -> None:
        """Give each span the first lane of its worker that is free, so that a lane is a slot, whatever the worker calls it."""
        free: dict[str, list[float]] = {}
        for span in sorted(spans, key=_start):
            attempt, code, number, stop = span
            assert attempt.started_at is not None
            ends = free.setdefault(attempt.worker, [0.0])
            # An action that awaits its children holds no slot: it is a line below whatever runs in the first.
            at = (
                0
                if code >= PARENT
                else next((i for i, end in enumerate(ends) if end <= attempt.started_at + OVERLAP), len(ends))
            )
            if at == len(ends):
                ends.append(stop)
            elif code < PARENT:
                ends[at] = stop
            self.add(attempt, code, number, stop, str(at))

    def add(self, attempt: Attempt, code: float, number: int, stop: float, slot: str) -> None:
        key = (attempt.worker, slot)
        lane = self.keys.get(key)
        if lane is None:
            if len(self.keys) >= MAX_LANES:
                self.left_out += 1
                return
            lane = self.keys[key] = len(self.keys)
            self._spans.append([])
        assert attempt.started_at is not None
        a, b = attempt.started_at - self._start, stop - self._start
        busy = attempt.busy or (0.0 if code >= PARENT else b - a)
        _put(self._spans[lane], [a, b, code, float(number), 1.0, busy], self._grain)

    def fit(self) -> list[tuple[int, list[float]]]:
        """At most `MAX_SPANS` spans with their lanes: merged more coarsely until they fit."""
        grain = self._grain
        while sum(map(len, self._spans)) > MAX_SPANS and grain < 1e6:
            grain = max(grain * 2, 1e-4)
            before = sum(map(len, self._spans))
            self._spans = [_coarser(spans, grain) for spans in self._spans]
            if grain > 1e3 and sum(map(len, self._spans)) == before:
                break
        room = MAX_SPANS // max(1, len(self._spans)) if sum(map(len, self._spans)) > MAX_SPANS else MAX_SPANS
        self.left_out += sum(max(0, len(spans) - room) for spans in self._spans)
        return [(lane, span) for lane, spans in enumerate(self._spans) for span in spans[:room]]


def _put(spans: list[list[float]], span: list[float], grain: float) -> None:
    """Append a span, or merge it into the last one: only what a pixel can't tell apart, never a failure into a success."""
    if spans:
        last = spans[-1]
        if last[2] == span[2] and span[1] - last[0] < grain and span[0] >= last[0]:
            last[1] = max(last[1], span[1])
            last[4] += span[4]
            last[5] += span[5]
            return
    spans.append(span)


def _coarser(spans: list[list[float]], grain: float) -> list[list[float]]:
    out: list[list[float]] = []
    for span in spans:
        _put(out, span, grain)
    return out


async def timeline(
    record: RunRecord, now: float, window: tuple[float, float] | None = None
) -> tuple[Json, list[bytes]]:
    """Spans of all attempts by lane (worker and slot), for a time axis.

    Args:
        record: The run.
        now: Seconds since the epoch.
        window: First and last second, counted from the run's start; None for all.

    Returns:
        ``{"lanes": [[worker, slot], ...], "n", "left_out", "end"}`` and one buffer of float32, seven per span: lane, start,
        end, phase code (`PARENT` added for an action with children), action number, how many were merged, busy seconds.
    """
    start = record.state.started_at
    end = (record.state.ended_at or now) - start
    low, high = window or (0.0, max(end, 0.001))
    lanes = _Lanes(start, (high - low) / 3_000 if len(record.numbered) > MAX_SPANS else 0.0)
    spans: list[_Span] = []
    names = record.numbered[:]
    for at in range(0, len(names), SLICE):
        for name in names[at : at + SLICE]:
            action = record.actions[name]
            extra = PARENT if name in record.children else 0
            for attempt in _attempts(action):
                if attempt.started_at is None:
                    continue
                stop = attempt.ended_at or action.ended_at or now
                if stop - start >= low and attempt.started_at - start <= high:
                    spans.append((attempt, float(_attempt_phase(action, attempt).code + extra), action.number, stop))
        await asyncio.sleep(0)
    if len(spans) <= MAX_PACKED:
        lanes.pack(spans)
    else:
        for at in range(0, len(spans), SLICE):
            for span in spans[at : at + SLICE]:
                lanes.add(*span, span[0].slot)
            await asyncio.sleep(0)
    fitted = lanes.fit()
    workers = {worker: at for at, worker in enumerate(dict.fromkeys(worker for worker, _ in lanes.keys))}
    ordered = sorted(lanes.keys, key=lambda key: (workers[key[0]], len(key[1]), key[1]))
    rank = {lanes.keys[key]: at for at, key in enumerate(ordered)}
    floats = array.array("f")
    for lane, values in fitted:
        floats.append(float(rank[lane]))
        floats.extend(values)
    content = {
        "lanes": [[worker, slot] for worker, slot in ordered],
        "n": len(fitted),
        "left_out": lanes.left_out,
        "end": round(end, 3),
    }
    return content, [floats.tobytes()]


def _attempts(action: Action) -> Iterable[Attempt]:
    if action.attempt is None:
        return ()
    return (*action.earlier, action.attempt) if action.earlier else (action.attempt,)


def _attempt_phase(action: Action, attempt: Attempt) -> Phase:
    if attempt is action.attempt and (attempt.ok is None or action.phase.is_terminal):
        return action.phase
    return Phase.SUCCEEDED if attempt.ok else Phase.RUNNING if attempt.ok is None else Phase.FAILED
