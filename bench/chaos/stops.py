"""Stops, at any moment of any cell: idle within 0.5 s, quiet, the next cell right. Runs in: the command line."""

from __future__ import annotations

import random
import sys
import time

from bench.chaos._cells import BEGIN
from bench.chaos._rows import patiently, row, status
from tests.kernel.kernelclient import Execution, Kernel

#: Seconds from SIGINT to idle, and of the cell that follows.
IDLE_S, NEXT_S = 0.5, 1.5
DEFINE = (
    BEGIN
    + """
import gc, signal, sys, threading, weakref
import numpy as np
@env.task
async def square(x: int) -> int: return x * x
@env.task
async def deep(n: int) -> int: return 1 + await (deep(n - 1) if n else nap(60.0))
@env.task
def array(i: int) -> np.ndarray: return np.full(10_000_000, i)
@env.task
async def objects(i: int) -> list: return [{"a": j, "b": str(j)} for j in range(300_000)]
@env.task(retries=1000)
async def failing() -> int: raise ValueError
class Sleepy:
    def __del__(self): time.sleep(0.2)
def collected(phase, info): time.sleep(0.05)
assert await asyncio.gather(*(square(i) for i in range(50)))
"""
)
NEXT = "assert await asyncio.gather(*(square(i) for i in range(20))) == [i * i for i in range(20)]"
#: Name, cell, and the seconds after which it is stopped: each once, or at random between the two.
CASES: list[tuple[str, str, list[float] | tuple[float, float]]] = [
    ("100,000 awaits in a gather", "await asyncio.gather(*(square(i) for i in range(100_000)))", [0.05, 0.3, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]),
    ("flyte.map over 100,000", "list(flyte.map(square, range(100_000))); time.sleep(9)", [0.05, 0.5, 1.0, 2.0, 4.0, 6.0]),
    ("results that unpickle", "while True: await asyncio.gather(*(objects(i) for i in range(6)))", (0.3, 2.0)),
    ("large arrays", "while True: await asyncio.gather(*(array.aio(i) for i in range(6)))", (0.3, 2.0)),
    ("awaiting", "await asyncio.gather(*(nap(60.0) for _ in range(50)))", (0.1, 1.0)),
    ("spinning", "await asyncio.gather(*(spin.aio(60.0) for _ in range(4)))", (0.1, 1.0)),
    ("retries", "await failing()", (0.1, 1.0)),
    ("nested", "await deep(30)", (0.1, 1.0)),
    ("blocking call", "spin(60.0)", (0.1, 1.0)),
    ("run.wait()", "flyte.run(nap, s=60.0).wait()", (0.1, 1.0)),
    ("task group", "async with asyncio.TaskGroup() as group:\n    for _ in range(1000): group.create_task(nap(60.0))", (0.1, 1.0)),
    ("caught, and a call again", "try:\n    await nap(60.0)\nexcept asyncio.CancelledError:\n    await nap(60.0)", (0.1, 1.0)),
    ("gc callback", "gc.callbacks.append(collected)\ntry:\n    while True: gc.collect()\nfinally:\n    gc.callbacks.remove(collected)", (0.1, 0.5)),
    ("__del__", "while True: Sleepy()", (0.1, 0.5)),
    ("weakref callback", "while True:\n    one = Sleepy(); ref = weakref.ref(one, lambda _: time.sleep(0.2)); del one", (0.1, 0.5)),
    ("allocating", "x = []\nwhile True: x.append([[] for _ in range(50)]); x = x[-2000:]", (0.1, 0.8)),
    ("import", "import importlib.util\nopen('slow.py', 'w').write('import time; time.sleep(60)')\nspec = importlib.util.spec_from_file_location('slow', 'slow.py')\nspec.loader.exec_module(importlib.util.module_from_spec(spec))", (0.2, 0.5)),
    ("C calls", "threading.Lock().acquire(); lock = threading.Lock(); lock.acquire(); lock.acquire()", (0.1, 0.5)),
    ("a process", "subprocess.run(['sleep', '60'])", (0.1, 0.5)),
    ("plain Python", "while True: pass", (0.1, 0.5)),
    ("a busy coroutine", "async def busy():\n    while True: pass\nawait asyncio.gather(busy(), nap(60.0))", (0.1, 0.5)),
]  # fmt: skip
ROUNDS = 3


def stop(kernel: Kernel, code: str, after: float, again: float | None = None) -> tuple[float, Execution]:
    """Run a cell, stop it after some seconds, and once more; the seconds from the first stop to idle."""
    cell = kernel.begin(code)
    end = time.monotonic() + after
    kernel.wait_for(lambda: time.monotonic() >= end)
    pressed = kernel.interrupt()
    if again is not None:
        time.sleep(again)
        kernel.interrupt()
    cell.wait(30)
    return max(0.0, cell.idle_at - pressed), cell


def check(kernel: Kernel, name: str, code: str, moments: list[float] | tuple[float, float]) -> None:
    """Stop a cell at each of its moments, and print what was seen."""
    if isinstance(moments, tuple):
        moments = [random.uniform(*moments) for _ in range(ROUNDS)]
    seconds, after, faults = [], [], []
    for number, moment in enumerate(moments):
        idle, cell = stop(kernel, code, moment, random.choice([0.0, 0.02, 0.05]) if number % 3 == 2 else None)
        seconds.append(idle)
        if cell.error.name not in {"", "KeyboardInterrupt", "CancelledError"} or cell.stderr:
            faults.append(f"{cell.error.name} {cell.stderr[-200:]!r}")
        following = kernel.run(NEXT)
        after.append(following.seconds)
        if following.status != "ok" or following.stderr:
            faults.append(f"next cell: {following!r}"[:200])
    ok = max(seconds) <= IDLE_S and max(after) <= NEXT_S and not faults
    figure = f"{max(seconds):.2f} s, next cell {max(after):.2f} s {'; '.join(faults)}".strip()
    row(
        f"stop: {name}, {len(moments)} times",
        figure.replace("\n", " ").replace("|", "/"),
        f"{IDLE_S} s, {NEXT_S} s",
        ok,
    )


def check_start() -> None:
    """Stop a cell while the cluster starts."""
    seconds, ok = [], True
    for moment in (0.3, 0.8, 1.5):
        with Kernel.start() as kernel:
            idle, _ = stop(kernel, DEFINE + "await nap(60.0)", moment)
            seconds.append(idle)
            ok = ok and kernel.run(DEFINE + NEXT).status == "ok"
    row(
        "stop: while the cluster starts, 3 times", f"{max(seconds):.2f} s", f"{IDLE_S} s", ok and max(seconds) <= IDLE_S
    )


def main() -> int:
    """Print the rows; 0 if all hold."""
    random.seed(1)
    with Kernel.start() as kernel:
        kernel.run(DEFINE).ok()
        for case in CASES:
            patiently(check, kernel, *case)
    patiently(check_start)
    return status()


if __name__ == "__main__":
    sys.exit(main())
