"""Workers are forked from one process that has imported what they need; each starts in the environment of its moment."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed.core import Status

import flyte_nb as flyte
from flyte_nb.engine.clusters.forks import SOURCE
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell
from tests.engine.session import started

pytestmark = [
    pytest.mark.cluster,
    # Dask's connector leaves the socket of a connection that a killed worker refuses to the collector.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"),
]

env = flyte.TaskEnvironment("forks")


@env.task
async def answer() -> int:
    """Anything."""
    return 42


@pytest.fixture
def session() -> Iterator[Session]:
    """One worker."""
    with started(n_workers=1) as session:
        yield session


def base() -> tuple[int, int, int, str, str | None, str | None]:
    """Of a worker's process, outside attempts."""
    import os

    return (
        os.getpid(), os.getppid(), os.getpgid(0), os.getcwd(),  # noqa: PTH109
        os.environ.get("FORKS_TODAY"), os.environ.get("FORKS_BEFORE"),
    )  # fmt: skip


def ask(session: Session, besides: int = 0) -> tuple[Any, ...]:
    """What `base` finds in the one worker, once that is another process than this one."""
    handle = session.engine.network.handle
    assert handle is not None
    [nanny] = handle.cluster.workers.values()
    until = time.monotonic() + 60
    while nanny.pid in {None, besides} or nanny.process.status is not Status.running:
        assert time.monotonic() < until
        time.sleep(0.02)

    async def run() -> tuple[Any, ...]:
        found: dict[str, tuple[Any, ...]] = await handle.client.run(base, workers=[nanny.worker_address])
        return found[nanny.worker_address]

    found: tuple[Any, ...] = session.engine.call(run, timeout=60)
    return found


def replaced(session: Session, worker: int) -> tuple[Any, ...]:
    """Kill the worker; what `base` finds in the one that follows."""
    psutil.Process(worker).kill()
    return ask(session, besides=worker)


def test_each_worker_is_a_fork_in_the_environment_of_its_moment(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the one after the source was killed; and the one that is spawned, where there is no source."""
    source = SOURCE._process
    assert source is not None
    assert 1 == psutil.Process(source.pid).num_threads()  # or a fork might wait for a lock for ever
    worker, parent, group, *_ = ask(session)
    assert (source.pid, worker) == (parent, group)
    assert "spawn_main; flyte_nb worker" in " ".join(psutil.Process(worker).cmdline())

    monkeypatch.setenv("FORKS_TODAY", "yes")
    monkeypatch.chdir(tmp_path)
    worker, parent, group, *rest = replaced(session, worker)
    assert (source.pid, worker) == (parent, group)
    assert [str(tmp_path), "yes", None] == rest

    monkeypatch.setenv("FORKS_BEFORE", "no")
    monkeypatch.delenv("FORKS_TODAY")
    source.kill()
    source.wait()
    assert ask(session)[0] == worker
    worker, parent, _, *rest = replaced(session, worker)
    assert SOURCE._process is not None
    assert source.pid != parent == SOURCE._process.pid
    assert [str(tmp_path), None, "no"] == rest

    SOURCE.end()
    worker, parent, group, *rest = replaced(session, worker)
    assert (os.getpid(), worker) == (parent, group)
    assert [str(tmp_path), None, "no"] == rest
    assert run_cell(answer.aio) == 42


def test_the_source_ends_with_its_cluster(session: Session) -> None:
    """And is taken over by a cluster that takes the other's place."""
    source = SOURCE._process
    assert source is not None
    flyte.init(n_workers=1)
    assert run_cell(answer.aio) == 42
    assert SOURCE._process is source

    flyte.shutdown()
    assert not SOURCE._runs()
    assert not psutil.pid_exists(source.pid)
