"""Timing of a run: the chain of actions that made it last, and what more slots would bring. Runs in: where a run is looked at.

The critical path is found backwards from the end, as profilers of task graphs do it (Dask's and Nsight's "critical path"): what
ended last before a moment is what was waited for. Nobody records which call needed which result, so it is judged by time.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from flyte_nb.core.history.facts import Action
from flyte_nb.core.history.parts import CLUSTER, ORDER, RUNNING, SLOT, spans_of
from flyte_nb.core.history.store import RunRecord

#: Most actions that are looked at: a second's work.
MAX_ACTIONS = 200_000
#: Deepest nesting that is followed.
MAX_DEPTH = 200
#: Seconds that are nothing.
NOTHING = 0.0005
#: Share of a run's time that is worth a word.
WORTH = 0.02
#: The part of a run's time that is none of an action's.
OWN_CODE = "own"


class Stretch(NamedTuple):
    """A part of the time in which a run went on."""

    #: What it was spent on; None for the code of the cell, between its calls.
    action: Action | None
    #: Which part of its time (`flyte_nb.core.history.parts`).
    what: str
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.end - self.begin


class Timing(NamedTuple):
    """Where the time of a run went."""

    #: In order of time; together they are the run's duration.
    path: list[Stretch]
    #: Seconds from the run's start to its end, or to now.
    seconds: float
    #: Actions of the run.
    actions: int
    #: Actions by their seconds on the path, longest first. Who waited for a slot waited for those that held it; for the
    #: cluster's start, for no action.
    longest: list[tuple[Action, float]]

    def spent(self, what: str) -> float:
        """Seconds of the path that were spent so."""
        return sum(stretch.seconds for stretch in self.path if stretch.what == what and stretch.action is not None)

    @property
    def parts(self) -> dict[str, float]:
        """Seconds of the path by part; `OWN_CODE`: that of the cell, and between its calls. The sum is `seconds`."""
        found = dict.fromkeys((OWN_CODE, *ORDER), 0.0)
        for stretch in self.path:
            found[OWN_CODE if stretch.action is None else stretch.what] += stretch.seconds
        return {part: seconds for part, seconds in found.items() if seconds > 0}

    def most(self, share: float = 0.74) -> tuple[int, float]:
        """How few actions made how much of the time: at least that share, unless all of them together made less."""
        count, sum_ = 0, 0.0
        for _, seconds in self.longest:
            if sum_ >= share * self.seconds:
                break
            count, sum_ = count + 1, sum_ + seconds
        return count, sum_ / max(self.seconds, 1e-9)


def timing_of(record: RunRecord, now: float) -> Timing | None:
    """Where the time of a run went; None for one of more than `MAX_ACTIONS`, or without any."""
    if not 1 <= len(record.numbered) <= MAX_ACTIONS:
        return None
    state = record.state
    end = state.ended_at or now
    top = [
        a for a in map(record.actions.__getitem__, record.numbered) if a.parent not in record.actions or not a.parent
    ]
    implied = [a for a in top if a.kind == "root" and state.kind != "run"]
    children = [a for a in top if a not in implied] + [c for root in implied for c in record.children_of(root.name)]
    path: list[Stretch] = []
    _walk(record, None, children, state.started_at, end, path, 0)
    path.reverse()
    spent: dict[str, float] = {}
    slots = _Slots(record, end) if any(stretch.what == SLOT for stretch in path) else None
    for stretch in path:
        for action, seconds in slots.holders(stretch) if slots is not None else [(stretch.action, stretch.seconds)]:
            if action is not None and stretch.what != CLUSTER:
                spent[action.name] = spent.get(action.name, 0.0) + seconds
    longest = sorted(((record.actions[name], seconds) for name, seconds in spent.items()), key=lambda pair: -pair[1])
    return Timing(path, end - state.started_at, len(record.numbered) - len(implied), longest)


class _Slots:
    """Which attempts held the slots of each worker: those of actions that called no others."""

    def __init__(self, record: RunRecord, now: float) -> None:
        self._held: dict[str, list[tuple[float, float, int, Action]]] = {}
        for name in record.numbered:
            action = record.actions[name]
            if name not in record.children:
                for attempt in action.all_attempts:
                    if attempt.started_at is not None:
                        held = (attempt.ended_at or now, attempt.started_at, action.number, action)
                        self._held.setdefault(attempt.worker, []).append(held)
        for each in self._held.values():
            each.sort(key=lambda one: one[:3])

    def holders(self, stretch: Stretch) -> list[tuple[Action | None, float]]:
        """Whose time a stretch was: of one that waited for a slot, of those that ran before it where it ran then."""
        action = stretch.action
        if stretch.what != SLOT or action is None or action.attempt is None:
            return [(action, stretch.seconds)]
        held = self._held.get(action.all_attempts[0].worker, [])
        found: list[tuple[Action | None, float]] = []
        at, index = stretch.end, bisect_right(held, stretch.end + NOTHING, key=lambda one: one[0])
        while at > stretch.begin + NOTHING and index > 0:
            index -= 1
            ended, started, _, holder = held[index]
            if ended <= stretch.begin:
                break
            begin, last = max(started, stretch.begin), min(ended, at)
            if holder is not action and last > begin:
                found.append((action, at - last))  # nobody held it
                found.append((holder, last - begin))
                at = begin
        found.append((action, max(at - stretch.begin, 0.0)))
        return found


def _walk(
    record: RunRecord, action: Action | None, children: list[Action], begin: float, end: float, path: list[Stretch], depth: int
) -> None:  # fmt: skip
    """Add the stretches of an action from its end backwards: its own code, and the children that it waited for."""
    timed = sorted(((_end(child, end), child.number, child) for child in children), key=lambda each: each[:2])
    ends = [each[0] for each in timed]
    at = end
    while at > begin + NOTHING and depth < MAX_DEPTH:
        index = bisect_right(ends, at + NOTHING) - 1
        if index < 0 or ends[index] <= begin + NOTHING:
            break
        last, _, child = timed[index]
        _add(path, action, RUNNING, max(begin, min(last, at)), at)
        at = min(at, last)
        since = max(begin, child.queued_at)
        started = min(at, max(since, child.started_at if child.started_at is not None else at))
        inner = record.children_of(child.name)
        spans = spans_of(child, end, record.state.ready_at)
        if inner:
            _walk(record, child, inner, started, at, path, depth + 1)
            spans = [span for span in spans if span.begin < started]
        for span in reversed(spans):
            _add(path, child, span.part, max(span.begin, since), min(span.end, started if inner else at))
        at = min(since, at)
        del timed[index:], ends[index:]
    _add(path, action, RUNNING, begin, at)


def _end(action: Action, now: float) -> float:
    return now if action.ended_at is None else action.ended_at


def _add(path: list[Stretch], action: Action | None, what: str, begin: float, end: float) -> None:
    if end - begin > NOTHING:
        path.append(Stretch(action, what, begin, end))


def makespan(seconds: Iterable[float], slots: int) -> float:
    """How long independent pieces of work take on so many slots, each taken by the first slot that is free."""
    free = [0.0] * max(1, slots)
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def more_slots_text(record: RunRecord, slots: int, timing: Timing) -> str:
    """What two more slots would bring, as a sentence with its assumption; "" where nothing can be said."""
    if not slots or (found := with_more_slots(record, slots)) is None:
        return ""
    waited = timing.spent(SLOT)
    if waited < WORTH * timing.seconds:
        return "More slots would bring next to nothing: little waited for one."
    now, then = found
    if now - then < WORTH * timing.seconds:
        return f"Two more slots than the {slots} of now would bring next to nothing."
    saved = min(now - then, waited)
    assumed = "if each call took as long as it did and none needed another's result"
    return f"Two more slots than the {slots} of now would make it about {saved:.3g} s shorter, {assumed}."


def with_more_slots(record: RunRecord, slots: int, more: int = 2) -> tuple[float, float] | None:
    """Seconds of computing on the slots there are, and on some more, as if all calls had been made at once.

    Returns:
        Both; None if nothing has computed.
    """
    worked = [
        attempt.busy for name in record.numbered for attempt in record.actions[name].all_attempts if attempt.busy > 0
    ]
    return (makespan(worked, slots), makespan(worked, slots + more)) if worked else None
