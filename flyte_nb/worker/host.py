"""A Dask worker as a host of lanes: links to owners, outcomes and events out, children's controller in. Runs in: worker loop.

Everything here runs on the worker's own loop unless it says otherwise; lanes reach it with `post`. No user code runs here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import distributed
import psutil

from flyte_nb import import_alias
from flyte_nb.core.attempts import output
from flyte_nb.core.attempts.asyncio_locks import allow_other_loops
from flyte_nb.core.attempts.body import GRACE, Body
from flyte_nb.core.attempts.inline import warn_of_orphans
from flyte_nb.core.attempts.threads import LoopClock
from flyte_nb.core.cache.service import CacheClient
from flyte_nb.core.control.controller import Controller
from flyte_nb.core.control.gateway import Gateway
from flyte_nb.core.control.replay import FarRetained
from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.transport import blobs
from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.mailbox import Mailbox
from flyte_nb.core.transport.payload import Packed
from flyte_nb.engine.blob_fetch import Fetcher
from flyte_nb.engine.executor import DaskExecutor
from flyte_nb.engine.link import HELLO, OP, LocalLink, PeerLink, open_link
from flyte_nb.engine.questions import Switchboard
from flyte_nb.engine.wire import LaneSpec, Message, WorkerInfo
from flyte_nb.engine.worker_exits import WorkerExit
from flyte_nb.worker import answers, slots
from flyte_nb.worker.breakpoints import Breakpoints
from flyte_nb.worker.emitter import Emitter
from flyte_nb.worker.lane import HAND_BACK_AFTER_S, Key, LaneThread
from flyte_nb.worker.preview_store import PreviewStore

logger = logging.getLogger("flyte")

#: Seconds a lane waits for its owner to connect before it gives up.
OWNER_TIMEOUT = 30.0
#: Kernels that have gone, remembered so that nothing is kept for them; as many as end while one lane waits for a slot.
MAX_DEPARTED = 256
#: Seconds that a body has to give memory back before its process is replaced.
OOM_GRACE = 0.5
#: Stops kept for attempts that are about to begin; a stop that came when its attempt had ended stays here, too.
MAX_EARLY = 1_000


class Host:
    """One Dask worker."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.loop: asyncio.AbstractEventLoop = worker.loop.asyncio_loop
        self.address: str = worker.address
        self.me = self.address
        self.own_address = self.address
        self.gate = slots.SlotGate(worker.state.nthreads)
        self.lanes: dict[str, LaneThread] = {}
        self.links: dict[str, PeerLink] = {}
        self.runs: dict[str, RunInfo] = {}
        self.roster: dict[str, WorkerInfo] = {}
        #: Workers that are linked to and no longer in the roster: they go on with what they have.
        self.resting: set[str] = set()
        self.mailbox = Mailbox(self.loop)
        self.emitter = Emitter(self)
        self.breakpoints = Breakpoints(self)
        #: Large results that a view may be asked to show.
        self.shelf = PreviewStore()
        self.blobs = Blobs(self.me)
        self.switchboard = Switchboard(self.send)
        self.retained = FarRetained(self)
        self.fetcher = Fetcher(self.switchboard, self.blobs)
        self._unsent: dict[str, list[Message]] = defaultdict(list)
        self._connecting: set[str] = set()
        #: Kernels that have gone.
        self._departed: deque[str] = deque(maxlen=MAX_DEPARTED)
        #: Attempts whose arguments are on their way, and why they were stopped meanwhile ("": they were not).
        self._arriving: dict[Key, str] = {}
        #: Attempts that were stopped while their lane was about to begin them, and why.
        self.stopped_early: dict[Key, str] = {}
        #: Attempts that may use so much memory only: their lane, and this process's size at which they are stopped.
        self._memory_limits: dict[Key, tuple[LaneThread, int]] = {}
        self._process = psutil.Process()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._client: Any = None
        self._monitor: asyncio.Task[None] | None = None
        self.gateway: Gateway
        self.executor: DaskExecutor
        worker.handlers[OP] = self._accept
        asyncio.set_event_loop_policy(slots.SlotPolicy())
        output.install(tee=False)
        allow_other_loops()
        import_alias.install_as_fallback()

    @classmethod
    def of(cls, worker: Any) -> Host:
        """The host of a worker, made on first use."""
        host = getattr(worker, "_flyte_nb_host", None)
        if host is None:
            host = worker._flyte_nb_host = cls(worker)
            host.post(host._start)
        return host

    def _start(self) -> None:
        self.executor = DaskExecutor(self, self.fetcher)
        controller = Controller(
            self.executor,
            self.emitter.emit,
            LoopClock(self.loop),
            home=self,
            cache=CacheClient(self, self.me, far=True),
            retained=self.retained,
        )  # fmt: skip
        self.executor.on_began = controller.started
        self.executor.on_noted = controller.note
        self.gateway = Gateway(self.loop, controller, self.blobs, slots_of_lane)
        self.switchboard.answers.update(self._answers())
        self._monitor = self.loop.create_task(self._watch())

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function on the worker's loop; from any thread."""
        self.mailbox.post(function, *args)

    # -- links ----------------------------------------------------------------------------------------------------

    async def _accept(self, comm: Any, peer: str, **_ignored: Any) -> None:
        """A peer connects: serve it until it goes."""
        await comm.write(HELLO)
        link = PeerLink(peer, self._on_message, self._on_close)
        old = self.links.get(peer)
        if old is not None and not _is_worker(peer):  # a kernel that connects anew has given up what was here
            old.close()
            self._on_close(old)
        if peer in self._departed:
            self._departed.remove(peer)
        link.attach(comm)
        self._use(peer, link)
        await link.wait_closed()

    def _use(self, peer: str, link: PeerLink) -> None:
        """Send over a link, unless there is one: of two workers that connect to each other at once, both links are read."""
        link = self.links.setdefault(peer, link)
        for message in self._unsent.pop(peer, ()):
            link.send(message)

    def send(self, address: str, message: Message) -> None:
        """Send to a peer; one that is a worker is connected to first."""
        link = self.links.get(address)
        if link is not None and not link.closed:
            link.send(message)
            return
        if address == self.address:
            self.links[address] = LocalLink(address, self._on_message)
            self.links[address].send(message)
            return
        if address in self._departed:
            return
        self._unsent[address].append(message)
        if _is_worker(address) and address not in self._connecting:
            self._connecting.add(address)
            self._spawn(self._connect(address))

    async def _connect(self, address: str) -> None:
        try:
            args = self.worker.security.get_connection_args("worker")
            self._use(address, await open_link(address, self.me, args, self._on_message, self._on_close))
        except OSError:
            self._gone(address)
        finally:
            self._connecting.discard(address)

    def _on_close(self, link: PeerLink) -> None:
        if self.links.get(link.peer) is link:
            del self.links[link.peer]
        self._gone(link.peer)

    def _gone(self, peer: str) -> None:
        """A peer has ended, or cannot be reached."""
        self._unsent.pop(peer, None)
        if _is_worker(peer):
            self.executor.worker_lost(peer)
        else:
            self._departed.append(peer)
        self.switchboard.lost(peer)
        for lane in list(self.lanes.values()):
            if lane.owner == peer:
                self._orphaned(lane)
        for run in [run.name for run in self.runs.values() if run.home == peer]:
            self._forget(run)

    def _orphaned(self, lane: LaneThread) -> None:
        """Its owner is gone: nobody waits for what it does."""
        lane.take_back()
        for key in list(lane.bodies):
            self._stop(lane, key, "cancelled", GRACE)
        lane.closed = True
        lane.wake()

    def _on_message(self, link: PeerLink, message: Message) -> None:
        if self.executor.handle(link.peer, message) or self.switchboard.handle(link.peer, message):
            return
        name = "close_lane" if message[0] == "close" else message[0]
        getattr(self, f"_on_{name}")(link, *message[1:])

    # -- what owners say ------------------------------------------------------------------------------------------

    def _on_run(self, _link: PeerLink, run: RunInfo) -> None:
        if run.as_flyte:
            import_alias.install_as_flyte()
        self.runs[run.name] = run

    def _on_bundle(self, link: PeerLink, lane_id: str, bundle: list[Work]) -> None:
        if any(type(work.payload) is Packed for work in bundle):
            self._arriving.update((work.key, "") for work in bundle)
            self.fetcher.arguments(bundle, lambda works: self._arrived(link, lane_id, works))
        else:
            self._deliver(link, lane_id, bundle)

    def _arrived(self, link: PeerLink, lane_id: str, works: list[Work]) -> None:
        """The arguments of a bundle are on this machine; some of its attempts may have been cancelled meanwhile."""
        stopped = [Outcome(*work.key, why) for work in works if (why := self._arriving.pop(work.key))]
        lane = self.lanes.get(lane_id)
        if stopped and lane is not None:
            lane.started += len(stopped)
            lane.finished += len(stopped)
            self.report(lane, stopped, None)
        elif stopped:
            link.send(("ended", lane_id, stopped))
        gone = {outcome[:3] for outcome in stopped}
        self._deliver(link, lane_id, [work for work in works if work.key not in gone])

    def _deliver(self, link: PeerLink, lane_id: str, bundle: list[Work]) -> None:
        lane = self.lanes.get(lane_id)
        if lane is None or lane.closed:
            link.send(("returned", lane_id, [work.key for work in bundle]))
        else:
            lane.add(bundle)

    def _on_cancel(self, link: PeerLink, key: Key, why: str, grace: float) -> None:
        if key in self._arriving:
            self._arriving[key] = why
            return
        for lane in self.lanes.values():
            if key in lane.bodies:
                self._stop(lane, key, why, grace)
                return
            if lane.take_out(key):
                self.report(lane, [Outcome(*key, "cancelled")], None)
                return
        # Off the queue and not begun yet: its lane's thread, which is between the two, looks here; unless it just did.
        self.stopped_early[key] = why
        for lane in list(self.lanes.values()):
            if key in lane.bodies and self.stopped_early.pop(key, ""):
                self._stop(lane, key, why, grace)
        while len(self.stopped_early) > MAX_EARLY:
            del self.stopped_early[next(iter(self.stopped_early))]

    def _on_close_lane(self, _link: PeerLink, lane_id: str) -> None:
        lane = self.lanes.get(lane_id)
        if lane is not None:
            lane.closed = True
            lane.wake()

    def _on_forget(self, _link: PeerLink, run: str) -> None:
        self._forget(run)

    def _forget(self, run: str) -> None:
        self.runs.pop(run, None)
        self.retained.forget(run)
        self.breakpoints.forget(run)
        self.blobs.trim()
        self.executor.forget_run(run)

    def _on_roster(self, _link: PeerLink, roster: dict[str, WorkerInfo]) -> None:
        self.resting = ((self.resting | self.roster.keys()) - roster.keys()) & self.links.keys()
        self.roster = roster

    def ask(self, run: RunInfo, op: str, args: tuple[Any, ...], then: Callable[[Any], None]) -> None:
        """Ask a run's home (`flyte_nb.core.control.questions.Home`)."""
        if run.home in self._departed:
            self.loop.call_soon(then, None)
            return
        self.switchboard.ask(run.home, "home", (run.name, op, args), then)

    def _answers(self) -> dict[str, Callable[..., None]]:
        """What this worker can be asked: to decide over actions it sees through, and to look at those it runs."""
        controller = self.gateway.controller

        def cancel_run(then: Callable[[Any], None], run: str, reason: str) -> None:
            controller.cancel_run(run, reason)
            then(None)

        def sync(then: Callable[[Any], None], run: str, parent: str) -> None:
            self.emitter.flush()
            then(self.retained.results(run, parent))

        return {
            "sync": sync,
            "blob": lambda then, path, given: then(blobs.take(path, given=given)),
            "shelved": lambda then, *args: then(self.shelf.get(*args)),
            "log_file": lambda then, *args: then(self.emitter.files.read(*args)),
            "abort": lambda then, *args: then(controller.abort(*args) or None),
            "cancel_run": cancel_run,
            "goodbye": self._goodbye,
            **answers.answers(self),
        }

    def _goodbye(self, then: Callable[[Any], None]) -> None:
        """A kernel ends."""

        async def close_idle() -> None:
            await self.executor.close_idle()
            then(True)

        self._spawn(close_idle())

    # -- stopping attempts ----------------------------------------------------------------------------------------

    def _stop(self, lane: LaneThread, key: Key, why: str, grace: float) -> None:
        body = lane.bodies.get(key)
        if body is None or body.stop:
            return
        body.stop = why  # first: a child's end must not be taken for the reason why the body ended
        self.gateway.controller.close_parent(key[0], key[1], "its parent was cancelled")
        lane.interrupt(key, why)
        self.loop.call_later(grace, self._insist, lane, key)

    def _insist(self, lane: LaneThread, key: Key) -> None:
        """It did not end within its grace: interrupt its thread; then replace the process."""
        if key in lane.bodies:
            from flyte_nb.core.attempts.threads import interrupt_thread

            if lane.holder.held or lane.holder.waiting:
                interrupt_thread(lane.thread_id, asyncio.CancelledError)
            self.loop.call_later(0.2, self._recycle, lane, key)

    def _recycle(self, lane: LaneThread, key: Key) -> None:
        if key not in lane.bodies:
            return
        body = lane.bodies[key]
        logger.warning("%s did not stop: its worker process is replaced", body.work.label)
        self.report(
            lane, [Outcome(*key, body.stop, started_at=body.started_at, ended_at=time.time(), place=lane.place)], None
        )
        self.loop.call_later(0.1, self._replace_process)

    def _replace_process(self) -> None:
        if self.worker.nanny:
            os._exit(1)  # its nanny starts another
        if self.address.startswith("inproc://"):
            return  # a worker in the user's own process, which goes on; so does the body
        # Without one: become a fresh worker, of the same command line.
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606

    # -- lanes ----------------------------------------------------------------------------------------------------

    def lane_opened(self, lane: LaneThread) -> None:
        """A lane's thread has a slot."""
        self.lanes[lane.id] = lane
        if lane.owner in self._departed:
            self._orphaned(lane)
            return
        self.send(lane.owner, ("lane", lane.id, "open"))
        if not _is_worker(lane.owner) and lane.owner not in self.links:
            self.loop.call_later(OWNER_TIMEOUT, self._expect, lane.owner)

    def _expect(self, kernel: str) -> None:
        """A kernel that has not connected by now will not."""
        if kernel not in self.links and kernel not in self._departed:
            self._gone(kernel)

    def lane_closed(self, lane: LaneThread) -> None:
        """A lane's thread ends."""
        self.lanes.pop(lane.id, None)
        keys = lane.take_back()
        if keys:
            self.send(lane.owner, ("returned", lane.id, keys))
        self.send(lane.owner, ("closed", lane.id))

    def report(self, lane: LaneThread, outcomes: list[Outcome], progress: tuple[int, int, float, bool] | None) -> None:
        """Send what ended, and the counters, to the lane's owner; attempts' events to their home."""
        if progress is not None:
            self.send(lane.owner, ("progress", lane.id, *progress))
        if outcomes:
            for outcome in outcomes:
                self.emitter.ended(outcome)
            self.emitter.flush()
            self.send(lane.owner, ("ended", lane.id, outcomes))

    def secede(self) -> None:
        """Tell Dask that the calling task waits, so that it may start another. On the lane's thread."""
        distributed.secede()

    def body(self, lane: LaneThread, work: Work) -> Body:
        """An attempt of a lane. On the lane's thread."""
        return Body(lane.task, self.runs[work.run], work, self.gateway, self.emitter.sink(work), lane.place, self.shelf)

    def begin(self, lane: LaneThread, body: Body) -> None:
        """An attempt begins. On the lane's thread."""
        work = body.work
        if self.stopped_early and (why := self.stopped_early.pop(work.key, None)):
            self.post(self._stop, lane, work.key, why, GRACE)
        resources = body.task.config.resources
        if resources is not None and (limit := resources.memory_bytes):
            self._memory_limits[work.key] = (lane, self._rss() + limit)
        if work.max_runtime:
            self.post(self._limit, lane, work.key, work.max_runtime)
        if body.task.config.timeout.max_queued_time is not None:
            self.post(self.send, lane.owner, ("began", work.key))

    def _limit(self, lane: LaneThread, key: Key, seconds: float) -> None:
        self.loop.call_later(seconds, self._stop, lane, key, "timeout", GRACE)

    def finish(self, body: Body) -> None:
        """An attempt has ended: its unfinished children are cancelled. On the lane's thread."""
        work = body.work
        if self.breakpoints.stops:
            self.post(self.breakpoints.ended, work.key)
        if self.retained.has(work.run, work.action) and body.outcome is not None and body.outcome.kind == "ok":
            self.post(self.retained.forget, work.run, work.action)
        # A call that it made last may not have reached the controller yet.
        if body.context.scope.has_called or (work.run, work.action) in self.gateway.controller.children:
            self.post(warn_of_orphans, self.gateway.controller, self.emitter.emit, work)

    def lane_of(self, run: str, action: str) -> tuple[LaneThread, Body] | None:
        """The lane and the attempt of an action that is under way here. From any thread."""
        for lane in list(self.lanes.values()):
            for (of_run, of_action, _), body in list(lane.bodies.items()):
                if of_run == run and of_action == action:
                    return lane, body
        return None

    def body_of(self, run: str, action: str) -> Body | None:
        """The attempt of an action that is under way here. From any thread."""
        found = self.lane_of(run, action)
        return found[1] if found is not None else None

    def tell_owner(self, key: Key, phase: Phase, note: str) -> None:
        """Have the owner of an attempt say what it does now: it stands at a breakpoint, say."""
        found = self.lane_of(key[0], key[1])
        if found is not None:
            self.send(found[0].owner, ("noted", key, phase, note))

    async def _watch(self) -> None:
        """Hand back what waits behind long attempts; announce attempts that go on."""
        while True:
            await asyncio.sleep(HAND_BACK_AFTER_S)
            for lane in list(self.lanes.values()):
                if lane.untold:
                    lane.report()
                if lane.stuck:
                    lane.handed_back = True  # first: its thread may go on at any moment
                    keys = lane.take_back()
                    if keys:
                        self.send(lane.owner, ("returned", lane.id, keys))
                if lane.task.config.reusable is not None:
                    self._tell_waiting(lane)
                self.emitter.announce(lane)
            self.emitter.flush()
            if self._memory_limits:
                self._check_memory()

    def _rss(self) -> int:
        return int(self._process.memory_info().rss)

    def _check_memory(self) -> None:
        """Stop attempts under which this process has grown by more than their tasks' ``Resources(memory=...)``."""
        rss = self._rss()
        for key, (lane, limit) in list(self._memory_limits.items()):
            if key not in lane.bodies:
                self._memory_limits.pop(key, None)
            elif rss > limit:
                del self._memory_limits[key]
                self._stop(lane, key, "oom", OOM_GRACE)

    def _tell_waiting(self, lane: LaneThread) -> None:
        """Tell the owner of a warm lane how many of its attempts await children."""
        children = self.gateway.controller.children
        waiting = sum((key[0], key[1]) in children for key in list(lane.bodies))
        if waiting != lane.told_waiting:
            lane.told_waiting = waiting
            self.send(lane.owner, ("waiting", lane.id, waiting))

    # -- the executor's network -----------------------------------------------------------------------------------

    def workers(self) -> dict[str, WorkerInfo]:
        """The roster, as the kernel told it; this worker alone before that."""
        if self.roster:
            return self.roster
        return {self.address: WorkerInfo(self.address, str(self.worker.name), self.gate.slots, os.getpid(), "")}

    def cause(self, address: str, run: RunInfo, then: Callable[[WorkerExit], None]) -> None:
        """Tell why a worker is gone: a run's home knows."""
        self.ask(run, "death", (address,), lambda death: then(death or WorkerExit(address)))

    async def submit_lane(self, spec: LaneSpec, resources: dict[str, float], prefer: str, only: bool) -> Any:
        """Have Dask run a lane for a child of an action of this worker."""
        from flyte_nb.engine.submit import submit_lane

        if self._client is None or (self._client.done() and self._client.exception() is not None):
            self._client = asyncio.ensure_future(self._connect_client())
        return submit_lane(await self._client, spec, resources, prefer, only)

    async def _connect_client(self) -> Any:
        return await distributed.Client(
            self.worker.scheduler.address, security=self.worker.security, asynchronous=True, set_as_default=False,
            name="flyte_nb",
        )  # fmt: skip

    def _spawn(self, coroutine: Any) -> None:
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Close lanes and links."""
        self.breakpoints.close()
        if self._monitor is not None:
            self._monitor.cancel()
        for lane in list(self.lanes.values()):
            self._orphaned(lane)
        for link in list(self.links.values()):
            link.close()


def _is_worker(peer: str) -> bool:
    """Whether a peer is a worker (named by its address), and no kernel."""
    return "://" in peer


def slots_of_lane() -> Any:
    """Give the slot of this thread back around a wait, and tell the owner that its lane is blocked."""
    return slots.suspended()
