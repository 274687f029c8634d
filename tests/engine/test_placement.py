"""Actions that no worker takes: why they wait is said at their run, wherever they were called; then they fail with it."""

from __future__ import annotations

import asyncio
import functools
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import distributed
import pytest

import flyte_nb as flyte
from flyte_nb.engine import roster
from flyte_nb.engine.dispatch import network as network_of_owner
from flyte_nb.kernel.session import Session
from tests.contract.journal import until_sync
from tests.engine.session import started

pytestmark = pytest.mark.cluster

env = flyte.TaskEnvironment("placement")
devices = flyte.TaskEnvironment("placement-devices", resources=flyte.Resources(gpu=2))


@devices.task
async def on_two_gpus() -> int:
    return 2


@env.task
async def calls_it() -> int:
    return await on_two_gpus()


on_one_gpu = on_two_gpus.override(resources=flyte.Resources(gpu=1))


@env.task
async def calls_one() -> int:
    return await on_one_gpu()


@env.task
async def waits_for(mark: str) -> str:
    while not Path(mark).exists():  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return "done"


@env.task
async def parent(mark: str) -> list[str]:
    return list(await asyncio.gather(*(waits_for(mark) for _ in range(3))))


def is_noted(run: Any, note: str) -> bool:
    assert Session.current is not None
    found = Session.current.store.runs.get(run.name)
    return found is not None and note in found.state.note


def dask(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    return subprocess.Popen([sys.executable, "-m", "dask", *words, "--no-dashboard", "--host", "127.0.0.1"], **quiet)


def test_a_scheduler_that_comes_back_is_no_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also: what no worker offers, and what is paused; demand is told again. A run goes on when workers join the scheduler that was started anew; till then it is said."""
    monkeypatch.setattr(network_of_owner, "TELL_AGAIN_S", 0.3)
    monkeypatch.setattr(roster, "MISSES", 300)  # however long a new process takes here
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = f"tcp://127.0.0.1:{port}"
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # what looks into the scheduler
    scheduler = dask(tmp_path, "scheduler", "--port", port, "--dashboard-address", ":0")
    workers = [dask(tmp_path, "worker", address, "--nthreads", "2", "--resources", "GPU=1", "--memory-limit", "0")]
    try:
        until_sync(lambda: _attaches(address))
        with started(address, placement_timeout=1.5) as session:
            until_sync(lambda: session.engine.network.roster)
            for task in (on_two_gpus, calls_it):
                run = flyte.run(task)
                until_sync(functools.partial(is_noted, run, "waiting: no worker offers GPU=2 (the most is 1)"))
                with pytest.raises(
                    flyte.errors.NoWorkerError, match=r"no worker offers GPU=2 \(the most is 1\)\. init\("
                ):
                    run.outputs()
                assert f"{run.name} … waiting: no worker offers GPU=2 (the most is 1)\n" in capsys.readouterr().err

            network = session.engine.network
            network.placement_timeout = None
            (first,) = network.roster
            workers.append(dask(tmp_path, "worker", address, "--nthreads", "2"))
            until_sync(lambda: len(network.roster) == 2)
            with distributed.Client(address, set_as_default=False) as client:
                client.run(set_status, "paused", workers=[first])
                until_sync(lambda: network.paused)
                waiting = [flyte.run(on_one_gpu), flyte.run(calls_one)]
                for run in waiting:
                    until_sync(functools.partial(is_noted, run, "waiting: the workers that offer GPU=1 are paused, as"))
                until_sync(lambda: client.run_on_scheduler(slots_wanted))
                client.run_on_scheduler(forget)
                until_sync(lambda: client.run_on_scheduler(slots_wanted))
                assert not network.is_hopeless({"GPU": 1.0})
                client.run(set_status, "running", workers=[first])
                assert [run.outputs()[0] for run in waiting] == [2, 2]

            mark = tmp_path / "mark"
            later = flyte.run(parent, str(mark))
            until_sync(lambda: later.name in session.store.runs and len(session.store.runs[later.name].actions) == 4)
            scheduler.kill()
            scheduler.wait()
            scheduler = dask(tmp_path, "scheduler", "--port", port, "--dashboard-address", ":0")
            until_sync(lambda: is_noted(later, "the cluster's scheduler was started anew, and has no workers yet"))
            mark.touch()
            workers.append(dask(tmp_path, "worker", address, "--nthreads", "2"))
            assert later.outputs()[0] == ["done"] * 3
    finally:
        for process in (*workers, scheduler):
            process.terminate()
            process.wait(20)


def set_status(status: str, dask_worker: Any) -> None:
    """As Dask's memory monitor does."""
    dask_worker.status = distributed.core.Status[status]


def forget(dask_scheduler: Any) -> None:
    """As where the connections of clients broke for a moment."""
    service = dask_scheduler.plugins["flyte_nb"]
    for client in list(service.wanted):
        service.remove_client(dask_scheduler, client)


def slots_wanted(dask_scheduler: Any) -> int:
    """What kernels and their workers have told the scheduler of an adaptive cluster."""
    service = dask_scheduler.plugins.get("flyte_nb")
    return sum(service.wanted.values()) if service is not None else 0


def _attaches(address: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 1):
            return True
    except OSError:
        return False
