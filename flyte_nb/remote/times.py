"""Times of an action: how long it was queued, how long it ran. Runs in: the process that started its run."""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple

from flyte_nb.core.history.facts import Action, Attempt, Phase


class PhaseTransitionInfo(NamedTuple):
    """A phase that an attempt was in."""

    phase: Phase
    start_time: dt.datetime
    #: None while it is in it.
    end_time: dt.datetime | None

    @property
    def duration(self) -> dt.timedelta:
        """How long; up to now, while it is in it."""
        return (self.end_time or dt.datetime.now(dt.UTC)) - self.start_time


def transitions_of(action: Action, attempt: int | None = None) -> list[PhaseTransitionInfo]:
    """The phases that one of its attempts was in, in order.

    Args:
        action: Its facts.
        attempt: Counts from 1; None for the latest. An attempt waits from the end of the one before.
    """
    attempts = action.all_attempts
    if not attempts:
        return [_phase(Phase.QUEUED, action.queued_at, action.ended_at)]
    number = len(attempts) if attempt is None else attempt
    if not 0 < number <= len(attempts):
        return []
    this: Attempt = attempts[number - 1]
    since = action.queued_at if number == 1 else attempts[number - 2].ended_at or action.queued_at
    found = [_phase(Phase.QUEUED, since, this.started_at)]
    if this.started_at is not None:
        found.append(_phase(Phase.RUNNING, this.started_at, this.ended_at))
    return found


def _phase(phase: Phase, start: float, end: float | None) -> PhaseTransitionInfo:
    ended = dt.datetime.fromtimestamp(end, dt.UTC) if end is not None else None
    return PhaseTransitionInfo(phase, dt.datetime.fromtimestamp(start, dt.UTC), ended)
