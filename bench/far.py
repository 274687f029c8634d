"""A kernel that is far from its cluster, and one that reaches workers through the scheduler, beside raw Dask. Runs in: `make bench`.

Far: a wire with a delay on loopback (`bench.far_wire`), 100 ms there and back. Takes about a minute.

    python -m bench.far
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import distributed

import flyte_nb as flyte
from bench.far_wire import FarWire, far_cluster
from flyte_nb.testing import run_cell

#: Seconds there and back.
ROUND_TRIP_S = 0.1
#: Maps of sync actions: how many, and seconds of each.
MAPS = ((200, 0.02), (60, 0.06))

env = flyte.TaskEnvironment("bench-far")


@env.task
async def noop(x: int) -> int:
    return x


@env.task
def work(x: int, seconds: float) -> int:
    time.sleep(seconds)
    return x


def raw_work(x: int, seconds: float) -> int:
    """The same, for Dask."""
    time.sleep(seconds)
    return x


def timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def await_s(n: int) -> float:
    """Median of an await."""

    async def cell() -> float:
        times = []
        for i in range(n + 10):
            started = time.perf_counter()
            await noop(i)
            times.append(time.perf_counter() - started)
        return statistics.median(times[10:])

    return run_cell(cell)


def map_s(n: int, seconds: float) -> float:
    """Of a map, the second time."""

    async def cell() -> float:
        await asyncio.gather(*(work.aio(i, seconds) for i in range(n)))
        started = time.perf_counter()
        await asyncio.gather(*(work.aio(i, seconds) for i in range(n)))
        return time.perf_counter() - started

    return run_cell(cell)


def show(name: str, raw: float | None, ours: float, asked: str, met: bool) -> None:
    """One row."""
    raw_text = f"{raw:10.3f} {ours:10.3f} {ours / raw:7.3f}" if raw else f"{'-':>10} {ours:10.3f} {'-':>7}"
    print(f"{name:48} {raw_text}  {asked}{'' if met else '  NOT MET'}", flush=True)


def far() -> None:
    """The rows of a far kernel."""
    with far_cluster(Path(tempfile.mkdtemp()), ROUND_TRIP_S / 2) as address:
        raw = {}
        with distributed.Client(address, set_as_default=False) as client:
            client.submit(raw_work, 0, 0.0).result()
            latency = statistics.median(timed(lambda: client.submit(raw_work, i, 0.0).result()) for i in range(1, 8))  # noqa: B023
            for n, seconds in MAPS:
                futures = [seconds] * n
                raw[n] = timed(lambda: client.gather(client.map(raw_work, range(n), futures, pure=False)))  # noqa: B023
        flyte.init(address)
        mine = await_s(10)
        show("await at 100 ms (ms)", latency * 1e3, mine * 1e3, "<= 105 ms", mine <= ROUND_TRIP_S + 0.005)
        for n, seconds in MAPS:
            took = map_s(n, seconds)
            show(f"{n} x {seconds * 1e3:.0f} ms at 100 ms (s)", raw[n], took, "<= 1.2 x raw", took <= 1.2 * raw[n])
        flyte.shutdown()
    wire = FarWire(0.0)
    with far_cluster(Path(tempfile.mkdtemp()), 0.0, wire=wire) as address:
        flyte.init(address)
        map_s(*MAPS[0])
        wire.delay_s = ROUND_TRIP_S / 2
        await_s(5)
        n, seconds = MAPS[0]
        took = map_s(n, seconds)
        show(
            f"{n} x {seconds * 1e3:.0f} ms, 100 ms from then on (s)", raw[n], took, "<= 1.2 x raw", took <= 1.2 * raw[n]
        )
        flyte.shutdown()


def relay() -> None:
    """The row of links through the scheduler."""
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        found: dict[str, float] = {}
        for links in ("direct", "relay"):
            flyte.init(cluster, links=links)
            found[links] = await_s(200)
            flyte.shutdown()
    ratio = found["relay"] / found["direct"]
    asked = f"<= 1.5 x direct ({found['direct'] * 1e3:.2f} ms)"
    show("await through the scheduler (ms)", None, found["relay"] * 1e3, asked, ratio <= 1.5)


if __name__ == "__main__":
    print(f"{'':48} {'raw Dask':>10} {'flyte_nb':>10} {'ratio':>7}  asked")
    relay()
    far()
