"""What programs under test leave for each other and for the test, across processes: lines in a file, meeting points."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

#: Seconds after which a wait for an event has failed: far more than any event takes.
PATIENCE = 60.0


def jot(path: str, line: str) -> None:
    """Add a line to a journal; lines of several processes do not mix."""
    with Path(path).open("a") as file:
        file.write(line + "\n")


def lines(path: str) -> list[str]:
    """The lines of a journal so far."""
    try:
        return Path(path).read_text().splitlines()
    except FileNotFoundError:
        return []


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.005)


def until_sync(condition: Callable[[], object]) -> None:
    """Wait for a condition, blocking the thread."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


async def meet(path: str, name: str, count: int) -> None:
    """Wait until `count` parties are at the same point: only code that runs at the same time gets past it."""
    jot(path, name)
    await until(lambda: len(lines(path)) >= count)


def meet_sync(path: str, name: str, count: int) -> None:
    """`meet` for sync code."""
    jot(path, name)
    until_sync(lambda: len(lines(path)) >= count)


def peak(path: str) -> int:
    """Most parties at a time between their "in" and their "out" lines."""
    now = most = 0
    for line in lines(path):
        now += {"in": 1, "out": -1}.get(line.split()[0], 0)
        most = max(most, now)
    return most
