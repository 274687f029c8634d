"""What one kernel carries: workers that answer without computing, over real links. Runs in: ``python -m bench.carries``.

A kernel's engine with its controller, store and links, as it is; in place of a cluster, a process in which 10 to 1,000 workers
answer each attempt after a time, as if it had computed so long. Both threads of the kernel share one interpreter: it is full where
what they take together reaches a second a second.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any

from distributed.comm.core import Comm, connect, listen

import flyte_nb as flyte
from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.transport.payload import dumps
from flyte_nb.engine import kernel_engine
from flyte_nb.engine.clusters.credentials import SessionSecurity
from flyte_nb.engine.links.link import PeerLink
from flyte_nb.engine.links.wire import LaneSpec, WorkerInfo
from flyte_nb.engine.roster import KernelNetwork
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell

#: Seconds that each measurement asks for actions, about.
SECONDS = 5.0
MOST = 20_000
env = flyte.TaskEnvironment("carries")


@env.task
def answer(seconds: float, x: int) -> None:
    """Never executed."""


# -- the workers -------------------------------------------------------------------------------------------------------


class Worker:
    """One that answers each attempt `seconds` after the one before."""

    def __init__(self, address: str, link_of: Any) -> None:
        self.address = address
        self.value = dumps(None)
        self.free_at = 0.0
        self.counts: dict[str, int] = {}

    def take(self, link: PeerLink, message: Any) -> None:
        match message:
            case ("ask", number, "sim", (lane,)):
                link.send(("answer", number, None))
                link.send(("lane", lane, "open"))
            case ("ask", number, *_):
                link.send(("answer", number, None))
            case ("bundle", lane, works):
                self._execute(link, lane, works)
            case ("close", lane):
                link.send(("closed", lane))
            case _:
                pass

    def _execute(self, link: PeerLink, lane: str, works: list[Work]) -> None:
        loop, seconds = asyncio.get_running_loop(), SPEED[0]
        if not seconds:
            self._answer(link, lane, works)
            return
        for work in works:
            self.free_at = max(self.free_at, loop.time()) + seconds
            loop.call_at(self.free_at, self._answer, link, lane, [work])

    def _answer(self, link: PeerLink, lane: str, works: list[Work]) -> None:
        now = time.time()
        done = self.counts[lane] = self.counts.get(lane, 0) + len(works)
        place = (self.address, 1, lane[-6:])
        link.send(("progress", lane, done, done, done * max(SPEED[0], 1e-6), False))
        link.send(
            (
                "ended",
                lane,
                [Outcome(*work[:3], "ok", self.value, None, now, now, "None", place, SPEED[0]) for work in works],
            )
        )


#: Seconds that each action takes.
SPEED = [0.0]


async def serve(count: int, seconds: float) -> None:
    """Be so many workers until standard input closes."""
    SPEED[0] = seconds
    security = SessionSecurity(**eval(sys.stdin.readline()))
    for _ in range(count):

        async def accept(comm: Comm) -> None:
            hello: Any = await comm.read()
            worker = Worker(comm.local_address, None)
            await comm.write((comm.local_address, True))
            link = PeerLink(hello["peer"], worker.take, lambda _link: None)
            link.attach(comm, True)
            await link.wait_closed()

        listener = await listen("tls://127.0.0.1:0", accept, **security.get_listen_args("worker"))
        print(listener.contact_address, flush=True)
    await asyncio.to_thread(sys.stdin.read)


# -- the kernel --------------------------------------------------------------------------------------------------------


class Lane:
    """Of a lane, what Dask's future would be."""

    status = "pending"

    def add_done_callback(self, _call: Any) -> None: ...
    def release(self) -> None: ...


class Simulated(KernelNetwork):
    """Links to workers that are listed from the beginning."""

    addresses: list[str]
    security: SessionSecurity

    async def start(self, target: Any, **_options: Any) -> None:
        await asyncio.gather(*(self.connect(address) for address in self.addresses))
        assert len(self.links) == len(self.addresses)
        self.roster = {address: WorkerInfo(address, 1) for address in self.links}
        self.ready.set_result(None)

    async def _reach(self, address: str) -> Comm:
        return await connect(address, timeout=60, **self.security.get_connection_args("client"))

    def _update_roster(self) -> None:
        pass

    async def submit_lane(self, spec: LaneSpec, resources: dict[str, float], prefer: str, only: bool) -> Any:
        self.questions.ask(prefer, "sim", (spec.lane,), lambda _answer: None)
        return Lane()


def measure(count: int, seconds: float) -> tuple[float, float, float]:
    """Actions a second; CPU that each takes of the engine's thread and of the caller's, in us."""
    security = SessionSecurity.temporary()
    fields = {name: getattr(security, name) for name in ("require_encryption", *(f"tls_{role}_{what}" for role in ("client", "worker") for what in ("key", "cert")), "tls_ca_file")}  # fmt: skip
    command = [sys.executable, "-m", "bench.carries", "serve", str(count), str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(repr(fields) + "\n")
        process.stdin.flush()
        Simulated.addresses, Simulated.security = [process.stdout.readline().strip() for _ in range(count)], security
        kernel_engine.KernelNetwork = Simulated  # type: ignore[misc]
        flyte.init(n_workers=count)
        assert Session.current is not None
        Session.current.wait_ready(120)
        n = int(min(MOST, count * SECONDS / seconds)) if seconds else MOST
        thread = Session.current.engine.call

        async def cpu() -> float:
            return time.thread_time()

        async def cell() -> tuple[float, float, float]:
            await asyncio.gather(*(answer.aio(seconds, x) for x in range(2 * count)))  # lanes open
            engine, own, began = thread(cpu), time.thread_time(), time.perf_counter()
            await asyncio.gather(*(answer.aio(seconds, x) for x in range(n)))
            took = time.perf_counter() - began
            return n / took, (thread(cpu) - engine) / n * 1e6, (time.thread_time() - own) / n * 1e6

        found = run_cell(cell)
        flyte.shutdown()
        process.stdin.close()
    return found


def main() -> None:
    """Print the table."""
    print(
        f"{'workers':>8} {'an action takes':>16} {'wanted a second':>16} {'actions a second':>17} {'us of engine':>13} {'caller':>8}"
    )
    for seconds in (0.0, 0.01, 0.1, 1.0):
        for count in (10, 100, 1_000):
            rate, engine, caller = measure(count, seconds)
            wanted = f"{count / seconds:,.0f}" if seconds else "-"
            print(
                f"{count:8,} {f'{seconds} s':>16} {wanted:>16} {rate:17,.0f} {engine:13.0f} {caller:8.0f}", flush=True
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(int(sys.argv[2]), float(sys.argv[3])))
    else:
        main()
