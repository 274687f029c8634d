"""Lanes as their owner sees them, and the sizes of bundles, from evidence. Runs in: engine thread; worker loop.

A lane is a long-lived Dask task that executes attempts of one task, one after another (sync) or together on its loop
(async). Everything here is bookkeeping and arithmetic: no I/O, so that the sizes of bundles can be tested as numbers.

Sizes come from evidence, never from a guess. The first attempt of a task travels alone, one per slot. What a lane reports
(attempts started, seconds of slot held) gives the cost of one; bundles then hold a slot for about `BUNDLE_S` seconds,
growing by at most `GROWTH` times what the lane has executed so far, so that one quick attempt does not commit thousands.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import Counter, deque
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flyte_nb.core.control.rows import OPEN, Rows
from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.settings.reuse import ReusePolicy
from flyte_nb.engine.dispatch.shipments import Shipment
from flyte_nb.engine.links.wire import Key, WorkerInfo

#: Seconds of slot time that a bundle should hold: long against a message (about 1 ms), short against a person's patience.
BUNDLE_S = 0.05
#: Seconds within which Dask starts a lane. One that takes longer is queued behind something else: another one is opened.
OPENS_WITHIN_S = 0.5
#: Seconds a lane without attempts stays open: the next call of its task finds it there. A cluster that shrinks waits for it.
IDLE_S = 4.0
#: The same for lanes that hold a Dask resource, which others may be queued for.
IDLE_WITH_RESOURCES_S = 0.2
#: Seconds in which an adaptive cluster should end what waits (Dask's own setting is ``distributed.adaptive.target-duration``).
TARGET_S = 5.0
#: Lanes of one task, opened or not, for each slot of the cluster.
MAX_LANES_PER_SLOT = 4
#: Round trips whose work is sent ahead over a far link.
AHEAD = 1.5
#: How fast bundles may grow.
GROWTH = 8
#: Most attempts handed to one lane and not yet begun.
MAX_BUNDLE = 16_000
#: Weight of new evidence.
ALPHA = 0.3


@dataclass(slots=True, eq=False, repr=False)
class QueuedAttempt:
    """An attempt that the controller handed over, and the callback that settles it."""

    run: RunInfo
    work: Work
    done: Callable[[Outcome], None]
    group: LaneGroup
    #: The code it runs.
    shipment: Shipment
    #: The lane it was sent to; None while it is queued.
    lane: Lane | None = None
    #: When it was first seen in a queue that no worker takes anything of (`time.monotonic`); 0 for never.
    stands_since: float = 0.0


@dataclass(slots=True, eq=False, repr=False)
class QueuedRows:
    """Rows that the controller handed over."""

    rows: Rows
    group: LaneGroup
    shipment: Shipment
    #: By row: which of `lanes` it was sent to, counted from 1; 0 while it is queued.
    at: array[int]
    lanes: list[Lane] = field(default_factory=list)
    #: As of `QueuedAttempt`.
    stands_since: float = 0.0

    def number_of(self, lane: Lane | None) -> int:
        """The number of a lane in `at`; 0 for none of these."""
        return self.lanes.index(lane) + 1 if lane in self.lanes else 0

    def at_lane(self, lane: Lane, low: int = 0, high: int | None = None) -> list[int]:
        """Open rows that were sent to a lane."""
        number, state = self.number_of(lane), self.rows.state
        places = range(low, len(self.at) if high is None else high)
        return [row for row in places if self.at[row] == number and state[row] == OPEN] if number else []


@dataclass(slots=True, eq=False, repr=False)
class Slice:
    """Some rows next to each other."""

    of: QueuedRows
    low: int
    high: int

    def __len__(self) -> int:
        return self.high - self.low

    @property
    def run(self) -> RunInfo:
        """Of their actions."""
        return self.of.rows.run

    def is_at(self, lane: Lane) -> bool:
        """Whether an open row is at a lane that it was sent to; those before the first one are left out from now on."""
        number, at, state = self.of.number_of(lane), self.of.at, self.of.rows.state
        low, high = self.low, self.high
        while low < high and (state[low] != OPEN or at[low] != number):
            low += 1
        self.low = low
        return low < high

    def send(self, lane: Lane) -> None:
        """They go to a lane."""
        if lane not in self.of.lanes:
            self.of.lanes.append(lane)
        number = self.of.number_of(lane)
        self.of.at[self.low : self.high] = array("H", [number]) * len(self)
        lane.slices.append(self)
        lane.rows += len(self)


def slices_of(of: QueuedRows, rows: Iterable[int]) -> list[Slice]:
    """Slices of ascending rows."""
    found: list[Slice] = []
    for row in rows:
        if found and found[-1].high == row:
            found[-1].high += 1
        else:
            found.append(Slice(of, row, row + 1))
    return found


class Waiting:
    """Attempts that wait for a lane, in order: alone, or as slices of rows."""

    def __init__(self) -> None:
        self._items: deque[QueuedAttempt | Slice] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[QueuedAttempt | Slice]:
        return iter(self._items)

    def __reversed__(self) -> Iterator[QueuedAttempt | Slice]:
        return reversed(self._items)

    def append(self, item: QueuedAttempt | Slice) -> None:
        """Put at the end."""
        self._items.append(item)
        self._count += _size(item)

    def prepend(self, items: Iterable[QueuedAttempt | Slice]) -> None:
        """Put before all others, in their order."""
        listed = list(items)
        self._items.extendleft(reversed(listed))
        self._count += sum(map(_size, listed))

    def take(self, most: int) -> QueuedAttempt | Slice:
        """Take the first attempt off, or up to so many rows."""
        first = self._items[0]
        if isinstance(first, Slice) and len(first) > most:
            self._count -= most
            taken = Slice(first.of, first.low, first.low + most)
            first.low += most
            return taken
        self._count -= _size(first)
        return self._items.popleft()

    def replace(self, items: Iterable[QueuedAttempt | Slice]) -> None:
        """Have these wait instead."""
        self._items = deque(items)
        self._count = sum(map(_size, self._items))

    def remove(self, attempt: QueuedAttempt) -> None:
        """Take one off.

        Raises:
            ValueError: It does not wait here.
        """
        self._items.remove(attempt)
        self._count -= 1

    def clear(self) -> None:
        """Take all off."""
        self.replace(())

    def single_out(self, of: QueuedRows, row: int, attempt: QueuedAttempt) -> None:
        """Put an attempt in the place of its row; at the end if that was taken off."""
        if not any(isinstance(item, Slice) and item.of is of for item in self._items):
            self.append(attempt)
            return
        items: list[QueuedAttempt | Slice] = []
        for item in self._items:
            if isinstance(item, Slice) and item.of is of and item.low <= row < item.high:
                parts = Slice(of, item.low, row), attempt, Slice(of, row + 1, item.high)
                items += [part for part in parts if _size(part)]
            else:
                items.append(item)
        self.replace(items)


def _size(item: QueuedAttempt | Slice) -> int:
    return len(item) if isinstance(item, Slice) else 1


@dataclass(slots=True, eq=False, repr=False)
class Lane:
    """One lane of a group: its state and counters, as its host reported them."""

    id: str
    group: LaneGroup
    #: Worker it was asked for; the one it runs on once `opened`.
    address: str
    #: When it was asked for, or last opened or used.
    used_at: float
    opened: bool = False
    #: A sync body in it waits for a child action: it takes nothing, and does not count as a lane.
    blocked: bool = False
    #: It returned attempts because one takes long: it is sent nothing until it reports progress or room.
    stalled: bool = False
    closing: bool = False
    #: Seconds that a message to it and back takes, if that is long.
    round_trip: float = 0.0
    #: Whether it holds a device, which attempts have one after another, but for those that await others.
    has_device: bool = False
    #: Attempts that await children: they do not count against the concurrency of a warm environment.
    awaiting: int = 0
    #: Attempts sent and not ended.
    attempts: dict[Key, QueuedAttempt] = field(default_factory=dict)
    #: The same that are rows: how many, and where, in the order in which they were sent.
    rows: int = 0
    slices: deque[Slice] = field(default_factory=deque)
    sent: int = 0
    started: int = 0
    finished: int = 0
    #: Seconds of slot time.
    busy: float = 0.0
    #: Of its Dask task.
    future: Any = None

    def open(self, address: str, now: float) -> None:
        """Its thread has begun, on that worker."""
        self.address, self.opened, self.used_at = address, True, now
        self.sent = self.started = self.finished = self.awaiting = 0
        self.busy = 0.0
        self.blocked = self.stalled = False

    @property
    def unstarted(self) -> int:
        """Attempts sent and not begun."""
        return self.sent - self.started

    @property
    def load(self) -> int:
        """Attempts sent and not ended."""
        return len(self.attempts) + self.rows

    def take_rows(self) -> list[tuple[QueuedRows, list[int]]]:
        """Take its open rows off it, in the order in which they were sent."""
        found = [(one.of, rows) for one in self.slices if (rows := one.of.at_lane(self, one.low, one.high))]
        self.slices.clear()
        self.rows = 0
        return found

    def give_back(self, of: QueuedRows, rows: Collection[int]) -> None:
        """These open rows have come back: they are at no lane. They may be sent here again, and are then in one slice only."""
        for row in rows:
            of.at[row] = 0
        self.rows -= len(rows)
        slices: deque[Slice] = deque()
        for one in self.slices:
            if one.of is of:
                slices.extend(slices_of(of, (row for row in range(one.low, one.high) if row not in rows)))
            else:
                slices.append(one)
        self.slices = slices

    def rows_ended(self, count: int) -> None:
        """So many of its rows are not its own any more."""
        self.rows -= count
        while self.slices and not self.slices[0].is_at(self):
            self.slices.popleft()

    @property
    def usable(self) -> bool:
        """Whether it may be sent more."""
        return self.opened and not (self.blocked or self.stalled or self.closing)

    def __repr__(self) -> str:
        flags = "".join(f" {n}" for n in ("opened", "blocked", "stalled", "closing") if getattr(self, n))
        return f"<Lane {self.id} on {self.address}{flags} {self.finished}/{self.started}/{self.sent}>"


@dataclass(slots=True, eq=False, repr=False)
class LaneGroup:
    """The lanes that can execute each other's attempts (same task, same resources), and the queue before them."""

    name: str
    task_name: str
    is_async: bool
    #: Dask resources that each lane holds.
    resources: dict[str, float]
    queue: Waiting = field(default_factory=Waiting)
    lanes: dict[str, Lane] = field(default_factory=dict)
    #: The `ReusePolicy` of its environment, and that environment's name; None if it is not warm.
    reuse: ReusePolicy | None = None
    environment: str = ""
    #: Worker processes that are its replicas, if it is warm.
    processes: int = 1
    #: Whether it waits for a worker that really has its device; else it runs where none is, too.
    relies_on_device: bool = False
    #: Whether it has been said that no worker has one.
    said_waiting: bool = False
    #: Seconds of slot time per attempt; None without evidence.
    cost: float | None = None

    @property
    def idle_s(self) -> float:
        """Seconds that a lane without attempts stays open."""
        if self.reuse is not None:
            ttl: Any = self.reuse.idle_ttl  # a timedelta, whatever was given
            return float(ttl.total_seconds())
        return IDLE_WITH_RESOURCES_S if self.resources else IDLE_S

    @property
    def slots_wanted(self) -> float:
        """Slots that would end what waits and computes within `TARGET_S`: of unknown cost, one each."""
        under_way = [lane.load for lane in self.lanes.values() if lane.load]
        waiting = len(self.queue) + sum(under_way)
        if self.cost is None:
            return waiting
        return max(min(waiting * self.cost / TARGET_S, waiting), min(len(under_way), waiting * self.cost))

    def take_back(self, attempts: list[QueuedAttempt]) -> None:
        """Queue attempts again that have not begun, before all others."""
        for attempt in attempts:
            attempt.lane = None
        self.queue.prepend(attempts)

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
        elif self.cost is not None and spent > self.cost:
            self.cost += ALPHA * (spent - self.cost)  # one attempt, still computing

    def room(self, lane: Lane) -> int:
        """How many more attempts a lane may be sent now."""
        if not lane.usable:
            return 0
        if lane.has_device:
            return 1 + lane.awaiting - len(lane.attempts)
        if self.reuse is not None:
            return min(self._fitting(lane), self._warm_room(self.reuse.capacity, lane))
        return self._fitting(lane)

    def _warm_room(self, capacity: int, lane: Lane) -> int:
        # Replicas beyond the processes that there are share them: what waits does so side by side.
        under_way = sum(each.load - each.awaiting for each in self.lanes.values())
        each = -(-capacity // self.processes)
        return min(each + lane.awaiting - lane.load, capacity - under_way)

    def _fitting(self, lane: Lane) -> int:
        if self.cost is None:
            return 1 - lane.unstarted if lane.started == lane.finished or self.is_async else 0
        # A long one travels alone; on a far link, with what it would else have to wait for.
        ahead = 1 + math.ceil(AHEAD * lane.round_trip / max(self.cost, 1e-7))
        if self.cost >= BUNDLE_S and not self.is_async:
            return ahead - lane.load
        size = int(BUNDLE_S / max(self.cost, 1e-7))
        size = min(size, GROWTH * max(lane.finished, lane.started if self.is_async else 1, 1), MAX_BUNDLE)
        return max(size, min(ahead, MAX_BUNDLE)) - lane.unstarted

    def share(self, lane: Lane, takers: int) -> int:
        """How many to send now, so that the last bundles are spread over all lanes."""
        fair = -(-len(self.queue) // max(takers, 1))
        return min(self.room(lane), fair)

    def __repr__(self) -> str:
        return f"<LaneGroup {self.task_name} [{len(self.queue)} queued, {len(self.lanes)} lanes]>"


def next_bundle(group: LaneGroup, lane: Lane, takers: int) -> list[QueuedAttempt | Slice]:
    """Take the next bundle for a lane off the queue."""
    bundle: list[QueuedAttempt | Slice] = []
    left = group.share(lane, takers)
    while left > 0 and group.queue:
        item = group.queue.take(left)
        if isinstance(item, Slice):
            item.send(lane)
        else:
            item.lane = lane
            lane.attempts[item.work.key] = item
        left -= _size(item)
        lane.sent += _size(item)
        bundle.append(item)
    return bundle


def lanes_missing(
    group: LaneGroup,
    slots: int,
    now: float,
    avoided: Container[str] = (),
    workers: Mapping[str, WorkerInfo] | None = None,
) -> int:
    """The number of lanes to open for the queue.

    Args:
        group: Whose queue.
        slots: Slots of the cluster.
        now: Time, as in `Lane.used_at`.
        avoided: Workers whose lanes do not count.
        workers: Those there are, by address: more lanes on one than it has slots serve nobody, where others come later.
    """
    opened: Counter[str] = Counter()
    busy_at: Counter[str] = Counter()
    in_vain: Counter[str] = Counter()
    coming = 0
    for lane in group.lanes.values():
        if lane.blocked or lane.closing:
            continue
        if (
            lane.stalled and not lane.load
        ):  # others compute there for long: it serves nobody, nor would another one beside it
            in_vain[lane.address] += 1
            continue
        if not lane.opened:
            coming += now - lane.used_at < OPENS_WITHIN_S or workers == {}  # nothing can open before a worker comes
        elif lane.address not in avoided:
            opened[lane.address] += 1
            busy_at[lane.address] += bool(lane.load)
    open_now, busy = _within_slots(opened, workers or {}), _within_slots(busy_at, workers or {})
    useful = slots - _within_slots(in_vain, workers or {})
    missing = min(useful, busy + max(coming, len(group.queue))) - open_now - coming
    # Lanes that Dask cannot start (no GPU there, or long tasks of the user's own) are not opened without end.
    unblocked = sum(1 for lane in group.lanes.values() if not lane.blocked)
    return min(missing, MAX_LANES_PER_SLOT * slots - unblocked)


def _within_slots(lanes: Counter[str], workers: Mapping[str, WorkerInfo]) -> int:
    return sum(min(n, workers[address].nthreads) if address in workers else n for address, n in lanes.items())


def slots_wanted(groups: Iterable[LaneGroup]) -> int:
    """How many slots would end what waits and computes within `TARGET_S`; as Dask counts its tasks."""
    return math.ceil(sum(group.slots_wanted for group in groups))


def replicas_of(environment: str, most: int, workers: dict[str, WorkerInfo]) -> dict[str, WorkerInfo]:
    """The workers that are the replicas of a warm environment: processes that serve it.

    All owners choose the same ones, without asking each other: those whose address hashes lowest together with the
    environment's name (rendezvous hashing). So its tasks find the state that earlier ones left in their module's globals.

    Args:
        environment: Its name.
        most: Most replicas; at least one is given.
        workers: By address.
    """
    ranked = sorted(workers, key=lambda address: hashlib.blake2b(f"{environment}\0{address}".encode()).digest())
    return {address: workers[address] for address in ranked[: max(most, 1)]}
