"""The host of one kernel in a Dask worker: executes its attempts in lanes, and owns the children's. Runs in: worker loop.

A worker that serves several kernels has a host for each: nothing of one has a name that another could use.

Everything here runs on the worker's own loop unless it says otherwise; lanes reach it with `post`. No user code runs here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from array import array
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import distributed

from flyte_nb import import_alias
from flyte_nb.core.attempts import progress, seeds
from flyte_nb.core.attempts.body import GRACE, Body
from flyte_nb.core.attempts.inline import warn_of_orphans
from flyte_nb.core.attempts.isolation import Isolation
from flyte_nb.core.attempts.row_body import RowBody
from flyte_nb.core.attempts.surroundings import is_changeable
from flyte_nb.core.attempts.threads import LoopClock
from flyte_nb.core.cache.service import CacheClient
from flyte_nb.core.control.controller import Controller
from flyte_nb.core.control.gateway import Gateway
from flyte_nb.core.control.questions import Answer
from flyte_nb.core.control.replay import FarRetained
from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.journal import values
from flyte_nb.core.streams.inlet import arrived
from flyte_nb.core.streams.outlet import Outlet
from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.code_versions import CodeVersions
from flyte_nb.engine.clusters.devices import VISIBLE
from flyte_nb.engine.dispatch.executor import DaskExecutor
from flyte_nb.engine.links.blob_fetch import Fetcher
from flyte_nb.engine.links.peers import is_worker
from flyte_nb.engine.links.wire import (
    AboutRows,
    Delivery,
    Key,
    LaneSpec,
    ReturnedRows,
    ToHost,
    ToOwner,
    WorkerInfo,
    handlers_of,
)
from flyte_nb.worker import slots
from flyte_nb.worker.breakpoints import Breakpoints
from flyte_nb.worker.deliveries import Deliveries
from flyte_nb.worker.emitter import Emitter, LineBuffer
from flyte_nb.worker.lanes.async_lane import AsyncLane
from flyte_nb.worker.lanes.imports import ImportNotes
from flyte_nb.worker.lanes.lane import HAND_BACK_AFTER_S, LaneThread, Progress
from flyte_nb.worker.lanes.sync_lane import SyncLane
from flyte_nb.worker.network import WorkerNetwork
from flyte_nb.worker.preview_store import PreviewStore
from flyte_nb.worker.process import dask_inside
from flyte_nb.worker.process.code import CodeStore
from flyte_nb.worker.process.memory import MemoryWatch, limit_of
from flyte_nb.worker.process.premises import Premises
from flyte_nb.worker.rows import QueuedBundle, RowEnd, ends_of
from flyte_nb.worker.stopping import Stopping

#: Seconds that a kernel whose link was cut has to connect anew; then it is taken for ended, and its host closes.
KERNEL_RETURNS_S = 5.0
#: Seconds between two looks at lanes without work.
REST_S = 1.0
#: Seconds for which a host that closes waits for its lanes: what a cancelled body has, and a moment.
LANES_END_S = GRACE + 1.0


_Body = TypeVar("_Body", bound=Body)


class Host:
    """One kernel in one Dask worker.

    Args:
        worker: Dask's.
        kernel: Its name as a peer.
        premises: What hosts share.
        answers_of: Makes the answers to what other processes ask.
    """

    #: Tells Dask that the calling task waits, so that it may start another. On the lane's thread.
    secede: staticmethod[[], None] = staticmethod(distributed.secede)

    def __init__(
        self, worker: Any, kernel: str, premises: Premises, answers_of: Callable[[Host], dict[str, Answer]]
    ) -> None:
        loop: asyncio.AbstractEventLoop = worker.loop.asyncio_loop
        self.network: WorkerNetwork = WorkerNetwork(worker, kernel)
        self.premises = premises
        #: Has the worker close it.
        self.leave: Callable[[], Coroutine[Any, Any, None]]
        self._left: asyncio.Task[None] | None = None
        self.address: str = self.network.me
        #: Calls a function on the worker's loop; from any thread.
        self.post = premises.post
        #: Our own code has failed: nothing here can be relied on. From any thread.
        self.failed = premises.words.fail
        self.send = self.network.send
        self.gate = premises.gate
        self.lanes: dict[str, LaneThread] = {}
        self.runs: dict[str, RunInfo] = {}
        logs = Path(worker.local_directory) / f"flyte-nb-logs-{kernel}"
        self.emitter: Emitter = Emitter(loop, self.runs, self.send, logs)
        self.memory: MemoryWatch = MemoryWatch(self.address, limit_of(worker), self.emitter.emit)
        self.imports: ImportNotes = ImportNotes(self.address, self.send)
        self.breakpoints: Breakpoints = Breakpoints(self.lane_of)
        #: Large values that a view may be asked to show.
        self.previews: PreviewStore = PreviewStore()
        self.retained: FarRetained = FarRetained(self.network, values.write_at)
        self.gateway: Gateway
        self.executor: DaskExecutor
        self.stopping: Stopping
        #: Set as work comes for a lane, and when one had some when last looked at.
        self._busy = asyncio.Event()
        self._worked_at = 0.0
        self._start(loop, answers_of)

    def _start(self, loop: asyncio.AbstractEventLoop, answers_of: Callable[[Host], dict[str, Answer]]) -> None:
        network, blobs, premises = self.network, Blobs(self.address), self.premises
        fetcher = Fetcher(network.questions, blobs)
        self.code: CodeStore = CodeStore(
            fetcher, loop.call_later, premises.in_force, owns_process=premises.owns_process
        )
        versions = CodeVersions(blobs)
        self.executor = DaskExecutor(network, fetcher, versions)
        cache = CacheClient(network, self.address, far=True)
        controller = self.controller = Controller(
            self.executor, self.emitter.emit, LoopClock(loop), home=network, cache=cache, retained=self.retained
        )
        self.stopping = Stopping(
            premises.words.replace_process, lambda: premises.others_compute(self.lanes), self.lanes, controller, loop
        )
        self.executor.rows.drives(controller.batches)
        self.executor.on_began = controller.started
        self.executor.on_noted = controller.note
        self.executor.on_items = functools.partial(arrived, controller)
        self.gateway = Gateway(loop, controller, blobs, slots.suspended, versions)
        deliveries = Deliveries(self.code, fetcher, self.stopping, self.lanes, network.reply, self._busy.set)
        network.handlers.update(
            handlers_of(self.executor, ToOwner)
            | handlers_of(self.executor.rows, AboutRows)
            | handlers_of(self, ToHost)
            | handlers_of(deliveries, Delivery)
        )
        network.questions.answers.update(answers_of(self))
        network.on_lost = self._peer_lost
        network.listen()
        network.spawn(self._watch())

    def _peer_lost(self, peer: str) -> None:
        """A peer has disconnected, or cannot be reached."""
        if is_worker(peer):
            self.executor.pool.worker_lost(peer)
        elif peer == self.network.kernel:
            self.gateway.loop.call_later(KERNEL_RETURNS_S, self._depart_unless_back)
        for lane in list(self.lanes.values()):
            if lane.owner == peer:
                self._orphan(lane)
        for run in [run.name for run in self.runs.values() if run.home == peer]:
            self._on_forget(peer, run)
        self.code.forget(peer)

    def _orphan(self, lane: LaneThread) -> None:
        """Stop a lane whose owner has disconnected."""
        lane.queue.take_back()
        for key in list(lane.bodies):
            self.stopping.stop(lane, key, "cancelled", GRACE)
        lane.closed = True
        lane.wake()

    # -- messages of owners ---------------------------------------------------------------------------------------

    def _on_run(self, _owner: str, run: RunInfo) -> None:
        if run.as_flyte:
            import_alias.install_as_flyte()
        self.runs[run.name] = run

    def _on_cancel(self, _owner: str, key: Key, why: str, grace: float) -> None:
        self.stopping.cancel(key, why, grace)

    def _on_took(self, _owner: str, key: Key, count: int) -> None:
        self.stopping.took(key, count)

    def _on_close(self, _owner: str, lane_id: str) -> None:
        if (lane := self.lanes.get(lane_id)) is not None:
            lane.closed = True
            lane.wake()

    def _on_far(self, _owner: str, lane_id: str, seconds: float) -> None:
        if (lane := self.lanes.get(lane_id)) is not None:
            lane.round_trip = seconds

    def _on_recall(self, owner: str, lane_id: str, number: int) -> None:
        lane = self.lanes.get(lane_id)
        found = lane.queue.recall(number) if lane is not None else array("I")
        self.network.reply(owner, ("rows_returned", lane_id, ReturnedRows(number, found, recalled=True)))

    def _on_forget(self, _owner: str, run: str) -> None:
        self.runs.pop(run, None)
        self.retained.forget(run)
        self.breakpoints.forget(run)
        self.gateway.blobs.trim()
        self.executor.pool.forget_run(run)

    def _on_roster(
        self, _kernel: str, whole: bool, workers: dict[str, WorkerInfo | None], silent: frozenset[str],
        paused: dict[str, WorkerInfo], placement_timeout: float | None,
    ) -> None:  # fmt: skip
        self.network.set_roster(whole, workers, silent)
        self.network.paused, self.network.placement_timeout = paused, placement_timeout
        self.executor.pool.touch_queues()

    # -- lanes ----------------------------------------------------------------------------------------------------

    def lane_opened(self, lane: LaneThread) -> None:
        """A lane's thread has a slot."""
        self.lanes[lane.id] = lane
        if lane.owner in self.network.departed:
            self._orphan(lane)
            return
        self.send(lane.owner, ("lane", lane.id, "open"))
        self.network.expect(lane.owner)

    def lane_closed(self, lane: LaneThread) -> None:
        """A lane's thread ends."""
        self.lanes.pop(lane.id, None)
        lane.hand_back()
        self.send(lane.owner, ("closed", lane.id))

    def report(self, lane: LaneThread, outcomes: list[Outcome], progress: Progress | None) -> None:
        """Send what ended, and the counters, to the lane's owner; attempts' events to their home."""
        if progress is not None:
            self.send(lane.owner, ("progress", lane.id, *progress))
        if outcomes:
            for outcome in outcomes:
                self.emitter.ended(outcome)
            self.emitter.flush()
            self.network.send_now(lane.owner, ("ended", lane.id, outcomes))

    def report_rows(self, lane: LaneThread, alone: list[tuple[int, int]], ends: list[RowEnd], wrote: list[Key]) -> None:
        """Send how rows ended to the lane's owner; which are attempts of their own from now on comes before their outcomes."""
        for key in wrote:
            self.emitter.files.ended(key)
        self.emitter.flush()
        if alone:
            self.send(lane.owner, ("alone", lane.id, alone))
        for number, found in ends_of(ends, lane.location):
            self.send(lane.owner, ("rows_ended", lane.id, number, found))

    @property
    def isolation(self) -> Isolation | None:
        """Of its process; None where attempts are not kept apart."""
        return self.premises.isolation

    @property
    def early(self) -> dict[Key, str]:
        """Attempts that were stopped before they began."""
        return self.stopping.early

    def row_body(self, lane: LaneThread, queued: QueuedBundle) -> RowBody | None:
        """What stands for rows of a lane; None if each must be an attempt of its own. On the lane's thread."""
        run = self.runs.get(queued.bundle.run)
        if self.premises.isolation is None or run is None or lane.environment:
            queued.is_alone = True
            return None
        try:
            body = self._body(RowBody, lane, queued.work(queued.left[0]))
        except Exception:  # as an attempt of its own it says so
            queued.is_alone = True
            return None
        body.of = queued
        config = body.task.config
        memory = config.resources is not None and config.resources.memory_bytes
        own = memory or config.env_vars or run.env_vars or body.patches is not None
        if own or is_changeable(run.surroundings):
            queued.is_alone = True
            body.code.state.give_back(body.code, bool)
            return None
        return body

    def body(self, lane: LaneThread, work: Work) -> Body:
        """An attempt of a lane. On the lane's thread."""
        return self._body(Body, lane, work)

    def _body(self, kind: type[_Body], lane: LaneThread, work: Work) -> _Body:
        premises = self.premises
        if not premises.everywhere.idle.is_set():
            premises.everywhere.idle.wait()
        run, sink = self.runs[work.run], functools.partial(LineBuffer, self.emitter)
        before = time.perf_counter()
        self.imports.loading[lane.thread_id] = work.key
        try:
            copy = self.code.copy(work.version)
        finally:
            del self.imports.loading[lane.thread_id]
        body = kind(
            copy.task, run, work, self.gateway, sink, lane.location, self.previews, lane.meter, copy.activate,
            premises.isolation, lane,
        )  # fmt: skip
        body.code, body.patches = copy, copy.patches
        if body.place is not None and copy.is_patched:
            body.place.patched = work.version
        body.loading = time.perf_counter() - before
        dask_inside.enter(body.variables, self.network.worker)
        if body.task.is_stream:
            body.outlet = self._outlet(lane, body)
        return body

    def _outlet(self, lane: LaneThread, body: Body) -> Outlet:
        task: Any = body.task
        return Outlet(
            task.name, task.items, task.ahead, self.gateway.blobs.results.of_items(),
            lambda first, items: self.send(lane.owner, ("items", body.work.key, first, items)), self.post,
            self.gateway.blocking,
        )  # fmt: skip

    def begin(self, lane: LaneThread, body: Body) -> None:
        """An attempt begins. On the lane's thread."""
        work, config = body.work, body.task.config
        if self.stopping.early and (why := self.stopping.early.pop(work.key, None)):
            self.post(self.stopping.stop, lane, work.key, why, GRACE)
        if config.resources is not None and (limit := config.resources.memory_bytes):
            self.stopping.memory.add(lane, work.key, limit)
        if work.max_runtime:
            self.post(self.stopping.stop_later, lane, work.key, "timeout", work.max_runtime)
        if config.timeout.max_queued_time is not None:
            self.post(self.send, lane.owner, ("began", work.key))

    def finish(self, body: Body) -> None:
        """An attempt has ended: its unfinished children are cancelled. On the lane's thread."""
        work = body.work
        isolation = self.premises.isolation
        if isolation is None or isolation.has(body):  # an interrupt came meanwhile
            body.leave_process()
        body.code.state.give_back(body.code, lambda seed: self._drew(body, seed))
        if body.generators:
            for seed in seeds.drawn(body.generators):
                self._drew(body, seed)
        if self.breakpoints.paused:
            self.post(self.breakpoints.ended, work.key)
        if self.retained.has(work.run, work.action) and body.outcome is not None and body.outcome.kind == "ok":
            self.post(self.retained.forget, work.run, work.action)
        # A call that it made last may not have reached the controller yet.
        if body.has_called or (work.run, work.action) in self.controller.children:
            self.post(warn_of_orphans, self.controller, self.emitter.emit, work)

    def _drew(self, body: Body, seed: bytes) -> None:
        """An attempt has used a copy of a generator of random numbers: its run's home knows whether another has, too."""
        self.gateway.ask_home(body.run, "drew", (body.task.name, seed, f"{body.work.run}/{body.work.action}"))

    def retire(self, why: str) -> None:
        """Have this process replaced: no attempt can be executed in it any more. On a lane's thread."""
        self.premises.words.say(why)
        self.stopping.retire()

    def meter(self, holder: slots.SlotHolder) -> slots.RecordingMeter:
        """A meter for a lane. On the lane's thread."""
        return slots.RecordingMeter(holder, self.premises.words.box)

    def lane_of(self, run: str, action: str) -> tuple[LaneThread, Body] | None:
        """The lane and the attempt of an action that is under way here. From any thread."""
        for lane in list(self.lanes.values()):
            for (of_run, of_action, _), body in list(lane.bodies.items()):
                if of_run == run and of_action == action:
                    return lane, body
        return None

    async def _watch(self) -> None:
        """Hand back what waits behind long attempts; announce attempts that go on; check their memory."""
        try:
            while True:
                await self._pause()
                self._look_at_lanes()
        except Exception as exc:
            self.failed(exc, "the watch over its lanes")
            raise

    async def _pause(self) -> None:
        """Until the next look: longer where no lane has had work for a while."""
        time = asyncio.get_running_loop().time
        lanes = self.lanes.values()
        # An attempt may be between its lane's queue and its bodies, for as long as its code loads.
        if any(lane.queue or lane.bodies or lane.outcomes or lane.started > lane.finished for lane in lanes):
            self._busy.set()
        if not self._busy.is_set() and time() - self._worked_at > REST_S:
            with contextlib.suppress(TimeoutError):  # threads of attempts that have ended may print
                await asyncio.wait_for(self._busy.wait(), REST_S)
        if self._busy.is_set():
            self._busy.clear()
            self._worked_at = time()
        await asyncio.sleep(HAND_BACK_AFTER_S)

    def _look_at_lanes(self) -> None:
        for lane in list(self.lanes.values()):
            if lane.outcomes or lane.rows:
                lane.report()
            if lane.stuck:
                lane.handed_back = True  # first: its thread may go on at any moment
                lane.hand_back()
            if lane.is_warm:
                lane.report_waiting(self.controller.parents())
            self.emitter.announce(lane)
            for body in list(lane.bodies.values()):
                tells = (
                    body.progress is not None or body.outlet is not None or body.output.partial or body.output.latest
                )
                if (tells or body.drawing is not None) and (event := progress.look(body)) is not None:
                    self.emitter.emit(event)
        self.memory.look(self.lanes.values())
        self.imports.look(self.lanes.values())
        self.emitter.flush()
        self.stopping.memory.check()

    def run_lane(self, *spec: Any) -> None:
        """Be a lane until it is closed. On a thread of Dask's: a plain ``def``, since it would run a coroutine on its own loop.

        Args:
            *spec: The fields of a `LaneSpec`.
        """
        asked = LaneSpec(*spec)
        kind = AsyncLane if asked.is_async else SyncLane
        lane = kind(self, asked.lane, asked.owner, is_warm=asked.is_warm, round_trip=asked.round_trip)
        devices = self.premises.devices.lend(asked.gpus)
        if devices:
            lane.environment = {VISIBLE: ",".join(devices)}
            lane.location = (*lane.location[:2], f"GPU {', '.join(devices)}")
        try:
            lane.run()
        finally:
            self.premises.devices.give_back(devices)

    def depart(self) -> None:
        """The kernel has no more use for this worker."""
        self._left = asyncio.ensure_future(self.leave())

    def _depart_unless_back(self) -> None:
        if self.network.kernel not in self.network.links:
            self.depart()

    async def close(self, *, wait: bool) -> None:
        """Close lanes and links, and leave nothing here. `wait`: for bodies that clean up."""
        loop = asyncio.get_running_loop()
        for lane in list(self.lanes.values()):
            self._orphan(lane)
        end = loop.time() + LANES_END_S
        while wait and self.lanes and loop.time() < end:  # noqa: ASYNC110 - lanes report to many
            await asyncio.sleep(0.01)
        await self.executor.close()
        await self.network.close()
        await asyncio.to_thread(self.emitter.files.delete)
        self.premises.closed(self.network.kernel)

    def __repr__(self) -> str:
        under_way = sum(len(lane.bodies) for lane in self.lanes.values())
        held = f"{self.gate.slots - self.gate.free}/{self.gate.slots}"
        return f"<Host {self.address} [{len(self.lanes)} lanes, {under_way} under way, {held} slots held]>"
