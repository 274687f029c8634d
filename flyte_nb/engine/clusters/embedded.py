"""The embedded cluster's own cluster and nanny: they keep their workers, and report how one ended. Runs in: engine thread."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from multiprocessing import spawn
from typing import Any

from distributed import LocalCluster, Nanny, nanny
from distributed.core import Status
from distributed.deploy.cluster import Cluster
from distributed.process import AsyncProcess

from flyte_nb.engine.clusters.worker_exits import WorkerExits

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


def reporting_to(exits: WorkerExits) -> type[ReportingNanny]:
    """A nanny class for one cluster."""
    # A nanny has no setting for it.
    nanny.AsyncProcess = UndebuggedProcess  # type: ignore[attr-defined]
    return type("Nanny", (ReportingNanny,), {"exits": exits})
