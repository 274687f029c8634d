"""Workers that rest, and workers that leave: who is given work, and who knows of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import distributed
import pytest

import flyte_nb as flyte
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell
from tests.engine.session import started

pytestmark = pytest.mark.cluster

env = flyte.TaskEnvironment("roster")
#: Seconds after which something counts as never happening.
NEVER = 30.0


@env.task
def where(x: int) -> str:
    """The worker it runs on."""
    return _address()


@env.task
def hold(mark: str) -> str:
    """Begin on some worker, and end there once let go."""
    Path(mark).write_text(_address())
    while not Path(mark + ".go").exists():
        time.sleep(0.01)
    with Path(mark + ".ended").open("a") as file:
        file.write("x")
    return _address()


def _address() -> str:
    return next(iter(distributed.worker.Worker._instances)).address


def on_workers(session: Session, function: Callable[..., Any], *args: Any, workers: list[str] | None = None) -> Any:
    """Call a function on workers, past the engine."""
    handle = session.engine.network.handle
    assert handle is not None

    async def call() -> Any:
        return await handle.client.run(function, *args, workers=workers)

    return session.engine.call(call, timeout=NEVER)


async def until(true: Callable[[], object]) -> None:
    """Wait until it is true."""
    end = time.monotonic() + NEVER
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


@pytest.fixture
def session() -> Iterator[Session]:
    """Two workers without Dask's memory monitor, which would end a pause."""
    with started(n_workers=2, memory_limit=None) as session:
        yield session


def test_a_paused_worker_ends_what_it_has_and_is_given_nothing_new(session: Session, tmp_path: Path) -> None:
    """A worker that Dask pauses (it uses much memory) is not lost: its action is executed once, and others go elsewhere."""
    mark = tmp_path / "mark"

    def pause(status: str, dask_worker: Any) -> None:
        dask_worker.status = distributed.core.Status[status]

    def host_on(address: str) -> str:
        hosts = on_workers(session, lambda dask_worker: repr(*dask_worker._flyte_nb_hosts.values()), workers=[address])
        return str(hosts[address])

    async def cell() -> tuple[str, str, set[str]]:
        held = asyncio.ensure_future(hold.aio(str(mark)))
        await until(lambda: mark.exists() and mark.read_text())
        address = mark.read_text()
        await asyncio.to_thread(on_workers, session, pause, "paused", workers=[address])
        await until(lambda: address in session.engine.network.resting and address not in session.engine.network.roster)
        assert "<KernelEngine on embedded cluster [2 workers, 1 in flight]>" == repr(session.engine)
        assert f"<Host {address} [1 lanes, 1 under way, 1/1 slots held]>" == await asyncio.to_thread(host_on, address)
        elsewhere = set(await asyncio.gather(*(where.aio(i) for i in range(20))))
        Path(f"{mark}.go").touch()
        return address, await held, elsewhere

    address, ended_on, elsewhere = run_cell(cell)
    assert ended_on == address
    assert address not in elsewhere
    assert Path(f"{mark}.ended").read_text() == "x"


def test_workers_hear_who_has_left(tmp_path: Path) -> None:
    """A worker that is not replaced is in no other worker's roster either, so that their children are not meant for it."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        flyte.init(cluster)
        session = Session.current
        assert session is not None

        def rosters() -> list[set[str]]:
            return list(
                on_workers(
                    session,
                    lambda dask_worker: {
                        a for host in dask_worker._flyte_nb_hosts.values() for a in host.network.roster
                    },
                ).values()
            )

        async def cell() -> list[set[str]]:
            await until(lambda: len(session.engine.network.roster) == 2)
            gone = next(nanny for nanny in cluster.workers.values())
            left = set(session.engine.network.roster) - {gone.worker_address}
            await asyncio.to_thread(cluster.sync, gone.close)
            await until(lambda: set(session.engine.network.roster) == left)
            found: list[set[str]] = []
            for _ in range(50):
                found = await asyncio.to_thread(rosters)
                if found == [left]:
                    break
                await asyncio.sleep(0.05)
            assert found == [left]
            return found

        try:
            run_cell(cell)
        finally:
            flyte.shutdown()
