"""Workers that die, and the scheduler: what is told, what is done again, what is given up."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import flyte_nb as flyte
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell

pytestmark = pytest.mark.cluster

env = flyte.TaskEnvironment("loss")
MIB = 1024 * 1024


@env.task
async def grow(mib: int) -> int:
    """Use memory, and keep it for a while."""
    blocks = [bytearray(os.urandom(1024) * 1024) for _ in range(mib)]
    await asyncio.sleep(3)
    return len(blocks)


@env.task(retries=1)
def grow_until(mib: int, folder: str) -> int:
    """Use much memory in the first attempt only."""
    mark = Path(folder) / "again"
    if mark.exists():
        return 1
    mark.touch()
    blocks = [bytearray(os.urandom(1024) * 1024) for _ in range(mib)]
    time.sleep(3)
    return len(blocks)


@env.task
def kill_me(folder: str, times: int) -> int:
    """Be killed for the first few attempts."""
    marks = list(Path(folder).glob("kill-*"))
    if len(marks) < times:
        (Path(folder) / f"kill-{len(marks)}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return len(marks)


@env.task
async def quick(x: int) -> int:
    """An innocent."""
    return x


@env.task
async def parent_of_grow(mib: int) -> str:
    """A parent on a worker sees the same error as a cell."""
    try:
        await grow(mib)
    except flyte.errors.OOMError as exc:
        return str(exc)
    return "no error"


small = grow.override(resources=flyte.Resources(memory="100Mi"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Session]:
    """Two workers of 400 MiB each."""
    flyte.init(n_workers=2, memory_limit="400 MiB")
    assert Session.current is not None
    Session.current.wait_ready(60)
    yield Session.current
    flyte.shutdown()


def test_a_worker_ended_for_memory_is_an_oom_error(cluster: Session) -> None:
    """The nanny ends the worker; the caller gets OOMError with the figures, others their results."""

    async def cell() -> list[object]:
        return await asyncio.gather(grow(600), *(quick(i) for i in range(50)), return_exceptions=True)

    error, *rest = run_cell(cell)
    assert isinstance(error, flyte.errors.OOMError), repr(error)
    assert "OOM" in error.code
    assert "MiB" in str(error)
    assert rest == list(range(50))


def test_a_parent_on_a_worker_hears_of_it(cluster: Session) -> None:
    """The cause reaches whoever awaits, wherever it runs."""

    async def cell() -> str:
        return await parent_of_grow(600)

    assert "MiB" in run_cell(cell)


def test_an_oom_uses_a_retry(cluster: Session, tmp_path: Path) -> None:
    """As any error of the task."""

    async def cell() -> int:
        return await grow_until.aio(600, str(tmp_path))

    assert run_cell(cell) == 1


def test_a_task_stays_within_its_own_memory(cluster: Session) -> None:
    """``Resources(memory=...)`` ends the attempt that outgrows it, long before its worker would be."""

    async def cell() -> None:
        with pytest.raises(flyte.errors.OOMError):
            await small(200)
        assert await grow.override(resources=flyte.Resources(memory="300Mi"))(50) == 50

    run_cell(cell)


def test_a_killed_worker_costs_no_retry(cluster: Session, tmp_path: Path) -> None:
    """Its action runs again on another; three times in a row and it is given up, with the signal named."""
    once, always = tmp_path / "once", tmp_path / "always"
    once.mkdir()
    always.mkdir()

    async def cell() -> list[object]:
        return [*await asyncio.gather(kill_me.aio(str(once), 1), kill_me.aio(str(always), 99), return_exceptions=True)]

    good, bad = run_cell(cell)
    assert good == 1
    assert isinstance(bad, flyte.errors.RuntimeSystemError), repr(bad)
    assert "SIGKILL" in str(bad)


SCRIPT = """
import asyncio, os, sys
import flyte_nb as flyte
from flyte_nb.testing import run_cell
env = flyte.TaskEnvironment("orphan")

@env.task
async def wait(x: int) -> int:
    print("waiting", flush=True)
    await asyncio.sleep(120)
    return x

async def cell():
    print("SUBMITTED", flush=True)
    return await asyncio.gather(*(wait(i) for i in range(3)), return_exceptions=True)

if __name__ == "__main__":
    flyte.init(sys.argv[1])
    for error in run_cell(cell):
        print("ERROR", type(error).__name__, error, flush=True)
    from flyte_nb.kernel.operations.cluster import cluster_text
    from flyte_nb.kernel.session import Session
    for error in run_cell(cell):
        print("LATER", type(error).__name__, error, flush=True)
    print("STATUS", cluster_text(Session.current), flush=True)
    flyte.init(n_workers=1)
    Session.current.wait_ready(60)
    async def again():
        return await quick(7)
    @env.task
    async def quick(x: int) -> int:
        return x
    print("AGAIN", run_cell(again), flush=True)
"""


def test_a_lost_scheduler_ends_every_await(tmp_path: Path) -> None:
    """An error says what happened and what to do; a new cluster works in the same process."""
    file = tmp_path / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    command = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    command += ["--scheduler-file", str(file), "--dashboard-address", ":0"]
    scheduler = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
    worker = [
        sys.executable,
        "-m",
        "dask",
        "worker",
        "--scheduler-file",
        str(file),
        "--nthreads",
        "1",
        "--no-dashboard",
    ]
    workers = subprocess.Popen(worker, **quiet)  # type: ignore[call-overload]
    program = tmp_path / "program.py"
    program.write_text(SCRIPT)
    try:
        while not file.exists():
            assert scheduler.poll() is None
            time.sleep(0.05)
        script = subprocess.Popen(
            [sys.executable, str(program), str(file)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert script.stdout is not None
        seen = []
        for line in script.stdout:
            seen.append(line)
            if "waiting" in line:
                break
        began = time.monotonic()
        scheduler.kill()
        for line in script.stdout:
            seen.append(line)
            if line.startswith("ERROR"):
                break
        took = time.monotonic() - began
        with script.stdout:
            seen += script.stdout
        script.wait()
        text = "".join(seen)
        assert text.count("ERROR SchedulerLostError") == 3, text
        assert "%flyte cluster restart" in text
        assert text.count("LATER SchedulerLostError") == 3, text
        assert "STATUS the Dask scheduler" in text, text
        assert "Traceback" not in text, text
        assert "AGAIN 7" in text, text
        assert "distributed" not in text, text
        assert took < 30, text  # the promise is 10 s on a machine that has nothing else to do
    finally:
        for process in (scheduler, workers):
            for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
                child.kill()
            process.kill()
