"""The rows of `make bench` as raw Dask and joblib do them, in a process of their own. Runs in: ``python -m bench.compare_others``."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()
#: Of `psutil`: seconds of CPU of this process and those below it.
CPU = """
def cpu():
    import psutil
    me = psutil.Process()
    return sum(sum(each.cpu_times()[:2]) for each in (me, *me.children(recursive=True)))
"""
exec(CPU)


def noop(x: int) -> int:
    return x


def failing(x: int) -> int:
    if x % 100 == 0:
        raise ValueError(x)
    return x


def printing(x: int) -> int:
    print("line", x)
    return x


def burn(seconds: float) -> float:
    """Compute for so long; returns the CPU that this took itself."""
    began, end = time.thread_time(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return time.thread_time() - began


def peek(array: Any, at: int) -> float:
    return float(array[at])


def fib(n: int) -> int:
    from distributed import get_client, secede

    if n < 2:
        return n
    client = get_client()
    futures = client.map(fib, [n - 1, n - 2], pure=False)
    secede()
    return sum(client.gather(futures))


def timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def in_turn(call: Callable[[int], object], n: int) -> float:
    times = [timed(lambda i=i: call(i)) for i in range(n)]
    return statistics.median(times[n // 5 :]) * 1e3


def burning(run: Callable[[list[float]], list[float]]) -> dict[str, float]:
    before, started = cpu(), time.perf_counter()
    own = sum(run([0.1] * 40))
    return {"burns": time.perf_counter() - started, "burn_cpu": cpu() - before - own}


def idle(seconds: float = 20.0) -> float:
    before = cpu()
    time.sleep(seconds)
    return (cpu() - before) / seconds * 100


def dask_rows(quick: bool) -> dict[str, float]:
    import distributed
    import numpy as np

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", protocol="tls", dashboard_address=None,
            security=distributed.Security.temporary(),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):  # fmt: skip
        client.submit(noop, 0).result()
        found = {"first": time.perf_counter() - BEGAN}

        def run(f: Callable[..., Any], items: Any) -> list[Any]:
            found: list[Any] = client.gather(client.map(f, items, pure=False))
            return found

        run(burn, [0.001] * 4)
        n = 2_000 if quick else 10_000
        found["map"] = timed(lambda: run(noop, range(n))) * 10_000 / n
        found["sequential"] = in_turn(lambda i: client.submit(noop, i, pure=False).result(), 100)
        found["straggler"] = timed(lambda: run(burn, [2.0, *[0.001] * 2000]))
        found |= burning(lambda items: run(burn, items))
        found["fib"] = 465 / timed(lambda: client.submit(fib, 12).result())
        array = np.arange(8_000_000.0)
        found["array"] = timed(lambda: client.gather([client.submit(peek, array, i, pure=False) for i in range(100)]))
        found["idle"] = idle()
    return found


def joblib_rows(_quick: bool) -> dict[str, float]:
    import numpy as np
    from joblib import Parallel, delayed

    with Parallel(n_jobs=2) as parallel:

        def run(f: Callable[..., Any], items: Any) -> list[Any]:
            return parallel(delayed(f)(item) for item in items)

        run(noop, [0])
        found = {"first": time.perf_counter() - BEGAN}
        run(noop, range(10_000))  # it learns the sizes of its batches
        found["map"] = timed(lambda: run(noop, range(10_000)))
        found["map_large"] = timed(lambda: run(noop, range(100_000)))
        found["map_huge"] = timed(lambda: run(noop, range(1_000_000)))
        found["printing"] = timed(lambda: run(printing, range(100_000)))
        found["sequential"] = in_turn(lambda i: run(noop, [i]), 50)
        found["straggler"] = timed(lambda: run(burn, [2.0, *[0.001] * 2000]))
        found |= burning(lambda items: run(burn, items))
        array = np.arange(8_000_000.0)
        found["array"] = timed(lambda: parallel(delayed(peek)(array, i) for i in range(100)))
        found["idle"] = idle()
    return found


if __name__ == "__main__":
    rows = {"dask": dask_rows, "joblib": joblib_rows}[sys.argv[1]]
    answer, sys.stdout = sys.stdout, Path(os.devnull).open("w")  # noqa: SIM115 - what its workers print is no row
    print(json.dumps(rows("--quick" in sys.argv)), file=answer)
