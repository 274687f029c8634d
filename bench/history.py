"""What recording runs costs: the same work with the history on and off, in turns, on one cluster.

    python bench/history.py [--actions 100000] [--rounds 3]

Prints the fastest and the median round, and the processor time of the kernel, which a busy machine disturbs least; then bytes
an action takes on disk, and how long it takes to list a thousand runs. Runs in: this process, and an embedded cluster.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import flyte_nb as flyte
from flyte_nb.core.journal.format import LAYOUT
from flyte_nb.core.journal.history import History
from flyte_nb.kernel.session import Session, ensure

env = flyte.TaskEnvironment("history")


@env.task
async def nothing(x: int) -> int:
    """Do nothing."""
    return x


@env.task
async def pause(x: int) -> int:
    """Take 10 ms."""
    await asyncio.sleep(0.01)
    return x


@env.task
async def mapped(n: int) -> int:
    """Map over n no-ops."""
    return sum([x async for x in flyte.map.aio(nothing, range(n))])


@env.task
async def one_by_one(n: int) -> int:
    """Await n no-ops, one after another."""
    total = 0
    for x in range(n):
        total += await nothing(x)
    return total


@env.task
async def gathered(n: int) -> int:
    """Await n pauses at once."""
    return len(await asyncio.gather(*(pause(x) for x in range(n))))


def timed(task: object, n: int) -> tuple[float, float]:
    """Seconds of a run, and processor time of the kernel until it is on disk."""
    began, used = time.perf_counter(), time.process_time()
    flyte.run(task, n).wait()
    took = time.perf_counter() - began
    past = Session.current.past if Session.current is not None else None
    if past is not None:
        past.journal.flush()
    return took, time.process_time() - used


def compare(name: str, task: object, n: int, rounds: int, folder: Path) -> None:
    """Time a run with and without history, in turns."""
    times: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for number in range(rounds * 2):
        recorded = bool(number % 2) ^ bool(number // 2 % 2)  # off on on off off on: neither always comes first
        flyte.init(history=folder if recorded else False)
        timed(task, 20)  # opens the file, and looks at the tasks' code: once a kernel
        times[recorded].append(timed(task, n))
    for what, number, of in (
        ("fastest", 0, min),
        ("median", 0, statistics.median),
        ("processor", 1, statistics.median),
    ):
        off, on = (of([each[number] for each in times[recorded]]) for recorded in (False, True))
        print(f"{name:<28} {what:<9}  off {off:7.3f} s   on {on:7.3f} s   {(on / off - 1) * 100:+5.1f} %")


def on_disk(folder: Path) -> None:
    """Bytes of the largest run, by action."""
    with sqlite3.connect(folder / LAYOUT.file_name) as db:
        nbytes, actions = db.execute("SELECT nbytes, actions FROM runs ORDER BY actions DESC LIMIT 1").fetchone()
    print(f"{actions:,} actions on disk: {nbytes / 1e6:.1f} MB, {nbytes / actions:.0f} bytes each")


def listing(folder: Path, count: int = 1_000) -> None:
    """Seconds to list many runs."""
    with sqlite3.connect(folder / LAYOUT.file_name) as db:
        db.executemany(
            "INSERT INTO runs (id, kernel, name, title, kind, cell, phase, started, seen) "
            "VALUES (?, 1, ?, 'a run', 'cell', '', 'succeeded', ?, ?)",
            [(number, f"x{number}", float(number), float(number)) for number in range(1, count + 1)],
        )
    seconds = min(_seconds(lambda: History(folder).runs(limit=count)) for _ in range(3))
    print(f"listing {count:,} runs: {seconds * 1e3:.1f} ms")


def _seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--actions", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ensure(n_workers=1, threads_per_worker=1).wait_ready()
        timed(mapped, 1_000)
        flyte.init(history=Path(folder))
        works = (
            ("map of no-ops", mapped, given.actions, given.rounds),
            ("await, one by one", one_by_one, 4_000, given.rounds * 3),
            ("gather of 10 ms", gathered, 1_000, given.rounds * 10),
        )
        for name, task, n, rounds in works:
            if given.only in name:
                compare(f"{name} ({n:,})", task, n, rounds, Path(folder))
        on_disk(Path(folder))
        listing(Path(folder))
        flyte.init(history=False)
        flyte.shutdown()


if __name__ == "__main__":
    main()
