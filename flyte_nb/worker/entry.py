"""Entry of a worker: open the host of a kernel, which closes with its worker. Runs in: worker loop."""

from __future__ import annotations

from typing import Any

from distributed import WorkerPlugin
from distributed.worker import WORKER_ANY_RUNNING

from flyte_nb.worker.answers import answers_of
from flyte_nb.worker.host import Host
from flyte_nb.worker.process.premises import premises_of


class HostPlugin(WorkerPlugin):
    """Ties a host to its worker: the one closes with the other. In this process only, the scheduler knows nothing of it."""

    def __init__(self, host: Host) -> None:
        self.name: str = f"flyte_nb-{host.network.kernel}"
        self._host = host

    async def teardown(self, worker: Any) -> None:
        """The worker closes, or the kernel has left."""
        await self._host.close(wait=worker.status in WORKER_ANY_RUNNING)


async def open_host(worker: Any, kernel: str, grows: bool) -> None:
    """Make a worker a host for a kernel (`flyte_nb.engine.clusters.guest`)."""
    premises = premises_of(worker)
    host = Host(worker, kernel, premises, answers_of)
    host.network.grows = grows
    plugin = HostPlugin(host)

    async def leave() -> None:
        if plugin.name in worker.plugins:
            await worker.plugin_remove(plugin.name)

    host.leave = leave
    premises.opened(kernel, host)
    await worker.plugin_add(plugin, plugin.name)
