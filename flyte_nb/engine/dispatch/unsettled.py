"""Attempts whose outcome the controller has not been given yet. Runs in: engine thread; worker loop."""

from __future__ import annotations

from collections.abc import Iterable

from flyte_nb.core.control.gc_pacing import MANY, GcPacing
from flyte_nb.core.control.work import Outcome
from flyte_nb.core.history.facts import ErrorNote
from flyte_nb.engine.dispatch.lanes import Lane, QueuedAttempt
from flyte_nb.engine.links.blob_fetch import Fetcher, away
from flyte_nb.engine.links.wire import Key


class Unsettled:
    """All attempts of an owner, queued or sent; each is settled once."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self.by_key: dict[Key, QueuedAttempt] = {}
        self.collector = GcPacing()

    def add(self, attempt: QueuedAttempt) -> None:
        """Take an attempt in."""
        self.by_key[attempt.work.key] = attempt
        if len(self.by_key) == MANY:
            self.collector.load(MANY)

    def settle(self, outcomes: list[Outcome], lane: Lane | None) -> None:
        """Give the controller the outcomes that a lane reports; those of attempts that were lost before are dropped."""
        for outcome in outcomes:
            key = outcome[:3]
            if lane is not None:
                lane.attempts.pop(key, None)
            attempt = self.by_key.pop(key, None)
            if attempt is None:
                continue
            if away(outcome):
                self._fetcher.result(outcome, attempt.done)
            else:
                attempt.done(outcome)
        self.collector.load(len(self.by_key))

    def end(self, attempts: Iterable[QueuedAttempt], kind: str, error: ErrorNote | None, worker: str = "") -> None:
        """Settle attempts that no lane will report: they are "lost" with a worker, or end with an error."""
        for attempt in attempts:
            if self.by_key.pop(attempt.work.key, None) is not None:
                attempt.done(Outcome(*attempt.work[:3], kind, error=error, location=(worker, 0, "")))
