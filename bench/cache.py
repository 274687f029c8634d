"""What the result cache costs: looking up, keeping, and a cached await against an executed one. Prints medians.

Run: python bench/cache.py [local]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import flyte_nb as flyte
from flyte_nb.core.cache import key, location
from flyte_nb.core.cache.store import CacheStore
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.transport.payload import dumps
from flyte_nb.testing import run_cell

env = flyte.TaskEnvironment("bench")


@env.task(cache="auto")
async def cached(x: int) -> int:
    return x


@env.task
async def plain(x: int) -> int:
    return x


def timed(call, n):
    found = []
    for i in range(n):
        start = time.perf_counter()
        call(i)
        found.append(time.perf_counter() - start)
    return statistics.median(found) * 1e6


def store_alone(folder: Path) -> None:
    store = CacheStore(folder)
    small = dumps("x" * 100)
    print(f"put, small (calling thread): {timed(lambda i: store.put(b'%d' % i, 't.f', small), 5_000):8.1f} us")
    start = time.perf_counter()
    store.flush()
    print(f"  and written to disk:       {(time.perf_counter() - start) / 5_000 * 1e6:8.1f} us each")
    time.sleep(0.1)
    print(f"get, small hit:              {timed(lambda i: store.get(b'%d' % i, None, id), 5_000):8.1f} us")
    print(f"get, miss:                   {timed(lambda i: store.get(b'no%d' % i, None, id), 5_000):8.1f} us")
    store.close()


async def one_by_one(task, start, n):
    begin = time.perf_counter()
    for i in range(start, start + n):
        await task(i)
    return (time.perf_counter() - begin) / n * 1e6


async def at_once(task, start, n):
    begin = time.perf_counter()
    async for _ in flyte.map.aio(task, range(start, start + n)):
        pass
    return (time.perf_counter() - begin) / n * 1e6


def main() -> None:
    mode = "local" if "local" in sys.argv else "remote"
    location.configure(tempfile.mkdtemp())
    store_alone(Path(tempfile.mkdtemp()))
    info = RunInfo(name="r1")
    print(f"key of a call:               {timed(lambda i: key.key_of(cached, info, ((i,), {})), 5_000):8.1f} us")

    async def cell():
        await plain(0)
        await cached(-1)
        print(f"await, not cached:           {await one_by_one(plain, 0, 500):8.1f} us each")
        print(f"await, executed and kept:    {await one_by_one(cached, 0, 500):8.1f} us each")
        print(f"await, cached:               {await one_by_one(cached, 0, 500):8.1f} us each")
        print(f"map, not cached:             {await at_once(plain, 0, 10_000):8.1f} us each")
        print(f"map, executed and kept:      {await at_once(cached, 10_000, 10_000):8.1f} us each")
        print(f"map, cached:                 {await at_once(cached, 10_000, 10_000):8.1f} us each")

    run_cell(cell, mode=mode)


if __name__ == "__main__":
    main()
