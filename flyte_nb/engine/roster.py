"""Roster of the cluster's workers, as the kernel keeps it: polled from the scheduler, linked, lost. Runs in: engine thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from distributed.comm.core import Comm

from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.engine.clusters import welcome
from flyte_nb.engine.clusters.cluster import ClusterHandle, open_cluster
from flyte_nb.engine.clusters.embedded import PRETENDED
from flyte_nb.engine.clusters.end_worker import end_worker, is_alive
from flyte_nb.engine.clusters.routes import Links, Routes
from flyte_nb.engine.clusters.worker_exits import MEMORY_TOPIC, WorkerExit, WorkerExits
from flyte_nb.engine.dispatch.network import Network
from flyte_nb.engine.links.link import PeerLink
from flyte_nb.engine.links.pulse import SILENT_S
from flyte_nb.engine.links.wire import WorkerInfo
from flyte_nb.errors import NoClusterError, SchedulerLostError

logger = logging.getLogger("flyte")

#: Seconds between two requests of the scheduler's list of workers.
ROSTER_EVERY = 0.5
#: Seconds such a request may take.
LOOK_TIMEOUT = 2.0
#: Seconds after the end of a link in which its process has ended, too, if that was the reason.
REMAINS_S = 0.15
#: What `%flyte cluster` says of a worker that had to be given up.
WITHOUT_NANNY = (
    "it does not answer, and has no nanny that could replace it: end that process by hand, and start workers with `dask worker "
    "--nanny`, which is Dask's default"
)
#: Requests that may fail before the scheduler counts as lost: with the connection, and while it is connected but silent.
MISSES = 3
BUSY_MISSES = 12
#: Workers that an error names.
MAX_NAMED = 3
#: Seconds that workers have to become hosts, all together; then each for itself.
WELCOME_S = 60.0
#: Seconds in which a worker must tell its versions.
ANSWERS_S = 5.0
#: Seconds after which a worker that could not be used is looked at again.
AGAIN_S = 10.0


class KernelNetwork(Network):
    """Links from the kernel to every worker, the roster, and Dask's client; arguments as those of `KernelEngine`."""

    def __init__(self, entry: str) -> None:
        me = f"kernel-{uuid.uuid4().hex[:12]}"
        super().__init__(me, me, "")
        self.handle: ClusterHandle | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ready.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.on_scheduler_lost: Callable[[], None] = lambda: None
        self.on_roster: Callable[[], None] = lambda: None
        self.exits = WorkerExits()
        #: Workers listed for the first time in the last answer.
        self._young: set[str] = set()
        self._listed: dict[str, WorkerInfo] = {}
        #: Dask resources that workers offer, by address.
        self._offers: dict[str, dict[str, float]] = {}
        self.on_look: Callable[[], None] = lambda: None
        #: What `start` does just now, in words.
        self.stage = "connecting to the scheduler"
        #: Why workers cannot be linked to, by address; they are tried again as long as the scheduler lists them.
        self.unreachable: dict[str, str] = {}
        #: Why workers cannot be hosts, as sentences, and when they are asked again.
        self.unfit: dict[str, str] = {}
        self._again: dict[str, float] = {}
        self._entry = entry
        self.routes: Routes
        #: Whether the scheduler was asked in vain, for the last time.
        self._is_given_up = False
        #: Addresses of the nannies, by that of their worker; "" where there is none.
        self._nannies: dict[str, str] = {}
        #: For how many seconds each worker has been silent.
        self.quiet: dict[str, float] = {}
        #: Answers what other processes ask this one about the runs that have their home here: run, question, its arguments.
        self.at_home: Callable[[str, str, tuple[Any, ...]], None] = lambda _run, _op, _args: None
        #: Numbers and sources of the cells that run on every worker.
        self.everywhere: list[tuple[int, str]] = []

    async def start(self, target: Any, *, links: Links | None = None, **options: Any) -> None:
        """Open the cluster and link to its workers."""
        try:
            self.handle = await open_cluster(target, self.exits, kernel=self.me, **options)
            self.grows = not self.handle.embedded
            self.routes = Routes(self.handle.client, "direct" if self.handle.embedded else links or "auto")
            self.handle.client.subscribe_topic(MEMORY_TOPIC, self.exits.killed_for_memory)
            if self.handle.embedded:
                self.handle.cluster.on_worker = self._worker_arrived
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
        with contextlib.suppress(Exception):  # the next poll tells
            await asyncio.wait_for(self._refresh(), LOOK_TIMEOUT)

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
            except Exception as exc:  # the next request may succeed: without them, no new worker would get work
                assert self.handle is not None
                if self.handle.client.status == "running":  # else it is being closed, by whomever
                    logger.warning("flyte_nb could not look at the workers, and tries again: %r", exc)
            if misses >= BUSY_MISSES:
                self._is_given_up = True
                self.on_scheduler_lost()
                return

    async def _refresh(self) -> None:
        """Get the scheduler's list of workers: link to those that are new, drop those that are gone."""
        assert self.handle is not None
        identity = await self.handle.client.scheduler.identity(n_workers=-1)
        listed = {
            address: WorkerInfo(address, int(w["nthreads"]), PRETENDED in w.get("resources", ()))
            for address, w in identity["workers"].items()
        }
        # Paused for memory, or about to be retired.
        self.resting = {a for a, w in identity["workers"].items() if w.get("status", "running") != "running"}
        self._nannies = {a: w.get("nanny") or "" for a, w in identity["workers"].items()}
        for address, w in identity["workers"].items():
            self.exits.seen(address, int(w["metrics"].get("memory") or 0), int(w.get("memory_limit") or 0))
        # Elsewhere, a worker takes links only once Dask has set up our plugin there, after it has registered; and one that dies
        # in that moment makes its nanny give up (Dask's own race). So it gets its first work one request later.
        young, self._young = self._young, {address for address in listed if address not in self.links}
        now = asyncio.get_running_loop().time()
        self._again = {address: at for address, at in self._again.items() if address in listed and at > now}
        fresh = [
            address
            for address in self._young - self._connecting - self.resting - self._again.keys()
            if address in young or self.handle.embedded or not self.ready.done()
        ]
        self._listed = listed
        if not self.ready.done():
            await self._meet(fresh)
        elif fresh:
            self._connecting.update(fresh)
            self.spawn(self._welcome(fresh))
        self._update_roster()
        for address in [a for a in self.links if a not in listed]:
            self.drop(address)
        for reasons in (self.unreachable, self.unfit):
            for address in reasons.keys() - listed.keys():
                del reasons[address]
        self._offers = {address: w.get("resources") or {} for address, w in identity["workers"].items()}
        self.on_look()

    def why_waiting(self, resources: dict[str, float]) -> str:
        """Why no worker takes a task that needs such resources; "" if one does."""
        if not self._listed:
            return "the cluster has no workers"
        if not self.roster:
            if self._listed.keys() <= self.resting:
                return f"all {len(self._listed)} workers of the cluster are paused"
            return next(iter(self.unfit.values()), "the workers are being prepared")
        for name, amount in resources.items():
            most = max(self._offers.get(address, {}).get(name, 0) for address in self.roster)
            if most < amount:
                return f"no worker offers {name}={amount:g} (the most is {most:g})"
        return ""

    async def _meet(self, workers: list[str]) -> None:
        """Link to the workers that are there at the start.

        Raises:
            NoClusterError: Versions differ, or none of them can be used.
        """
        assert self.handle is not None
        if not self.handle.embedded:
            await self._compare(workers)
        self.stage = f"preparing {len(workers)} workers (flyte_nb is sent to those that lack it)"
        await self._welcome(workers)
        if workers and not self.links:
            raise NoClusterError(self._unusable_text())

    async def _compare(self, workers: list[str]) -> None:
        assert self.handle is not None
        unlike: dict[str, str] = {}
        self.stage = f"comparing versions with {len(workers)} workers"
        with contextlib.suppress(TimeoutError):  # then each is asked for itself
            unlike = await asyncio.wait_for(welcome.unlike(self.handle.client, workers, scheduler=True), ANSWERS_S)
        if unlike:
            raise NoClusterError(
                f"{self.handle.description} cannot be used: {'; '.join(list(unlike.values())[:MAX_NAMED])}"
                f"{' ...' if len(unlike) > MAX_NAMED else ''}."
            )

    async def _welcome(self, workers: list[str]) -> None:
        """Make workers hosts, and link to them."""
        assert self.handle is not None
        # Those of the embedded cluster are hosts before they register; unless they have taken this kernel for gone.
        ready = self.handle.embedded and not any(address in self.unreachable for address in workers)
        try:
            refused = {} if ready else await asyncio.wait_for(self._hosts(workers), WELCOME_S)
        except TimeoutError:
            if len(workers) > 1:  # one of them does not answer
                await asyncio.gather(*(self._welcome([address]) for address in workers))
                return
            refused = {workers[0]: f"worker {workers[0]} does not answer"}
        except OSError as exc:  # the scheduler went away: it is asked again if it comes back
            refused = dict.fromkeys(workers, str(exc))
        again = asyncio.get_running_loop().time() + AGAIN_S
        for address, why in refused.items():
            self.unfit[address], self._again[address] = why, again
            self._connecting.discard(address)
        linking = [self.connect(address) for address in workers if address not in refused]
        if linking:
            await asyncio.wait(linking)

    async def _hosts(self, workers: list[str]) -> dict[str, str]:
        """Make workers hosts; returns why not, by address, for those that are none."""
        assert self.handle is not None
        client = self.handle.client
        try:
            unlike = await asyncio.wait_for(welcome.unlike(client, workers), ANSWERS_S)
        except TimeoutError:
            if len(workers) == 1:
                return {workers[0]: f"worker {workers[0]} does not answer"}
            each = await asyncio.gather(*(self._hosts([address]) for address in workers))
            return {address: why for refused in each for address, why in refused.items()}
        fit = [address for address in workers if address not in unlike]
        return unlike | await welcome.settle(client, fit, self.kernel, self._entry, self.grows)

    def _update_roster(self) -> None:
        usable = self.links.keys() - self.resting
        roster = {address: info for address, info in self._listed.items() if address in usable}
        if roster != self.roster:
            self.roster = roster
            self._tell_roster()

    def _tell_roster(self) -> None:
        for link in self.links.values():
            link.send(("roster", self.roster, self.silent))
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
            self._tell_roster()

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
        self.unreachable.pop(peer, None)
        self.unfit.pop(peer, None)
        super()._linked(peer, link)
        if self.everywhere:  # before any work, which waits for it there
            self.questions.ask(peer, "everywhere", (self.me, self.everywhere), lambda found: self._ran(peer, found))
        self.questions.ask(peer, "black_box", (), lambda path: self.exits.has_box(peer, path))
        self._update_roster()

    def _refused(self, address: str, why: OSError) -> None:
        self.unreachable[address] = str(why) or type(why).__name__

    def _ran(self, peer: str, found: tuple[str, str] | None) -> None:
        """A worker that came later has run the cells that run everywhere."""
        if found is not None and found[1]:
            logger.warning("a cell that runs everywhere failed on the new worker %s:\n%s", peer, found[1])

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

    def _unusable_text(self) -> str:
        assert self.handle is not None
        if not self.unreachable:
            return f"none of the workers of {self.handle.description} can be used: {next(iter(self.unfit.values()))}."
        address, why = next(iter(self.unreachable.items()))
        return (
            f"none of the {len(self.unreachable)} workers of {self.handle.description} can be reached from this process "
            f"({address}: {why}). Actions travel straight to the workers: run the notebook where it can open connections to "
            "them, or have the workers listen on addresses that it can reach (`dask worker --contact-address`)."
        )

    # -- the executor's network -----------------------------------------------------------------------------------

    def cause(self, address: str, _run: RunInfo, then: Callable[[WorkerExit], None]) -> None:
        """Call `then` with the cause of a worker's exit."""
        self.exits.cause(address, then)

    def end_worker(self, address: str, _run: RunInfo | None, silent: float) -> None:
        """Have the process of a worker ended; without a nanny it is given up, and told so."""
        self.exits.end_asked(address, silent)
        self.spawn(self._end_worker(address))

    async def _end_worker(self, address: str) -> None:
        assert self.handle is not None
        if not await end_worker(self.handle, address, self._nannies.get(address, "")):
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
