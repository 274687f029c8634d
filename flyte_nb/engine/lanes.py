"""The owner's side of lanes: how much work each may have, decided from what it reports. Runs in: engine thread; worker loop.

A lane is a long-lived Dask task that executes attempts of one task, one after another (sync) or together on its loop
(async). Everything here is bookkeeping and arithmetic: no I/O, so that the sizes of bundles can be tested as numbers.

Sizes come from evidence, never from a guess. The first action of a task travels alone, one per slot. What a lane reports
(actions started, seconds of slot held) gives the cost of one action; bundles then hold a slot for about `TARGET` seconds,
growing by at most `GROWTH` times what the lane has done so far, so that one quick action does not commit thousands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container
from typing import Any

from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.settings.reuse import ReusePolicy

#: Seconds of slot time that a bundle should hold: long against a message (about 1 ms), short against a person's patience.
TARGET = 0.05
#: Seconds within which Dask starts a lane. One that takes longer waits behind something else: another one is opened.
OPENS_WITHIN = 0.5
#: Lanes of one task, opened or not, for each slot of the cluster.
MAX_LANES_PER_SLOT = 4
#: How fast bundles may grow.
GROWTH = 8
#: Most attempts handed to one lane and not yet begun.
MAX_BUNDLE = 2_000
#: Weight of new evidence.
ALPHA = 0.3

Key = tuple[str, str, int]


class Item:
    """An attempt with its way back."""

    __slots__ = ("done", "lane", "run", "work")

    def __init__(self, run: RunInfo, work: Work, done: Callable[[Outcome], None]) -> None:
        self.run = run
        self.work = work
        self.done = done
        #: The lane it was sent to; None while it waits here.
        self.lane: Lane | None = None


class Lane:
    """One open lane."""

    __slots__ = (
        "address", "blocked", "busy", "closing", "finished", "future", "id", "items", "opened", "sent", "stalled",
        "started", "used_at", "waiting",
    )  # fmt: skip

    def __init__(self, lane_id: str, address: str, now: float) -> None:
        self.id = lane_id
        #: Worker it was asked for; the one it runs on once `opened`.
        self.address = address
        self.opened = False
        #: Waits for a child action inside a sync body: takes nothing, and does not count as a lane.
        self.blocked = False
        #: Handed work back because one action takes long: is sent nothing until it reports progress or room.
        self.stalled = False
        self.closing = False
        #: Attempts that await children: they do not count against the concurrency of a warm environment.
        self.waiting = 0
        #: Attempts sent and not ended.
        self.items: dict[Key, Item] = {}
        self.sent = 0
        self.started = 0
        self.finished = 0
        self.busy = 0.0
        self.used_at = now
        self.future: Any = None

    @property
    def unstarted(self) -> int:
        """Attempts sent and not begun."""
        return self.sent - self.started

    @property
    def usable(self) -> bool:
        """Whether it may be sent more."""
        return self.opened and not (self.blocked or self.stalled or self.closing)

    def __repr__(self) -> str:
        flags = "".join(f" {n}" for n in ("opened", "blocked", "stalled", "closing") if getattr(self, n))
        return f"<Lane {self.id} on {self.address}{flags} {self.finished}/{self.started}/{self.sent}>"


class Shape:
    """Attempts that can share lanes: same task code, same resources."""

    __slots__ = (
        "blob", "cost", "environment", "is_async", "lanes", "name", "queue", "resources", "reuse", "seen", "task_name",
    )  # fmt: skip

    def __init__(self, name: str, task_name: str, blob: bytes, is_async: bool, resources: dict[str, float]) -> None:
        self.name = name
        self.task_name = task_name
        self.blob = blob
        self.is_async = is_async
        self.resources = resources
        self.queue: deque[Item] = deque()
        self.lanes: dict[str, Lane] = {}
        #: The `ReusePolicy` of its environment, and that environment's name; None if it is not warm.
        self.reuse: ReusePolicy | None = None
        self.environment = ""
        #: Seconds of slot time per action; None without evidence.
        self.cost: float | None = None
        #: Actions begun so far, all lanes together.
        self.seen = 0

    def learn(self, lane: Lane, started: int, finished: int, busy: float) -> None:
        """Take a lane's counters as evidence."""
        new = max(started - lane.started, 0)
        ended = max(finished - lane.finished, 0)
        spent = max(busy - lane.busy, 0.0)
        lane.started, lane.finished, lane.busy = max(started, lane.started), max(finished, lane.finished), busy
        count = max(new, ended)
        if count:
            cost = spent / count
            self.cost = cost if self.cost is None else self.cost + ALPHA * (cost - self.cost)
            self.seen += new
        elif self.cost is not None and spent > self.cost:
            self.cost += ALPHA * (spent - self.cost)  # one action that goes on and on

    def room(self, lane: Lane) -> int:
        """How many more attempts a lane may be sent now."""
        if not lane.usable:
            return 0
        if self.reuse is not None:
            return min(self._fitting(lane), self.reuse.concurrency + lane.waiting - len(lane.items))
        return self._fitting(lane)

    def _fitting(self, lane: Lane) -> int:
        if self.cost is None:
            return 1 - lane.unstarted if lane.started == lane.finished or self.is_async else 0
        if self.cost >= TARGET and not self.is_async:
            return 1 - len(lane.items)  # a long action travels alone
        size = int(TARGET / max(self.cost, 1e-7))
        size = min(size, GROWTH * max(lane.finished, lane.started if self.is_async else 1, 1), MAX_BUNDLE)
        return max(size, 1) - lane.unstarted

    def share(self, lane: Lane, takers: int) -> int:
        """How many to send now, so that the last bundles are spread over all lanes."""
        fair = -(-len(self.queue) // max(takers, 1))
        return min(self.room(lane), fair)


def next_bundle(shape: Shape, lane: Lane, takers: int) -> list[Item]:
    """Take the next bundle for a lane off the queue."""
    bundle = []
    for _ in range(shape.share(lane, takers)):
        if not shape.queue:
            break
        item = shape.queue.popleft()
        item.lane = lane
        lane.items[item.work.key] = item
        bundle.append(item)
    lane.sent += len(bundle)
    return bundle


def lanes_missing(shape: Shape, slots: int, now: float, shunned: Container[str] = ()) -> int:
    """How many lanes to open for what waits.

    Args:
        shape: What waits.
        slots: Slots of the cluster.
        now: Time, as in `Lane.used_at`.
        shunned: Workers whose lanes do not count.
    """
    open_now = busy = coming = 0
    for lane in shape.lanes.values():
        if lane.blocked or lane.closing:
            continue
        if not lane.opened:
            coming += now - lane.used_at < OPENS_WITHIN
        elif lane.address not in shunned:
            open_now += 1
            busy += bool(lane.items)
    missing = min(slots, busy + max(coming, len(shape.queue))) - open_now - coming
    # Lanes that Dask cannot start (no GPU there, or long tasks of the user's own) are not opened for ever.
    unblocked = sum(1 for lane in shape.lanes.values() if not lane.blocked)
    return min(missing, MAX_LANES_PER_SLOT * slots - unblocked)
