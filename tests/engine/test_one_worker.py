"""One process with one slot: what has to wait there is not forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flyte_nb as flyte
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell
from tests.engine.session import started

pytestmark = pytest.mark.cluster

env = flyte.TaskEnvironment("one-worker")
#: Seconds after which something counts as never happening.
NEVER = 30.0


@env.task
def quick(x: int) -> int:
    """A plain one."""
    return x


@env.task
async def quick_async(x: int) -> int:
    """One on a loop."""
    return x


@env.task
def hold(gate: str) -> str:
    """Compute until it is let go."""
    Path(gate + ".begun").touch()
    while not Path(gate).exists():
        sum(range(1000))
    return "let go"


@env.task
async def compute_then_wait(gate: str) -> str:
    """Compute until it is let go, then only wait."""
    Path(gate + ".begun").touch()
    while not Path(gate).exists():
        sum(range(1000))
    while not Path(gate + ".end").exists():  # noqa: ASYNC110 - the event is a file
        await asyncio.sleep(0.01)
    return "ended"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Session]:
    """One worker, one slot."""
    with started(n_workers=1) as session:
        yield session


async def until(true: Callable[[], object]) -> None:
    """Wait until it is true."""
    end = time.monotonic() + NEVER
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def stalled(session: Session, task_name: str) -> bool:
    """Whether all lanes of a task have handed work back."""

    def look() -> bool:
        lanes = [
            lane
            for group in session.engine.executor.groups.values()
            if group.task_name == task_name
            for lane in group.lanes.values()
        ]
        return bool(lanes) and all(lane.stalled for lane in lanes)

    return bool(session.gateway.ask(look))


def test_what_was_handed_back_is_taken_up_again(cluster: Session, tmp_path: Path) -> None:
    """Lanes that hand work back, since another task's action holds the slot, get it again once the slot is free."""
    gate = tmp_path / "gate"

    async def cell() -> list[object]:
        await asyncio.gather(quick.aio(0), quick_async(0))
        held = asyncio.ensure_future(hold.aio(str(gate)))
        await until(Path(f"{gate}.begun").exists)
        calls = [asyncio.ensure_future(quick.aio(1)), asyncio.ensure_future(quick_async(2))]
        await until(lambda: stalled(cluster, quick.name) and stalled(cluster, quick_async.name))
        gate.touch()
        return await asyncio.wait_for(asyncio.gather(held, *calls), NEVER)

    assert run_cell(cell) == ["let go", 1, 2]


def test_a_loop_that_computed_and_now_waits_takes_others_of_its_task(cluster: Session, tmp_path: Path) -> None:
    """An action that computes for long and then waits for long holds up others of its task only while it computes."""
    gate, second = tmp_path / "gate", tmp_path / "second"
    second.touch()
    Path(f"{second}.end").touch()

    async def cell() -> list[object]:
        for _ in range(3):  # known to be quick: others are sent after it
            await compute_then_wait(str(second))
        first = asyncio.ensure_future(compute_then_wait(str(gate)))
        await until(Path(f"{gate}.begun").exists)
        other = asyncio.ensure_future(compute_then_wait(str(second)))
        await until(lambda: stalled(cluster, compute_then_wait.name))
        gate.touch()
        result = await asyncio.wait_for(other, NEVER)
        assert not first.done()
        Path(f"{gate}.end").touch()
        return [await first, result]

    assert run_cell(cell) == ["ended", "ended"]
