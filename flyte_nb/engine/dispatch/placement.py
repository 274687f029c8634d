"""Placement: what no worker can take is said at its run, and fails after a time. Runs in: engine thread; worker loop.

Every owner looks at its own queues; a run's home shows what any of them says (`KernelEngine`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from flyte_nb.core.history.facts import ErrorNote
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.engine.dispatch.lanes import LaneGroup, Slice
from flyte_nb.engine.dispatch.network import Network
from flyte_nb.engine.dispatch.settling import Unsettled

#: Seconds after which an attempt fails that no worker of the cluster is made for, unless `init` says otherwise.
PLACEMENT_TIMEOUT_S = 600.0


class Placement:
    """The queues of one owner that stand still."""

    def __init__(self, network: Network, unsettled: Unsettled, all_alone: Callable[[LaneGroup], None]) -> None:
        self._network = network
        #: Makes each row of a group's an attempt of its own.
        self._all_alone = all_alone
        self._unsettled = unsettled
        #: Since when no worker takes what is queued in a group, by its name.
        self._since: dict[str, float] = {}
        #: What was said at runs.
        self._said: dict[str, tuple[RunInfo, str]] = {}

    def look(self, groups: Iterable[LaneGroup], now: float) -> None:
        """See what cannot run, say it, and fail what has waited for too long."""
        since: dict[str, float] = {}
        said: dict[str, tuple[RunInfo, str]] = {}
        for group in groups:
            why = self._network.why_waiting(group.resources) if group.queue else ""
            if not why:
                continue
            since[group.name] = self._since.get(group.name, now)
            if now - since[group.name] < self._limit(group):
                run = next(iter(group.queue)).run
                said.setdefault(run.name, (run, why))
                continue
            self._all_alone(group)
            queued = [item for item in group.queue if not isinstance(item, Slice)]
            group.queue.clear()
            text = (
                f"{group.task_name} was not started within {now - since.pop(group.name):.0f} s: {why}. "
                "init(placement_timeout=...) says how long it may wait."
            )
            self._unsettled.end(queued, "error", ErrorNote("system", "NoWorkerError", text, recoverable=False))
        for name in dict.fromkeys((*self._said, *said)):
            if self._said.get(name) != said.get(name):
                run, why = said.get(name) or (self._said[name][0], "")
                self._network.say_waiting(run, why)
        self._since, self._said = since, said

    def _limit(self, group: LaneGroup) -> float:
        given = self._network.placement_timeout
        if given is not None:
            return given
        return PLACEMENT_TIMEOUT_S if self._network.is_hopeless(group.resources) else math.inf

    def __repr__(self) -> str:
        return f"<Placement [{len(self._since)} queues stand still]>"
