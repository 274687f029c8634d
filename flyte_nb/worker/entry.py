"""Entry of a worker: open the host of a kernel; leave the process as it was when the last has left. Runs in: worker loop.

Slots are the worker's, whoever computes; streams, ``breakpoint()``, the loop policy and ``sys.modules`` are the process's.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distributed import WorkerPlugin
from distributed.worker import WORKER_ANY_RUNNING

import flyte_nb
from flyte_nb import import_alias
from flyte_nb.core.attempts import output
from flyte_nb.core.attempts.threads import allow_other_loops
from flyte_nb.core.tasks import context as ctx
from flyte_nb.core.transport import blob_files, lazy_imports
from flyte_nb.engine.clusters import guest
from flyte_nb.worker import slots
from flyte_nb.worker.answers import answers_of
from flyte_nb.worker.code import InForce
from flyte_nb.worker.host import Host


class Premises:
    """What the hosts of several kernels share in one worker: its slots, and what belongs to the process."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        #: Whether the process is the worker's; else it is the user's, and stays as it is.
        self.owns_process = not worker.address.startswith("inproc://")
        self.gate = slots.SlotGate(worker.state.nthreads)
        self.in_force = InForce()
        #: By kernel; None where one is being opened (`flyte_nb.engine.clusters.guest`).
        self._hosts: dict[str, Host | None] = vars(worker).setdefault("_flyte_nb_hosts", {})
        self._policy = asyncio.get_event_loop_policy()
        self._breakpoint: Callable[..., Any] = sys.breakpointhook
        asyncio.set_event_loop_policy(slots.SlotPolicy())
        sys.breakpointhook = self._stop
        output.install(tee=False)
        allow_other_loops()
        import_alias.install_as_fallback()

    def _stop(self, *args: Any, **kwargs: Any) -> Any:
        """What ``breakpoint()`` calls in this process."""
        context, off = ctx.current(), os.environ.get("PYTHONBREAKPOINT") == "0"
        host = self._hosts.get(context.run.home) if context is not None and context.in_task and not off else None
        if context is None or host is None:
            return self._breakpoint(*args, **kwargs)
        host.breakpoints.reached(sys._getframe().f_back, context)  # noqa: SLF001 - the documented way to a frame
        return None

    def opened(self, kernel: str, host: Host) -> None:
        """A kernel has a host here."""
        self._hosts[kernel] = host

    def closed(self, kernel: str) -> None:
        """A kernel has left."""
        if guest.leave(self._worker, kernel):
            self._restore()

    def _restore(self) -> None:
        """Leave the process as it was found."""
        if sys.breakpointhook == self._stop:
            sys.breakpointhook = self._breakpoint
        asyncio.set_event_loop_policy(self._policy)
        if not self.owns_process:
            return
        output.uninstall()
        import_alias.uninstall()
        lazy_imports.withdraw()
        blob_files.remove_folders()
        archive = Path(flyte_nb.__file__).parents[1]
        if archive.is_file():  # it was brought (`guest`), and another kernel may bring another version
            with contextlib.suppress(OSError, ValueError):
                sys.path.remove(str(archive))
                archive.unlink()
            for name in [name for name in sys.modules if name.partition(".")[0] == "flyte_nb"]:
                del sys.modules[name]
            importlib.invalidate_caches()

    def __repr__(self) -> str:
        return f"<Premises of {self._worker.address} [{len(self._hosts)} hosts]>"


def premises_of(worker: Any) -> Premises:
    """Those of a worker, made for its first host."""
    found: Premises | None = getattr(worker, "_flyte_nb_premises", None)
    if found is None:
        found = worker._flyte_nb_premises = Premises(worker)  # noqa: SLF001 - our mark on Dask's worker
    return found


class HostPlugin(WorkerPlugin):
    """Ties a host to its worker: the one closes with the other. In this process only, the scheduler knows nothing of it."""

    def __init__(self, host: Host) -> None:
        self.name = f"flyte_nb-{host.network.kernel}"
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
