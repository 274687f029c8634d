"""The embedded cluster: Dask's, but its nannies keep their workers and report how one ended, and no HTTP port is opened.

Runs in: engine thread; worker processes (`QuietWorker`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import types
from collections.abc import Iterator
from multiprocessing import resource_tracker, spawn
from typing import Any

import dask
from distributed import Client, LocalCluster, Nanny, Scheduler, Security, Worker, nanny
from distributed.core import Status
from distributed.deploy.cluster import Cluster
from distributed.http.routing import RoutingApplication
from distributed.process import AsyncProcess
from tornado.httpserver import HTTPServer

from flyte_nb.engine.clusters.dask_logs import NO_DIAGNOSIS, stop_gc_diagnosis
from flyte_nb.engine.clusters.worker_exits import WorkerExits
from flyte_nb.errors import NoClusterError

#: GPUs that each process of the embedded cluster offers: tasks that ask for some run all the same, as they do in Flyte's
#: local mode. They are counted on workers started with ``--resources GPU=1``.
UNCOUNTED_GPUS = 1_000
#: Seconds after a worker's end in which its nanny must have started another; then `_revive` does.
REVIVE_AFTER = 6.0


class EmbeddedCluster(LocalCluster):
    """A cluster whose nannies alone replace workers that died."""

    def _update_worker_status(self, op: str, msg: Any) -> None:
        # `SpecCluster` closes the nanny of a worker that is missing 15 s after it was lost once, also where it is missing
        # because it has been lost again meanwhile: a task that kills its workers would end the cluster.
        Cluster._update_worker_status(self, op, msg)  # noqa: SLF001 - Dask's hook; it has no public one


#: Dask's name for the processes that its nannies start.
_WORKER_PROCESS = "Dask Worker process"


def skip_main_script() -> None:
    """Keep Dask's worker processes from executing the user's script again. Idempotent.

    ``multiprocessing`` imports the main script in every process that it spawns, for the sake of plain pickles: a script
    without ``if __name__ == "__main__"`` would run once more in each worker. Tasks travel by value, so ours don't need it.
    """
    plain = spawn.get_preparation_data
    if getattr(plain, "_flyte_nb", False):
        return

    def get_preparation_data(name: str) -> dict[str, Any]:
        # `%reset -f` and `del` in a notebook take these names away, which multiprocessing reads.
        main = sys.modules.setdefault("__main__", types.ModuleType("__main__"))
        vars(main).setdefault("__spec__", None)
        data = plain(name)
        if name.startswith(_WORKER_PROCESS):
            data.pop("init_main_from_path", None)
            data.pop("init_main_from_name", None)
        return data

    get_preparation_data._flyte_nb = True  # type: ignore[attr-defined]  # noqa: SLF001 - our mark on their module
    spawn.get_preparation_data = get_preparation_data


class ReportingNanny(Nanny):
    """A nanny that reports how its worker ended."""

    #: Set before the cluster starts.
    exits: WorkerExits

    def _on_worker_exit_sync(self, exitcode: int) -> None:
        self.exits.exited(self.worker_address, exitcode)
        super()._on_worker_exit_sync(exitcode)
        self.loop.asyncio_loop.call_later(REVIVE_AFTER, self._ongoing_background_tasks.call_soon, self._revive)  # type: ignore[attr-defined]

    async def _revive(self) -> None:
        """Start a worker where Dask gave up: a process that dies while it starts can leave its nanny without one."""
        if self.status in {Status.running, Status.failed} and not self.is_alive():
            self.process = None
            self.status = Status.running
            await self.instantiate()


@contextlib.contextmanager
def undebugged() -> Iterator[None]:
    """Within this, JupyterLab's debugger, if it is on, does not start in processes that this thread starts.

    They would wait without end for a debugger to attach.
    """
    skip = getattr(sys.modules.get("_pydev_bundle.pydev_monkey"), "skip_subprocess_arg_patch", contextlib.nullcontext)
    with skip():
        yield


class UndebuggedProcess(AsyncProcess):
    """The process of a worker."""

    @classmethod
    def _watch_message_queue(cls, *args: Any) -> None:
        with undebugged():  # in the thread that starts the process
            super()._watch_message_queue(*args)


class _NoHttp:
    """Makes the HTTP server that Dask's code refers to, without listening: Dask opens a port on each, whether asked or not."""

    def start_http_server(self, routes: Any, *_args: Any, **_kwargs: Any) -> None:
        """Called by Dask in place of listening."""
        self.http_application: Any = RoutingApplication(routes)
        server: Any = HTTPServer(self.http_application)
        server.address, server.port = "", 0
        self.http_server = server


class QuietScheduler(_NoHttp, Scheduler):
    """A scheduler without an HTTP port."""


class QuietWorker(_NoHttp, Worker):
    """A worker without an HTTP port."""


async def open_embedded(
    exits: WorkerExits, n_workers: int | None, threads: int, dashboard: bool, memory_limit: str | float | None, preload: str,
) -> tuple[Any, Any]:  # fmt: skip
    """Start the embedded cluster; returns it and its client. The options are those of `open_cluster`."""
    if hasattr(signal, "pthread_sigmask"):
        # The stop button must not end a worker that just starts: SIGINT is blocked in this thread's processes. First,
        # multiprocessing starts its tracker, since it unblocks SIGINT in this thread as it does.
        with undebugged():
            resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    skip_main_script()
    nanny.AsyncProcess = UndebuggedProcess  # type: ignore[attr-defined]  # a nanny has no setting for it
    security = Security.temporary()
    settings = {
        "distributed.worker.preload": [preload],
        "distributed.scheduler.allowed-failures": 0,
        "distributed.comm.timeouts.connect": "10s",
    }
    with dask.config.set(settings if dashboard else NO_DIAGNOSIS | settings):
        cluster: Any = EmbeddedCluster(
            n_workers=n_workers or os.cpu_count() or 1, threads_per_worker=threads, processes=True, host="127.0.0.1",
            protocol="tls", security=security, dashboard_address="127.0.0.1:0" if dashboard else None,
            worker_dashboard_address=None, memory_limit=memory_limit, resources={"GPU": UNCOUNTED_GPUS}, asynchronous=True,
            silence_logs=logging.CRITICAL, preload=[preload],
        )  # fmt: skip
        nanny_of_exits = type("Nanny", (ReportingNanny,), {"exits": exits})
        if not dashboard:
            cluster.scheduler_spec["cls"] = QuietScheduler
        for spec in (cluster.new_spec, *cluster.worker_spec.values()):
            spec["cls"] = nanny_of_exits
            if not dashboard:
                spec["options"]["worker_class"] = QuietWorker
        try:
            await cluster
        except Exception as exc:
            with contextlib.suppress(Exception):
                await cluster._close()  # noqa: SLF001 - ``close()`` is a coroutine only of a cluster that runs
            raise NoClusterError(
                f"the embedded cluster could not start: {cause_of(exc)}. `%flyte cluster restart` tries again (in a script: "
                "flyte_nb.init()); flyte_nb.init(n_workers=1) asks for less."
            ) from exc
        stop_gc_diagnosis()
        client = await Client(cluster, asynchronous=True, set_as_default=False, security=security)
    return cluster, client


def cause_of(error: BaseException) -> str:
    """What an error of Dask's goes back to, as text: "Nanny failed to start" says nothing."""
    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in seen:
        seen.append(found)
        found = found.__cause__ or found.__context__
    # Dask's own assertions about its states come on top of the cause, and say nothing either.
    telling = [each for each in seen if not isinstance(each, AssertionError | asyncio.CancelledError) and str(each)]
    last = (telling or seen)[-1]
    return f"{type(last).__name__}: {last}".rstrip(": .")
