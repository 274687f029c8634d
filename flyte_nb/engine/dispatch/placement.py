"""Placement: what no worker can take is said at its run, and fails after a time. Runs in: engine thread; worker loop.

Every owner looks at its own queues; a run's home shows what any of them says (`KernelEngine`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from flyte_nb.core.history.facts import ErrorNote
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.engine.dispatch.lanes import LaneGroup, QueuedAttempt, QueuedRows, Slice
from flyte_nb.engine.dispatch.network import Network
from flyte_nb.engine.dispatch.settling import Unsettled

#: Seconds after which an attempt fails that no worker of the cluster is made for, unless `init` says otherwise.
PLACEMENT_TIMEOUT_S = 600.0
#: Runs of one queue that are told why it stands still, and how much of the queue is looked at for them.
MAX_TOLD, LOOKED_AT = 100, 10_000


class _Standing(NamedTuple):
    """Times (`time.monotonic`) of a queue that stands still."""

    #: When it was found so.
    since: float
    #: Nothing in it has waited for longer than since then.
    first: float


class Placement:
    """The queues of one owner that stand still."""

    def __init__(self, network: Network, unsettled: Unsettled, all_alone: Callable[[LaneGroup], None]) -> None:
        self._network = network
        #: Makes each row of a group's an attempt of its own.
        self._all_alone = all_alone
        self._unsettled = unsettled
        #: Queues of which no worker takes anything, by the group's name.
        self._standing: dict[str, _Standing] = {}
        #: What was said at runs.
        self._said: dict[str, tuple[RunInfo, str]] = {}

    def look(self, groups: Iterable[LaneGroup], now: float) -> None:
        """See what cannot run, say it, and fail what has waited for too long."""
        standing: dict[str, _Standing] = {}
        said: dict[str, tuple[RunInfo, str]] = {}
        for group in groups:
            why = self._network.why_waiting(group.resources) if group.queue else ""
            if not why:
                continue
            found = self._standing.get(group.name) or _Standing(now, now)
            _mark(group, now)
            limit = self._limit(group)
            if now - found.first >= limit:
                found = self._fail(group, found, now, limit, why)
            standing[group.name] = found
            for run in _runs_of(group):
                said.setdefault(run.name, (run, why))
        for name in dict.fromkeys((*self._said, *said)):
            if self._said.get(name) != said.get(name):
                run, why = said.get(name) or (self._said[name][0], "")
                self._network.say_waiting(run, why)
        self._standing, self._said = standing, said

    def _fail(self, group: LaneGroup, standing: _Standing, now: float, limit: float, why: str) -> _Standing:
        """Fail what has waited for so long itself; returns the times of what is left."""

        def since(item: QueuedAttempt | Slice) -> float:
            return max(_marked(item).stands_since, standing.since)

        if any(isinstance(item, Slice) and now - since(item) >= limit for item in group.queue):
            self._all_alone(group)
        overdue = [item for item in group.queue if not isinstance(item, Slice) and now - since(item) >= limit]
        keys = {item.work.key for item in overdue}
        left = [item for item in group.queue if isinstance(item, Slice) or item.work.key not in keys]
        first = min(map(since, left), default=now)
        group.queue.replace(left)
        text = (
            f"{group.task_name} was not started within {now - standing.first:.0f} s: {why}. "
            "init(placement_timeout=...) says how long it may wait."
        )
        self._unsettled.end(overdue, "error", ErrorNote("system", "NoWorkerError", text, recoverable=False))
        return standing._replace(first=first)

    def _limit(self, group: LaneGroup) -> float:
        given = self._network.placement_timeout
        if given is not None:
            return given
        return PLACEMENT_TIMEOUT_S if self._network.is_hopeless(group.resources) else math.inf

    def __repr__(self) -> str:
        return f"<Placement [{len(self._standing)} queues stand still]>"


def _mark(group: LaneGroup, now: float) -> None:
    """Note since when each stands still: those that have come since the last look are at the ends of the queue."""
    for items in (iter(group.queue), reversed(group.queue)):
        for item in items:
            one = _marked(item)
            if one.stands_since:
                break
            one.stands_since = now


def _marked(item: QueuedAttempt | Slice) -> QueuedAttempt | QueuedRows:
    return item.of if isinstance(item, Slice) else item


def _runs_of(group: LaneGroup) -> Iterable[RunInfo]:
    """The runs that wait in a queue, as far as it is looked at."""
    found: dict[str, RunInfo] = {}
    for item in itertools.islice(group.queue, LOOKED_AT):
        found.setdefault(item.run.name, item.run)
        if len(found) == MAX_TOLD:
            break
    return found.values()
