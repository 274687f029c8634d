"""The rows of `make bench` as flyte_nb does them: cells in a real kernel, under each its view. Runs in: `bench.compare`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from bench.compare_others import CPU
from tests.kernel.kernelclient import Kernel

FIRST = """
import flyte_nb as flyte
env = flyte.TaskEnvironment("bench")

@env.task
def noop(x: int) -> int:
    return x

await noop(1)
"""
SETUP = f"""
import asyncio, json, os, statistics, time
import numpy as np
import psutil

@env.task
async def anoop(x: int) -> int:
    return x

@env.task(retries=1)
def failing(x: int) -> int:
    if x % 100 == 0 and flyte.ctx().attempt_number == 0:
        raise ValueError(x)
    return x

@env.task
def printing(x: int) -> int:
    print("line", x)
    return x

@env.task
def burn(seconds: float) -> float:
    began, end = time.thread_time(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return time.thread_time() - began

@env.task
async def fib(n: int) -> int:
    if n < 2:
        return n
    a, b = await asyncio.gather(fib(n - 1), fib(n - 2))
    return a + b

@env.task
async def peek(array: np.ndarray, at: int) -> float:
    return float(array[at])

array = np.arange(8_000_000.0)

def gather(task, *arguments):
    return asyncio.gather(*(task.aio(*each) for each in arguments))

async def mapped(task, n):
    count = 0
    async for _ in flyte.map.aio(task, range(n)):
        count += 1
    assert count == n

async def timed(what):
    began = time.perf_counter()
    await what
    return time.perf_counter() - began

def memory():
    return psutil.Process().memory_info().rss / 1e6
{CPU}
await gather(noop, (1,), (2,)), await gather(anoop, (1,), (2,)), await gather(burn, (.001,), (.001,)), await fib(3)
await gather(peek, (array[:2], 0), (array[:2], 1)), await gather(printing, (1,), (2,)), await gather(failing, (1,), (2,));
"""
#: A cell that gives each row, by its name.
CELLS = {
    "map": "found = min([await timed(mapped(noop, 10_000)) for _ in range(3)])",
    "async_map": "found = min([await timed(mapped(anoop, 10_000)) for _ in range(3)])",
    "map_large": "found = await timed(mapped(noop, 100_000))",
    "map_huge": "before = memory(); found = await timed(mapped(noop, 1_000_000)); grown = memory() - before",
    "map_huge_mb": "found = grown",
    "gather": "found = await timed(gather(noop, *((i,) for i in range(20_000))))",
    "printing": "found = await timed(mapped(printing, 100_000))",
    "retried": "found = await timed(mapped(failing, 10_000))",
    "straggler": "found = await timed(gather(burn, (2.0,), *[(0.001,)] * 2000))",
    "burns": """
before, began = cpu(), time.perf_counter()
own = sum(await gather(burn, *[(0.1,)] * 40))
found = time.perf_counter() - began
beyond = cpu() - before - own""",
    "burn_cpu": "found = beyond",
    "sequential": "found = statistics.median([await timed(noop.aio(i)) for i in range(500)][100:]) * 1e3",
    "fib": "found = 3193 / await timed(fib.aio(16))",
    "array": "found = await timed(gather(peek, *((array, i) for i in range(100))))",
    "memory": "found = memory()",
}
#: What is done at 1, 10 and 100 times the size.
GROWTH = {
    "map of no-ops": (1_000, "await timed(mapped(noop, {n}))"),
    "map of async no-ops": (1_000, "await timed(mapped(anoop, {n}))"),
    "gather of no-ops": (200, "await timed(gather(noop, *((i,) for i in range({n}))))"),
    "map that prints": (1_000, "await timed(mapped(printing, {n}))"),
    "map with 1 % retries": (1_000, "await timed(mapped(failing, {n}))"),
}
#: Seconds that one row may take.
LIMIT = 150.0
#: Seconds that an idle kernel is watched.
IDLE_S = 20.0


def started() -> tuple[Kernel, float]:
    """A kernel, and the seconds from ``%load_ext`` to the first result of a task."""
    kernel = Kernel.start()
    kernel.run("1").ok()
    began = time.monotonic()
    kernel.run("%load_ext flyte_nb").ok()
    kernel.run(FIRST).ok()
    first = time.monotonic() - began
    kernel.run("import flyte_nb; flyte_nb.init(n_workers=2)").ok()  # as the others
    kernel.run(SETUP).ok()
    return kernel, first


def idle(kernel: Kernel) -> tuple[float, float]:
    """Per cent of a core that the kernel uses while nobody does anything, and the busiest of its other processes."""
    time.sleep(6)  # lanes close
    before = {each: sum(each.cpu_times()[:2]) for each in kernel.processes()}
    time.sleep(IDLE_S)
    own, *others = ((sum(each.cpu_times()[:2]) - spent) / IDLE_S * 100 for each, spent in before.items())
    return own, max(others)


def rows(wanted: list[str]) -> Iterator[tuple[str, float]]:
    """The figures, by the rows' names, as they come."""
    kernel, first = started()
    with kernel:
        yield "first", first
        yield from zip(("idle", "idle_worker"), idle(kernel), strict=True)
        for name, cell in CELLS.items():
            if not wanted or name in wanted:
                found = kernel.run(f"{cell}\nprint(json.dumps(found))", timeout=LIMIT)
                if found.status == "ok":
                    yield name, json.loads(found.stdout.splitlines()[-1])
                else:
                    yield name, float("nan")
                    kernel.run("pass").ok()


def growth() -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Seconds, and MB by which the kernel has grown, at each size."""
    kernel, _ = started()
    with kernel:
        for name, (n, cell) in GROWTH.items():
            found = []
            for size in (n, 10 * n, 100 * n):
                code = f"before = memory(); took = {cell.format(n=size)}\nprint(json.dumps([took, memory() - before]))"
                found.append(json.loads(kernel.run(code, timeout=LIMIT).ok().stdout.splitlines()[-1]))
            yield f"{name}, {n:,}", found
