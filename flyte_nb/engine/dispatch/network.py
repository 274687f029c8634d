"""Network of a process that owns lanes: links to workers, the roster, lanes on Dask. Runs in: engine thread; worker loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any

from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.history.worker_names import name_of
from flyte_nb.engine.clusters import on_scheduler
from flyte_nb.engine.clusters.devices import UNCOUNTED_GPUS
from flyte_nb.engine.clusters.welcome import AsSource
from flyte_nb.engine.clusters.worker_exits import WorkerExit
from flyte_nb.engine.links.peers import Peers
from flyte_nb.engine.links.wire import LaneSpec, WorkerInfo

#: What Dask executes for a lane, as source and plain values: its scheduler, which unpickles tasks, need not have this package.
#: A worker that has just started becomes a host in a moment, unless the kernel is gone by then.
_LANE = """
import time
from distributed import get_worker
worker = get_worker()
key, until = worker.get_current_task(), time.monotonic() + within
while (host := getattr(worker, "_flyte_nb_hosts", {}).get(kernel)) is None:
    if time.monotonic() > until:
        raise TimeoutError(f"the worker {worker.address} is not ready for flyte_nb: %flyte cluster says why")
    if key not in worker.state.tasks or worker.state.tasks[key].state != "executing":
        break
    time.sleep(0.01)
else:
    host.run_lane(*lane)
"""
#: Seconds within which a kernel welcomes a worker.
WELCOMED_WITHIN_S = 30.0
#: What to do where no worker offers any of a resource.
HOW_TO_OFFER = ": workers offer them by --resources GPU=1"
#: Workers that a clause names.
MAX_NAMED = 3
#: Seconds between two reports of demand; after which it is told again, since a scheduler that was started anew, or lost the
#: connection for a moment, has forgotten it; that a report may take.
TELL_EVERY_S, TELL_AGAIN_S, TELL_TIMEOUT = 0.5, 3.0, 10.0


class Network(Peers):
    """The workers that an owner of lanes reaches: a kernel, or a worker whose actions await children.

    Args:
        me: This process's name as a peer.
        kernel: The kernel that all this is for.
        own_address: Address of the worker this process is; "" in a kernel.
    """

    def __init__(self, me: str, kernel: str, own_address: str) -> None:
        super().__init__(me, kernel)
        self.own_address = own_address
        #: Workers that lanes can be opened on, by address.
        self.roster: dict[str, WorkerInfo] = {}
        #: Workers that go on with what they have and are given nothing new, as long as there are others.
        self.resting: set[str] = set()
        #: What Dask has paused for their memory, linked or not: they may come back.
        self.paused: dict[str, WorkerInfo] = {}
        #: Whether the cluster may get more workers, and hears how many slots are wanted.
        self.grows = False
        self._demand, self._told_at = 0, 0.0
        self._telling: asyncio.Task[None] | None = None
        #: Workers that do not answer: they are given nothing new until they do.
        self.silent: frozenset[str] = frozenset()
        #: Seconds in which a worker must be able to take an attempt, as `init` was told; None = it was not.
        self.placement_timeout: float | None = None

    @property
    def watched(self) -> Iterable[str]:
        """Peers that are asked for a sign of life also while nothing is overdue there: a kernel's workers."""
        return ()

    def heard_of(self, quiet: dict[str, float]) -> None:
        """Take for how many seconds each peer that was looked at has been silent."""

    def cause(self, address: str, run: RunInfo, then: Callable[[WorkerExit], None]) -> None:
        """Call `then` with the cause of a worker's exit, once it is known."""
        raise NotImplementedError

    def end_worker(self, address: str, run: RunInfo | None, silent: float) -> None:
        """Have the process of a worker ended that does not end what it was told to.

        Args:
            address: Of the worker.
            run: Of the attempt that is overdue; None if another process owns it, which only a kernel is told.
            silent: For how many seconds it has not answered; 0 if it does.
        """
        assert run is not None
        self.ask_home(run, "end_worker", (address, silent))

    def ask_home(self, run: RunInfo, op: str, args: tuple[Any, ...]) -> None:
        """Tell a run's home something that needs no answer."""
        raise NotImplementedError

    @property
    def computing(self) -> int:
        """How many slots are in use, as far as this process can see beyond its own lanes."""
        return 0

    def why_waiting(self, resources: dict[str, float]) -> str:
        """Why no worker takes a task that needs these Dask resources, as a clause; "" if one does."""
        for name, amount in resources.items():
            most = max((_offer(worker, name) for worker in self.roster.values()), default=0)
            if most < amount:
                if paused := [worker for worker in self.paused.values() if _offer(worker, name) >= amount]:
                    return f"the workers that offer {name}={amount:g} are paused, as Dask does for memory: {_names_of(paused)}"
                return f"no worker offers {name}={amount:g} (the most is {most:g}{'' if most else HOW_TO_OFFER})"
        return ""

    def has_devices(self, address: str) -> bool:
        """Whether a worker's devices are counted."""
        offers = dict(self.roster[address].offers) if address in self.roster else {}
        return 0 < offers.get("GPU", 0) < UNCOUNTED_GPUS

    def is_hopeless(self, resources: dict[str, float]) -> bool:
        """Whether what keeps such a task waiting does not pass by itself: a pause does."""
        return not any(
            all(_offer(worker, name) >= amount for name, amount in resources.items()) for worker in self.paused.values()
        )

    def say_waiting(self, run: RunInfo, why: str) -> None:
        """Show at a run what keeps actions of this owner waiting; "" for nothing any more."""
        self.ask_home(run, "waits", (self.me, why))

    async def _dask(self) -> Any:
        """Dask's client, an asynchronous `distributed.Client`."""
        raise NotImplementedError

    def want(self, slots: int) -> None:
        """Have the scheduler know how many slots are wanted here, unless it does."""
        stale = slots != self._demand or (slots and time.monotonic() - self._told_at > TELL_AGAIN_S)
        if self.grows and stale and (self._telling is None or self._telling.done()):
            self._telling = self.spawn(self._tell(slots))

    async def _tell(self, slots: int) -> None:
        with contextlib.suppress(Exception):  # it is told again
            client = await self._dask()
            asked = client.run_on_scheduler(AsSource(on_scheduler, "want"), client.id, slots)
            if await asyncio.wait_for(asked, TELL_TIMEOUT):
                self._demand, self._told_at = slots, time.monotonic()
        await asyncio.sleep(TELL_EVERY_S)

    async def submit_lane(self, spec: LaneSpec, resources: dict[str, float], prefer: str, only: bool) -> Any:
        """Have Dask run a lane.

        Args:
            spec: The lane.
            resources: Dask resources it holds.
            prefer: Address of the worker it had best run on; "" leaves it to Dask.
            only: Whether it may run nowhere else.

        Returns:
            Its `distributed.Future`.
        """
        client = await self._dask()
        given = {"kernel": self.kernel, "lane": tuple(spec), "within": WELCOMED_WITHIN_S}
        return client.submit(
            exec, _LANE, given, key=f"flyte-{spec.task_name}-{self.kernel}-{spec.lane.rpartition(':')[2]}", pure=False,
            retries=0, resources=resources or None, workers=[prefer] if prefer else None,
            allow_other_workers=bool(prefer) and not only,
        )  # fmt: skip


def _offer(worker: WorkerInfo, name: str) -> float:
    """How much of a Dask resource a worker offers."""
    return dict(worker.offers).get(name, 0.0)


def _names_of(workers: list[WorkerInfo]) -> str:
    """A few workers, as people see them."""
    names = [name_of(worker.address) for worker in workers[:MAX_NAMED]]
    return ", ".join(names) + (f" and {len(workers) - MAX_NAMED} more" if len(workers) > MAX_NAMED else "")
