"""Kill storms: workers are killed while nested work runs; every result is right, once, and nothing takes long.

Rounds of 2,000 calls (3,332 actions) with kills every 0.3-1.5 s, and every 1-3 s, as many as fit into a minute each; then how soon
a killed worker is replaced. About three minutes. Run it as a program: it prints ``name | figure | bound | ok`` and exits with 1 if a
line fails; ``ROUNDS=20`` in the environment runs so many of each, however long that takes.
"""

# ruff: noqa: ASYNC110 - nothing tells

from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from typing import Any, Self

import flyte_nb as flyte
from bench.chaos._rows import measured, patiently, status
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell
from tests.engine.session import started

env = flyte.TaskEnvironment("storms")
CALLS = 2_000
#: Seconds of rounds for each gap, unless ``ROUNDS`` says how many.
SECONDS = 60.0
ROUNDS = int(os.environ.get("ROUNDS", "0"))
#: Seconds between kills.
GAPS = ((0.3, 1.5), (1.0, 3.0))
#: A round may take so many times the undisturbed one, and the start of a worker (s) for each kill.
TIMES, START_S = 4.0, 3.0
#: Seconds from a kill to the first action of the worker that replaces it.
REPLACED_S = 2.0


@env.task
async def a(i: int) -> int:
    await asyncio.sleep(random.uniform(0.001, 0.02))
    return 3 * i


@env.task
def s(i: int) -> int:
    end = time.perf_counter() + random.uniform(0.001, 0.01)
    while time.perf_counter() < end:
        pass
    return 3 * i


@env.task
async def n(i: int) -> int:
    x, y = await asyncio.gather(a(i), a(i + 1))
    return x + y


@env.task
def pid(_i: int) -> int:
    time.sleep(0.03)
    return os.getpid()


class Storm:
    """A thread that kills a worker now and then."""

    def __init__(self, session: Session, gap: tuple[float, float], random_: random.Random) -> None:
        self.kills = 0
        self._session, self._gap, self._random = session, gap, random_
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._random.uniform(*self._gap)):
            pids = [nanny.pid for nanny in list(cluster_of(self._session).workers.values()) if nanny.pid]
            if pids:
                try:
                    os.kill(self._random.choice(pids), signal.SIGKILL)
                    self.kills += 1
                except ProcessLookupError:
                    pass


def cluster_of(session: Session) -> Any:
    handle = session.engine.network.handle
    assert handle is not None
    return handle.cluster


def one_round() -> tuple[float, int, int]:
    """Seconds, wrong results, and calls that were not settled exactly once."""
    settled: Counter[int] = Counter()

    async def call(i: int) -> Any:
        try:
            return await (a, s.aio, n)[i % 3](i)
        except Exception as exc:
            return exc
        finally:
            settled[i] += 1

    async def cell() -> list[Any]:
        return list(await asyncio.gather(*(call(i) for i in range(CALLS))))

    began = time.monotonic()
    found = run_cell(cell)
    wrong = [each for i, each in enumerate(found) if each != (3 * i if i % 3 < 2 else 6 * i + 3)]
    for each in wrong[:2]:
        print(f"   wrong: {each!r}"[:500], flush=True)
    return time.monotonic() - began, len(wrong), sum(settled[i] != 1 for i in range(CALLS))


async def _until_all_are_there(session: Session) -> float:
    began = time.monotonic()
    while len(session.engine.network.roster) < 2 and time.monotonic() - began < 60:
        await asyncio.sleep(0.05)
    return time.monotonic() - began


def _storm(session: Session, gap: tuple[float, float], undisturbed: float) -> None:
    random_, began = random.Random(7), time.monotonic()
    wrong = twice = kills = rounds = 0
    worst = 0.0
    while rounds < ROUNDS if ROUNDS else time.monotonic() - began < SECONDS:
        with Storm(session, gap, random_) as storm:
            took, bad, unsettled = one_round()
        rounds, kills, wrong, twice = rounds + 1, kills + storm.kills, wrong + bad, twice + unsettled
        worst = max(worst, took / (TIMES * undisturbed + START_S * storm.kills))
    name = f"kills every {gap[0]}-{gap[1]} s"
    measured(f"{name}: wrong of {rounds} rounds, {kills} kills", wrong, 0, unit="results")
    measured(f"{name}: not settled once", twice, 0, unit="calls")
    measured(f"{name}: slowest round, of its bound", worst, 1.0, unit="")
    measured(f"{name}: workers are back", run_cell(lambda: _until_all_are_there(session)), 15.0)
    left = len(session.engine.controller.flights)
    measured(f"{name}: in flight after it", left, 0, unit="actions")


async def _replaced(session: Session, number: int) -> float:
    """Seconds from a kill to the first action of the worker's successor."""
    nanny = list(cluster_of(session).workers.values())[number % 2]
    old, seen, done = nanny.pid, set[int](), False

    async def drive(lane: int) -> None:
        i = 0
        while not done:
            seen.add(await pid.aio(1_000_000 * number + 10_000 * lane + i))
            i += 1

    began = time.monotonic()
    os.kill(old, signal.SIGKILL)
    drivers = [asyncio.ensure_future(drive(lane)) for lane in range(4)]
    while (nanny.pid in (None, old) or nanny.pid not in seen) and time.monotonic() - began < 30:
        await asyncio.sleep(0.01)
    done = True
    took = time.monotonic() - began
    await asyncio.gather(*drivers)
    await _until_all_are_there(session)
    return took


def _replacement(session: Session) -> None:
    times = [run_cell(lambda number=number: _replaced(session, number)) for number in range(5)]
    measured("killed worker replaced, to its first action (median)", statistics.median(times), REPLACED_S)


def main() -> int:
    """Print the table; returns 0 if every line holds."""
    with started(n_workers=2) as session:
        undisturbed = max(one_round()[0] for _ in range(2))
        measured("undisturbed round", undisturbed, 30.0)
        for gap in GAPS:
            patiently(_storm, session, gap, undisturbed)
        patiently(_replacement, session)
    return status()


if __name__ == "__main__":
    sys.exit(main())
