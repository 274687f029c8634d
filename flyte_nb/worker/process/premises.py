"""Premises: what the hosts of several kernels share in one worker: slots, and what is one per process. Runs in: worker loop.

Streams, file descriptors, ``breakpoint()``, the loop policy, ``sys.modules``, what threads and processes belong to, isolation,
black box: taken over for the first kernel, given back after the last has left, so that whoever else uses the worker finds it as
it was. Not where the process ends with the worker: nobody would see it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import distributed
from distributed.worker import WORKER_ANY_RUNNING

import flyte_nb
from flyte_nb import import_alias
from flyte_nb.core.attempts import family, output, surroundings
from flyte_nb.core.attempts.isolation import Isolation
from flyte_nb.core.attempts.threads import allow_other_loops
from flyte_nb.core.tasks import context as ctx
from flyte_nb.core.transport import blob_files, lazy_imports
from flyte_nb.core.transport.mailbox import Mailbox
from flyte_nb.engine import dask_values
from flyte_nb.engine.clusters import guest
from flyte_nb.engine.links.link import PeerLink
from flyte_nb.worker import slots
from flyte_nb.worker.breakpoints import Breakpoints
from flyte_nb.worker.lanes.lane import LaneThread
from flyte_nb.worker.network import as_client
from flyte_nb.worker.process import children, dask_inside, program_names
from flyte_nb.worker.process.code import InForce
from flyte_nb.worker.process.descriptors import Descriptors
from flyte_nb.worker.process.devices import Devices
from flyte_nb.worker.process.everywhere import Everywhere
from flyte_nb.worker.process.last_words import LastWords


class _Host(Protocol):
    """The host of one kernel: `flyte_nb.worker.host.Host`."""

    lanes: dict[str, LaneThread]
    breakpoints: Breakpoints


class Premises:
    """Of one worker.

    Args:
        worker: Dask's.
    """

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        #: Whether the process is the worker's; else it is that of the program that calls tasks (``LocalCluster(processes=
        #: False)``), and stays as it is.
        self.owns_process = not (worker.address.startswith("inproc://") or surroundings.is_home())
        self.gate = slots.SlotGate(worker.state.nthreads)
        self.devices = Devices()
        self.in_force = InForce()
        #: By kernel; None where one is being opened (`flyte_nb.engine.clusters.guest`).
        self._hosts: dict[str, _Host | None] = vars(worker).setdefault("_flyte_nb_hosts", {})
        #: What computes here, and the end of this process if our own code fails in it.
        self.words: LastWords = LastWords(worker, self.owns_process)
        #: Calls a function on the worker's loop; from any thread.
        self.post = Mailbox(worker.loop.asyncio_loop, self.words.fail).post
        self._undo = contextlib.ExitStack()
        self._take_over()
        #: None in the user's own process: it is theirs.
        self.isolation: Isolation | None = self._isolate() if self.owns_process else None
        self.everywhere: Everywhere = Everywhere(self.isolation, self.post)

    # -- taken over -----------------------------------------------------------------------------------------------

    def _take_over(self) -> None:
        undo = self._undo
        undo.callback(vars(self._worker.loop).pop, "time", None)
        self._worker.loop.time = time.time  # whatever a task puts there
        undo.callback(asyncio.set_event_loop_policy, asyncio.get_event_loop_policy())
        asyncio.set_event_loop_policy(slots.SlotPolicy())
        self._breakpoint: Callable[..., Any] = sys.breakpointhook
        sys.breakpointhook = self._stop
        undo.callback(self._give_breakpoint_back)
        undo.callback(setattr, self._worker, "security", self._worker.security)
        self._worker.security = as_client(self._worker.security)  # for Dask's clients in tasks
        undo.callback(dask_inside.install().close)
        undo.callback(dask_values.install(distributed.get_client).close)
        output.install(tee=False)
        family.install(processes=self.owns_process)
        allow_other_loops()
        import_alias.install_as_fallback()
        if self.owns_process:
            undo.callback(_remove_archive)
            undo.callback(lazy_imports.withdraw)
            undo.callback(import_alias.uninstall)
            undo.callback(output.uninstall)
            undo.callback(family.uninstall)
            undo.callback(program_names.install())
            undo.callback(setattr, PeerLink, "on_fault", vars(PeerLink)["on_fault"])
            PeerLink.on_fault = self.words.fail

    def _isolate(self) -> Isolation:
        embedded = "flyte_nb.worker." + "preload" in sys.modules  # Dask imports it, by name
        isolation = Isolation(shared=not embedded)
        self._undo.callback(isolation.close)
        self._undo.callback(children.disallow)
        children.allow()
        if self._worker.nanny and hasattr(select, "poll"):
            log = Path(self._worker.local_directory) / "flyte-nb-logs" / "worker.log" if embedded else None
            descriptors = Descriptors(self._only_output, log)
            self._undo.callback(descriptors.stop)
            descriptors.start()
            isolation.before_end = descriptors.drain
        return isolation

    def _stop(self, *args: Any, **kwargs: Any) -> Any:
        """What ``breakpoint()`` calls in this process."""
        context, off = ctx.current(), os.environ.get("PYTHONBREAKPOINT") == "0"
        host = self._hosts.get(context.run.home) if context is not None and context.in_task and not off else None
        if context is None or host is None:
            return self._breakpoint(*args, **kwargs)
        host.breakpoints.reached(sys._getframe().f_back, context)  # noqa: SLF001 - the documented way to a frame
        return None

    def _give_breakpoint_back(self) -> None:
        if sys.breakpointhook == self._stop:
            sys.breakpointhook = self._breakpoint

    # -- who is here ----------------------------------------------------------------------------------------------

    def opened(self, kernel: str, host: _Host) -> None:
        """A kernel has a host here."""
        self._hosts[kernel] = host

    def closed(self, kernel: str) -> None:
        """A kernel has left."""
        self.in_force.version = None  # it may have been its own
        self.everywhere.forget(kernel)
        if guest.leave(self._worker, kernel):
            self._restore()

    def _restore(self) -> None:
        """Leave the process as it was found."""
        if self.owns_process:
            blob_files.remove_folders()
            if self._worker.nanny and self._worker.status not in WORKER_ANY_RUNNING:
                return  # it ends: what threads of bodies still print is no matter of the terminal's
            self.words.close()
        self._undo.close()

    def _lanes(self, besides: object = None) -> list[LaneThread]:
        """All lanes, but those of one host."""
        hosts = [host for host in list(self._hosts.values()) if host is not None and host.lanes is not besides]
        return [lane for host in hosts for lane in list(host.lanes.values())]

    def others_compute(self, lanes: dict[str, LaneThread]) -> bool:
        """Whether tasks of other kernels than the one that has these lanes, or of Dask's own users, are under way here."""
        tasks = (*self._worker.state.executing, *self._worker.state.long_running)
        return any(lane.bodies for lane in self._lanes(lanes)) or any(
            not str(task.key).startswith("flyte-") for task in tasks
        )

    def _only_output(self) -> output.Output | None:
        """The output of the attempt that is under way, if there is one alone."""
        bodies = [body for lane in self._lanes() for body in list(lane.bodies.values())]
        return bodies[0].output if len(bodies) == 1 else None

    def __repr__(self) -> str:
        return f"<Premises of {self._worker.address} [{len(self._hosts)} hosts]>"


def premises_of(worker: Any) -> Premises:
    """Those of a worker, made for its first host."""
    found: Premises | None = getattr(worker, "_flyte_nb_premises", None)
    if found is None:
        found = worker._flyte_nb_premises = Premises(worker)  # noqa: SLF001 - our mark on Dask's worker
    return found


def _remove_archive() -> None:
    """Remove the package if it was brought (`guest`): another kernel may bring another version."""
    archive = Path(flyte_nb.__file__).parents[1]
    if archive.is_file():
        with contextlib.suppress(OSError, ValueError):
            sys.path.remove(str(archive))
            archive.unlink()
        for name in [name for name in sys.modules if name.partition(".")[0] == "flyte_nb"]:
            del sys.modules[name]
        importlib.invalidate_caches()
