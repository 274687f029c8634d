"""What 1,000 workers and 100,000 actions cost a kernel: its roster, lanes and pulse against workers that are only simulated.

Each worker is the other end of a link within this process: it opens lanes, answers questions, and ends what it is sent after as
long as it would have computed. Dask's scheduler is left out, and what its list of workers costs is measured by itself.

    python -m bench.many_workers [WORKERS [ACTIONS]]
    python -m bench.many_workers --carry

The second form has 10 to 1,000 workers that answer at once: what it prints is what the kernel's thread is full with.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import msgpack

import flyte_nb as flyte
from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.history.worker_names import Numbers
from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.code_versions import CodeVersions
from flyte_nb.engine.dispatch.executor import DaskExecutor
from flyte_nb.engine.links.blob_fetch import Fetcher
from flyte_nb.engine.links.link import PeerLink
from flyte_nb.engine.links.wire import LaneSpec, ToOwner, handlers_of
from flyte_nb.engine.listing import Listing
from flyte_nb.engine.roster import KernelNetwork

#: Seconds that an action computes.
COMPUTES_S = 0.5
#: Workers that answer at once, and actions for them.
CARRIED = ((10, 100_000), (100, 100_000), (1_000, 100_000))
#: Seconds for which idle costs are measured.
IDLE_S = 10.0

env = flyte.TaskEnvironment("simulated")


@env.task
def work(x: int) -> int:
    """Never executed."""
    return x


class SimulatedWorker(PeerLink):
    """A worker of one slot, as its owner's link."""

    def __init__(self, address: str, network: KernelNetwork, computes_s: float) -> None:
        super().__init__(address, lambda _link, _message: None, lambda _link: None)
        self._computes_s = computes_s
        self._network = network
        self._loop = asyncio.get_running_loop()
        self._done = 0
        self._free_at = 0.0

    def send(self, message: Any) -> None:
        """Take a message, and answer soon."""
        kind = message[0]
        if kind == "ask":
            self._loop.call_soon(self._tell, ("answer", message[1], []))
        elif kind == "bundle":
            for each in message[2]:
                self._free_at = max(self._free_at, self._loop.time()) + self._computes_s
                self._loop.call_at(self._free_at, self._end, message[1], each)
        elif kind == "close":
            self._loop.call_soon(self._tell, ("closed", message[1]))

    def _end(self, lane: str, each: Work) -> None:
        self._done += 1
        now = time.time()
        self._tell(("progress", lane, self._done, self._done, self._done * self._computes_s, False))
        self._tell(("ended", lane, [Outcome(*each[:3], "ok", b"", None, now, now)]))

    def _tell(self, message: Any) -> None:
        self.received += 100
        self._network.handlers[message[0]](self.peer, *message[1:])


class SimulatedNetwork(KernelNetwork):
    """A cluster of such workers."""

    def grow(self, n: int, computes_s: float) -> None:
        """Have workers come, one by one."""
        addresses = [f"tcp://10.0.{number // 250}.{number % 250}:40000" for number in range(n)]
        self.listing = Listing.of(
            {"workers": {address: worker_as_dask_tells(address) for address in addresses}}, self._numbers
        )
        self.ready.set_result(None)
        for address in addresses:
            self._linked(address, SimulatedWorker(address, self, computes_s))

    async def submit_lane(self, spec: LaneSpec, resources: dict[str, float], prefer: str, only: bool) -> Any:
        """Open it on the worker that was preferred."""
        asyncio.get_running_loop().call_soon(lambda: self.handlers["lane"](prefer, spec.lane, "open"))
        return _Future()


class _Future:
    status = "pending"

    def add_done_callback(self, _then: Any) -> None:
        """Never called."""

    def release(self) -> None:
        """Nothing to do."""


def worker_as_dask_tells(address: str) -> dict[str, Any]:
    """One worker of the scheduler's answer, as large as a real one."""
    metrics = {f"metric-{number}": 123456.789 for number in range(60)}
    return {"type": "Worker", "id": address, "host": address[6:14], "resources": {}, "local_directory": "/tmp/" + "d" * 60,
            "name": address, "nthreads": 1, "memory_limit": 1 << 33, "last_seen": 1.0, "services": {}, "metrics": metrics,
            "status": "running", "nanny": address}  # fmt: skip


async def measure(n_workers: int, n_actions: int, computes_s: float = COMPUTES_S) -> None:
    """Print the figures."""
    network = SimulatedNetwork("")
    blobs = Blobs()
    executor = DaskExecutor(network, Fetcher(network.questions, blobs), CodeVersions(blobs))
    network.handlers.update(handlers_of(executor, ToOwner))
    network.on_roster = executor.roster_changed
    cpu = time.process_time()
    network.grow(n_workers, computes_s)
    while len(network.roster) < n_workers:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    print(f"{n_workers:,} workers linked: {time.process_time() - cpu:.2f} s of CPU", flush=True)

    async def idle(what: str) -> None:
        started, before = time.perf_counter(), time.process_time()
        await asyncio.sleep(IDLE_S)
        share = (time.process_time() - before) / (time.perf_counter() - started)
        print(f"{what}: {100 * share:.1f} % of a core", flush=True)

    if computes_s:
        await idle("idle, links and pulse")
    run, done, finished = RunInfo(name="r1"), 0, asyncio.Event()

    def ended(_outcome: Outcome) -> None:
        nonlocal done
        done += 1
        if done == n_actions:
            finished.set()

    cpu, started = time.process_time(), time.perf_counter()
    for number in range(n_actions):
        executor.start(work, run, Work("r1", f"x{number}", 0, b"", f"work({number})"), ended)
    await finished.wait()
    took, spent = time.perf_counter() - started, time.process_time() - cpu
    ideal = n_actions * computes_s / n_workers
    print(
        f"{n_actions:,} actions of {computes_s} s: {took:.1f} s (ideal {ideal:.1f}), {1e6 * spent / n_actions:.0f} us of CPU each"
    )
    if not computes_s:
        await executor.close()
        return
    await idle("idle, with open lanes")
    told = msgpack.packb({"workers": {address: worker_as_dask_tells(address) for address in network.roster}})
    before = time.process_time()
    Listing.of(msgpack.unpackb(told), Numbers())
    each = time.process_time() - before
    print(
        f"the scheduler's list: {len(told) / 1e6:.1f} MB, {1e3 * each:.0f} ms to read, every {max(0.5, n_workers * 3e-3):.1f} s"
    )
    await executor.close()


if __name__ == "__main__":
    if "--carry" in sys.argv:
        for carried in CARRIED:
            asyncio.run(measure(*carried, 0.0))
        sys.exit()
    given = [int(word) for word in sys.argv[1:]]
    asyncio.run(measure(*(given + [1_000, 100_000][len(given) :])))
