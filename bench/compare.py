"""flyte_nb beside raw Dask, in one run: ratios that do not depend on the machine. Runs in: `make bench`.

Both use the same embedded cluster settings (two single-threaded processes over TLS on loopback). The last column is what we
ask of ourselves; a machine that does something else meanwhile shows ratios that are too bad. Takes about two minutes.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import psutil

import flyte_nb as flyte
from flyte_nb.testing import run_cell

env = flyte.TaskEnvironment("bench")

#: 64 MB.
ARRAY = np.arange(8_000_000.0)


@env.task
async def noop(x: int) -> int:
    return x


@env.task
async def nap(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return 1


@env.task
def burn(seconds: float) -> int:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return 1


@env.task
async def fib(n: int) -> int:
    if n < 2:
        return n
    a, b = await asyncio.gather(fib(n - 1), fib(n - 2))
    return a + b


@env.task
async def peek(array: np.ndarray, at: int) -> float:
    return float(array[at])


def timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


# -- flyte_nb ----------------------------------------------------------------------------------------------------------


def ours_latency() -> float:
    async def cell() -> float:
        times = []
        for i in range(200):
            started = time.perf_counter()
            await noop(i)
            times.append(time.perf_counter() - started)
        return statistics.median(times[20:])

    return run_cell(cell)


def ours_map(n: int) -> float:
    async def cell() -> float:
        started = time.perf_counter()
        count = 0
        async for _ in flyte.map.aio(noop, range(n)):
            count += 1
        assert count == n
        return time.perf_counter() - started

    return run_cell(cell)


def ours_gather(task: object, n: int, *args: object) -> float:
    async def cell() -> float:
        started = time.perf_counter()
        await asyncio.gather(*(task.aio(*args) for _ in range(n)))  # type: ignore[attr-defined]
        return time.perf_counter() - started

    return run_cell(cell)


def ours_straggler() -> float:
    async def cell() -> float:
        started = time.perf_counter()
        await asyncio.gather(burn.aio(2.0), *(burn.aio(0.001) for _ in range(2000)))
        return time.perf_counter() - started

    return run_cell(cell)


def ours_fib() -> float:
    async def cell() -> float:
        started = time.perf_counter()
        assert await fib(12) == 144
        return time.perf_counter() - started

    return run_cell(cell)


def ours_array(array: np.ndarray) -> float:
    async def cell() -> float:
        started = time.perf_counter()
        await asyncio.gather(*(peek(array, i) for i in range(100)))
        return time.perf_counter() - started

    return run_cell(cell)


# -- raw Dask ----------------------------------------------------------------------------------------------------------


def raw_identity(x: int) -> int:
    return x


def raw_nap(seconds: float) -> int:
    time.sleep(seconds)
    return 1


def raw_burn(seconds: float) -> int:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return 1


def raw_peek(array: np.ndarray, at: int) -> float:
    return float(array[at])


def raw_array(client: object, array: np.ndarray) -> None:
    client.gather([client.submit(raw_peek, array, i, pure=False) for i in range(100)])  # type: ignore[attr-defined]


def raw_fib(n: int) -> int:
    from distributed import get_client, secede

    if n < 2:
        return n
    client = get_client()
    futures = client.map(raw_fib, [n - 1, n - 2], pure=False)
    secede()
    return sum(client.gather(futures))


def raw_dask() -> dict[str, float]:
    import distributed

    security = distributed.Security.temporary()
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            protocol="tls",
            security=security,
            dashboard_address=None,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.submit(raw_identity, 0).result()
        times = []
        for i in range(100):
            started = time.perf_counter()
            client.submit(raw_identity, i, pure=False).result()
            times.append(time.perf_counter() - started)
        straggler = timed(lambda: client.gather(client.map(raw_burn, [2.0, *[0.001] * 2000], pure=False)))
        return {
            "latency": statistics.median(times[20:]),
            "map": timed(lambda: client.gather(client.map(raw_identity, range(10_000), pure=False))),
            "naps": timed(lambda: client.gather(client.map(raw_nap, [0.5] * 40, pure=False))),
            "burns": timed(lambda: client.gather(client.map(raw_burn, [0.1] * 40, pure=False))),
            "straggler": straggler,
            "fib": timed(lambda: client.submit(raw_fib, 12).result()),
            "array": timed(lambda: raw_array(client, ARRAY)),
        }


class Row(NamedTuple):
    """One line of the table."""

    name: str
    #: Raw Dask's figure; None where it was not run.
    raw: float | None
    ours: float
    #: What is asked, in words, and whether it is met.
    asked: str
    met: bool


def measure() -> list[Row]:
    """Both sides, one after the other."""
    raw = raw_dask()
    flyte.init(n_workers=2)
    from flyte_nb.kernel.session import Session

    assert Session.current is not None
    Session.current.wait_ready(60)
    ours_gather(noop, 10, 1)
    ours_gather(nap, 4, 0.01)
    ours_gather(burn, 4, 0.001)
    latency = ours_latency()
    quick = min(ours_map(10_000) for _ in range(3))
    naps, burns, straggler = ours_gather(nap, 40, 0.5), ours_gather(burn, 40, 0.1), ours_straggler()
    ours_fib()  # as in raw Dask, connections between workers are there when it counts
    trees, thousand, array = ours_fib(), ours_gather(nap, 1000, 1.0), ours_array(ARRAY)
    before = psutil.Process().memory_info().rss
    large = ours_map(100_000)
    grown = (psutil.Process().memory_info().rss - before) / 1e6
    flyte.shutdown()
    return [
        Row("sequential await of a no-op, p50 (ms)", raw["latency"] * 1e3, latency * 1e3, "<= 0.45 x raw", latency <= 0.45 * raw["latency"]),
        Row("map of 10,000 no-ops (s)", raw["map"], quick, ">= 40 x as fast", quick * 40 <= raw["map"]),
        Row("map of 100,000 no-ops (s)", None, large, "<= 5 s", large <= 5),
        Row("  growth of this process (MB)", None, grown, "< 600 MB in all", grown < 600),
        Row("40 actions that sleep 0.5 s (s)", raw["naps"], naps, "<= 1 s", naps <= 1),
        Row("1,000 actions that sleep 1 s (s)", None, thousand, "<= 3 s", thousand <= 3),
        Row("40 CPU-bound actions of 0.1 s (s)", raw["burns"], burns, "<= 2.1 s", burns <= 2.1),
        Row("one of 2 s, then 2,000 of 1 ms (s)", raw["straggler"], straggler, "<= 2.3 s", straggler <= 2.3),
        Row("recursive fib(12), 465 actions (s)", raw["fib"], trees, "<= 0.5 x raw", trees <= 0.5 * raw["fib"]),
        Row("64 MB array to 100 actions (s)", raw["array"], array, "<= 0.17 x raw", array <= 0.17 * raw["array"]),
    ]  # fmt: skip


def main() -> None:
    """Measure, and print the table."""
    print(f"{'':40} {'raw Dask':>10} {'flyte_nb':>10} {'ratio':>7}  asked")
    for row in measure():
        raw = (
            f"{row.raw:10.3f} {row.ours:10.3f} {row.ours / row.raw:7.3f}"
            if row.raw
            else f"{'-':>10} {row.ours:10.3f} {'-':>7}"
        )
        print(f"{row.name:40} {raw}  {row.asked}{'' if row.met else '  NOT MET'}")


if __name__ == "__main__":
    main()
