"""Settle attempts: with the outcomes that lanes report, or as lost with their worker. Runs in: engine thread; worker loop."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from flyte_nb.core.control.work import Outcome
from flyte_nb.core.history.facts import ErrorNote
from flyte_nb.core.history.worker_names import name_of
from flyte_nb.engine.clusters.worker_exits import WorkerExit
from flyte_nb.engine.dispatch.gc_pacing import MANY, PACING
from flyte_nb.engine.dispatch.lanes import Lane, LaneGroup, QueuedAttempt, QueuedRows
from flyte_nb.engine.dispatch.network import Network
from flyte_nb.engine.dispatch.shipments import Shipments
from flyte_nb.engine.links.blob_fetch import Fetcher, away
from flyte_nb.engine.links.wire import Key

#: Seconds after a loss during which the task's attempts are not placed on the owner's worker, in case the task itself killed
#: the process: the parents that await it live here. The lost worker's successor is there by then, if there is one.
QUARANTINE_S = 4.0


class Unsettled:
    """All attempts of an owner, queued or sent; each is settled once."""

    def __init__(self, fetcher: Fetcher, shipments: Shipments) -> None:
        self._fetcher = fetcher
        self._shipments = shipments
        self.by_key: dict[Key, QueuedAttempt] = {}
        #: Rows that have not all ended, by their number.
        self.rows: dict[int, QueuedRows] = {}

    def __len__(self) -> int:
        return len(self.by_key) + sum(len(queued.rows) for queued in self.rows.values())

    def add(self, attempt: QueuedAttempt) -> None:
        """Take an attempt in."""
        self.by_key[attempt.work.key] = attempt
        attempt.shipment.unsettled += 1
        if len(self.by_key) == MANY:
            self._pace()

    def add_rows(self, queued: QueuedRows) -> None:
        """Take rows in."""
        self.rows[queued.rows.number] = queued
        queued.shipment.unsettled += 1
        self._pace()

    def rows_settled(self, queued: QueuedRows) -> None:
        """Let go of rows of which none is open."""
        if self.rows.pop(queued.rows.number, None) is not None:
            self._shipments.settled(queued.shipment)
            self._pace()

    def _pace(self) -> None:
        PACING.load(id(self), len(self))

    def close(self) -> None:
        """None of them is settled any more."""
        PACING.load(id(self), 0)

    def take(self, key: Key) -> QueuedAttempt | None:
        """Take an attempt out, to be settled by the caller."""
        attempt = self.by_key.pop(key, None)
        if attempt is not None:
            self._shipments.settled(attempt.shipment)
        return attempt

    def settle(self, outcomes: list[Outcome], lane: Lane | None) -> None:
        """Give the controller the outcomes that a lane reports; those of attempts that were lost before are dropped."""
        for outcome in outcomes:
            key = outcome[:3]
            if lane is not None:
                lane.attempts.pop(key, None)
            attempt = self.take(key)
            if attempt is None:
                continue
            if away(outcome.value):
                self._fetcher.result(outcome, attempt.done)
            else:
                attempt.done(outcome)
        self._pace()

    def end(self, attempts: Iterable[QueuedAttempt], kind: str, error: ErrorNote | None, worker: str = "") -> None:
        """Settle attempts that no lane will report: they are "lost" with a worker, or end with an error."""
        for attempt in attempts:
            if self.take(attempt.work.key) is not None:
                attempt.done(Outcome(*attempt.work[:3], kind, error=error, location=(worker, 0, "")))


class Losses:
    """Lost workers, as an owner of attempts sees them: which attempts went with them, and which tasks are quarantined."""

    def __init__(
        self, network: Network, unsettled: Unsettled, verdict: Callable[[Key], str],
        rows_of: Callable[[Lane, int], list[QueuedAttempt]],
    ) -> None:  # fmt: skip
        self._network = network
        self._unsettled = unsettled
        #: Takes the rows off a lane that is lost, of which so many had begun: these.
        self._rows_of = rows_of
        #: How an attempt ends that was overdue as its worker was lost: "cancelled" or "timeout"; "" if it was not.
        self._verdict = verdict
        #: Workers lost last: the roster may name them for a moment longer.
        self.workers: deque[str] = deque(maxlen=64)
        #: When a worker was lost last (`time.monotonic`); 0 for never.
        self.last_at: float = 0.0
        #: When a group lost attempts, by its name.
        self._suspects: dict[str, float] = {}

    def record(self, worker: str, lanes: Iterable[Lane]) -> None:
        """Record a lost worker and its lanes: their attempts may have killed it."""
        self.workers.append(worker)
        now = self.last_at = time.monotonic()
        self._suspects = {name: at for name, at in self._suspects.items() if now - at < QUARANTINE_S}
        self._suspects.update((lane.group.name, now) for lane in lanes if lane.load)

    def quarantines(self, group: LaneGroup) -> bool:
        """Whether a group's lanes are kept off this worker: it is a suspect, or there is no other worker just now."""
        own, now = self._network.own_address, time.monotonic()
        if not own or not self.last_at or now - self.last_at > QUARANTINE_S:
            return False
        others = self._network.roster.keys() - {own, *self.workers}
        return not others or now - self._suspects.get(group.name, 0.0) < QUARANTINE_S

    def salvage(self, lane: Lane) -> list[QueuedAttempt]:
        """Queue attempts again that a lost lane had not begun; returns those that it had, as far as it had reported."""
        begun = max(1, lane.started - lane.finished) if lane.group.is_async else 1
        rows = self._rows_of(lane, begun)
        attempts = list(lane.attempts.values())
        lane.attempts.clear()
        lane.group.take_back([one for one in attempts[begun:] if not self._verdict(one.work.key)])
        return rows + [one for number, one in enumerate(attempts) if number < begun or self._verdict(one.work.key)]

    def end(self, worker: str, begun: list[QueuedAttempt]) -> None:
        """Settle attempts that had begun on a lost worker, once the cause is known; the controller decides on retries."""
        if begun:
            self._network.cause(worker, begun[0].run, lambda death: self._explain(begun, death))

    def _explain(self, begun: list[QueuedAttempt], death: WorkerExit) -> None:
        # Of several that computed there it is not known which one used the memory: they are tried again.
        candidates = death.culprits or frozenset(attempt.work.key[:2] for attempt in begun)
        blamed = candidates if death.for_memory and len(candidates) == 1 else frozenset()
        code = "OOMError" if death.for_memory else "WorkerLostError"
        error = ErrorNote("user" if death.for_memory else "system", code, str(death), name_of(death.worker))
        suspects: set[str] = set()
        for attempt in begun:
            action = attempt.work.key[:2]
            if death.ends(action) != "stranded":
                suspects.add(attempt.group.name)
            kind = "oom" if action in blamed else death.ends(action)
            verdict = self._verdict(attempt.work.key)
            if verdict:  # one that waited there for its turn all the time runs elsewhere
                kind = verdict if death.is_out_of_time(action, verdict) else "stranded"
            self._unsettled.end([attempt], kind, error, death.worker)
        for group in {attempt.group.name for attempt in begun} - suspects:
            self._suspects.pop(group, None)  # none of these computed there

    def __repr__(self) -> str:
        return f"<Losses [{len(self.workers)} workers, {len(self._suspects)} suspects]>"
