"""The embedded cluster: Dask's, but its nannies keep their workers and report how one ended, and no HTTP port is opened.

Runs in: engine thread; worker processes (`QuietWorker`).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import logging
import os
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker, spawn, util
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import SemLock
from typing import Any

import dask
from distributed import Client, LocalCluster, Nanny, Scheduler, Worker, nanny
from distributed.core import Status
from distributed.deploy.cluster import Cluster
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.http.routing import RoutingApplication
from distributed.process import AsyncProcess
from tornado.httpserver import HTTPServer

from flyte_nb.core.settings import notices
from flyte_nb.core.transport.process_folder import session_folder
from flyte_nb.engine.clusters import devices
from flyte_nb.engine.clusters.caretaker import CARETAKER, end_group
from flyte_nb.engine.clusters.credentials import SessionSecurity
from flyte_nb.engine.clusters.dask_logs import NO_DIAGNOSIS, no_gc_diagnosis
from flyte_nb.engine.clusters.forks import BEFORE_SPAWN, SOURCE, Begun, WorkerProcess, undebugged
from flyte_nb.engine.clusters.worker_exits import WorkerExits, how_it_ended
from flyte_nb.errors import NoClusterError

#: Seconds that a worker has to end when its cluster closes: bodies are cancelled, and what they do then is done at once or not.
CLOSE_S = 0.5
#: Seconds between two looks whether a worker has started.
LOOK_AS_IT_STARTS = 0.01
#: Seconds between two reports of a worker, while anything is under way and else; and between two looks at its memory.
HEARTBEAT_S, REST_S, MEMORY_S = 1.0, 3.0, 0.1
#: Seconds between two looks at the workers.
LOOK_EVERY = 0.25
#: Seconds that one may be missing before its nanny is replaced, if that has closed itself, or helped.
CLOSED_AFTER, REVIVE_AFTER = 1.0, 4.0


class _Arrivals(SchedulerPlugin):
    """Tells the cluster of workers that register."""

    name = "flyte_nb-arrivals"

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self._cluster = cluster

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Called by Dask's scheduler, which runs on our own loop."""
        self._cluster.on_worker()


class EmbeddedCluster(LocalCluster):
    """A cluster whose nannies alone replace workers that died."""

    #: Called as a worker registers.
    on_worker: Callable[[], None] = staticmethod(lambda: None)

    #: Since when workers are missing, by name: what `%flyte cluster` shows.
    missing: dict[Any, float]
    keeper: asyncio.Task[None] | None = None
    _keeping: set[asyncio.Future[Any]]
    #: Whether anything is queued or under way.
    busy = True

    def set_busy(self, busy: bool) -> None:
        """Have workers tell of themselves, and their memory looked at, often or rarely."""
        self.busy = busy
        if isinstance(self.scheduler, QuietScheduler):
            self.scheduler.heartbeat_s = HEARTBEAT_S if busy else REST_S
        for worker in self.workers.values():
            monitor, interval = worker.periodic_callbacks.get("memory_monitor"), 1000 * (MEMORY_S if busy else 1.0)
            if monitor is not None and monitor.callback_time != interval:
                monitor.callback_time = interval
                if monitor.is_running():
                    monitor.stop()
                    monitor.start()

    def _update_worker_status(self, op: str, msg: Any) -> None:
        # `SpecCluster` closes the nanny of a worker that is missing 15 s after it was lost once, also where it is missing
        # because it has been lost again meanwhile: a task that kills its workers would end the cluster.
        Cluster._update_worker_status(self, op, msg)  # noqa: SLF001 - Dask's hook; it has no public one

    async def _close(self) -> None:
        if self.keeper is not None:
            self.keeper.cancel()
        await super()._close()
        SOURCE.end()

    async def keep_workers(self) -> None:
        """Look for missing workers until they are there: a process that dies as it starts can make its nanny give up."""
        self.missing, self._keeping = {}, set()
        dead: dict[Any, float] = {}
        while self.status is Status.running:
            await asyncio.sleep(LOOK_EVERY)
            now, workers = time.monotonic(), self.workers
            gone = [name for name in self.worker_spec if name not in workers or not _is_there(workers[name])]
            self.missing = {name: self.missing.get(name, now) for name in gone}
            dead = {name: dead.get(name, now) for name in gone if name not in workers or not workers[name].is_alive()}
            for name, since in list(dead.items()):
                nanny = workers.get(name)
                lives = nanny is not None and nanny.status in {Status.running, Status.init}
                if now - since < (REVIVE_AFTER if lives else CLOSED_AFTER):
                    continue
                dead[name] = now + REVIVE_AFTER  # helped once, and then given time
                if nanny is not None and lives:
                    self._keeping.add(asyncio.ensure_future(nanny.revive()))
                else:  # it has closed itself
                    self.workers.pop(name, None)
                    self._keeping.add(self._correct_state())
            self.set_busy(self.busy)  # also new nannies
            for task in [task for task in self._keeping if task.done()]:
                self._keeping.discard(task)
                if not task.cancelled():
                    task.exception()  # the next look tries again


def _is_there(nanny: Any) -> bool:
    """Whether a nanny's worker has started, and lives."""
    return nanny.is_alive() and nanny.process.status is Status.running


def _unname(*queues: Any) -> None:
    """Remove the names of the semaphores of queues that both sides have opened: they go with the last process then.

    Else multiprocessing's tracker does it, which may be killed together with the kernel.
    """
    locks = [lock for queue in queues for lock in (queue._rlock, queue._wlock, queue._sem) if lock is not None]  # noqa: SLF001
    names = {lock._semlock.name for lock in locks}  # noqa: SLF001
    for finalizer in list(util._finalizer_registry.values()):  # type: ignore[attr-defined]  # noqa: SLF001 - what would unlink them
        if finalizer._callback is SemLock._cleanup and finalizer._args[0] in names:  # type: ignore[attr-defined]  # noqa: SLF001
            finalizer()


#: Processes that are started for a worker, one after another, if each dies before it has registered.
STARTS = 3
#: A nanny that is in one of these starts nothing.
_ENDING = frozenset({Status.closing, Status.closed, Status.closing_gracefully, Status.failed})


class WorkerDiedError(RuntimeError):
    """A worker's processes die as they start."""


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


class _Configured:
    """Made with settings that no other cluster gets: Dask's are the whole process's, and the user may make one meanwhile."""

    settings: dict[str, Any]

    def __init__(self, *args: Any, **options: Any) -> None:
        with dask.config.set(self.settings):
            super().__init__(*args, **options)


class ReportingNanny(_Configured, Nanny):
    """A nanny that reports how its worker ended."""

    #: Set before the cluster starts.
    exits: WorkerExits
    #: Its worker's process, and with it the group of what tasks start there.
    worker_pid: int | None = None
    #: How its latest process ended, in words; "" while that lives.
    died = ""

    async def instantiate(self) -> Status:
        """As Dask's, but a process that dies as it starts has a successor, and the worker does not outlive this process.

        Raises:
            WorkerDiedError: That one, too, has died.
        """
        _OURS.set(True)
        self.config = copy.deepcopy(dask.config.config)  # of its worker
        dask.config.set(self.settings, config=self.config)
        for left in reversed(range(STARTS)):
            self.died = ""
            status = await super().instantiate()
            if not self.died or status is Status.running or self.status in _ENDING or self.exits.closing:
                break
            if not left:
                raise WorkerDiedError(
                    f"a worker's process died as it started, {STARTS} times; the last was {self.died}"
                )
            self.process = None
        self.worker_pid = self.pid
        if self.worker_pid is not None:
            CARETAKER.watch(self.worker_pid)
            if self.process is not None and status is Status.running:
                _unname(self.process.init_result_q, self.process.child_stop_q)
        return status

    async def kill(self, timeout: float = 5, reason: str = "nanny-kill") -> None:
        """As Dask's, within `CLOSE_S`; one that starts is not waited for."""
        starting = self.process
        if starting is not None and starting.status == Status.starting and starting.is_alive():
            assert starting.process is not None
            await starting.process.kill()
        await super().kill(min(timeout, CLOSE_S), reason)

    def _on_worker_exit_sync(self, exitcode: int) -> None:
        if self.worker_pid is not None:
            end_group(self.worker_pid)
            CARETAKER.release(self.worker_pid)
            self.worker_pid = None
        self.died = how_it_ended(exitcode)
        self.exits.exited(self.worker_address, exitcode)
        if (
            not self.exits.closing
        ):  # else ipykernel, which ends the children of a kernel one after another, had ever more to end
            super()._on_worker_exit_sync(exitcode)

    def close_gracefully(self, reason: str = "") -> None:
        """Ignored: a worker that closes itself, because a task closed its connections, is to be replaced as any other."""

    async def revive(self) -> None:
        """Start a worker where Dask gave up."""
        if not self.is_alive():
            self.process = None
            self.status = Status.running
            await self.instantiate()


@contextlib.contextmanager
def _silent_tracker() -> Iterator[None]:
    """Within this, multiprocessing's tracker starts without a voice: it counts the semaphores of a kernel that was killed."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = (
        f"{before + ',' if before else ''}ignore::UserWarning:multiprocessing.resource_tracker"
    )
    try:
        yield
    finally:
        os.environ.pop("PYTHONWARNINGS")
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


#: Whether the nanny that starts a process is one of ours: others' workers are no forks of what ends with our cluster.
_OURS = contextvars.ContextVar("flyte_nb_ours", default=False)


class ForkedProcess(AsyncProcess):
    """The process of a worker."""

    def __init__(self, loop: Any = None, target: Any = None, **options: Any) -> None:
        self._is_ours = _OURS.get()
        super().__init__(loop, Begun(target) if self._is_ours else target, **options)

    def _start_threads(self) -> None:
        process: Any = self._process
        if self._is_ours and type(process) is SpawnProcess:  # Dask's default
            process.__class__ = WorkerProcess
        super()._start_threads()

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
    """A scheduler without an HTTP port, which tells workers how often to report."""

    heartbeat_s = HEARTBEAT_S

    def heartbeat_worker(self, **options: Any) -> dict[str, Any]:
        """As Dask's."""
        answer: dict[str, Any] = super().heartbeat_worker(**options)
        return answer | {"heartbeat-interval": self.heartbeat_s}


class QuietWorker(_NoHttp, Worker):
    """A worker without an HTTP port, which looks at its CPU and memory as it reports them, and not in between."""

    async def get_metrics(self) -> dict[str, Any]:
        """As Dask's."""
        self.monitor.update()
        return await super().get_metrics()


async def open_embedded(
    exits: WorkerExits, n_workers: int | None, threads: int, dashboard: bool, memory_limit: str | float | None, preload: str,
    kernel: str,
) -> tuple[Any, Any]:  # fmt: skip
    """Start the embedded cluster; returns it and its client. The options are those of `open_cluster`."""
    if hasattr(signal, "pthread_sigmask"):
        # The stop button must not end a worker that just starts: SIGINT is blocked in this thread's processes. First,
        # multiprocessing starts its tracker, since it unblocks SIGINT in this thread as it does.
        with undebugged(), _silent_tracker():
            resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    skip_main_script()
    no_gc_diagnosis()
    module: Any = nanny  # which has no settings for these
    module.AsyncProcess, module.WorkerProcess._init_msg_interval = ForkedProcess, LOOK_AS_IT_STARTS  # noqa: SLF001
    SOURCE.begin(preload, before_spawn=before_spawn())
    security = SessionSecurity.temporary()
    settings = ({} if dashboard else NO_DIAGNOSIS) | {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.comm.timeouts.connect": "10s",
        "distributed.admin.system-monitor.gil.enabled": False,
    }
    folder = dask.config.get("temporary-directory", None) or session_folder()
    cluster: Any = EmbeddedCluster(
        n_workers=n_workers or os.cpu_count() or 1, threads_per_worker=threads, processes=True, host="127.0.0.1",
        protocol="tls", security=security, dashboard_address="127.0.0.1:0" if dashboard else None,
        worker_dashboard_address=None, scheduler_sync_interval=3600, memory_limit=memory_limit,
        resources=devices.uncounted(), asynchronous=True, local_directory=folder,
        silence_logs=logging.CRITICAL, preload=[preload], preload_argv=[kernel],
    )  # fmt: skip
    if gpus := devices.count():
        devices.provide(cluster.worker_spec, gpus)
    notices.gpus_are_uncounted(not gpus)
    nanny_of_exits = type("Nanny", (ReportingNanny,), {"exits": exits, "settings": settings})
    plain = Scheduler if dashboard else QuietScheduler
    cluster.scheduler_spec["cls"] = type("Scheduler", (_Configured, plain), {"settings": settings})
    cluster.scheduler_spec["options"]["local_directory"] = folder
    for spec in (cluster.new_spec, *cluster.worker_spec.values()):
        spec["cls"] = nanny_of_exits
        if not dashboard:
            spec["options"]["worker_class"] = QuietWorker
    client: Any = None
    try:
        await cluster._start()  # noqa: SLF001 - the scheduler; the client connects while the workers start
        with dask.config.set(settings):
            client = Client(cluster.scheduler_address, asynchronous=True, set_as_default=False, security=security)
        await asyncio.gather(client, cluster)
    except BaseException as exc:
        await _abandon(cluster, client)
        if not isinstance(exc, Exception):
            raise
        why = cause_of(exc) + tight_limits(len(cluster.worker_spec))
        raise NoClusterError(
            f"the embedded cluster could not start: {why}. `%flyte cluster restart` tries again (in a script: "
            "flyte_nb.init()); flyte_nb.init(n_workers=1) asks for less."
        ) from exc
    cluster.set_busy(False)
    cluster.scheduler.add_plugin(_Arrivals(cluster))
    cluster.keeper = asyncio.create_task(cluster.keep_workers())
    return cluster, client


def before_spawn() -> dict[str, str]:
    """What Dask's nannies put into the environment of new processes."""
    configured: dict[str, Any] = dask.config.get("distributed.nanny.pre-spawn-environ")
    given = {name: str(value) for name, value in configured.items() if value is not None}
    return {"PYTHONHASHSEED": BEFORE_SPAWN["PYTHONHASHSEED"], **given}


async def _abandon(cluster: Any, client: Any) -> None:
    """Close a cluster that has not come up, or whose start was cancelled, and its client."""
    with contextlib.suppress(Exception):
        if client is not None:
            await client.close()
    # ``close()`` is a coroutine only of a cluster that runs, and knows nothing of workers that start.
    for close in (*(each.close for each in list(cluster._created)), cluster._close):  # noqa: SLF001
        with contextlib.suppress(Exception):
            await close()


def tight_limits(n_workers: int) -> str:
    """What this user's limits leave too little of for a cluster, as a clause; "" if that cannot be why it did not start."""
    try:
        import resource
    except ImportError:  # not on Windows
        return ""
    found = [
        f"{limit} {what} (ulimit -{letter})"
        for number, need, what, letter in (
            (resource.RLIMIT_NPROC, 20 + 12 * n_workers, "processes and threads", "u"),
            (resource.RLIMIT_NOFILE, 64 + 32 * n_workers, "open files", "n"),
        )
        if 0 <= (limit := resource.getrlimit(number)[0]) < need
    ]
    return f"; this user may have {' and '.join(found)} only" if found else ""


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
