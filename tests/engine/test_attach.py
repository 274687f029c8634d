"""Existing clusters: started with Dask's own commands, or given as objects; unreachable ones; lost workers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import pytest

import flyte_nb as flyte
from flyte_nb.engine.links import peers
from flyte_nb.testing import run_cell

pytestmark = pytest.mark.cluster

PROGRAM = """
import asyncio, os, sys
import flyte_nb as flyte
env = flyte.TaskEnvironment("attached")

@env.task
async def child(x: int) -> int:
    return x + os.getpid() * 0

@env.task
async def parent(n: int) -> int:
    return sum(await asyncio.gather(*(child(i) for i in range(n))))

if __name__ == "__main__":
    {init}
    run = flyte.run(parent, 10)
    print("RESULT", run.outputs()[0])
    from flyte_nb.kernel.operations.cluster import cluster_text
    from flyte_nb.kernel.session import Session
    print(cluster_text(Session.current))
"""


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a scheduler with one worker, both started from the command line."""
    folder = tmp_path_factory.mktemp("dask")
    file = folder / "scheduler.json"
    command = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    env = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": "[]"}
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, "env": env}
    processes = [subprocess.Popen([*command, "--scheduler-file", str(file), "--dashboard-address", ":0"], **quiet)]
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
    processes.append(subprocess.Popen([*worker, "--host", "127.0.0.1"], **quiet))
    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with distributed.Client(scheduler_file=str(file), set_as_default=False) as client:
        client.wait_for_workers(1, timeout=60)
    yield str(file)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def run_program(tmp_path: Path, init: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.replace("{init}", init))
    root = Path(flyte.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(root), "FLYTE_NB_NONINTERACTIVE": "1"}
    return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=90, env=env, check=False)


def test_a_scheduler_file_names_a_cluster(scheduler: str, tmp_path: Path) -> None:
    """A script attaches, runs nested actions there, and says which cluster it is."""
    done = run_program(tmp_path, f"flyte.init({scheduler!r})")

    assert "RESULT 45" in done.stdout, done.stderr
    assert "Attached to tcp://127.0.0.1" in done.stdout


def test_a_client_names_a_cluster(scheduler: str, tmp_path: Path) -> None:
    """So does a distributed.Client."""
    done = run_program(
        tmp_path, f"from distributed import Client; client = Client(scheduler_file={scheduler!r}); flyte.init(client)"
    )

    assert "RESULT 45" in done.stdout, done.stderr


def test_an_address_that_answers_not_is_an_error_within_ten_seconds(tmp_path: Path) -> None:
    """The message names the address and the remedy."""
    started = time.monotonic()
    done = run_program(tmp_path, "flyte.init('tcp://127.0.0.1:9')")

    assert "NoClusterError" in done.stderr
    assert "tcp://127.0.0.1:9" in done.stderr
    assert time.monotonic() - started < 60


def test_a_script_that_ends_waits_for_its_runs(tmp_path: Path) -> None:
    """Without outputs() the run is finished all the same, and the script says so."""
    done = run_program(tmp_path, "import atexit; flyte.run(parent, 3)")

    assert done.returncode == 0
    assert "RESULT 45" in done.stdout


env = flyte.TaskEnvironment("loss")


@env.task
async def work(i: int) -> int:
    await asyncio.sleep(0.05)
    return i


@env.task
def worker_pid() -> int:
    return os.getpid()


def test_killed_workers_lose_no_result() -> None:
    """SIGKILL to a worker in the middle of a gather: every result arrives once, in order."""
    flyte.shutdown()
    flyte.init(n_workers=2)
    try:

        async def cell() -> list[int]:
            victim = await worker_pid.aio()
            running = asyncio.gather(*(work(i) for i in range(300)))
            await asyncio.sleep(0.02)
            os.kill(victim, signal.SIGKILL)
            return await running

        assert list(range(300)) == run_cell(cell)
    finally:
        flyte.shutdown()


QUIET = """
import distributed
import flyte_nb as flyte
{program}
    security = distributed.Security.temporary()
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, security=security, dashboard_address="127.0.0.1:0")
    try:
        flyte.init(cluster.scheduler_address)
    except flyte.errors.NoClusterError as exc:
        print("REFUSED", exc)
    flyte.init(cluster.scheduler_address, security=security)
    print("RESULT", flyte.run(parent, 10).outputs()[0])
"""


def test_a_tls_cluster_wants_credentials_and_nothing_is_said_at_the_end(tmp_path: Path) -> None:
    """``security=`` is taken; without it the error says so. A script that ends leaves no complaint of Dask's behind."""
    tasks = PROGRAM.partition("if __name__")[0] + 'if __name__ == "__main__":'
    path = tmp_path / "program.py"
    path.write_text(QUIET.replace("{program}", tasks))
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=100, check=False)
    assert "RESULT 45" in done.stdout, done.stderr
    assert "REFUSED the Dask scheduler at tls://" in done.stdout
    assert "security=" in done.stdout
    for word in ("Traceback", "WARNING", "ERROR", "distributed."):
        assert word not in done.stderr


def test_workers_that_cannot_be_reached_are_named(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Actions go straight to the workers: where that is impossible, an error says so at once, instead of waiting for ever."""

    async def refused(*_args: Any) -> Any:
        raise OSError("No route to host")

    monkeypatch.setattr(peers, "open_link", refused)  # a firewall between kernel and workers
    with pytest.raises(flyte.errors.NoClusterError, match=r"none of the 1 workers .*No route to host.*contact-address"):
        flyte.init(scheduler, links="direct")
    flyte.shutdown()
