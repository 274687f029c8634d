"""Dask beside tasks and inside them: its clients, and its values as what is awaited, as arguments and as results."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import distributed
import pytest
from dask.delayed import delayed

import flyte_nb as flyte
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell
from tests.contract.journal import until_sync
from tests.engine.session import started

pytestmark = pytest.mark.cluster

env = flyte.TaskEnvironment("dask-inside")


@env.task
def gathers(n: int) -> int:
    """Blocks in a client, which computes on the very slot that this body has given back."""
    client = distributed.get_client()
    assert distributed.get_worker().address
    return sum(client.gather(client.map(lambda x: x + 1, range(n), pure=False)))


@env.task
def in_a_worker_client(n: int) -> list[int]:
    with distributed.worker_client() as client:
        futures = [client.submit(abs, -i, pure=False) for i in range(n)]
        done = sorted(future.result() for future in distributed.as_completed(futures))
    return [*done, int(da.arange(n, chunks=2).sum().compute())]


@env.task
async def awaits(n: int) -> list[int]:
    total = await da.arange(n, chunks=10).sum()
    return [int(total), await delayed(abs)(-1), await flyte.dask_client().submit(abs, -2)]


@env.task
async def twice(mark: str) -> int:
    """Fails once, after what it has awaited was computed."""
    found = await delayed(_count, pure=True)(mark)
    if flyte.ctx().attempt_number == 0:
        raise ValueError
    return int(found)


def _count(mark: str) -> int:
    with Path(mark).open("a") as file:
        file.write("x")
    return len(Path(mark).read_text())


@env.task
def keeps_lazy(x: Any) -> float:
    assert isinstance(x, da.Array)
    return float(x.sum().compute())


@env.task
def takes(x: Any) -> int:
    return int(x)


@env.task
def gives_back_a_future() -> Any:
    return distributed.get_client().submit(abs, -1)


@env.task
def blocks(mark: str) -> None:
    Path(mark).touch()
    distributed.get_client().submit(_wait_for, f"{mark}.go").result()


def _wait_for(mark: str) -> None:
    while not Path(mark).exists():
        time.sleep(0.02)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with started(n_workers=2) as session:
        yield session


def dask_steps(session: Session, run: str) -> list[Any]:
    return [action for action in session.store.runs[run].actions.values() if action.kind == "dask"]


def test_clients_and_computations_work_in_tasks_and_give_slots_back(session: Session, tmp_path: Path) -> None:
    """More bodies than slots block in clients; what is awaited is an action; recorded, so that a retry does not compute it."""

    async def cell() -> None:
        assert await asyncio.gather(*(gathers.aio(10) for _ in range(6))) == [55] * 6
        assert await asyncio.gather(*(in_a_worker_client.aio(4) for _ in range(4))) == [[0, 1, 2, 3, 6]] * 4
        assert await asyncio.gather(*(awaits(50) for _ in range(3))) == [[1225, 1, 2]] * 3
        assert await twice.override(retries=1)(str(tmp_path / "mark")) == 1

    run_cell(cell)
    steps = dask_steps(session, next(reversed(session.store.runs)))
    assert sorted({step.label for step in steps}) == [
        "Array(sum-aggregate)",
        "Delayed(abs)",
        "Delayed(count)",
        "Future(abs)",
    ]
    assert {step.phase.name for step in steps} <= {"SUCCEEDED", "RECOVERED"}
    assert (tmp_path / "mark").read_text() == "x"


def test_a_cell_awaits_what_dask_computes(session: Session) -> None:
    """With Dask's progress; a persisted collection stays one; failures are Dask's; a cancelled wait cancels what it began."""

    async def cell() -> None:
        assert await da.ones(100, chunks=10).sum() == 100
        client = await flyte.dask_client(asynchronous=True)
        assert await client.submit(abs, -7) == 7
        await client.close()
        persisted = await da.ones(100, chunks=10).persist()
        assert await persisted.sum() == await keeps_lazy.aio(persisted) == await keeps_lazy.aio(da.ones(100)) == 100
        with pytest.raises(ZeroDivisionError):
            await delayed(lambda: 1 / 0)()
        slow = [delayed(time.sleep)(0.3 + i / 100) for i in range(8)]
        waiting = asyncio.ensure_future(_value(delayed(list)(slow)))
        while not any("of 9 Dask tasks" in step.note for step in dask_steps(session, run())):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    def run() -> str:
        return next(reversed(session.store.runs))

    run_cell(cell)
    assert [step.phase.name for step in dask_steps(session, run())][-2:] == ["FAILED", "ABORTED"]


async def _value(what: Any) -> Any:
    return await what


def test_what_means_nothing_elsewhere_is_refused_with_the_remedy(session: Session) -> None:
    """Futures and delayed objects, alone and in containers; as results too."""
    client = flyte.dask_client()
    future = client.submit(abs, -1)
    for value in (future, [future], {"x": delayed(abs)(-1)}):
        with pytest.raises(
            TypeError, match=r"argument 'x' of dask-inside.takes .* write `await (future|x)`, or `(future|x)\."
        ):
            flyte.run(takes, value).outputs()
    with pytest.raises(
        flyte.errors.BaseRuntimeError, match=r"result of dask-inside.gives_back_a_future .*write `await"
    ):
        flyte.run(gives_back_a_future).outputs()
    assert session.dask.client() is client


def test_a_stop_reaches_who_waits_for_dask(session: Session, tmp_path: Path) -> None:
    """The body ends before what it waits for, and its worker process stays."""
    before = set(session.engine.network.roster)
    run = flyte.run(blocks, str(tmp_path / "mark"))
    until_sync((tmp_path / "mark").exists)
    run.abort()
    run.wait()
    assert set(session.engine.network.roster) == before
    (tmp_path / "mark.go").touch()


def test_who_never_calls_a_task_has_a_cluster_all_the_same() -> None:
    """A script of Dask's own that takes its client from here; nothing of Dask's is printed."""
    program = """
import dask.array as da, flyte_nb
if __name__ == "__main__":
    flyte_nb.init(n_workers=1)
    client = flyte_nb.dask_client()
    print(int(da.arange(10, chunks=2).sum().compute()), len(client.scheduler_info()["workers"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
    assert (done.stdout, done.stderr) == ("45 1\n", "")
