"""Workers that die, and the scheduler: what is told, what is done again, what is given up."""

from __future__ import annotations

import asyncio
import os
import re
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
from tests.engine.session import started

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
async def ends_its_process(x: int) -> None:
    """Each time."""
    os._exit(x)


@env.task
async def asleep(x: int) -> int:
    """Beside whatever computes there."""
    await asyncio.sleep(1.5)
    return x


@env.task
async def waits(x: int) -> int:
    """A parent that only waits."""
    return await asleep(x)


@env.task
async def until_there(mark: str) -> int:
    """A child that goes on for long."""
    while not Path(mark).exists():  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.02)
    return 1


@env.task
async def waits_for_long(folder: str, mark: str) -> int:
    """Say which process it waits in."""
    (Path(folder) / f"{os.getpid()}").touch()
    return await until_there(mark)


@env.task
async def breaks_imports() -> None:
    """Remove our modules."""
    for name in [name for name in sys.modules if name.startswith("flyte_nb")]:
        del sys.modules[name]


@env.task
async def exits_in_a_callback() -> None:
    """Raise what ends a loop where nothing of the body's catches it."""

    def leave() -> None:
        raise SystemExit("left in a callback")

    asyncio.get_running_loop().call_soon(leave)
    await asyncio.sleep(60)


@env.task
async def exits_in_a_task() -> None:
    """The same, in an asyncio task."""

    async def leave() -> None:
        raise KeyboardInterrupt("left in a task")

    task = asyncio.ensure_future(leave())
    await asyncio.sleep(60)
    del task


@env.task
async def forks(x: int) -> int:
    """Go on twice, of which one is a copy of the worker."""
    os.fork()
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
    with started(n_workers=2, memory_limit="400 MiB") as session:
        yield session


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


def test_a_loss_blames_what_computed(cluster: Session) -> None:
    """What ends its process each time is given up after three; what slept or waited beside it is done again, and is right."""

    async def cell() -> list[object]:
        beside = [*(asleep(i) for i in range(10)), *(waits(10 + i) for i in range(10))]
        return await asyncio.gather(ends_its_process(3), *beside, return_exceptions=True)

    error, *rest = run_cell(cell)
    assert isinstance(error, flyte.errors.WorkerLostError), repr(error)
    assert "exit status 3" in str(error)
    assert re.fullmatch(r"w\d+", error.worker or ""), error.worker
    assert "asleep" not in str(error)
    assert rest == list(range(20))


def test_a_parent_that_waits_outlives_any_number_of_workers(cluster: Session, tmp_path: Path) -> None:
    """It is begun again elsewhere each time, and has nothing to do with their ends."""
    folder, mark = tmp_path / "pids", tmp_path / "mark"
    folder.mkdir()

    async def cell() -> int:
        waiting = asyncio.ensure_future(waits_for_long(str(folder), str(mark)))
        for number in range(4):
            while len(pids := set(os.listdir(folder))) <= number:  # noqa: ASYNC110, PTH208 - nothing tells
                await asyncio.sleep(0.02)
            (pid,) = pids - seen
            seen.add(pid)
            await asyncio.sleep(0.1)  # it awaits its child by then
            os.kill(int(pid), signal.SIGKILL)
        mark.touch()
        return await waiting

    seen: set[str] = set()
    assert run_cell(cell) == 1


def test_a_worker_ends_itself_where_our_machinery_fails(cluster: Session) -> None:
    """Its error names the cause, only that action is lost, and later ones run in a fresh process."""

    async def cell() -> list[object]:
        return await asyncio.gather(breaks_imports(), *(quick(i) for i in range(10)), return_exceptions=True)

    error, *rest = run_cell(cell)
    assert isinstance(error, flyte.errors.WorkerLostError), repr(error)
    assert "flyte_nb cannot go on in it" in str(error)
    assert rest == list(range(10))


def test_what_ends_a_loop_ends_its_own_action_only(cluster: Session) -> None:
    """SystemExit and KeyboardInterrupt in a callback or an asyncio task are that action's error; a copy of a worker says nothing."""

    async def cell() -> list[object]:
        culprits = [exits_in_a_callback(), exits_in_a_task(), *(forks(i) for i in range(2))]
        return await asyncio.gather(*culprits, *(asleep(i) for i in range(4)), return_exceptions=True)

    first, second, *rest = run_cell(cell)
    assert isinstance(first, flyte.errors.RuntimeUserError), repr(first)
    assert "left in a callback" in str(first)
    assert isinstance(second, flyte.errors.RuntimeUserError), repr(second)
    assert "left in a task" in str(second)
    assert rest == [0, 1, 0, 1, 2, 3]


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
            process.wait()
