"""Roster of the cluster's workers, as the kernel keeps it: polled from the scheduler, linked, lost. Runs in: engine thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from distributed.comm.core import Comm

from flyte_nb.core.history.facts import CLUSTER_STARTS
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.history.worker_names import Numbers, name_of
from flyte_nb.core.settings import notices
from flyte_nb.engine.clusters.cluster import ClusterHandle, open_cluster
from flyte_nb.engine.clusters.end_worker import end_worker, is_alive
from flyte_nb.engine.clusters.worker_exits import MEMORY_TOPIC, WorkerExit, WorkerExits
from flyte_nb.engine.dispatch.network import Network
from flyte_nb.engine.links.link import PeerLink
from flyte_nb.engine.links.peers import PULSE
from flyte_nb.engine.links.pulse import SILENT_S
from flyte_nb.engine.links.routes import Links, Routes
from flyte_nb.engine.links.wire import WorkerInfo
from flyte_nb.engine.listing import Listing
from flyte_nb.engine.newcomers import Newcomers
from flyte_nb.errors import SchedulerLostError

logger: logging.Logger = logging.getLogger("flyte")

#: Seconds between two requests of the scheduler's list of workers: in the embedded cluster they are announced as they come.
ROSTER_EVERY, EMBEDDED_EVERY = 0.5, 5.0
#: The same for each worker, where there are hundreds: of 1,000 an answer is 2 MB.
LOOK_PER_WORKER = 3e-3
#: Seconds per link for which changes of the roster are collected.
UPDATE_EVERY_S = 2e-4
#: Looks after a worker of the embedded cluster that has registered, and seconds between two.
ARRIVES_LOOKS, ARRIVES_EVERY = 40, 0.05
#: Seconds such a request may take.
LOOK_TIMEOUT = 2.0
#: Seconds after the end of a link in which its process has ended, too, if that was the reason.
REMAINS_S = 0.15
#: Times that the way to a far worker is measured.
TIMED = 5
#: What `%flyte cluster` says of a worker that had to be given up.
WITHOUT_NANNY = (
    "it does not answer, and has no nanny that could replace it: end that process by hand, and start workers with `dask worker "
    "--nanny`, which is Dask's default"
)
#: Requests that may fail before the scheduler counts as lost: with the connection, and while it is connected but silent.
MISSES = 3
BUSY_MISSES = 12


class KernelNetwork(Network):
    """Links from the kernel to every worker, the roster, and Dask's client; arguments as those of `KernelEngine`."""

    def __init__(self, entry: str) -> None:
        me = f"kernel-{uuid.uuid4().hex[:12]}"
        super().__init__(me, me, "")
        self.handle: ClusterHandle | None = None
        self._busy = False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ready.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.on_scheduler_lost: Callable[[], None] = lambda: None
        self.on_roster: Callable[[], None] = lambda: None
        self.exits = WorkerExits()
        self._numbers = Numbers()
        self.listing = Listing.of({"workers": {}}, self._numbers)
        #: Links whose workers have been told the roster.
        self._told: dict[str, PeerLink] = {}
        self._updating: asyncio.Handle | None = None
        #: Id of the scheduler that was attached to.
        self._first_scheduler = ""
        self.newcomers = Newcomers(self, entry)
        self.unreachable, self.unfit = self.newcomers.unreachable, self.newcomers.unfit
        self.routes: Routes
        #: Processes of the embedded cluster, while it starts; None where there is another one, or nothing is started yet.
        self._starts: int | None = None
        #: How often the scheduler was asked in vain since it last answered.
        self._misses = 0
        #: Whether that was for the last time.
        self._is_given_up = False
        #: For how many seconds each worker has been silent.
        self.quiet: dict[str, float] = {}
        #: Answers what other processes ask this one about the runs that have their home here: run, question, its arguments.
        self.at_home: Callable[[str, str, tuple[Any, ...]], None] = lambda _run, _op, _args: None
        #: Numbers and sources of the cells that run on every worker.
        self.everywhere: list[tuple[int, str]] = []

    async def start(
        self, target: Any, *, links: Links | None = None, placement_timeout: float | None = None, **options: Any
    ) -> None:
        """Open the cluster and link to its workers."""
        self.placement_timeout = placement_timeout
        self._starts = (options.get("n_workers") or os.cpu_count() or 1) if target is None else None
        try:
            self.handle = await open_cluster(target, self.exits, kernel=self.me, **options)
            self.grows: bool = not self.handle.embedded
            self.routes = Routes(self.handle.client, "direct" if self.handle.embedded else links or "auto")
            self.handle.client.subscribe_topic(MEMORY_TOPIC, self.exits.killed_for_memory)
            if self.handle.embedded:
                self.handle.cluster.on_worker = self._worker_arrived
                self.set_busy(self._busy)  # what has it started is under way already
            await self._refresh()
        except BaseException as exc:
            if not self.ready.done():
                self.ready.set_exception(exc)
            raise
        if not self.ready.done():
            self.ready.set_result(None)
        self.spawn(self._poll())

    def _worker_arrived(self) -> None:
        """Link to a worker as it registers, not half a second later."""
        if self.ready.done():
            self.spawn(self._look())

    async def _look(self) -> None:
        for _ in range(ARRIVES_LOOKS):  # it is listed, and rests until it is ready
            with contextlib.suppress(Exception):  # the next poll tells
                await asyncio.wait_for(self._refresh(), LOOK_TIMEOUT)
            if self.links.keys() >= self.listing.workers.keys() | self.listing.resting:
                return
            await asyncio.sleep(ARRIVES_EVERY)

    async def _poll(self) -> None:
        while True:
            assert self.handle is not None
            rests = self.handle.embedded and not self.handle.cluster.busy and not self._misses
            often = EMBEDDED_EVERY if rests else ROSTER_EVERY
            await asyncio.sleep(max(often, len(self.listing.workers) * LOOK_PER_WORKER))
            try:
                await asyncio.wait_for(self._refresh(), LOOK_TIMEOUT)
                self._misses = 0
            except TimeoutError:  # busy, if it is still connected
                self._misses += 1 if self.handle.client.status == "running" else BUSY_MISSES // MISSES
            except OSError:
                self._misses += BUSY_MISSES // MISSES
            except Exception as exc:  # the next request may succeed: without them, no new worker would get work
                if self.handle.client.status == "running":  # else it is being closed, by whomever
                    logger.warning("flyte_nb could not look at the workers, and tries again: %r", exc)
            if self._misses >= BUSY_MISSES:
                self._is_given_up = True
                self.on_scheduler_lost()
                return

    async def _refresh(self) -> None:
        """Get the scheduler's list of workers: link to those that are new, drop those that are gone."""
        assert self.handle is not None
        told = await self.handle.client.scheduler.identity(n_workers=-1)
        workers = told["workers"]
        self.listing = Listing.of(told, self._numbers)
        self._first_scheduler = self._first_scheduler or self.listing.scheduler
        self.resting = self.listing.resting
        for address, w in workers.items():
            self.exits.seen(address, int(w["metrics"].get("memory") or 0), int(w.get("memory_limit") or 0))
        at_once = self.handle.embedded or not self.ready.done()
        fresh = self.newcomers.of(workers.keys(), self._connecting | self.resting, at_once)
        if not self.ready.done():
            await self.newcomers.meet(self.handle, fresh)
        elif fresh:
            self.newcomers.welcome(self.handle, fresh)
        self._update_roster()
        for address in self.links.keys() - workers.keys():
            self.drop(address)

    def set_busy(self, busy: bool) -> None:
        """Anything is queued or under way, or nothing is any more."""
        self._busy = busy
        if self.handle is not None and self.handle.embedded:
            self.handle.cluster.set_busy(busy)

    @property
    def starting_text(self) -> str:
        """What happens until the cluster is there, as a clause."""
        if self._starts is not None:
            return f"{CLUSTER_STARTS}: {self._starts} worker process{'es' * (self._starts != 1)}"
        return f"{CLUSTER_STARTS}: {self.stage}"

    @property
    def stage(self) -> str:
        """What `start` does just now, in words."""
        return self.newcomers.stage

    def _update_roster_soon(self) -> None:
        """Once for all that link in the same moment, which is longer the more there are."""
        if self._updating is None:
            loop, wait = asyncio.get_running_loop(), len(self.links) * UPDATE_EVERY_S
            self._updating = (
                loop.call_later(wait, self._update_roster) if wait > 0.01 else loop.call_soon(self._update_roster)
            )

    def _update_roster(self) -> None:
        self._updating = None
        usable = self.links.keys() - self.resting
        roster = {address: info for address, info in self.listing.workers.items() if address in usable}
        paused = {address: info for address, info in self.listing.workers.items() if address in self.listing.paused}
        if roster != self.roster or paused != self.paused:
            before, self.roster, self.paused = self.roster, roster, paused
            changes: dict[str, WorkerInfo | None] = dict.fromkeys(before.keys() - roster.keys())
            changes.update((address, info) for address, info in roster.items() if before.get(address) != info)
            self._tell_roster(changes)

    def _tell_roster(self, changes: dict[str, WorkerInfo | None]) -> None:
        """Tell workers what has changed, and those that were told nothing yet all of it."""
        whole: dict[str, WorkerInfo | None] = {**self.roster}
        for address, link in self.links.items():
            is_new = self._told.get(address) is not link
            self._told[address] = link
            link.send(
                ("roster", is_new, whole if is_new else changes, self.silent, self.paused, self.placement_timeout)
            )
        self._told = {address: link for address, link in self._told.items() if address in self.links}
        self.on_roster()

    @property
    def watched(self) -> Iterable[str]:
        """All workers, so that those that do not answer are known before anything is sent to them."""
        return self.links

    def heard_of(self, quiet: dict[str, float]) -> None:
        """Take for how many seconds each worker has been silent; tell the others which ones are."""
        self.quiet = quiet
        silent = frozenset(address for address, seconds in quiet.items() if seconds >= SILENT_S)
        if silent != self.silent:
            self.silent = silent
            self._tell_roster({})

    async def _open(self, address: str) -> PeerLink:
        try:
            return await super()._open(address)
        except OSError:
            if not self.routes.mistaken(address):
                raise
            return await super()._open(address)

    async def _reach(self, address: str) -> Comm:
        return await self.routes.connect(address)

    def _linked(self, peer: str, link: PeerLink) -> None:
        self.newcomers.linked(peer)
        super()._linked(peer, link)
        if self.everywhere:  # before any work, which waits for it there
            self.questions.ask(peer, "everywhere", (self.me, self.everywhere), lambda found: self._ran(peer, found))
        self.questions.ask(peer, "black_box", (), lambda path: self.exits.has_box(peer, path))
        self._time(peer, TIMED)
        self._update_roster_soon()

    def _time(self, peer: str, left: int) -> None:
        """Find out how far a worker is: a few times, since it may be busy."""
        self.questions.ask(
            peer, PULSE, ([],), lambda _none: self._time(peer, left - 1) if left and self.round_trip(peer) else None
        )

    def _refused(self, address: str, why: OSError) -> None:
        self.unreachable[address] = str(why) or type(why).__name__

    def _ran(self, peer: str, found: tuple[str, str] | None) -> None:
        """A worker that came later has run the cells that run everywhere."""
        if found is not None and found[1]:
            failed = "a cell that runs everywhere failed on the new worker %s:\n%s"
            notices.say_under(None, logger.warning, failed, name_of(peer), found[1])

    def _lost(self, peer: str) -> None:
        super()._lost(peer)
        self._update_roster()
        if self.handle is not None and self.handle.embedded:
            self.spawn(self._end_remains(peer))

    async def _end_remains(self, address: str) -> None:
        """End a worker of the embedded cluster that has lost its link and lives: code there has closed its connections."""
        await asyncio.sleep(REMAINS_S)
        assert self.handle is not None
        if address not in self.links and is_alive(self.handle, address):
            self.exits.cut_off(address)
            await end_worker(self.handle, address, "")

    # -- the executor's network -----------------------------------------------------------------------------------

    @property
    def computing(self) -> int:
        """As of the base class: of the workers on this machine."""
        return sum(len(found) for address, found in self.exits.computing().items() if address in self.roster)

    def why_waiting(self, resources: dict[str, float]) -> str:
        """As `Network.why_waiting`; and why there are no workers."""
        if not self.ready.done() or self._is_incomplete:
            return ""
        if self.roster:
            return super().why_waiting(resources)
        if self._misses:
            return "the cluster's scheduler does not answer"
        if not self.listing.workers:
            return (
                "the cluster's scheduler was started anew, and has no workers yet"
                if self._is_new_scheduler
                else "the cluster has no workers"
            )
        if self.listing.workers.keys() <= self.resting:
            return f"all {len(self.listing.workers)} workers of the cluster are paused"
        return next(iter(self.unfit.values()), "") or next(
            (f"worker {address} cannot be used: {why}" for address, why in self.unreachable.items()),
            "the workers are being prepared",
        )

    def is_hopeless(self, resources: dict[str, float]) -> bool:
        """Not where there are no workers just now: some may be asked for already, from a queue system."""
        known = self.roster or self.unfit or self.unreachable or self._is_new_scheduler
        return bool(known and self.why_waiting(resources)) and super().is_hopeless(resources)

    @property
    def _is_incomplete(self) -> bool:
        """Whether workers of the embedded cluster are still to come: what they offer is not known yet."""
        handle = self.handle
        return handle is not None and handle.embedded and len(self.listing.workers) < len(handle.cluster.worker_spec)

    @property
    def _is_new_scheduler(self) -> bool:
        return self.listing.scheduler != self._first_scheduler

    def cause(self, address: str, _run: RunInfo, then: Callable[[WorkerExit], None]) -> None:
        """Call `then` with the cause of a worker's exit."""
        self.exits.cause(address, then)

    def end_worker(self, address: str, _run: RunInfo | None, silent: float) -> None:
        """Have the process of a worker ended; without a nanny it is given up, and told so."""
        self.exits.end_asked(address, silent)
        self.spawn(self._end_worker(address))

    async def _end_worker(self, address: str) -> None:
        assert self.handle is not None
        if not await end_worker(self.handle, address, self.listing.nannies.get(address, "")):
            self.exits.end_asked(address, self.quiet.get(address, 0.0), nanny=False)
            self.drop(address)
            self.unreachable[address] = WITHOUT_NANNY

    def ask_home(self, run: RunInfo, op: str, args: tuple[Any, ...]) -> None:
        """This is the home of its runs."""
        self.at_home(run.name, op, args)

    @property
    def is_lost(self) -> bool:
        """Whether the scheduler does not answer any more. Dask's client closes itself, sooner or later."""
        return self._is_given_up or (self.handle is not None and self.handle.client.scheduler is None)

    def lost_text(self) -> str:
        """The message of the error once the scheduler is gone."""
        assert self.handle is not None
        return (
            f"the Dask scheduler ({self.handle.description}) went away. `%flyte cluster restart` gives a working cluster; "
            "then run the cell again."
        )

    async def _dask(self) -> Any:
        """Dask's client, once there is a cluster."""
        await asyncio.shield(self.ready)
        assert self.handle is not None
        if self.is_lost:
            raise SchedulerLostError(self.lost_text())
        return self.handle.client

    async def close(self) -> None:
        """Close links and cluster."""
        self.close_links()
        if self.handle is not None:
            await self.handle.close()
