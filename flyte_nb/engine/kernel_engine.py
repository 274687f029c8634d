"""The kernel's side of the cluster: links to all workers, roster, losses; and the controller on top. Runs in: engine thread."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import uuid
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from flyte_nb.core.attempts.threads import LoopClock, LoopThread
from flyte_nb.core.cache.service import CacheClient, CacheService
from flyte_nb.core.control import orphans
from flyte_nb.core.control.controller import Controller
from flyte_nb.core.control.gateway import Gateway
from flyte_nb.core.control.questions import Answers
from flyte_nb.core.control.replay import Replay, Results
from flyte_nb.core.control.retained import Retained
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import ErrorNote, Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.history.store import RunStore
from flyte_nb.core.runs import worker_run
from flyte_nb.core.runs.engine import ROOT
from flyte_nb.core.transport import blobs
from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.payload import Payload
from flyte_nb.engine.blob_fetch import Fetcher
from flyte_nb.engine.cluster import ClusterHandle, open_cluster
from flyte_nb.engine.executor import DaskExecutor
from flyte_nb.engine.link import PeerLink, open_link
from flyte_nb.engine.postmortem import examine
from flyte_nb.engine.questions import Switchboard
from flyte_nb.engine.submit import submit_lane
from flyte_nb.engine.wire import LaneSpec, Message, WorkerInfo
from flyte_nb.engine.worker_exits import MEMORY_TOPIC, WorkerExit, WorkerExits
from flyte_nb.errors import NoClusterError, SchedulerLostError

logger = logging.getLogger("flyte")

#: Seconds between two looks at the scheduler's list of workers.
ROSTER_EVERY = 0.5
#: Seconds that a worker may take to send its last events before an action of it is executed again without them.
SETTLE_S = 5.0
#: Seconds that workers have to say goodbye.
GOODBYE = 0.7
#: Seconds a look may take.
LOOK_TIMEOUT = 2.0
#: Looks that may fail before the scheduler counts as lost: with the connection, and while it is connected but silent.
MISSES = 3
BUSY_MISSES = 12


class KernelNetwork:
    """Links from the kernel to every worker."""

    def __init__(self) -> None:
        self.me = f"kernel-{uuid.uuid4().hex[:12]}"
        self.own_address = ""
        self.handle: ClusterHandle | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ready.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.roster: dict[str, WorkerInfo] = {}
        #: Workers that go on with what they have: paused for memory, or about to be retired.
        self.resting: set[str] = set()
        self.links: dict[str, PeerLink] = {}
        self.on_message: Callable[[str, Message], None] = lambda _address, _message: None
        self.on_lost: Callable[[str], None] = lambda _address: None
        self.on_scheduler_lost: Callable[[], None] = lambda: None
        self.on_roster: Callable[[], None] = lambda: None
        self.deaths = WorkerExits()
        self._unsent: dict[str, list[Message]] = defaultdict(list)
        #: Workers seen for the first time at the last look.
        self._young: set[str] = set()
        self._listed: dict[str, WorkerInfo] = {}
        self._connecting: set[str] = set()
        #: Why workers cannot be linked to, by address; they are tried again as long as the scheduler lists them.
        self.unreachable: dict[str, str] = {}
        self._poller: asyncio.Task[None] | None = None

    async def start(self, target: Any, **options: Any) -> None:
        """Open the cluster and link to its workers."""
        from flyte_nb.worker.entry import HostPlugin

        try:
            self.handle = await open_cluster(target, self.deaths, **options)
            self.handle.client.subscribe_topic(MEMORY_TOPIC, self.deaths.told)
            await self.handle.client.register_plugin(HostPlugin())
            await self._refresh()
        except BaseException as exc:
            if not self.ready.done():
                self.ready.set_exception(exc)
            raise
        if not self.ready.done():
            self.ready.set_result(None)
        self._poller = asyncio.get_running_loop().create_task(self._poll())

    async def _poll(self) -> None:
        misses = 0
        while True:
            await asyncio.sleep(ROSTER_EVERY)
            try:
                await asyncio.wait_for(self._refresh(), LOOK_TIMEOUT)
                misses = 0
            except TimeoutError:  # busy, if it is still connected
                assert self.handle is not None
                misses += 1 if self.handle.client.status == "running" else BUSY_MISSES // MISSES
            except OSError:
                misses += BUSY_MISSES // MISSES
            except Exception:  # the next look may do better: without looks, no new worker would get work
                logger.exception("flyte_nb could not look at the workers")
            if misses >= BUSY_MISSES:
                self.on_scheduler_lost()
                return

    async def _refresh(self) -> None:
        """Look at the scheduler's list of workers: link to those that are new, give up those that are gone."""
        assert self.handle is not None
        identity = await self.handle.client.scheduler.identity(n_workers=-1)
        listed = {
            address: WorkerInfo(
                address, str(w["name"]), int(w["nthreads"]), 0, w.get("host", ""), tuple((w.get("resources") or {}).items())
            )
            for address, w in identity["workers"].items()
        }  # fmt: skip
        self.resting = {a for a, w in identity["workers"].items() if w.get("status", "running") != "running"}
        for address, w in identity["workers"].items():
            self.deaths.seen(address, int(w["metrics"].get("memory") or 0), int(w.get("memory_limit") or 0))
        # A worker that dies in the moment it registers makes its nanny give up (Dask's own race): it gets its first work, which
        # may kill it, one look later.
        young, self._young = self._young, {address for address in listed if address not in self.links}
        fresh = [a for a in self._young - self._connecting - self.resting if a in young or not self.ready.done()]
        self._listed = listed
        connecting = [asyncio.get_running_loop().create_task(self._connect(address)) for address in fresh]
        self._connecting.update(fresh)
        if connecting and not self.ready.done():
            await asyncio.wait(connecting)
            if not self.links:
                raise NoClusterError(self._unreachable_text())
        self._update_roster()
        for address in [a for a in self.links if a not in listed]:
            self._forget(address)
        for address in [a for a in self.unreachable if a not in listed]:
            del self.unreachable[address]

    def _update_roster(self) -> None:
        usable = self.links.keys() - self.resting
        roster = {address: info for address, info in self._listed.items() if address in usable}
        if roster != self.roster:
            self.roster = roster
            for link in self.links.values():
                link.send(("roster", roster))
            self.on_roster()

    async def _connect(self, address: str) -> None:
        assert self.handle is not None
        args = self.handle.client.security.get_connection_args("client")
        try:
            link = await open_link(address, self.me, args, self._message, self._closed)
        except OSError as exc:
            self.unreachable[address] = str(exc) or type(exc).__name__
            return
        finally:
            self._connecting.discard(address)
        self.unreachable.pop(address, None)
        self.links[address] = link
        for message in self._unsent.pop(address, ()):
            link.send(message)
        self._update_roster()

    def _unreachable_text(self) -> str:
        assert self.handle is not None
        address, why = next(iter(self.unreachable.items()))
        return (
            f"none of the {len(self.unreachable)} workers of {self.handle.description} can be reached from this process "
            f"({address}: {why}). Actions travel straight to the workers: run the notebook where it can open connections to "
            "them, or have the workers listen on addresses that it can reach (`dask worker --contact-address`)."
        )

    def _message(self, link: PeerLink, message: Message) -> None:
        self.on_message(link.peer, message)

    def _closed(self, link: PeerLink) -> None:
        self._forget(link.peer)

    def _forget(self, address: str) -> None:
        link = self.links.pop(address, None)
        if link is not None:
            link.close()
            self.on_lost(address)
            self._update_roster()

    # -- the executor's network -----------------------------------------------------------------------------------

    def send(self, address: str, message: Message) -> None:
        """Send to a worker; kept for it if its link is not there yet."""
        link = self.links.get(address)
        if link is not None:
            link.send(message)
        else:
            self._unsent[address].append(message)

    def workers(self) -> dict[str, WorkerInfo]:
        """The roster."""
        return self.roster

    def cause(self, address: str, _run: RunInfo, then: Callable[[WorkerExit], None]) -> None:
        """Tell why a worker is gone."""
        self.deaths.cause(address, then)

    def lost_text(self) -> str:
        """What there is to say once the scheduler is gone."""
        assert self.handle is not None
        return (
            f"the Dask scheduler ({self.handle.description}) went away. `%flyte cluster restart` gives a working cluster; "
            "then run the cell again."
        )

    async def submit_lane(self, spec: LaneSpec, resources: dict[str, float], prefer: str, only: bool) -> Any:
        """Have Dask run a lane, once there is a cluster."""
        await asyncio.shield(self.ready)
        assert self.handle is not None
        if self.handle.client.scheduler is None:  # Dask's client has closed itself
            raise SchedulerLostError(self.lost_text())
        return submit_lane(self.handle.client, spec, resources, prefer, only)

    async def close(self) -> None:
        """Close links and cluster."""
        if self._poller is not None:
            self._poller.cancel()
        for link in list(self.links.values()):
            link.close()
        if self.handle is not None:
            await self.handle.close()


class KernelEngine:
    """Controller, store and cluster of a kernel, on a thread of their own."""

    def __init__(self) -> None:
        self.thread = LoopThread("flyte-engine")
        self.store = RunStore()
        #: Called on the engine thread with every event before it is folded: what it returns is.
        self.before: Callable[[ev.Event], ev.Event] = lambda event: event
        self.gateway: Gateway
        self.network: KernelNetwork
        self.executor: DaskExecutor
        self.controller: Controller
        self.call(self._build)

    async def _build(self) -> None:
        loop = asyncio.get_running_loop()
        self.network = KernelNetwork()
        #: Answers what controllers and tasks of this kernel's runs ask, here and on workers.
        self.answers = Answers()
        worker_run.serve(self.answers, loop)
        self.switchboard = Switchboard(self.network.send)
        self.blobs = Blobs(self.network.me)
        self.switchboard.answers["blob"] = lambda then, path, given: then(blobs.take(path, given=given))
        self.network.deaths.settle = self._settle_death
        self.answers.serve("death", self._death)
        self.switchboard.answers["home"] = lambda then, run, op, args: self.answers.answer(run, op, args, then)
        self.executor = DaskExecutor(self.network, Fetcher(self.switchboard, self.blobs))
        self.retained = Retained()
        self.replay = Replay(self.store, self.retained, self._settle)
        self.replay.serve(self.answers)
        self.cache = CacheService(self.thread.post, self.store)
        self.cache.serve(self.answers)
        self.controller = Controller(
            self.executor, self.emit, LoopClock(loop), home=self.answers, retained=self.retained,
            cache=CacheClient(self.answers, self.network.me),
        )  # fmt: skip
        self.executor.on_began = self.controller.started
        self.executor.on_noted = self.controller.note
        self.gateway = Gateway(loop, self.controller, self.blobs)
        self.network.on_message = self._message
        self.network.on_lost = self._worker_lost
        self.network.on_roster = self.executor.look_again
        self.network.on_scheduler_lost = self._scheduler_lost

    def emit(self, event: ev.Event) -> None:
        """Fold an event."""
        self.store.append(self.before(event))

    def _message(self, address: str, message: Message) -> None:
        if message[0] == "events":
            for event in message[1]:
                self.emit(event)
        elif not self.executor.handle(address, message):
            self.switchboard.handle(address, message)

    def _death(self, _run: str, then: Callable[[Any], None], address: str) -> None:
        self.network.deaths.cause(address, then)

    def _settle_death(self, death: WorkerExit) -> WorkerExit:
        """Name who computed on a worker that died, and close the actions that were awaited there and nowhere else."""
        death = examine(self.store, self.emit, death)
        computing = orphans.computing(self.store, death.worker) if death.for_memory else []
        death = death._replace(culprits=frozenset((record.state.run, action.name) for record, action in computing))
        for record, action in orphans.orphans(self.store, death.worker):
            error = ErrorNote("system", "WorkerLostError", f"lost with the worker that awaited it: {death}")
            if len(computing) == 1 and computing[0][1] is action:
                error = ErrorNote("user", "OOMError", str(death), death.worker)
            run, now = record.state.run, self.controller.clock.time()
            self.emit(ev.ActionEnded(run, action.name, action.said[0] + 1, Phase.ABANDONED, now, error))
        return death

    def _worker_lost(self, address: str) -> None:
        self.executor.worker_lost(address)
        self.network.deaths.cause(address, lambda _death: None)  # whoever else asks
        self.switchboard.lost(address)
        self.cache.peer_lost(address)
        blobs.sweep()

    def _settle(self, run: str, parent: str, then: Callable[[Results], None]) -> None:
        """Call back once all events that workers have sent are folded: each answers behind its events, on the same link.

        With the answers come large results of the parent's children that the workers keep.
        """
        waiting = set(self.network.links)
        found: list[tuple[str, Payload]] = []
        if not waiting:
            then(())
            return

        def answered(address: str, results: Results | None) -> None:
            if address in waiting:
                waiting.discard(address)
                found.extend(results or ())
                if not waiting:
                    timer.cancel()
                    then(tuple(found))

        def late() -> None:
            for address in list(waiting):
                answered(address, None)

        timer = self.thread.loop.call_later(SETTLE_S, late)
        for address in list(waiting):
            self.switchboard.ask(address, "sync", (run, parent), functools.partial(answered, address))

    def ask_workers(self, op: str, *args: Any, then: Callable[[Any], None] = lambda _answer: None) -> None:
        """Ask every worker; `then` is told each answer that is not None (as when an action is not seen through there)."""

        def heard(answer: Any) -> None:
            if answer is not None:
                then(answer)

        for address in list(self.network.links):
            self.switchboard.ask(address, op, args, heard)

    def ask_all(self, op: str, args: tuple[Any, ...], then: Callable[[list[Any]], None]) -> None:
        """Ask every worker, and tell `then` all the answers together; those that are None are left out.

        A worker that is lost meanwhile answers None.
        """
        asked = list(self.network.links)
        answers: list[Any] = []
        left = len(asked)

        def heard(answer: Any) -> None:
            nonlocal left
            left -= 1
            if answer is not None:
                answers.append(answer)
            if not left:
                then(answers)

        for address in asked:
            self.switchboard.ask(address, op, args, heard)
        if not asked:
            then(answers)

    def _scheduler_lost(self) -> None:
        self.executor.fail_all(ErrorNote("system", "SchedulerLostError", self.network.lost_text(), recoverable=False))

    def call(self, coroutine_function: Callable[..., Any], *args: Any, timeout: float | None = None) -> Any:
        """Run a coroutine function on the engine thread and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine_function(*args), self.thread.loop).result(timeout)

    def start(self, target: Any = None, **options: Any) -> Any:
        """Open the cluster in the background; returns a `concurrent.futures.Future`."""
        return asyncio.run_coroutine_threadsafe(self._start(target, options), self.thread.loop)

    async def _start(self, target: Any, options: dict[str, Any]) -> None:
        try:
            await self.network.start(target, **options)
        except Exception as exc:
            self.executor.fail_all(ErrorNote("system", "NoClusterError", str(exc), recoverable=False))
            raise

    def close(self) -> None:
        """Cancel everything, close the cluster, stop the thread."""
        try:
            self.call(self._close, timeout=15)
        finally:
            self.thread.stop()

    async def _close(self) -> None:
        self.abort_all()
        self.cache.close()
        await self.executor.close()
        await self._say_goodbye()
        await self.network.close()

    def abort_all(self) -> None:
        """Tell everybody who waits, and close all runs; workers stop what they do when their links close. Idempotent."""
        why = "its cluster was closed"
        for run, action in list(self.controller.flights):
            self.controller.abort(run, action, why)
        error = ErrorNote("system", "ActionAbortedError", why)
        self.executor.give_up(error)
        now = self.controller.clock.time()
        for record in [record for record in self.store.runs.values() if record.state.ended_at is None]:
            run = record.state.run
            for one in [one for one in record.actions.values() if not one.phase.is_terminal and one.number >= 0]:
                phase = Phase.ABORTED if one.name == ROOT else Phase.ABANDONED  # awaited on workers
                self.emit(ev.ActionEnded(run, one.name, one.said[0] + 1, phase, now, error))
            self.emit(ev.RunClosed(run, Phase.ABORTED, now, error))

    async def _say_goodbye(self) -> None:
        """Have workers close the idle lanes of their own actions, too."""
        waiting = set(self.network.links)
        heard = asyncio.Event()

        def gone(address: str, _answer: Any) -> None:
            waiting.discard(address)
            if not waiting:
                heard.set()

        for address in list(waiting):
            self.switchboard.ask(address, "goodbye", (), functools.partial(gone, address))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(heard.wait() if waiting else asyncio.sleep(0), GOODBYE)
