"""Large arguments and results: copies everywhere, moved once per worker, given back."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest

import flyte_nb as flyte
from flyte_nb.core.transport import blob_files
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell
from tests.engine.session import started

pytestmark = pytest.mark.cluster

env = flyte.TaskEnvironment("data")
MB = 1024 * 1024


@env.task
async def head(values: np.ndarray, at: int) -> float:
    """One element; the array is written to, which nobody else may see."""
    found = float(values[at])
    values[at] = -1.0
    return found


@env.task
async def ones(n: int) -> np.ndarray:
    """An array made on a worker."""
    return np.ones(n)


@env.task
async def through(n: int) -> float:
    """Results that go from child to parent to child, all on workers."""
    made = await asyncio.gather(*(ones(n) for _ in range(4)))
    return sum(await asyncio.gather(*(head(array, 0) for array in made)))


@env.task
def files() -> int:
    """Files this worker offers or keeps."""
    return sum(len(list(Path(folder).iterdir())) for folder in blob_files.folders(os.getpid()))


def own_files() -> set[Path]:
    """Files this process offers: those of earlier tests' runs, which are remembered, among them."""
    return {file for folder in blob_files.folders(os.getpid()) for file in Path(folder).iterdir()}


@pytest.fixture(scope="module", params=["one machine", "no shared files"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Session]:
    """A cluster whose workers map our files, and one whose workers get everything over links, as from elsewhere."""
    if request.param == "one machine":
        with started(n_workers=2) as session:
            yield session
        return
    env = {"FLYTE_NB_SHARED_FILES": "0"}
    dask = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", env=env, silence_logs=50
    )
    with dask, started(dask) as session:
        yield session


def test_one_array_for_many_calls_is_written_once(cluster: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred calls with one array make one file, and what a body writes to its copy stays its own."""
    written: list[int] = []
    plain = blob_files.write

    def write(buffer: memoryview) -> str:
        written.append(buffer.nbytes)
        return plain(buffer)

    monkeypatch.setattr(blob_files, "write", write)
    array = np.arange(2.0 * MB)
    received = sum(link.received for link in cluster.engine.network.links.values())
    sent = sum(link.sent for link in cluster.engine.network.links.values())

    async def cell() -> list[float]:
        return await asyncio.gather(*(head(array, i) for i in range(100)))

    assert run_cell(cell) == [float(i) for i in range(100)]
    assert written == [array.nbytes]
    assert array[5] == 5.0
    moved = sum(link.sent for link in cluster.engine.network.links.values()) - sent
    assert moved < 2.5 * array.nbytes  # once for each of two workers at most
    assert sum(link.received for link in cluster.engine.network.links.values()) - received < MB


def test_a_mutated_array_is_sent_anew(cluster: Session) -> None:
    """The content at the time of the call is what arrives."""
    array = np.zeros(MB)

    async def cell() -> list[float]:
        seen = []
        for i in range(4):
            array[3] = i
            seen.append(await head(array, 3))
        return seen

    assert run_cell(cell) == [0.0, 1.0, 2.0, 3.0]


def test_large_results_are_writable_and_private(cluster: Session) -> None:
    """Each awaiting caller gets a value of its own, small enough to be read or large enough to be mapped."""

    async def cell() -> Any:
        return await asyncio.gather(*(ones(n) for n in (40_000, 2 * MB, 2 * MB)))

    first, second, third = run_cell(cell)
    second[0] = 5
    assert first.sum() == 40_000
    assert third[0] == 1.0
    assert second.sum() == 2 * MB + 4


def test_results_go_on_to_other_tasks(cluster: Session) -> None:
    """Between workers, with nothing of it passing through the kernel."""
    received = sum(link.received for link in cluster.engine.network.links.values())
    assert run_cell(lambda: through(MB)) == 4.0
    assert sum(link.received for link in cluster.engine.network.links.values()) - received < MB


def test_memory_is_given_back(cluster: Session) -> None:
    """When runs have ended and their values are gone, no file is left, here or on a worker."""

    async def cell() -> None:
        array = np.arange(3.0 * MB)
        await asyncio.gather(*(head(array, i) for i in range(10)), *(ones(MB) for _ in range(10)))

    before = own_files()
    run_cell(cell)
    cluster.gateway.ask(lambda: None)
    gc.collect()
    assert own_files() <= before

    async def none_left() -> None:
        # A worker hears of the end of a run after the kernel.
        while any(await asyncio.gather(*(files.aio() for _ in range(4)))):  # noqa: ASYNC110 - no event tells of other processes
            await asyncio.sleep(0.05)

    run_cell(lambda: asyncio.wait_for(none_left(), 30))
