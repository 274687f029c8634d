"""A cluster of Dask's own commands, without the package, that several kernels share: who harms whom, and what stays behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import distributed
import pytest

import flyte_nb as flyte
from flyte_nb.engine.clusters import welcome
from flyte_nb.engine.roster import WITHOUT_NANNY
from flyte_nb.kernel.operations.cluster import cluster_text
from flyte_nb.kernel.operations.reports.doctor import findings
from flyte_nb.kernel.session import Session
from tests.contract.journal import until_sync

pytestmark = pytest.mark.cluster

#: Seconds after which something counts as never happening.
NEVER = 60.0
PACKAGE = Path(flyte.__file__).parent

#: Dask's command line, where this package cannot be imported.
DASK = """
import sys
sys.path.append({site!r})
{before}
if __name__ == "__main__":
    from dask.__main__ import main
    sys.argv = ["dask", *sys.argv[1:]]
    main()
"""

#: A kernel: both run this, with the same names of runs and actions.
KERNEL = """
import asyncio, sys, time
import flyte_nb as flyte
env = flyte.TaskEnvironment("shared")

@env.task
async def leaf(i: int) -> str:
    await asyncio.sleep(0.2)
    return OWNER + str(i)

@env.task
async def parent(i: int) -> str:
    return ",".join(await asyncio.gather(*(leaf(i + j) for j in range(5))))

@env.task
async def both(n: int) -> list[str]:
    return list(await asyncio.gather(*(parent(10 * i) for i in range(n))))

@env.task
def hold() -> None:
    time.sleep(600)

if __name__ == "__main__":
    OWNER, address, what = sys.argv[1:]
    flyte.init(address, links="auto" if OWNER == "a" else "relay")
    if what == "hang":
        run = flyte.run(hold)
        while not any(action.phase == flyte.models.ActionPhase.RUNNING for action in flyte.remote.Action.listall(run.name)):
            time.sleep(0.02)
    print("READY", flush=True)
    if what == "hang":
        run.wait()
    print("RESULT", flyte.run(both, 20).outputs()[0], flush=True)
    from flyte_nb.kernel.operations.cluster import cluster_text
    from flyte_nb.kernel.session import Session
    print("links through the scheduler" in cluster_text(Session.current), flush=True)
    if what == "stop":
        run = flyte.run(both, 40)
        time.sleep(0.5)
        run.abort()
        print("STOPPED", flush=True)
"""


devices = flyte.TaskEnvironment("devices", resources=flyte.Resources(gpu=2))


@devices.task
async def on_two_gpus() -> None:
    """Waits without end."""


class Cluster:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []
        site = folder / "site-packages"
        site.mkdir()
        for entry in Path(distributed.__file__).parents[1].iterdir():
            if not entry.name.startswith(("flyte_nb", "_flyte_nb", "_editable")) and entry.suffix != ".pth":
                (site / entry.name).symlink_to(entry)
        self.site = str(site)
        file = folder / "scheduler.json"
        self.dask(
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--dashboard-address",
            ":0",
            "--scheduler-file",
            str(file),
        )
        until_sync(file.exists)
        self.client = distributed.Client(scheduler_file=str(file), set_as_default=False)
        self.address = str(self.client.scheduler_info()["address"])

    def start(self, argv: list[str], **env: str) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with (self.folder / f"{len(self.processes)}.log").open("w") as log:
            done = subprocess.Popen(
                argv, stdout=subprocess.PIPE, stderr=log, text=True, env=kept | env, cwd=self.folder
            )
        self.processes.append(done)
        return done

    def dask(self, *words: str, before: str = "") -> subprocess.Popen[str]:
        script = self.folder / f"dask{len(self.processes)}.py"
        script.write_text(DASK.format(site=self.site, before=before))
        return self.start([sys.executable, "-S", str(script), *words])

    def worker(self, *words: str, before: str = "") -> subprocess.Popen[str]:
        """Start a worker, and wait until it is there."""
        there = set(self.workers())
        common = ("--host", "127.0.0.1", "--nthreads", "2", "--no-dashboard", "--local-directory", str(self.folder))
        made = self.dask("worker", self.address, *common, *words, before=before)
        until_sync(lambda: set(self.workers()) - there)
        return made

    def workers(self) -> list[str]:
        return list(self.client.scheduler_info(n_workers=-1)["workers"])

    def kernel(self, owner: str, what: str, path: Path = PACKAGE.parent) -> subprocess.Popen[str]:
        """Start a kernel, and wait until it is attached, or has failed."""
        program = self.folder / "kernel.py"
        program.write_text(KERNEL)
        made = self.start([sys.executable, str(program), owner, self.address, what], PYTHONPATH=str(path))
        assert made.stdout is not None
        line = made.stdout.readline()
        while line.startswith("flyte_nb: "):  # what takes its time
            line = made.stdout.readline()
        assert line in {"READY\n", ""}
        return made

    def error(self, process: subprocess.Popen[str]) -> str:
        """What a process has said, once it has ended."""
        process.wait(NEVER)
        return (self.folder / f"{self.processes.index(process)}.log").read_text()

    def close(self) -> None:
        self.client.close()
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # what looks into the cluster's processes
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.worker()
        yield made
    finally:
        flyte.shutdown()
        made.close()


def expected(owner: str, n: int) -> list[str]:
    return [",".join(f"{owner}{10 * i + j}" for j in range(5)) for i in range(n)]


def on_worker(dask_worker: Any) -> list[str]:
    """What of this package is in a worker."""
    import asyncio
    import locale
    import logging
    import multiprocessing
    import os
    import random
    import subprocess
    import sys
    import threading
    from concurrent.futures import ThreadPoolExecutor
    from multiprocessing.reduction import ForkingPickler
    from pathlib import Path

    found = [name for name in vars(dask_worker) if "flyte" in name]
    found += [name for name in (*dask_worker.plugins, *dask_worker.handlers) if "flyte" in name]
    found += [name for name in sys.modules if name.partition(".")[0] == "flyte_nb"]
    found += [path for path in sys.path if "flyte_nb" in path]
    found += [str(path) for path in Path(dask_worker.local_directory).rglob("*") if "flyte" in path.name]
    hooks = (
        threading.Thread.start, ThreadPoolExecutor.submit, subprocess.Popen.__init__, os.fork, os.chdir, os.putenv,
        logging.Logger.addHandler, logging.Logger.callHandlers, locale.setlocale, random.seed, sys.breakpointhook,
        type(sys.stdout), type(asyncio.get_event_loop_policy()), getattr(ForkingPickler, "reducer_override", None),
    )  # fmt: skip
    found += [
        str(hook) for hook in hooks if hasattr(hook, "__wrapped__") or "flyte" in str(getattr(hook, "__module__", ""))
    ]
    found += [thread.name for thread in threading.enumerate() if "flyte" in thread.name]
    found += ["children"] * (dask_worker.nanny is not None and not multiprocessing.current_process().daemon)
    return found + [str(key) for key in dask_worker.state.tasks]


def on_scheduler(dask_scheduler: Any) -> list[str]:
    """What of this package is with the scheduler."""
    found = [*dask_scheduler.plugins, *dask_scheduler.worker_plugins, *dask_scheduler.handlers, *dask_scheduler.clients]
    return [name for name in found if "flyte" in name] + [str(key) for key in dask_scheduler.tasks]


def workers_wanted(dask_scheduler: Any) -> int:
    """What an adaptive cluster hears."""
    found = dask_scheduler.handlers["adaptive_target"]()
    assert isinstance(found, int)
    return found


def nothing_left(cluster: Cluster) -> bool:
    there = cluster.client.run(on_worker, on_error="ignore")  # a worker whose thread a body blocks is replaced
    return bool(there) and not any(there.values()) and not cluster.client.run_on_scheduler(on_scheduler)


def test_kernels_on_one_cluster_never_meet_and_leave_nothing(cluster: Cluster) -> None:
    """Of three that run the same program one stops its run, one is killed, one has its results; two go through the scheduler."""
    assert nothing_left(cluster)
    first, killed = cluster.kernel("a", "stop"), cluster.kernel("k", "hang")
    second = cluster.kernel("b", "run")
    killed.kill()
    told = first.communicate(timeout=NEVER)[0]
    assert f"RESULT {expected('a', 20)!r}\nFalse\nSTOPPED" in told
    assert f"RESULT {expected('b', 20)!r}\nTrue" in second.communicate(timeout=NEVER)[0]
    until_sync(lambda: nothing_left(cluster))


def test_workers_come_and_go_whoever_is_attached(cluster: Cluster) -> None:
    """One that starts while a kernel is attached, and one after it has left, start without the package; the first gets work."""
    cluster.kernel("a", "run").wait(NEVER)
    late = cluster.worker()
    try:
        flyte.init(cluster.address)
        session = Session.current
        assert session is not None
        run = flyte.run(on_two_gpus)
        until_sync(lambda: run.name in session.store.runs and session.store.runs[run.name].state.note)
        assert session.store.runs[run.name].state.note == (
            "waiting: no worker offers GPU=2 (the most is 0: workers offer them by --resources GPU=1)"
        )
        run.abort()
        later = cluster.worker("--no-nanny")
        until_sync(lambda: len(session.engine.network.roster) == 3)
        odd = cluster.worker(
            "--no-nanny",
            before="import distributed.versions as found\ntold = found._version_cached\n"
            "found._version_cached = lambda name: '2020.1.0' if name == 'distributed' else told(name)",
        )
        until_sync(lambda: session.engine.network.unfit)
        assert "has distributed 2020.1.0, and this process has distributed" in cluster_text(session)
        session.engine.network.unreachable["tcp://10.0.0.9:1"] = WITHOUT_NANNY
        unfit, stuck = (said for said in findings(session) if said.startswith("Worker tcp://"))
        assert unfit.count("tcp://") == 1
        assert unfit.endswith("here.")
        assert stuck == f"Worker tcp://10.0.0.9:1 cannot be used: {WITHOUT_NANNY}."
        flyte.shutdown()
        with pytest.raises(
            flyte.errors.VersionMismatchError, match=r"worker tcp://127.* has distributed 2020\.1\.0, and this .*"
        ) as caught:
            flyte.init(cluster.address)
        assert isinstance(caught.value, flyte.errors.NoClusterError)
        assert [None] * 3 == [process.poll() for process in (late, later, odd)]
        for process in (late, later, odd):
            process.terminate()
        until_sync(lambda: len(cluster.workers()) == 1)
        until_sync(lambda: nothing_left(cluster))
    finally:
        flyte.shutdown()


def test_one_process_has_room_for_one_build(cluster: Cluster, tmp_path: Path) -> None:
    """A kernel of another version is refused with both versions and the worker; when the first has left, it is welcome."""
    other = tmp_path / "flyte_nb"
    shutil.copytree(PACKAGE, other)
    text = (other / "__init__.py").read_text()
    (other / "__init__.py").write_text(text.replace(f'__version__ = "{flyte.__version__}"', '__version__ = "99.1"'))
    attached = cluster.kernel("a", "hang")
    until_sync(lambda: cluster.client.run_on_scheduler(workers_wanted) == 1)  # an adaptive cluster keeps the one
    refused = cluster.error(cluster.kernel("b", "run", tmp_path))
    assert f"with flyte_nb {flyte.__version__} (build {welcome.build()}), and this kernel has flyte_nb 99.1" in refused
    assert f"worker {cluster.workers()[0]} executes tasks of another kernel" in refused
    attached.kill()
    until_sync(lambda: cluster.client.run_on_scheduler(workers_wanted) == 0)
    until_sync(lambda: nothing_left(cluster))
    welcomed = cluster.kernel("b", "run", tmp_path)
    assert f"RESULT {expected('b', 20)!r}" in welcomed.communicate(timeout=NEVER)[0]


def test_versions_that_differ_are_named() -> None:
    """Python's second number counts, its third does not; what a process does not tell is not held against it."""
    mine = {"python": "3.11.7.final.0", "distributed": "2026.8.0", "cloudpickle": "3.1.3"}
    assert "" == welcome.difference(mine, {"python": "3.11.2.final.0", "cloudpickle": "3.1.1"}, "worker w")
    said = welcome.difference(mine, mine | {"python": "3.12.1.final.0"}, "worker w")
    assert said.startswith("worker w has Python 3.12.1, and this process has Python 3.11.7: ")
    assert said.endswith("Install Python 3.11.7 there, or 3.12.1 here")
