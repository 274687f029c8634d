"""Streams beside Ray, a Dask Queue and a local async generator: items a second, first item, gigabytes a second.

One command: ``python -m bench.streams``. Ray is measured where it is installed, here or in the interpreter that ``RAY_PYTHON``
names. Each figure is the best of three; a machine that does something else meanwhile shows figures that are too bad.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np

import flyte_nb as flyte
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell

SMALL, LARGE, SLOW = 50_000, 40, 5
#: 16 MB.
ARRAY = 2_000_000

env = flyte.TaskEnvironment("bench_streams")


async def local(n: int) -> AsyncIterator[dict[str, int]]:
    """What there is without any of them."""
    for i in range(n):
        yield {"row": i}


@env.task
async def small_async(n: int) -> AsyncIterator[dict[str, int]]:
    """Small items, ``async def``."""
    for i in range(n):
        yield {"row": i}


@env.task
def small_sync(n: int) -> Iterator[dict[str, int]]:
    """Small items, ``def``."""
    for i in range(n):
        yield {"row": i}


@env.task
def arrays(n: int) -> Iterator[Any]:
    """Large items."""
    array = np.ones(ARRAY)
    for i in range(n):
        array[0] = i
        yield array


@env.task
async def slow(n: int) -> AsyncIterator[float]:
    """The time of each yield; one a tenth of a second."""
    for _ in range(n):
        yield time.time()
        await asyncio.sleep(0.1)


async def rate(stream: Any) -> float:
    """Items a second."""
    began, n = time.perf_counter(), 0
    async for _ in stream:
        n += 1
    return n / (time.perf_counter() - began)


async def flyte_figures() -> list[tuple[str, str]]:
    """All of ours."""
    await small_async(1)  # type: ignore[misc]
    found = [
        ("local async generator, small items", f"{max([await rate(local(SMALL)) for _ in range(3)]):,.0f}/s"),
        ("flyte_nb, async def, small items", f"{max([await rate(small_async(SMALL)) for _ in range(3)]):,.0f}/s"),
        ("flyte_nb, def, small items", f"{max([await rate(small_sync.aio(SMALL)) for _ in range(3)]):,.0f}/s"),
    ]
    late = [time.time() - at async for at in slow(SLOW)]
    found.append(
        ("flyte_nb, from yield to consumer", f"{1e3 * sorted(late)[SLOW // 2]:.1f} ms, first {1e3 * late[0]:.1f} ms")
    )
    large = max([await rate(arrays.aio(LARGE)) for _ in range(3)]) * ARRAY * 8 / 1e9
    found.append(("flyte_nb, arrays of 16 MB", f"{large:.2f} GB/s"))
    return found


def dask_figure() -> tuple[str, str]:
    """A `distributed.Queue`, an item at a time: it has no batches."""
    assert Session.current is not None
    address = Session.current.engine.network.handle.client.scheduler.address  # type: ignore[union-attr]
    security = Session.current.engine.network.handle.client.security  # type: ignore[union-attr]
    from distributed import Client, Queue

    def produce(name: str, n: int) -> None:
        queue = Queue(name)
        for i in range(n):
            queue.put({"row": i})

    n = SMALL // 50
    with Client(address, security=security, set_as_default=False) as client:
        queue = Queue("bench", client=client, maxsize=256)
        future = client.submit(produce, "bench", n, pure=False)
        queue.get()
        began = time.perf_counter()
        for _ in range(n - 1):
            queue.get()
        took = time.perf_counter() - began
        future.result()
    return "Dask Queue, small items", f"{(n - 1) / took:,.0f}/s"


RAY = f"""
import logging, time
import numpy as np
import ray
ray.init(num_cpus=2, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
@ray.remote(num_returns="streaming")
def small(n):
    for i in range(n):
        yield {{"row": i}}
@ray.remote(num_returns="streaming")
def arrays(n):
    array = np.ones({ARRAY})
    for i in range(n):
        array[0] = i
        yield array
def rate(make, n):
    best = 0
    for _ in range(3):
        began = time.perf_counter()
        for ref in make.remote(n):
            ray.get(ref)
        best = max(best, n / (time.perf_counter() - began))
    return best
rate(small, 1)
print(f"Ray {{ray.__version__}}, streaming generator, small items: {{rate(small, {SMALL // 25}):,.0f}}/s")
print(f"Ray {{ray.__version__}}, arrays of 16 MB: {{rate(arrays, {LARGE}) * {ARRAY} * 8 / 1e9:.2f}} GB/s")
"""


def ray_figures() -> str:
    """Ray's, in a process of its own."""
    python = os.environ.get("RAY_PYTHON", sys.executable)
    done = subprocess.run([python, "-c", RAY], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        return f"Ray: not measured ({done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'it failed'})"
    return done.stdout.strip()


def main() -> None:
    """Print a line for each figure."""
    flyte.init(n_workers=2)
    for what, figure in [*run_cell(flyte_figures), dask_figure()]:
        print(f"{what}: {figure}")
    flyte.shutdown()
    print(ray_figures())


if __name__ == "__main__":
    main()
