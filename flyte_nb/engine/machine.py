"""Machine: how busy workers are, how full, and what computes there; looked at when somebody asks. Runs in: engine thread.

CPU and memory are what Dask's workers tell their scheduler, once a second or so while anything is under way; what computes is
read from their black boxes, or asked for where those are on other machines.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from flyte_nb.core.history.worker_names import name_of
from flyte_nb.engine.clusters.cluster import ClusterHandle
from flyte_nb.engine.links.pulse import SILENT_S
from flyte_nb.engine.roster import KernelNetwork

#: Seconds for which an answer is given again, whoever asks.
FRESH_S = 0.8
#: Workers that are looked at: more than anybody reads.
MAX_WORKERS = 100
#: Seconds that the scheduler, and then workers elsewhere, have to answer.
ANSWER_WITHIN = 1.0

#: (run, action) of what holds a slot.
Computing = frozenset[tuple[str, str]]


class WorkerLoad(NamedTuple):
    """One worker, as it is now."""

    address: str
    #: "w0".
    name: str
    slots: int
    #: "running", or why it is given nothing new: "paused" (for memory), "silent", "starting", "leaving".
    state: str
    #: Of one core: 1.0 is all of it.
    cpu: float = 0.0
    #: Bytes: of its process, of what it may use (0: no limit), of Dask's own data that it has put on disk.
    memory: int = 0
    limit: int = 0
    spilled: int = 0
    computing: Computing = frozenset()
    #: Seconds for which it has been silent, or missing.
    since: float = 0.0


class Machine:
    """The workers of one kernel's cluster.

    Args:
        network: Of the kernel.
    """

    def __init__(self, network: KernelNetwork) -> None:
        self._network = network
        self._looking: asyncio.Task[list[WorkerLoad]] | None = None
        self._looked_at = 0.0

    async def look(self) -> list[WorkerLoad]:
        """All workers, as they are now, or were a moment ago."""
        now = time.monotonic()
        if self._looking is None or now - self._looked_at > FRESH_S:
            self._looked_at = now
            self._looking = asyncio.ensure_future(self._look())
        return await asyncio.shield(self._looking)

    async def _look(self) -> list[WorkerLoad]:
        handle = self._network.handle
        if handle is None or not self._network.ready.done():
            return []
        told: Mapping[str, Any] = {}
        with contextlib.suppress(Exception):  # then what was heard last is all there is
            asked = handle.client.scheduler.identity(n_workers=-1)
            told = (await asyncio.wait_for(asked, ANSWER_WITHIN))["workers"]
        infos = list(self._network.listing.workers.values())[:MAX_WORKERS]
        boxes = self._network.exits.computing()
        far = [info.address for info in infos if info.address not in boxes and info.address in self._network.links]
        boxes |= await self._ask(far)
        found = [self._load(info.address, info.nthreads, told.get(info.address, {}), boxes) for info in infos]
        return [*sorted(found, key=lambda load: (len(load.name), load.name)), *self._missing(handle)]

    def _load(
        self, address: str, slots: int, told: Mapping[str, Any], boxes: Mapping[str, Computing]
    ) -> WorkerLoad:  # fmt: skip
        metrics, quiet = told.get("metrics", {}), self._network.quiet.get(address, 0.0)
        state = "silent" if quiet >= SILENT_S else told.get("status", "running")
        state = "leaving" if state.startswith("clos") else state
        spilled: Any = metrics.get("spilled_bytes") or {}
        return WorkerLoad(
            address, name_of(address), slots, state, float(metrics.get("cpu") or 0.0) / 100, int(metrics.get("memory") or 0),
            int(told.get("memory_limit") or 0), int(spilled.get("disk", 0)), boxes.get(address, frozenset()),
            quiet if quiet >= SILENT_S else 0.0,
        )  # fmt: skip

    @staticmethod
    def _missing(handle: ClusterHandle) -> list[WorkerLoad]:
        missing, now = getattr(handle.cluster, "missing", {}), time.monotonic()
        return [WorkerLoad("", f"w{name}", 0, "starting", since=now - since) for name, since in missing.items()]

    async def _ask(self, addresses: list[str]) -> dict[str, Computing]:
        """What computes on workers of other machines, as far as they answer."""
        found: dict[str, Computing] = {}
        if not addresses:
            return found
        done = asyncio.get_running_loop().create_future()

        def heard(address: str, answer: Computing | None) -> None:
            found[address] = answer or frozenset()
            if len(found) == len(addresses) and not done.done():
                done.set_result(None)

        for address in addresses:
            self._network.questions.ask(address, "computing", (), functools.partial(heard, address))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done, ANSWER_WITHIN)
        return dict(found)
