"""Runs with a process of their own: they outlive their kernel, and another one sees them live, cancels and collects them."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.kernel.kernelclient import Kernel, wait_gone

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
import asyncio, dataclasses, os
import flyte_nb as flyte
flyte.init(n_workers=1)
env = flyte.TaskEnvironment("night")
folder = os.getcwd()

@dataclasses.dataclass
class Point:
    x: int

@env.task
async def step(p: Point) -> Point:
    print("step", p.x, os.environ.get("OF_A_CELL"))
    while p.x >= 3 and not os.path.exists(os.path.join(folder, f"gate{p.x}")):
        await asyncio.sleep(0.02)
    return Point(p.x * 10)

@env.task
async def main(n: int, big: bytes = b"") -> list[Point]:
    return await asyncio.gather(*(step(Point(i)) for i in range(n)))

@env.task
async def asks() -> int:
    asked = await flyte.new_condition.aio("count", data_type=int, prompt="How many?")
    return await asked.wait.aio() + 1

def detached(task, *args, **kwargs):
    return flyte.with_runcontext(detach=True).run(task, *args, **kwargs)
"""


@pytest.fixture(scope="module")
def nb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel whose runs are recorded."""
    folder = tmp_path_factory.mktemp("state") / "history"  # made when there is something to record
    with Kernel.start(env={"FLYTE_NB_HISTORY": str(folder), "JPY_SESSION_NAME": "/home/me/night.ipynb"}) as kernel:
        kernel.run("%load_ext flyte_nb").ok()
        kernel.run(DEFINE).ok()
        yield kernel
        for home in homes(kernel):
            home.kill()


def homes(nb: Kernel) -> list[psutil.Process]:
    """Processes of detached runs that the kernel, or the one before it, has started."""
    found = [
        p for p in psutil.process_iter(["cmdline"]) if "flyte_nb.kernel.detached_runs.home" in (p.info["cmdline"] or ())
    ]
    return [p for p in found if p.cwd() == str(nb.home)]


def test_a_run_goes_on_when_its_kernel_is_killed(nb: Kernel) -> None:
    """The next kernel says so, sees it live with its logs, and has its result as an instance of the notebook's class."""
    nb.run("os.environ['OF_A_CELL'] = 'set'").ok()
    cell = nb.run("run = detached(main, 4, b'b' * 2_000_000)\nprint(run.name)").ok()
    assert "k1.r1" == cell.stdout.strip()
    assert "main" in cell.views
    nb.wait_for(lambda: "2 of" in nb.run("%flyte runs").ok().stdout or "5 actions" in nb.run("%flyte runs").ok().stdout)
    stay = {home.pid for home in homes(nb)} | {p.pid for home in homes(nb) for p in home.children(recursive=True)}
    go = [process for process in nb.processes() if process.pid not in stay]
    nb.kill()
    assert not wait_gone(go, 20)
    assert homes(nb)

    nb.restart()
    said = nb.run("%load_ext flyte_nb").ok().stdout
    assert "k1.r1 of " in said
    assert "goes on in a process of its own" in said
    nb.run(DEFINE).ok()
    assert "main" in nb.run("%flyte show k1.r1").ok().views
    nb.wait_for(
        lambda: "step 3 set" in nb.run("run = flyte.remote.Run.get('k1.r1')\nprint(*run.get_logs())").ok().stdout
    )
    assert "running False 5" in nb.run("print(run.phase, run.done(), len(run.actions))").ok().stdout
    assert "has its home in another process" in nb.run("run.retry_failed()").error.value
    (nb.home / "gate3").write_text("")
    assert (
        "[0, 10, 20, 30] True" in nb.run("v = await run\nprint([p.x for p in v], isinstance(v[0], Point))").ok().stdout
    )
    assert not wait_gone(homes(nb), 20)
    assert "[]" in nb.run("import glob\nprint(glob.glob(os.environ['FLYTE_NB_HISTORY'] + '/detached-*'))").ok().stdout


def test_it_is_cancelled_and_answered_from_here(nb: Kernel) -> None:
    """A stop ends the wait and not the run; cancel, an action's cancel and a condition's answer reach its process."""
    cell = nb.begin("run = detached(main, 5)\nprint(run.name)\nrun.wait()")
    cell.wait_for(lambda: ".r1" in cell.stdout)
    nb.interrupt()
    assert cell.wait().error is not None
    name = cell.stdout.split()[0]
    assert f"%flyte cancel {name}" in cell.stdout
    assert "running" in nb.run("print(run.phase)").ok().stdout
    assert f"Cancelling {name}." in nb.run(f"%flyte cancel {name}").ok().stdout
    assert "aborted" in nb.run("run.wait()\nprint(run.phase)").ok().stdout

    nb.run("run = detached(asks)").ok()
    nb.wait_for(lambda: "count" in nb.run("%flyte signal").ok().stdout)
    assert "count: 41" in nb.run("%flyte signal count 41").ok().stdout
    assert "42" in nb.run("print(await run)").ok().stdout
    assert not wait_gone(homes(nb), 20)


def test_one_whose_process_is_killed_is_cut_off_and_recovered(nb: Kernel) -> None:
    """What it had computed is kept, as that of a kernel is."""
    nb.run("run = detached(main, 5)").ok()
    nb.wait_for(lambda: 4 == int(nb.run("print(sum(a.phase == 'succeeded' for a in run.actions))").ok().stdout))
    for home in homes(nb):
        home.send_signal(signal.SIGKILL)
    assert "cut off" in nb.run("run.wait()\nprint(run.phase)").ok().stdout + nb.run("%flyte runs").ok().stdout
    (nb.home / "gate4").write_text("")
    again = nb.run(
        "again = flyte.rerun(run.name, recover=True)\nprint(len(await again), sum(a.phase == 'recovered' for a in again.actions))"
    )
    assert "5 4" in again.ok().stdout


def test_what_cannot_be_detached_is_said(nb: Kernel) -> None:
    """No history, local mode, what cannot be pickled, an option of a wrong type."""
    assert (
        "flyte_nb.init(history=True)"
        in nb.run(
            "flyte.init(history=False)\ntry:\n    detached(main, 1)\nfinally:\n    flyte.init(history=os.environ['FLYTE_NB_HISTORY'])"
        ).error.value
    )
    assert "local mode" in nb.run("flyte.with_runcontext(mode='local', detach=True).run(main, 1)").error.value
    assert "detach must be True or False" in nb.run("flyte.with_runcontext(detach='yes')").error.value


def test_on_a_cluster_that_is_attached_to(nb: Kernel) -> None:
    """Its process attaches to the same cluster, with the same credentials."""
    start = """
from distributed import LocalCluster
from distributed.security import Security
cluster = LocalCluster(n_workers=1, threads_per_worker=1, security=Security.temporary(), protocol="tls://", dashboard_address=None)
flyte.init(cluster)
(await detached(main, 2))
"""
    assert "[Point(x=0), Point(x=10)]" in str(nb.run(start).ok().result)
    nb.run("flyte.shutdown()\ncluster.close()").ok()
