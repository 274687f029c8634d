"""Execute attempts on Dask: lanes are Dask tasks, bundles go to them over links. Runs in: engine thread; worker loop.

The controller hands over attempts one by one and knows nothing of lanes or bundles. An attempt is queued in the group of its
task (`groups`), sent to a lane with others (`lane_pool`), and settled with what the lane's host reports, or when it is lost
(`settling`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from flyte_nb.core.attempts.body import GRACE, note_of
from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.history.facts import ErrorNote, Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.tasks.task import Task
from flyte_nb.core.transport.code_versions import CodeVersion, CodeVersions
from flyte_nb.core.transport.payload import Packed, Payload, UnpicklableError
from flyte_nb.engine.dispatch.groups import LaneGroups
from flyte_nb.engine.dispatch.lane_pool import LanePool
from flyte_nb.engine.dispatch.lanes import QueuedAttempt, Slice
from flyte_nb.engine.dispatch.network import Network
from flyte_nb.engine.dispatch.rows import RowDispatch
from flyte_nb.engine.dispatch.settling import Losses, Unsettled
from flyte_nb.engine.dispatch.shipments import Shipments
from flyte_nb.engine.dispatch.watch import Watch
from flyte_nb.engine.links.blob_fetch import Fetcher, away
from flyte_nb.engine.links.wire import Key


class DaskExecutor:
    """Executes attempts in lanes."""

    def __init__(self, network: Network, fetcher: Fetcher, versions: CodeVersions) -> None:
        self._network = network
        self._versions = versions
        self._fetcher = fetcher
        self._shipments = Shipments(network.send)
        self._unsettled = Unsettled(fetcher, self._shipments)
        self.watch = Watch(network, self._unsettled)
        self._groups = LaneGroups()
        self.rows = RowDispatch(network, self._unsettled, self._shipments, self._groups)
        self.losses = Losses(network, self._unsettled, self.watch.verdict, self.rows.salvage)
        #: Attempts that are off the queues and not ended yet: `withdraw`.
        self._withdrawn: set[Key] = set()
        self.groups = self._groups.by_name
        self.pool = LanePool(network, self._groups, self._shipments, self.losses, self._unsettled, self.rows)
        self.pool.on_sent = self.watch.expect_sent
        #: Called with (run, action) when an attempt with a ``max_queued_time`` begins.
        self.on_began: Callable[[str, str], None] = lambda _run, _action: None
        #: Called with (run, action, phase, note) when a worker reports what an attempt does now.
        self.on_noted: Callable[[str, str, Phase, str], None] = lambda _run, _action, _phase, _note: None

        #: Called with (key, number of the first, items) when items of an attempt that yields have arrived; what it returns is
        #: called when parts of them have come that had to be fetched.
        self.on_items: Callable[[Key, int, list[Any]], Callable[[], None] | None] = lambda _key, _first, _items: None

    # -- the Executor protocol ------------------------------------------------------------------------------------

    def start(
        self, task: Task[..., Any], run: RunInfo, work: Work, done: Callable[[Outcome], None],
        code: CodeVersion | None = None,
    ) -> None:  # fmt: skip
        """Queue an attempt; it is sent with others of the same tick."""
        if code is None:  # retried by hand, with the code of now
            try:
                code = self._versions.of(task)
            except UnpicklableError as exc:
                note = note_of(exc, task.name, work)._replace(recoverable=False)
                asyncio.get_running_loop().call_soon(done, Outcome(*work[:3], "error", error=note))
                return
            work = work._replace(version=code.id)
        group = self._groups.recent.get(task) or self._groups.of(task)
        attempt = QueuedAttempt(run, work, done, group, self._shipments.of(task.name, code))
        self._unsettled.add(attempt)
        group.queue.append(attempt)
        self.pool.touch(group)

    def cancel(self, work: Work, reason: str) -> None:
        """Take an attempt off the queue, or have its lane end it."""
        attempt = self._unsettled.by_key.get(work.key)
        if attempt is None:
            return
        if attempt.lane is not None:
            self._network.send(attempt.lane.address, ("cancel", work.key, "cancelled", GRACE))
            self.watch.expect(work.key, attempt.run, 0.0, "cancelled")
            return
        with contextlib.suppress(ValueError):
            if work.key in self._withdrawn:
                self._withdrawn.remove(work.key)
            else:
                attempt.group.queue.remove(attempt)
            self._unsettled.take(work.key)
            asyncio.get_running_loop().call_soon(attempt.done, Outcome(*work[:3], "cancelled"))

    def took(self, work: Work, count: int) -> None:
        """Tell the host of an attempt that yields how far its consumer is."""
        attempt = self._unsettled.by_key.get(work.key)
        if attempt is not None and attempt.lane is not None:
            self._network.send(attempt.lane.address, ("took", work.key, count))

    def withdraw(self, run: str) -> None:
        """Take what is queued of a run off the queues at once: all of it is about to be cancelled, one by one."""
        for group in self.groups.values():
            own = [item for item in group.queue if not isinstance(item, Slice) and item.work.run == run]
            if own:
                group.queue.replace([item for item in group.queue if isinstance(item, Slice) or item.work.run != run])
                self._withdrawn.update(attempt.work.key for attempt in own)

    # -- reports of hosts -----------------------------------------------------------------------------------------

    def _on_lane(self, address: str, lane_id: str, _state: str) -> None:
        lane = self.pool.lanes.get(lane_id)
        if lane is None:
            self._network.send(address, ("close", lane_id))
            return
        if lane.opened and lane.load:  # Dask runs it again elsewhere: its worker was lost
            self.losses.record(lane.address, [lane])
            self.pool.lose_attempts(lane)
            if address == self._network.own_address:
                self._network.send(address, ("close", lane_id))
                self.pool.drop(lane)
                return
        lane.open(address, time.monotonic())
        lane.round_trip = self._network.round_trip(address)
        lane.has_device = bool(lane.group.resources) and self._network.has_devices(address)
        self.pool.touch(lane.group)

    def _on_ended(self, address: str, lane_id: str, outcomes: list[Outcome]) -> None:
        self._unsettled.settle(outcomes, self.pool.lanes.get(lane_id))
        self._on_ready(address, lane_id)

    def _on_returned(self, _address: str, lane_id: str, keys: list[Key]) -> None:
        lane = self.pool.lanes.get(lane_id)
        if lane is None:
            return
        lane.stalled = True
        attempts = [lane.attempts.pop(key, None) for key in keys]
        returned = [one for one in attempts if one is not None and one.work.key in self._unsettled.by_key]
        lane.sent -= len(returned)
        lane.group.take_back(returned)
        self.pool.touch(lane.group)

    def _on_ready(self, _address: str, lane_id: str) -> None:
        if (lane := self.pool.lanes.get(lane_id)) is not None:
            lane.stalled = False
            lane.used_at = time.monotonic()
            self.pool.touch(lane.group)

    def _on_progress(
        self, _address: str, lane_id: str, started: int, finished: int, busy: float, blocked: bool
    ) -> None:
        lane = self.pool.lanes.get(lane_id)
        if lane is None:
            return
        if started > lane.started or finished > lane.finished:
            lane.stalled = False
        lane.group.learn(lane, started, finished, busy)
        lane.blocked = blocked
        self.pool.touch(lane.group)

    def _on_waiting(self, _address: str, lane_id: str, awaiting: int) -> None:
        if (lane := self.pool.lanes.get(lane_id)) is not None:
            lane.awaiting = awaiting
            self.pool.touch(lane.group)

    def _on_closed(self, _address: str, lane_id: str) -> None:
        if (lane := self.pool.lanes.get(lane_id)) is not None:
            self.pool.drop(lane)

    def _on_began(self, _address: str, key: Key) -> None:
        self.on_began(key[0], key[1])

    def _on_items(self, _address: str, key: Key, first: int, items: list[tuple[Payload, bytes]]) -> None:
        wake = self.on_items(key, first, items)
        if wake is not None:
            for payload, _ in items:
                if type(payload) is Packed and away(payload):
                    self._fetcher.item(payload, wake)

    def _on_noted(self, _address: str, key: Key, phase: Phase, note: str) -> None:
        self.on_noted(key[0], key[1], phase, note)

    # -- the cluster, and runs ------------------------------------------------------------------------------------

    def fail_all(self, error: ErrorNote) -> None:
        """Lose the cluster: every attempt ends with `error`."""
        self.pool.forget_all()
        self.give_up(error)

    def give_up(self, error: ErrorNote) -> None:
        """End every attempt with `error`; lanes stay."""
        self.rows.all_alone()
        for group in self.groups.values():
            group.queue.clear()
        self._withdrawn.clear()
        attempts = list(self._unsettled.by_key.values())
        self._unsettled.end(attempts, "error", error._replace(recoverable=False))

    def tell_again(self, run: str) -> None:
        """Send a run's `RunInfo` again with the next bundle to each worker: it has changed."""
        self.pool.introduce_again(run)

    def roster_changed(self) -> None:
        """Workers have come, or gone: queues may move, and there is whom to look after."""
        self.pool.touch_queues()
        self.watch.wake()

    async def close(self) -> None:
        """Close all lanes and stop; lanes that still execute attempts are given up."""
        self._unsettled.close()
        self.watch.close()
        await self.pool.close()

    def __repr__(self) -> str:
        attempts = self._unsettled.by_key.values()
        sent = sum(attempt.lane is not None for attempt in attempts)
        return f"<DaskExecutor [{sent} sent, {len(attempts) - sent} queued] {self.pool!r}>"
