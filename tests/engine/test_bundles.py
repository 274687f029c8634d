"""Bundles and slots on a real cluster: nobody waits for a bundle-mate, and no more compute than there are slots."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import flyte_nb as flyte
from flyte_nb.core.attempts.family import running
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell
from tests.engine.session import started

pytestmark = pytest.mark.cluster

env = flyte.TaskEnvironment("bundles")
SLOTS = 2
#: Seconds after which something counts as never happening.
NEVER_S = 60.0


def spin(seconds: float) -> int:
    """Compute; returns the most that ever computed at once in this process, so far, whatever their tasks."""
    shared = threading.__dict__.setdefault("_probe", {"lock": threading.Lock(), "now": 0, "most": 0})  # one per process
    with shared["lock"]:
        shared["now"] += 1
        shared["most"] = max(shared["most"], shared["now"])
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
    with shared["lock"]:
        shared["now"] -= 1
    return int(shared["most"])


@env.task
def mostly_quick(i: int, slow: int, gate: str) -> int:
    """One of thousands blocks in a plain call, until it is let go."""
    while i == slow and not Path(gate).exists():
        time.sleep(0.01)
    return i


@env.task
async def mostly_quick_async(i: int, slow: int, gate: str) -> int:
    """The same in a coroutine that computes without ever awaiting: its loop stands still."""
    while i == slow and not Path(gate).exists():
        sum(range(1000))
    return i


@env.task
async def sleep_and_compute(i: int) -> tuple[int, int]:
    """All wake together."""
    most = 0
    for _ in range(3):
        await asyncio.sleep(0.05)
        most = spin(0.0003)
    return os.getpid(), most


@env.task
def compute(i: int) -> tuple[int, int]:
    """A synchronous one beside them."""
    return os.getpid(), spin(0.002)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Session]:
    """Two workers of two slots."""
    with started(n_workers=2, threads_per_worker=SLOTS) as session:
        yield session


@pytest.mark.parametrize("task", [mostly_quick, mostly_quick_async], ids=["sync", "async"])
@pytest.mark.parametrize("slow", [0, 1, 500, 1_999])
def test_mates_of_a_long_action_run_elsewhere(cluster: Session, task: object, slow: int, tmp_path: Path) -> None:
    """All others have ended while the long one still runs, wherever it stood among them."""
    gate = tmp_path / "gate"

    async def cell() -> list[int]:
        calls = [asyncio.ensure_future(task.aio(i, slow, str(gate))) for i in range(2_000)]  # type: ignore[attr-defined]
        held = calls.pop(slow)
        done = await asyncio.gather(*calls)
        assert not held.done()
        gate.touch()
        return [*done[:slow], await held, *done[slow:]]

    assert run_cell(cell) == list(range(2_000))


@env.task
def whose_turn() -> str:
    """Whose turn it is in this process."""
    attempt = running()
    assert attempt is not None
    return str(attempt.isolation)


def test_nobody_shares_a_process_that_has_ended(cluster: Session) -> None:
    """Attempts that computed beside others are let go at their ends."""

    async def cell() -> list[str]:
        await asyncio.gather(*(compute.aio(i) for i in range(200)), *(sleep_and_compute.aio(i) for i in range(50)))
        return [await whose_turn.aio() for _ in range(4)]

    assert set(run_cell(cell)) == {"<Isolation [an attempt computes]>"}


@pytest.mark.parametrize("held", [1, 2, 3])
def test_other_tasks_of_a_gather_run_where_a_slot_is_free(cluster: Session, held: int, tmp_path: Path) -> None:
    """Long calls hold all slots but one, or some; what is called in the same breath has ended before they have."""

    async def cell(gate: Path) -> None:
        long = [asyncio.ensure_future(mostly_quick.aio(i, i, str(gate))) for i in range(held)]
        quick = [
            compute.aio(1),
            sleep_and_compute(2),
            mostly_quick_async(3, -1, str(gate)),
            mostly_quick.aio(4, -1, str(gate)),
        ]
        await asyncio.wait_for(asyncio.gather(*quick), NEVER_S)
        assert not any(call.done() for call in long)
        gate.touch()
        await asyncio.gather(*long)

    for number in range(3):  # with lanes that are there from the time before
        run_cell(lambda gate=tmp_path / f"gate{number}": cell(gate))  # type: ignore[misc]


@pytest.fixture
def no_spare_slots(cluster: Session) -> Iterator[None]:
    """On a machine that does something else, any computation may hold its slot so long that the spare one is due."""
    client = cluster.engine.network.handle.client  # type: ignore[union-attr]

    def spare_after(seconds: float) -> float:
        from flyte_nb.worker import slots

        before, slots.SPARE_AFTER_S = slots.SPARE_AFTER_S, seconds
        return before

    async def everywhere(seconds: float) -> dict[str, float]:
        return await client.run(spare_after, seconds)

    (before,) = set(cluster.engine.call(everywhere, NEVER_S).values())
    yield
    cluster.engine.call(everywhere, before)


@pytest.mark.usefixtures("no_spare_slots")
def test_no_more_compute_than_there_are_slots(cluster: Session) -> None:
    """Hundreds of actions that wake together, and synchronous ones beside them, share the slots of their process."""

    async def cell() -> list[tuple[int, int]]:
        return await asyncio.gather(*(sleep_and_compute(i) for i in range(200)), *(compute.aio(i) for i in range(100)))

    by_process: dict[int, int] = {}
    for pid, at_once in run_cell(cell):
        by_process[pid] = max(at_once, by_process.get(pid, 0))
    assert len(by_process) == 2
    assert all(at_once <= SLOTS for at_once in by_process.values()), by_process
