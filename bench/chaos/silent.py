"""Silent workers: whatever keeps one from answering, what is overdue there ends by 5 s, and the next work is right at once.

Six ways to be silent, each as an action with a timeout, as a nested one, and stopped by hand; then a worker that is merely busy.
About two minutes. Run it as a program: it prints ``name | figure | bound | ok`` and exits with 1 if a line fails.
"""

# ruff: noqa: ASYNC110 - nothing tells

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import sys
import time
from collections.abc import Awaitable
from typing import Any

import flyte_nb as flyte
from bench.chaos._rows import measured, patiently, status
from flyte_nb.kernel.operations.cluster import cluster_text
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell
from tests.engine.session import started

env = flyte.TaskEnvironment("silent")
#: Seconds: the timeout of the tasks, and over that the grace, and what the replacement may take.
TIMEOUT, GRACE, OVER = 2.0, 3.0, 2.0
#: Seconds for small work after it.
NEXT = 4.0


def be_silent(how: str) -> None:
    if how == "regular expression":
        re.match(r"(a+)+$", "a" * 60 + "b")
    elif how == "C with the lock":
        ctypes.PyDLL(None).sleep(600)
    elif how == "C without the lock":
        ctypes.CDLL(None).sleep(600)
    elif how == "sum in C":
        sum(range(10**12))
    elif how == "SIGSTOP":
        os.kill(os.getpid(), signal.SIGSTOP)
        # The threads of a process stop one after another: without it, the body may end before the process stands still.
        time.sleep(600)
    else:
        sys.setswitchinterval(1e9)  # no other thread gets a turn
        while True:
            pass


WAYS = ("regular expression", "C with the lock", "C without the lock", "sum in C", "SIGSTOP", "no turns")


@env.task(timeout=TIMEOUT)
async def on_loop(how: str) -> None:
    be_silent(how)


@env.task(timeout=TIMEOUT)
def in_thread(how: str) -> None:
    be_silent(how)


@env.task
async def for_ever(how: str) -> None:
    be_silent(how)


@env.task
async def parent(how: str) -> float:
    began = time.monotonic()
    try:
        await on_loop(how)
    except flyte.errors.MaxRuntimeExceededError:
        return time.monotonic() - began
    return 1e9


@env.task
async def quick(x: int) -> int:
    return x


@env.task
async def busy(seconds: float) -> int:
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return os.getpid()


async def timed(what: Awaitable[Any]) -> tuple[float, Any]:
    began = time.monotonic()
    try:
        found: Any = await what
    except BaseException as exc:
        found = exc
    return time.monotonic() - began, found


async def _next(name: str, number: int) -> None:
    took, found = await timed(asyncio.gather(*(quick(1_000 * number + i) for i in range(34))))
    measured(f"{name}: next work", took, NEXT, found == [1_000 * number + i for i in range(34)])


async def _all_there(session: Session, n: int) -> None:
    for _ in range(600):
        if len(session.engine.network.roster) == n and not session.engine.network.silent:
            return
        await asyncio.sleep(0.05)
    measured("all workers are back", 30.0, 0.0)


async def _attack(session: Session) -> None:
    limit = TIMEOUT + GRACE + OVER
    for number, how in enumerate(WAYS):
        task = on_loop(how) if number % 2 else in_thread.aio(how)
        took, found = await timed(task)
        measured(f"timeout, {how}", took, limit, isinstance(found, flyte.errors.MaxRuntimeExceededError))
        await _next(f"timeout, {how}", number)
        await _all_there(session, 2)
    for how in ("regular expression", "SIGSTOP"):
        took, found = await timed(parent(how))
        # A parent that has to begin again, since its own process was the silent one, tells what its second attempt saw.
        measured(f"nested, {how}", took, limit + NEXT, isinstance(found, float) and found <= limit)
        await _all_there(session, 2)
    for how in ("regular expression", "SIGSTOP"):
        held = asyncio.ensure_future(for_ever(how))
        while not session.engine.network.silent:
            await asyncio.sleep(0.02)
        said = "silent for" in cluster_text(session)
        await _next(f"stop, {how}: beside it", 100)
        held.cancel()
        began = time.monotonic()
        while len(session.engine.network.roster) == 2 and time.monotonic() - began < 30:
            await asyncio.sleep(0.02)
        measured(f"stop, {how}: process gone", time.monotonic() - began, GRACE + OVER, said)
        await _all_there(session, 2)
    before = set(session.engine.network.roster)
    took, _ = await timed(busy(8.0))
    measured("busy for 8 s: left alone", took, 11.0, set(session.engine.network.roster) == before)


def main() -> int:
    """Print the table; returns 0 if every line holds."""
    with started(n_workers=2) as session:
        patiently(lambda: run_cell(lambda: _attack(session)))
    return status()


if __name__ == "__main__":
    sys.exit(main())
