"""What a scheduler does for kernels: relay links to workers, ask for more workers. Runs in: scheduler; sent there as source.

*Relay.* Whatever lets a client reach the scheduler (a gateway, a tunnel, a forwarded port) lets a link through: it is one more
connection to the same port. The scheduler connects to the worker and copies bytes both ways, undecoded.

*Demand.* Actions wait in queues that Dask does not see, and the lanes that take them do not count as work (they have seceded).
So an adaptive cluster is told how many slots are wanted, when it asks the scheduler how many workers it should have.

All of it goes with the last client that uses it, also if that was killed.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

from distributed import SchedulerPlugin
from distributed.comm.core import connect

#: Name of the plugin.
NAME = "flyte_nb"
#: Name of the handler.
OP = "flyte_relay"
#: What the relay says once it has reached the worker.
REACHED = "reached"
#: Seconds to reach it.
REACH_S = 10.0
#: Bytes copied at once: at first, and by a link that has more to carry.
CHUNK, MOST = 1 << 14, 1 << 20


class Service(SchedulerPlugin):
    """Of one scheduler."""

    name = NAME

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        #: Dask's clients that have links relayed.
        self.relayed: set[str] = set()
        #: Slots that clients want.
        self.wanted: dict[str, int] = {}
        self._own = scheduler.handlers["adaptive_target"]
        scheduler.handlers[OP] = self.relay
        scheduler.adaptive_target = scheduler.handlers["adaptive_target"] = self.adaptive_target
        scheduler.add_plugin(self, name=NAME)

    def remove_client(self, scheduler: Any, client: str) -> None:
        """A client has left, or was lost."""
        self.relayed.discard(client)
        self.wanted.pop(client, None)
        self.leave()

    def leave(self) -> None:
        """Leave the scheduler as it was, unless there is still something to do."""
        if self.relayed or self.wanted:
            return
        scheduler = self._scheduler
        scheduler.handlers.pop(OP, None)
        scheduler.handlers["adaptive_target"] = self._own
        vars(scheduler).pop("adaptive_target", None)
        scheduler.plugins.pop(NAME, None)

    def adaptive_target(self, target_duration: Any = None) -> int:
        """How many workers there should be: what Dask finds, or what kernels want."""
        own: int = self._own(target_duration=target_duration)
        workers = self._scheduler.workers.values()
        each = sum(worker.nthreads for worker in workers) / len(workers) if workers else 1
        return max(own, math.ceil(sum(self.wanted.values()) / each))

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
    buffer = bytearray(CHUNK)
    try:
        while not (hasattr(source, "stream") and hasattr(target, "stream")):
            await target.write(await source.read())
        while True:
            size = await source.stream.read_into(buffer, partial=True)
            # TLS gives 16 kB at a time, of which more may be there.
            while size < len(buffer) and (more := source.stream.read_from_fd(memoryview(buffer)[size:])):
                size += more
            await target.stream.write(memoryview(buffer)[:size])
            if size == len(buffer) < MOST:
                buffer = bytearray(2 * size)
    except Exception:  # one of them has ended
        pass
    finally:
        source.abort()
        target.abort()


def offer_relay(client: str, dask_scheduler: Any = None) -> None:
    """Have links relayed as long as this client is there. Idempotent."""
    service = dask_scheduler.plugins.get(NAME) or Service(dask_scheduler)
    service.relayed.add(client)


def want(client: str, slots: int, dask_scheduler: Any = None) -> bool:
    """Have a client's demand counted: so many slots, from now on; False if the scheduler does not know that client (yet)."""
    known = client in dask_scheduler.clients
    if known:
        service = dask_scheduler.plugins.get(NAME) or Service(dask_scheduler)
        service.wanted.pop(client, None)
        if slots:
            service.wanted[client] = slots
        service.leave()
    return known
