"""The embedded cluster's own cluster and nanny: they keep their workers, and tell how one ended. Runs in: engine thread."""

from __future__ import annotations

from typing import Any

from distributed import LocalCluster, Nanny
from distributed.core import Status
from distributed.deploy.cluster import Cluster

from flyte_nb.engine.deaths import Deaths

#: Seconds after which a nanny must have started another worker.
REVIVE_AFTER = 6.0


class EmbeddedCluster(LocalCluster):
    """A cluster that leaves it to its nannies to replace a worker that died."""

    def _update_worker_status(self, op: str, msg: Any) -> None:
        # `SpecCluster` closes the nanny of a worker that is missing 15 s after it was lost once, also where it is missing
        # because it has been lost again meanwhile: a task that kills its workers would end the cluster.
        Cluster._update_worker_status(self, op, msg)


class ReportingNanny(Nanny):
    """A nanny that tells how its worker ended."""

    #: Set before the cluster starts.
    deaths: Deaths

    def _on_worker_exit_sync(self, exitcode: int) -> None:
        self.deaths.exited(self.worker_address, exitcode)
        super()._on_worker_exit_sync(exitcode)
        self.loop.asyncio_loop.call_later(REVIVE_AFTER, self._ongoing_background_tasks.call_soon, self._revive)  # type: ignore[attr-defined]

    async def _revive(self) -> None:
        """Start a worker where Dask gave up: a process that dies while it starts can leave its nanny without one."""
        if self.status in {Status.running, Status.failed} and not self.is_alive():
            self.process = None
            self.status = Status.running
            await self.instantiate()


def reporting_to(deaths: Deaths) -> type[ReportingNanny]:
    """A nanny class for one cluster."""
    return type("Nanny", (ReportingNanny,), {"deaths": deaths})
