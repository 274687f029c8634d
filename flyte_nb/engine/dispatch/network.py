"""Protocol of a process that owns lanes: links to workers, the roster, Dask. Runs in: engine thread; worker loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.engine.clusters.worker_exits import WorkerExit
from flyte_nb.engine.links.wire import LaneSpec, Message, WorkerInfo


class Network(Protocol):
    """The process of an owner: a kernel, or a worker."""

    #: This process's name as a peer.
    me: str
    #: Address of the worker this process is; "" in a kernel.
    own_address: str
    #: Workers that are given nothing new, as long as there are others.
    resting: set[str]

    def send(self, address: str, message: Message) -> None:
        """Send to a worker; connects first if need be."""

    def workers(self) -> dict[str, WorkerInfo]:
        """The roster."""

    async def submit_lane(self, spec: LaneSpec, resources: dict[str, float], prefer: str, only: bool) -> Any:
        """Have Dask run a lane, best (or only) on the worker `prefer`; returns its future."""

    def cause(self, address: str, run: RunInfo, then: Callable[[WorkerExit], None]) -> None:
        """Call `then` with the cause of a worker's loss, once it is known."""
