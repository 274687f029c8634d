"""The lanes of an owner: opened where attempts are queued, sent bundles, closed when idle. Runs in: engine thread; worker loop.

Where a lane runs is Dask's decision (we ask it to prefer the worker with fewest lanes, since a lane without attempts is
invisible to Dask's own balance). How many attempts a lane is sent at once is decided in `flyte_nb.engine.dispatch.lanes`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

from flyte_nb.core.history.facts import ErrorNote
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.history.worker_names import name_of
from flyte_nb.core.settings import notices
from flyte_nb.core.transport.mailbox import mailbox_of
from flyte_nb.engine.dispatch.groups import LaneGroups
from flyte_nb.engine.dispatch.lanes import (
    Lane,
    LaneGroup,
    QueuedAttempt,
    Slice,
    lanes_missing,
    next_bundle,
    replicas_of,
    slots_wanted,
)
from flyte_nb.engine.dispatch.network import Network
from flyte_nb.engine.dispatch.placement import Placement
from flyte_nb.engine.dispatch.rows import RowDispatch, bundle_of
from flyte_nb.engine.dispatch.settling import Losses, Unsettled
from flyte_nb.engine.dispatch.shipments import Shipment, Shipments
from flyte_nb.engine.links.link import spawn
from flyte_nb.engine.links.wire import Key, LaneSpec, WorkerInfo
from flyte_nb.errors import BaseRuntimeError

logger: logging.Logger = logging.getLogger("flyte")

#: Seconds between two sweeps (idle lanes are closed, queues without a lane dispatched again); while nothing is under way.
SWEEP_EVERY_S, REST_S = 0.2, 1.0
#: By what factor the way to a worker is to change before its lanes are told.
CHANGED = 1.5
#: Seconds per lane for which what lanes report is collected.
DISPATCH_EVERY_S = 1e-5
#: Seconds in which the link to a worker ends whose death Dask has told.
LINK_ENDS_S = 1.0
#: Seconds that idle lanes have to end when their owner is closed.
CLOSE_IDLE_S = 0.5


class LanePool:
    """Lanes by group, and the Dask tasks that they are."""

    def __init__(
        self, network: Network, groups: LaneGroups, shipments: Shipments, losses: Losses, unsettled: Unsettled,
        rows: RowDispatch,
    ) -> None:  # fmt: skip
        self.groups: dict[str, LaneGroup] = groups.by_name
        self.lanes: dict[str, Lane] = rows.lanes
        self._rows = rows
        rows.touch = self.touch
        self._network = network
        self._recent = groups.recent
        self._shipments = shipments
        self._losses = losses
        self._unsettled = unsettled
        self._placement = Placement(network, unsettled, rows.all_alone)
        #: Called with an attempt that has a timeout, as it is sent: key, run, seconds, worker.
        self.on_sent: Callable[[Key, RunInfo, float, str], None] = lambda *_sent: None
        #: Groups to dispatch in the next tick.
        self._touched: dict[str, LaneGroup] = {}
        #: Names of runs whose `RunInfo` a worker has been sent, by its address.
        self._introduced: dict[str, set[str]] = {}
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Set while anything is queued or under way, as far as the last sweep saw.
        self._busy = asyncio.Event()
        #: Called with whether anything is, when that changes.
        self.on_busy: Callable[[bool], None] = lambda _busy: None
        #: Set whenever a lane has ended.
        self._dropped = asyncio.Event()
        spawn(self._tasks, self._sweep())

    # -- bundles --------------------------------------------------------------------------------------------------

    def touch(self, group: LaneGroup) -> None:
        """Dispatch a group in the next tick, if it has attempts queued."""
        if not group.queue:
            return
        if not self._touched:
            self._busy.set()
            loop, wait = asyncio.get_running_loop(), len(self.lanes) * DISPATCH_EVERY_S
            # Each time all lanes of a group are looked at: of hundreds, once for what many of them report.
            loop.call_later(wait, self._dispatch_touched) if wait > 1e-3 else loop.call_soon(self._dispatch_touched)
        self._touched[group.name] = group

    def touch_queues(self) -> None:
        """Dispatch whatever is queued: there may be room for it elsewhere now."""
        for group in self.groups.values():
            if group.queue:
                self.touch(group)

    def _dispatch_touched(self) -> None:
        touched, self._touched = self._touched, {}
        self._recent.clear()
        for group in touched.values():
            if group.queue:
                self._dispatch(group)

    def _dispatch(self, group: LaneGroup) -> None:
        own = self._network.own_address
        avoided = self._resting | ({own} if self._losses.quarantines(group) else set())
        takers = [lane for lane in group.lanes.values() if group.room(lane) > 0 and lane.address not in avoided]
        takers.sort(key=lambda lane: (lane.load, lane.address == own))
        for index, lane in enumerate(takers):
            bundle = next_bundle(group, lane, len(takers) - index)
            if bundle:
                self._send(lane, bundle)
        if group.queue:
            self._open_missing(group)

    def _send(self, lane: Lane, bundle: list[QueuedAttempt | Slice]) -> None:
        lane.used_at = time.monotonic()
        alone = [item for item in bundle if not isinstance(item, Slice)]
        for attempt in alone:
            self._send_needs(lane.address, attempt.run, attempt.shipment)
            if attempt.work.max_runtime:
                self.on_sent(attempt.work.key, attempt.run, attempt.work.max_runtime, lane.address)
        if alone:
            self._network.send_now(lane.address, ("bundle", lane.id, [attempt.work for attempt in alone]))
        for item in bundle:
            if isinstance(item, Slice):
                self._send_needs(lane.address, item.of.rows.run, item.of.shipment)
                self._network.send_now(lane.address, ("rows", lane.id, bundle_of(item.of.rows, item.low, item.high)))

    def _send_needs(self, address: str, run: RunInfo, shipment: Shipment) -> None:
        """What a worker must have before an attempt."""
        introduced = self._introduced.get(address)
        if introduced is None:
            introduced = self._introduced[address] = set()
        if run.name not in introduced:
            introduced.add(run.name)
            self._network.send(address, ("run", run))
        if address not in shipment.at:
            self._shipments.ship(address, shipment)

    def introduce_again(self, run: str) -> None:
        """Send a run's `RunInfo` again with the next bundle to each worker."""
        for introduced in self._introduced.values():
            introduced.discard(run)

    def forget_run(self, run: str) -> None:
        """Have workers drop their state of a run that is over."""
        for address, introduced in self._introduced.items():
            if run in introduced:
                introduced.discard(run)
                self._network.send(address, ("forget", run))

    # -- opening --------------------------------------------------------------------------------------------------

    @property
    def _resting(self) -> set[str]:
        """Workers that are given nothing new: they rest, as long as there are others; or they do not answer."""
        return (self._network.resting if self._network.roster else set()) | self._network.silent

    def _open_missing(self, group: LaneGroup) -> None:
        workers = self._network.roster
        avoided: set[str] = set()
        if self._losses.quarantines(group):
            avoided = {self._network.own_address, *self._losses.workers}
            workers = {address: w for address, w in workers.items() if address not in avoided}
            if not workers:  # until a later sweep
                return
        if group.relies_on_device:
            workers = {address: w for address, w in workers.items() if not w.pretends_devices}
            if not workers:  # until one that has the device joins, or its time in the queue is over
                self._say_waiting(group)
                return
        slots = sum(w.nthreads for w in workers.values()) or 1
        if group.reuse is not None:
            workers = replicas_of(group.environment, group.reuse.max_replicas, workers)
            group.processes = slots = len(workers) or 1
        workers = {address: w for address, w in workers.items() if address not in self._network.silent}
        if not workers and self._network.silent:  # until one answers
            return
        missing = lanes_missing(group, slots, time.monotonic(), avoided | self._resting, workers)
        if missing > 0:
            load = dict.fromkeys(workers, 0.0)
            for lane in group.lanes.values():
                if not lane.blocked and lane.address in load:
                    load[lane.address] += 1.0 / max(workers[lane.address].nthreads, 1)
            for _ in range(missing):
                self._open(group, workers, load)

    @staticmethod
    def _say_waiting(group: LaneGroup) -> None:
        if not group.said_waiting:
            group.said_waiting = True
            run = next((item.run.name for item in group.queue), None)
            notices.say_under(
                run, logger.warning, "%s waits for a GPU until its max_queued_time is over: this machine has none. Without "
                "max_queued_time it runs without.", group.task_name,
            )  # fmt: skip

    def _open(self, group: LaneGroup, workers: dict[str, WorkerInfo], load: dict[str, float]) -> None:
        own = self._network.own_address
        prefer = min(load, key=lambda address: (load[address], address == own), default="")
        if prefer:
            load[prefer] += 1.0 / max(workers[prefer].nthreads, 1)
        lane_id = f"{self._network.me}:{next(self._numbers)}-{uuid.uuid4().hex[:6]}"
        lane = self.lanes[lane_id] = group.lanes[lane_id] = Lane(lane_id, group, prefer, time.monotonic())
        anywhere = bool(group.resources) and group.reuse is None
        spawn(self._tasks, self._submit(lane, "" if anywhere else prefer))

    async def _submit(self, lane: Lane, prefer: str) -> None:
        group = lane.group
        counts = group.reuse is not None or bool(group.resources)
        far, gpus = self._network.round_trip(lane.address), int(group.resources.get("GPU", 0))
        spec = LaneSpec(lane.id, self._network.me, group.task_name, group.is_async, counts, far, gpus)
        only = self._losses.quarantines(group) or group.reuse is not None
        try:
            lane.future = await self._network.submit_lane(spec, group.resources, prefer, only)
            # Dask calls back from a thread of its own, also after the loop has been closed.
            post = mailbox_of(asyncio.get_running_loop()).post
            lane.future.add_done_callback(lambda future: post(self._dask_ended, lane, future))
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            if isinstance(exc, BaseRuntimeError):  # there is no cluster: it says why
                note = ErrorNote(exc.kind, exc.code, str(exc), recoverable=False)
            else:
                logger.exception("flyte_nb could not open a lane for %s", group.task_name)
                note = ErrorNote("system", "RuntimeSystemError", f"no lane could be opened: {exc}")
            self.drop(lane, note)

    # -- closing --------------------------------------------------------------------------------------------------

    def _dask_ended(self, lane: Lane, future: Any) -> None:
        # A lane that ended by itself has reported "closed" before.
        error = None
        if future.status == "error":
            exc = getattr(future, "_state", None) and future._state.exception  # Dask's own way to it is a coroutine  # noqa: SLF001 - Dask tells a cancelled future from a lost one here only
            if type(exc).__name__ != "KilledWorker":
                error = ErrorNote("system", type(exc).__name__, str(exc).replace(lane.address, name_of(lane.address)))
        if future.status not in {"error", "cancelled", "lost"}:
            return
        if error is None and lane.load and lane.address in self._network.links:
            # The scheduler may know of a dead worker before its link has ended, behind all that it reported.
            lane.closing = True
            asyncio.get_running_loop().call_later(LINK_ENDS_S, self.drop, lane)
        else:
            self.drop(lane, error)

    def drop(self, lane: Lane, error: ErrorNote | None = None) -> None:
        """Forget a lane that has ended: its attempts are lost, and the controller decides whether to try again."""
        if self.lanes.pop(lane.id, None) is None:
            return
        self._dropped.set()
        group = lane.group
        group.lanes.pop(lane.id, None)
        if lane.future is not None:
            lane.future.release()
        self.lose_attempts(lane, error)
        if not lane.opened and error is not None and not any(other.usable for other in group.lanes.values()):
            # No lane can be opened: every queued attempt ends with the reason.
            self._rows.all_alone(group)
            queued = [item for item in group.queue if not isinstance(item, Slice)]
            group.queue.clear()
            self._unsettled.end(queued, "error", error)
        if group.queue:
            self.touch(group)

    def lose_attempts(self, lane: Lane, error: ErrorNote | None = None) -> None:
        """Settle the attempts of a lane as lost with it."""
        self._rows.rows_alone(lane)
        attempts = list(lane.attempts.values())
        lane.attempts.clear()
        self._unsettled.end(attempts, "lost", error, lane.address)

    def worker_lost(self, worker: str) -> None:
        """Lose a worker: attempts that had not begun run elsewhere, the others are settled once the cause is known."""
        self._introduced.pop(worker, None)
        self._shipments.worker_lost(worker)
        lanes = [lane for lane in self.lanes.values() if lane.address == worker]
        self._losses.record(worker, lanes)
        begun = [attempt for lane in lanes for attempt in self._losses.salvage(lane)]
        for lane in lanes:
            self.drop(lane)
        self._losses.end(worker, begun)

    def forget_all(self) -> None:
        """Forget all lanes: the cluster is lost."""
        for group in self.groups.values():
            group.lanes.clear()
        self.lanes.clear()

    async def _sweep(self) -> None:
        """Close lanes that have been idle for long, and forget groups without lanes."""
        while True:
            await self._pause()
            now = time.monotonic()
            for group in list(self.groups.values()):
                for lane in group.lanes.values():
                    self._time(lane)
                    if self._is_idle(lane) and not group.queue and now - lane.used_at > group.idle_s:
                        self._close(lane)
                if not group.lanes and not group.queue:
                    del self.groups[group.name]
            self._placement.look(self.groups.values(), now)
            self.touch_queues()
            if self._network.grows:
                self._network.want(slots_wanted(self.groups.values()))

    def _time(self, lane: Lane) -> None:
        """See whether its worker is as far as it was: if not, other numbers are sent ahead, and it waits for others."""
        seconds, before = self._network.round_trip(lane.address), lane.round_trip
        if lane.opened and not before / CHANGED <= seconds <= before * CHANGED:
            lane.round_trip = seconds
            self._network.send(lane.address, ("far", lane.id, seconds))

    async def _pause(self) -> None:
        if any(group.queue or any(lane.load for lane in group.lanes.values()) for group in self.groups.values()):
            await asyncio.sleep(SWEEP_EVERY_S)
            return
        self._busy.clear()
        self.on_busy(False)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._busy.wait(), REST_S if self.groups or self._network.grows else None)
        if self._busy.is_set():
            self.on_busy(True)
            await asyncio.sleep(SWEEP_EVERY_S)

    @staticmethod
    def _is_idle(lane: Lane) -> bool:
        return lane.usable and not lane.load

    def _close(self, lane: Lane) -> None:
        lane.closing = True
        self._network.send(lane.address, ("close", lane.id))

    async def close_idle(self) -> None:
        """Close the idle lanes, and wait for their end, a moment at most.

        A lane's Dask task that is cancelled while it runs makes its worker complain on the user's terminal; one that is silent
        says nothing.
        """
        idle = [lane for lane in self.lanes.values() if self._is_idle(lane)]
        for lane in idle:
            self._close(lane)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_IDLE_S):
                while any(lane.id in self.lanes and lane.address not in self._network.silent for lane in idle):
                    self._dropped.clear()
                    await self._dropped.wait()

    async def close(self) -> None:
        """Close all lanes and stop; lanes that still execute attempts are given up."""
        for task in list(self._tasks):
            task.cancel()
        await self.close_idle()
        for lane in self.lanes.values():
            if lane.opened:
                self._network.send(lane.address, ("close", lane.id))
            if lane.future is not None:
                lane.future.release()

    def __repr__(self) -> str:
        opened = sum(lane.opened for lane in self.lanes.values())
        return f"<LanePool [{opened} open, {len(self.lanes) - opened} coming, {len(self.groups)} groups]>"
