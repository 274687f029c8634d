"""Network of a process that owns lanes: links to workers, the roster, lanes on Dask. Runs in: engine thread; worker loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.engine.clusters.worker_exits import WorkerExit
from flyte_nb.engine.links.peers import Peers
from flyte_nb.engine.links.wire import LaneSpec, WorkerInfo

#: What Dask executes for a lane: the worker's side of it, until it is closed.
RunLane = Callable[[LaneSpec], None]


class Network(Peers):
    """The workers that an owner of lanes reaches: a kernel, or a worker whose actions await children.

    Args:
        me: This process's name as a peer.
        own_address: Address of the worker this process is; "" in a kernel.
        run_lane: Dask's task function of a lane.
    """

    def __init__(self, me: str, own_address: str, run_lane: RunLane) -> None:
        super().__init__(me)
        self.own_address = own_address
        #: Workers that lanes can be opened on, by address.
        self.roster: dict[str, WorkerInfo] = {}
        #: Workers that go on with what they have and are given nothing new, as long as there are others.
        self.resting: set[str] = set()
        #: Workers that do not answer: they are given nothing new until they do.
        self.silent: frozenset[str] = frozenset()
        self._run_lane = run_lane

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

    async def _dask(self) -> Any:
        """Dask's client, an asynchronous `distributed.Client`."""
        raise NotImplementedError

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
        return client.submit(
            self._run_lane, spec, key=f"flyte-{spec.task_name}-{spec.lane.rpartition(':')[2]}", pure=False, retries=0,
            resources=resources or None, workers=[prefer] if prefer else None,
            allow_other_workers=bool(prefer) and not only,
        )  # fmt: skip
