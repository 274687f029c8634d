"""Parts of an action's time, by name: where it went from its call to its end. Runs in: where a run is looked at.

Their sum is the time from the call to the end (or to now). A person's time is a part of its own, and in none of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from flyte_nb.core.history.facts import Action, Attempt, Phase
from flyte_nb.core.history.store import RunRecord

#: Names of parts, in the order in which they are shown.
CLUSTER, CACHE, SLOT, LOADING, RUNNING = "cluster", "cache", "slot", "loading", "running"
CHILDREN, IDLE, PERSON, BETWEEN, RESULT = "children", "idle", "person", "between", "result"
ORDER = (CLUSTER, CACHE, SLOT, LOADING, RUNNING, CHILDREN, IDLE, PERSON, BETWEEN, RESULT)
#: Children whose times are looked at one by one, not group by group.
MAX_CHILDREN = 5_000


class Span(NamedTuple):
    """A stretch of an action's time that went into one part."""

    part: str
    begin: float
    end: float


def spans_of(action: Action, now: float, ready_at: float | None = None) -> list[Span]:
    """What an action's time went into, one after another, from its call to its end; attempts as `RUNNING`, whatever they did.

    Args:
        action: The action.
        now: Seconds since the epoch.
        ready_at: When the cluster was there, if it was not when the run began.
    """
    end = max(now if action.ended_at is None else action.ended_at, action.queued_at)
    attempts, persons = _attempts(action), list(_by_persons(action, end))
    spans: list[Span] = []
    at = action.queued_at
    for attempt in attempts:
        begin = min(max(attempt.started_at or at, at), end)
        if attempt is attempts[0]:
            spans += _before(at, begin, ready_at, attempt.usage.loading)
        else:
            spans += _without(Span(BETWEEN, at, begin), persons)
        at = min(max(end if attempt.ended_at is None else attempt.ended_at, begin), end)
        spans += _without(Span(RUNNING, begin, at), persons)
    if attempts:
        spans += _without(Span(BETWEEN if action.ended_at is None else RESULT, at, end), persons)
    elif action.cached or action.phase is Phase.RECOVERED:
        spans.append(Span(CACHE, at, end))
    elif persons:
        spans += _without(Span(SLOT, at, end), persons)
    else:
        spans += _before(at, end, ready_at, 0.0)
    return [span for span in spans if span.end > span.begin]


def parts_of(record: RunRecord, action: Action, now: float) -> dict[str, float]:
    """Seconds of an action by part, in `ORDER`; parts without any are left out."""
    found = dict.fromkeys(ORDER, 0.0)
    for span in spans_of(action, now, record.state.ready_at):
        found[span.part] += span.end - span.begin
    under_way = found[RUNNING]
    attempts = _attempts(action)
    unpacking = min(sum(attempt.usage.unpacking for attempt in attempts), under_way)
    waited = awaited(record, action, now)
    if all(attempt.busy for attempt in attempts):
        running = min(sum(attempt.busy for attempt in attempts), under_way)
        found[CHILDREN] = min(waited, under_way - running)
    else:  # how long one held its slot is known at its end, and never of one that was lost
        found[CHILDREN] = min(waited, under_way)
        running = under_way - found[CHILDREN]
    unpacking = min(unpacking, running)
    found[LOADING] += unpacking
    found[RUNNING] = running - unpacking
    found[IDLE] = max(under_way - running - found[CHILDREN], 0.0)
    return {part: seconds for part, seconds in found.items() if seconds > 0}


def growing(record: RunRecord, action: Action) -> str:
    """The part that the time of an action which goes on is spent on just now."""
    latest = action.attempt
    if action.phase is Phase.PAUSED:
        return PERSON
    if latest is None or latest.started_at is None:
        return SLOT
    if latest.ok is not None:
        return BETWEEN
    return CHILDREN if record.awaits(action.name) else RUNNING


def awaited(record: RunRecord, action: Action, now: float) -> float:
    """Seconds in which it had actions of its own under way: what it awaits, it holds no slot for."""
    if action.started_at is None:
        return 0.0
    last = action.ended_at or now
    waited, until = 0.0, action.started_at
    for begin, ended in sorted(_calls_of(record, action.name, now)):
        end = min(ended, last)
        waited += max(0.0, end - max(until, begin))
        until = max(until, end)
    return waited


def _calls_of(record: RunRecord, parent: str, now: float) -> list[tuple[float, float]]:
    """From when to when each of its calls was under way; of many, each group of them."""
    groups = [record.groups[key] for key in record.children.get(parent, ())]
    if sum(len(group.members) for group in groups) <= MAX_CHILDREN:
        return [(child.queued_at, child.ended_at or now) for child in record.children_of(parent)]
    return [
        (record.actions[group.members[0]].queued_at, now if group.left else record.last_end(group)) for group in groups
    ]


def _attempts(action: Action) -> list[Attempt]:
    return [attempt for attempt in action.all_attempts if attempt.started_at is not None]


def _before(at: float, begin: float, ready_at: float | None, loading: float) -> Iterator[Span]:
    """The time before the first attempt."""
    ready = min(max(ready_at or at, at), begin)
    loads = max(begin - loading, ready)
    yield Span(CLUSTER, at, ready)
    yield Span(SLOT, ready, loads)
    yield Span(LOADING, loads, begin)


def _by_persons(action: Action, end: float) -> Iterator[Span]:
    """When it waited for a person: parked, at a breakpoint or a condition, or failed until it was retried by hand."""
    ends = sorted(attempt.ended_at for attempt in _attempts(action) if attempt.ended_at is not None)
    following = [*(at for _, at, _, _ in action.notes[1:]), end]
    for (_, at, phase, by_hand), until in zip(action.notes, following, strict=False):
        if phase is Phase.PAUSED:
            yield Span(PERSON, at, until)
        elif by_hand:
            yield Span(PERSON, max((each for each in ends if each <= at), default=at), at)


def _without(span: Span, persons: Iterable[Span]) -> Iterator[Span]:
    """A stretch without what a person took of it, and that."""
    at = span.begin
    for one in sorted(persons, key=lambda each: each.begin):
        begin, end = min(max(one.begin, at), span.end), min(max(one.end, at), span.end)
        if end > begin:
            yield span._replace(begin=at, end=begin)
            yield Span(PERSON, begin, end)
            at = end
    yield span._replace(begin=at)
