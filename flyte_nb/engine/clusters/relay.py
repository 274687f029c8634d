"""Relay of links through the scheduler, for kernels that cannot reach the workers. Runs in: scheduler; sent there as source.

Whatever lets a client reach the scheduler (a gateway, a tunnel, a forwarded port) lets a link through: it is one more
connection to the same port. The scheduler connects to the worker and copies bytes both ways, undecoded. The relay goes with
the last kernel that asked for it, also if that was killed.
"""

from __future__ import annotations

import asyncio
from typing import Any

from distributed import SchedulerPlugin
from distributed.comm.core import connect

#: Name of the handler and of the plugin.
OP = "flyte_relay"
#: What the relay says once it has reached the worker.
REACHED = "reached"
#: Seconds to reach it.
REACH_S = 10.0
#: Bytes copied at once.
CHUNK = 1 << 20


class Relay(SchedulerPlugin):
    """Of one scheduler."""

    name = OP

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        #: Dask's clients that asked for it.
        self.clients: set[str] = set()

    def remove_client(self, scheduler: Any, client: str) -> None:
        """A client has left, or was lost."""
        self.clients.discard(client)
        if not self.clients:
            scheduler.handlers.pop(OP, None)
            scheduler.plugins.pop(OP, None)

    async def relay(self, comm: Any, to: str, **_: Any) -> None:
        """Carry a connection on to a worker, until either side ends it."""
        try:
            if to not in self._scheduler.workers:  # no way into the network beside the cluster
                raise OSError(f"{to} is no worker of this cluster")
            far = await connect(to, timeout=REACH_S, **self._scheduler.connection_args)
        except Exception as exc:
            await comm.write(f"{type(exc).__name__}: {exc}")
            return
        await comm.write(REACHED)
        await asyncio.gather(_copy(comm, far), _copy(far, comm))


async def _copy(source: Any, target: Any) -> None:
    try:
        while True:
            if hasattr(source, "stream") and hasattr(target, "stream"):
                await target.stream.write(await source.stream.read_bytes(CHUNK, partial=True))
            else:
                await target.write(await source.read())
    except Exception:  # one of them has ended
        pass
    finally:
        source.abort()
        target.abort()


def offer(client: str, dask_scheduler: Any = None) -> None:
    """Have the scheduler relay links as long as this client is there. Idempotent."""
    relay = dask_scheduler.plugins.get(OP)
    if relay is None:
        relay = Relay(dask_scheduler)
        dask_scheduler.add_plugin(relay, name=OP)
        dask_scheduler.handlers[OP] = relay.relay
    relay.clients.add(client)
