"""Routes to workers: straight, or through the scheduler where that is the only way. Runs in: engine thread."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from distributed.comm.addressing import get_address_host
from distributed.comm.core import Comm, connect

from flyte_nb.engine.clusters import on_scheduler
from flyte_nb.engine.clusters.welcome import AsSource

#: Seconds that the straight way has for itself; then the other one is tried beside it.
ALONE_S = 0.5
#: Seconds in which a worker must be reached by one of them.
CONNECT_TIMEOUT = 10.0

#: What keeps links from going through a scheduler that does not take what kernels send it.
NO_RELAY = (
    "its scheduler relays no links, since it executes nothing for its clients ({}: {}). Start the scheduler without "
    '`distributed.scheduler.pickle: false`, or run the notebook where it reaches the workers and use links="direct"'
)

#: "direct" goes straight or not at all, "relay" through the scheduler always; "auto" takes what answers first.
Links = Literal["auto", "direct", "relay"]


class Routes:
    """How this process reaches the workers of a cluster.

    Args:
        client: Dask's.
        links: Which ways are open.
    """

    def __init__(self, client: Any, links: Links) -> None:
        self._client = client
        self._links = links
        self._args: dict[str, Any] = dict(client.security.get_connection_args("client"))
        #: Hosts of workers that are reached through the scheduler.
        self.relayed: set[str] = set()

    @property
    def has_relay(self) -> bool:
        """Whether the way through the scheduler is open."""
        return self._links != "direct"

    def is_relayed(self, address: str) -> bool:
        """Whether a worker is reached through the scheduler."""
        return self._links == "relay" or _host(address) in self.relayed

    def mistaken(self, address: str) -> bool:
        """What answers straight is another process; returns whether there is another way."""
        if self._links != "auto" or self.is_relayed(address):
            return False
        self.relayed.add(_host(address))
        return True

    async def connect(self, address: str) -> Comm:
        """A connection to a worker.

        Raises:
            OSError: It cannot be reached.
        """
        if self._links == "direct":
            return await self._straight(address)
        if self.is_relayed(address):
            try:
                return await self._relay(address)
            except OSError:
                self.relayed.discard(_host(address))  # the next try looks for both
                raise
        return await self._race(address)

    async def _race(self, address: str) -> Comm:
        straight = asyncio.ensure_future(self._straight(address))
        tunnelled = self._client.scheduler.address.startswith("gateway://")  # there is hardly another way
        await asyncio.wait({straight}, timeout=0 if tunnelled else ALONE_S)
        ways = {straight}
        if not straight.done() or straight.exception() is not None:
            ways.add(asyncio.ensure_future(self._relay(address)))
        errors: list[str] = []
        try:
            while ways:
                done, ways = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in done:
                    if (error := way.exception()) is None:
                        if way is not straight:
                            self.relayed.add(_host(address))
                        found: Comm = way.result()
                        return found
                    errors.append(str(error) or type(error).__name__)
            raise OSError("; ".join(errors))
        finally:
            for way in ways:
                way.cancel()
                way.add_done_callback(_abort)

    async def _straight(self, address: str) -> Comm:
        comm: Comm = await connect(address, timeout=CONNECT_TIMEOUT, **self._args)
        return comm

    async def _relay(self, address: str) -> Comm:
        try:
            await self._client.run_on_scheduler(AsSource(on_scheduler, "offer_relay"), self._client.id)
        except OSError:
            raise
        except Exception as exc:  # it is the scheduler's own, whatever it is
            raise OSError(NO_RELAY.format(type(exc).__name__, exc)) from exc
        comm: Comm = await connect(self._client.scheduler.address, timeout=CONNECT_TIMEOUT, **self._args)
        try:
            await comm.write({"op": on_scheduler.OP, "to": address, "reply": False})
            said = await asyncio.wait_for(comm.read(), on_scheduler.REACH_S + 2)
        except BaseException:
            comm.abort()
            raise
        if said != on_scheduler.REACHED:
            comm.abort()
            raise OSError(f"through the scheduler: {said}")
        return comm


def _host(address: str) -> str:
    return str(get_address_host(address))


def _abort(way: asyncio.Future[Comm]) -> None:
    if not way.cancelled() and way.exception() is None:
        way.result().abort()
