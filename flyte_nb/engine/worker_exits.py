"""How workers ended: killed for memory, by a signal, with an exit status. Runs in: engine thread.

A link that closes says that a worker is gone, not why. Dask's nannies know: one that ends its worker for memory says so
through the scheduler, and those of the embedded cluster, which live in this process, tell the exit status too.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

from dask.utils import format_bytes

#: Dask's topic for workers that their nanny ended for memory.
MEMORY_TOPIC = "worker-restart-memory"
#: Seconds within which the cause of a loss is known, if it will be.
PATIENCE = 0.4
#: Exits remembered; the oldest beyond are forgotten.
MAX_DEATHS = 1_000


class WorkerExit(NamedTuple):
    """What is known of a worker's end."""

    #: Address of the worker.
    worker: str
    #: Whether its nanny ended it because it used too much memory.
    for_memory: bool = False
    #: Its exit status, negative for a signal; None if unknown.
    exitcode: int | None = None
    #: Bytes it used when last seen; 0 if unknown.
    memory: int = 0
    #: Bytes it could use; 0 for no limit.
    limit: int = 0
    #: (run, action) of those that computed there, as far as their home knows.
    culprits: frozenset[tuple[str, str]] = frozenset()
    #: The actions that ran there, as people know them.
    ran: tuple[str, ...] = ()
    #: What they said last.
    said: tuple[str, ...] = ()

    def __str__(self) -> str:
        ran = f"; it ran {', '.join(self.ran)}" if self.ran else ""
        said = "".join(f"\n  {line}" for line in self.said)
        return self.cause + ran + (f"; their last lines:{said}" if said else "")

    @property
    def cause(self) -> str:
        """How it ended, in words."""
        used = f"{format_bytes(self.memory)}" if self.memory else ""
        if self.for_memory:
            limit = f" of {format_bytes(self.limit)}" if self.limit else ""
            return f"its worker was ended because it used {used or 'too much memory'}{limit}"
        how = "its worker went away"
        if self.exitcode is not None and self.exitcode < 0:
            how = f"its worker was killed by {_signal_name(-self.exitcode)}"
        elif self.exitcode is not None:
            how = f"its worker ended with exit status {self.exitcode}"
        return how + (f" (it used {used} when last seen)" if used else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class WorkerExits:
    """Collects what is said about ended workers, and tells the cause of a loss."""

    def __init__(self) -> None:
        #: By address.
        self._known: dict[str, WorkerExit] = {}
        self._memory: dict[str, tuple[int, int]] = {}
        self._settled: dict[str, WorkerExit] = {}
        #: Called once for each, when all is known; what it returns is what is told.
        self.settle: Callable[[WorkerExit], WorkerExit] = lambda death: death

    def seen(self, worker: str, memory: int, limit: int) -> None:
        """A worker is alive and uses so many bytes."""
        self._memory[worker] = (memory, limit)

    def told(self, event: tuple[float, dict[str, Any]]) -> None:
        """Take an event of `MEMORY_TOPIC`."""
        _, what = event
        worker = str(what.get("worker") or "")
        self._note(worker, for_memory=True, memory=int(what.get("rss") or 0))

    def exited(self, worker: str | None, exitcode: int) -> None:
        """A worker process of the embedded cluster ended."""
        if worker:
            self._note(worker, exitcode=exitcode)

    def _note(self, worker: str, **facts: Any) -> None:
        memory, limit = self._memory.get(worker, (0, 0))
        known = self._known.get(worker) or WorkerExit(worker, memory=memory, limit=limit)
        self._known[worker] = known._replace(**facts)
        while len(self._known) > MAX_DEATHS:
            del self._known[next(iter(self._known))]

    def of(self, worker: str) -> WorkerExit:
        """What is known of a worker's end now."""
        memory, limit = self._memory.get(worker, (0, 0))
        return self._known.get(worker) or WorkerExit(worker, memory=memory, limit=limit)

    def cause(self, worker: str, then: Callable[[WorkerExit], None]) -> None:
        """Tell why a worker is gone, as soon as everybody who may know has spoken."""
        asyncio.get_running_loop().call_later(PATIENCE, self._tell, worker, then)

    def _tell(self, worker: str, then: Callable[[WorkerExit], None]) -> None:
        death = self._settled.get(worker)
        if death is None:
            death = self._settled[worker] = self.settle(self.of(worker))
            self._memory.pop(worker, None)
            while len(self._settled) > MAX_DEATHS:
                del self._settled[next(iter(self._settled))]
        then(death)
