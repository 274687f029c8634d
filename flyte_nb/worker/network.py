"""Network of a worker: its links, the roster, and a Dask client for the lanes of children. Runs in: worker loop."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Callable
from typing import Any

import distributed
from distributed.comm.core import Comm, connect

from flyte_nb.core.control.questions import Then
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.history.worker_names import learn
from flyte_nb.engine.clusters.worker_exits import WorkerExit
from flyte_nb.engine.dispatch.network import Network
from flyte_nb.engine.links.link import LocalLink, PeerLink, op_of
from flyte_nb.engine.links.peers import is_worker
from flyte_nb.engine.links.routes import CONNECT_TIMEOUT
from flyte_nb.engine.links.socket_stream import can_be_taken
from flyte_nb.engine.links.wire import Message, WorkerInfo

#: Seconds that a lane waits for its kernel to connect before it gives up.
OWNER_TIMEOUT = 30.0


class WorkerNetwork(Network):
    """Links to the kernels that have connected, and to the workers that something is sent to.

    It is also the `core.control.questions.Home` of this worker's controller.

    Args:
        worker: Dask's.
        kernel: Whose work it is for.
    """

    def __init__(self, worker: Any, kernel: str) -> None:
        super().__init__(worker.address, kernel, worker.address)
        #: The roster until the kernel sends one.
        self._alone = self.roster = {self.me: WorkerInfo(self.me, worker.state.nthreads)}
        self.worker = worker
        self._client: distributed.Client | None = None
        self._starting: asyncio.Future[Any] | None = None

    def listen(self) -> None:
        """Accept links from now on."""
        self.worker.handlers[op_of(self.kernel)] = self._accept
        self.expect(self.kernel)

    async def _accept(self, comm: Any, peer: str, by_socket: bool, **_ignored: Any) -> None:
        """A peer connects: serve it until it goes."""
        by_socket = by_socket and can_be_taken(comm)
        await comm.write((self.me, by_socket))
        link = PeerLink(peer, self._dispatch, self._closed)
        old = self.links.get(peer)
        if old is not None and not is_worker(peer):  # a kernel that connects anew has given up what was here
            old.close()
            self._closed(old)
        if peer in self.departed:
            self.departed.remove(peer)
        link.attach(comm, by_socket)
        self._linked(peer, link)
        await link.wait_closed()

    def _link_needed(self, peer: str) -> None:
        """Connect to a worker; a kernel connects by itself."""
        if peer == self.me:
            self.links.pop(peer, None)
            self._linked(peer, LocalLink(peer, self._dispatch))
        elif is_worker(peer) and peer not in self._connecting:
            self.connect(peer)

    async def _reach(self, address: str) -> Comm:
        args = self.worker.security.get_connection_args("worker")
        comm: Comm = await connect(address, timeout=CONNECT_TIMEOUT, **args)
        return comm

    def reply(self, peer: str, message: Message) -> None:
        """Send over the link to a peer; dropped if the peer has disconnected meanwhile."""
        if (link := self.links.get(peer)) is not None:
            link.send(message)

    def expect(self, peer: str) -> None:
        """Count a kernel as lost if it does not connect in time."""
        if not is_worker(peer) and peer not in self.links:
            asyncio.get_running_loop().call_later(OWNER_TIMEOUT, self._check_arrival, peer)

    def _check_arrival(self, kernel: str) -> None:
        if kernel not in self.links and kernel not in self.departed:
            self._lost(kernel)

    def set_roster(self, whole: bool, workers: dict[str, WorkerInfo | None], silent: frozenset[str]) -> None:
        """Take the kernel's list of workers, or changes of it, and those that do not answer it; who has left rests."""
        before = {} if whole or self.roster is self._alone else self.roster
        roster = {address: worker for address, worker in (before | workers).items() if worker is not None}
        self.silent: frozenset[str] = silent - {self.me}
        self.resting: set[str] = ((self.resting | self.roster.keys()) - roster.keys()) & self.links.keys()
        self.roster = roster or self._alone
        for info in workers.values():
            if info is not None:
                learn(info.address, info.name or info.address)

    # -- the home of the controller, the network of the executor --------------------------------------------------

    def ask(self, run: RunInfo, op: str, args: tuple[Any, ...], then: Then) -> None:
        """Ask a run's home (`flyte_nb.core.control.questions.Home`)."""
        if run.home in self.departed:
            asyncio.get_running_loop().call_soon(then, None)
            return
        self.questions.ask(run.home, "home", (run.name, op, args), then)

    def ask_home(self, run: RunInfo, op: str, args: tuple[Any, ...]) -> None:
        """Tell a run's home something that needs no answer."""
        self.ask(run, op, args, lambda _answer: None)

    def cause(self, address: str, run: RunInfo, then: Callable[[WorkerExit], None]) -> None:
        """Call `then` with the cause of a worker's exit: a run's home knows it."""
        self.ask(run, "worker_exit", (address,), lambda found: then(found or WorkerExit(address)))

    async def _dask(self) -> Any:
        """A client of the scheduler, for the lanes of children."""
        if self._starting is None or (self._starting.done() and self._starting.exception() is not None):
            self._client = distributed.Client(
                self.worker.scheduler.address, security=as_client(self.worker.security), asynchronous=True,
                set_as_default=False, name=f"flyte_nb-{self.kernel}",
            )  # fmt: skip
            self._starting = asyncio.ensure_future(self._client)
        return await self._starting

    async def close(self) -> None:
        """Take no more links, close those that are open, and leave the scheduler."""
        self.worker.handlers.pop(op_of(self.kernel), None)
        self.close_links()
        if self._client is not None:
            with contextlib.suppress(Exception):  # its scheduler may be gone
                await self._client.close()


def as_client(security: Any) -> Any:
    """A worker's credentials, for a client in it: ``dask worker --tls-...`` fills only the role of a worker."""
    own = security.get_tls_config_for_role("worker")
    found = copy.copy(security)
    found.tls_client_cert, found.tls_client_key = own["cert"], own["key"]
    return found
