"""Workers that do not answer: what is overdue there ends, their process is replaced, and a busy one is left alone."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import flyte_nb as flyte
from flyte_nb.kernel.operations.cluster import cluster_text
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell
from tests.contract.journal import until
from tests.engine.session import started

pytestmark = pytest.mark.cluster

env = flyte.TaskEnvironment("silent")


def hold_the_lock(mark: str) -> None:
    """Compute in C, for ever, without letting other threads of this process run."""
    Path(mark).write_text(str(os.getpid()))
    re.match(r"(a+)+$", "a" * 60 + "b")


@env.task(timeout=0.5)
async def locked(mark: str) -> None:
    """Out of time where the lock of the interpreter is held."""
    hold_the_lock(mark)


@env.task
async def locked_for_ever(mark: str) -> None:
    """The same, until it is cancelled."""
    hold_the_lock(mark)


@env.task(timeout=0.5)
def stands(mark: str) -> None:
    """Out of time in a process that stands still."""
    Path(mark).write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGSTOP)
    # The threads of a process stop one after another: without it, the body may end before the process stands still.
    time.sleep(600)


@env.task
async def parent_of_locked(mark: str) -> str:
    """The owner of a silent worker's action is another worker, or the silent one itself."""
    with pytest.raises(flyte.errors.MaxRuntimeExceededError) as caught:
        await locked(mark)
    return type(caught.value).__name__


@env.task
async def busy(seconds: float) -> int:
    """Keep everything in this process from running for a while: large data that is unpickled does."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return os.getpid()


@env.task
async def quick(x: int) -> int:
    """An innocent."""
    return x


@env.task
async def innocent(x: int) -> int:
    """One that is under way."""
    await asyncio.sleep(0.5)
    return x


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """Two workers."""
    with started(n_workers=2) as session:
        yield session


def has_ended(mark: Path) -> bool:
    """Whether the process that wrote a mark is gone."""
    try:
        os.kill(int(mark.read_text()), 0)
    except ProcessLookupError:
        return True
    return False


def test_a_silent_worker_is_given_nothing_new_and_ended_once_it_is_asked_to_stop(
    session: Session, tmp_path: Path
) -> None:
    """Until then it may be computing something useful: `%flyte cluster` says so. First: nothing has been overdue here yet."""
    mark = tmp_path / "mark"

    async def cell() -> list[int]:
        network = session.engine.network
        await until(lambda: len(network.roster) == 2)
        held = asyncio.ensure_future(locked_for_ever(str(mark)))
        await until(lambda: network.silent)
        done = await asyncio.gather(*(quick(100 + i) for i in range(20)))
        assert "It has been silent for " in cluster_text(session)
        assert not has_ended(mark)
        held.cancel()
        await until(lambda: has_ended(mark))
        await until(lambda: len(network.roster) == 2 and not network.silent)
        assert network.handle is not None
        network.handle.cluster.missing[0] = time.monotonic() - 3  # its successor may be there before it is missed
        assert "w0   is missing for 3 s" in cluster_text(session)
        await until(lambda: "missing" not in cluster_text(session))
        return done

    assert run_cell(cell) == [100 + i for i in range(20)]


def test_a_silent_worker_loses_its_process(session: Session, tmp_path: Path) -> None:
    """Whatever keeps it from answering: its action is out of time, those beside it run elsewhere, the next ones at once."""
    marks = [tmp_path / "locked", tmp_path / "stands"]

    async def cell() -> list[object]:
        overdue = [locked(str(marks[0])), stands.aio(str(marks[1]))]
        return await asyncio.gather(*overdue, *(innocent(i) for i in range(8)), return_exceptions=True)

    first, second, *rest = run_cell(cell)
    assert isinstance(first, flyte.errors.MaxRuntimeExceededError), repr(first)
    assert isinstance(second, flyte.errors.MaxRuntimeExceededError), repr(second)
    assert rest == list(range(8))

    async def after() -> list[int]:
        await until(lambda: all(map(has_ended, marks)))
        return await asyncio.gather(*(quick(i) for i in range(20)))

    assert run_cell(after) == list(range(20))


def test_a_nested_action_is_watched_by_its_owner(session: Session, tmp_path: Path) -> None:
    """Which is a worker; and by its home where that is the silent one."""

    async def cell() -> str:
        return await parent_of_locked(str(tmp_path / "mark"))

    assert run_cell(cell) == "MaxRuntimeExceededError"
    assert has_ended(tmp_path / "mark")


def test_a_busy_worker_is_left_alone(session: Session) -> None:
    """However long it does not answer: nothing that it was given is overdue."""

    async def cell() -> None:
        network = session.engine.network
        await until(lambda: len(network.roster) == 2 and not network.silent)
        before = set(network.roster)
        first = asyncio.ensure_future(busy(4.5))
        await until(lambda: network.silent)
        os.kill(await first, 0)
        await until(lambda: not network.silent)
        assert before == set(network.roster)

    run_cell(cell)
