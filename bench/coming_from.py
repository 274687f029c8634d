"""Compare with what people come from: joblib, concurrent.futures, Dask: `python bench/coming_from.py`. Runs in: a script.

Each does the same work on two processes, warmed up: 10,000 calls that do nothing, a 64 MB array passed to 20 calls, and 200 calls of
5 ms. The best of three, in seconds. The table is on the page "Coming from".
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import time
from collections.abc import Callable, Iterator

import distributed
import joblib
import numpy as np

import flyte_nb as flyte
from flyte_nb.testing import run_cell

MANY, ARRAYS, SHORT = 10_000, 20, 200
env = flyte.TaskEnvironment("coming_from")


def noop(x: int) -> int:
    return x


def corner(array: np.ndarray, x: int) -> float:
    return float(array[x, x])


def short(x: int) -> int:
    end = time.perf_counter() + 0.005
    while time.perf_counter() < end:
        x += 1
    return x


def best(work: Callable[[], object]) -> float:
    """Seconds of the quickest of three."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def rows(array: np.ndarray) -> Iterator[tuple[str, list[float]]]:
    """Name, and the three times."""
    with joblib.Parallel(n_jobs=2) as parallel:
        call = joblib.delayed
        parallel(call(noop)(i) for i in range(10))
        yield (
            "joblib (loky)",
            [
                best(lambda: parallel(call(noop)(i) for i in range(MANY))),
                best(lambda: parallel(call(corner)(array, i) for i in range(ARRAYS))),
                best(lambda: parallel(call(short)(i) for i in range(SHORT))),
            ],
        )
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(noop, range(10)))
        yield (
            "concurrent.futures",
            [
                best(lambda: list(pool.map(noop, range(MANY)))),
                best(lambda: list(pool.map(corner, [array] * ARRAYS, range(ARRAYS)))),
                best(lambda: list(pool.map(short, range(SHORT)))),
            ],
        )
    with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        client.gather(client.map(noop, range(10)))
        yield (
            "Dask futures",
            [
                best(lambda: client.gather(client.map(noop, range(MANY), pure=False))),
                best(lambda: client.gather([client.submit(corner, array, i, pure=False) for i in range(ARRAYS)])),
                best(lambda: client.gather(client.map(short, range(SHORT), pure=False))),
            ],
        )
    flyte.init(n_workers=2)
    tasks = [env.task(function) for function in (noop, corner, short)]

    async def every(work: Callable[[], object]) -> None:
        await work()  # type: ignore[misc]

    def in_a_cell(work: Callable[[], object]) -> float:
        return best(lambda: run_cell(lambda: every(work)))

    in_a_cell(lambda: flyte.map(tasks[0], range(10)))
    yield (
        "flyte_nb",
        [
            in_a_cell(lambda: flyte.map(tasks[0], range(MANY))),
            in_a_cell(lambda: flyte.map(tasks[1], [array] * ARRAYS, range(ARRAYS))),
            in_a_cell(lambda: flyte.map(tasks[2], range(SHORT))),
        ],
    )
    flyte.shutdown()


def main() -> None:
    """Measure, and print the table."""
    print(f"{'':20} {'10,000 no-ops':>15} {'array x 20':>12} {'200 of 5 ms':>12}")
    for name, found in rows(np.ones((2800, 2800))):
        print(f"{name:20} {found[0]:13.3f} s {found[1]:10.3f} s {found[2]:10.3f} s", flush=True)


if __name__ == "__main__":
    main()
