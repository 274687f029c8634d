"""Shipments: which versions of tasks' code each worker has been sent. Runs in: engine thread; worker loop.

A version goes to a worker once, ahead of the first bundle that needs it. It stays there while an attempt of it is unsettled,
and as one of its task's latest few: the next call mostly finds it there. What is older goes, and with it the large globals
that it holds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from flyte_nb.core.transport.code_versions import CodeVersion
from flyte_nb.core.transport.payload import nbytes
from flyte_nb.engine.links.wire import Message

#: Versions of one task that workers keep without an attempt that needs them. A program that goes to and fro between more
#: states than these sends them again.
KEPT_VERSIONS = 4
#: Bytes of a task's older versions among them, large globals included.
KEPT_BYTES = 64 * 1024 * 1024
#: Tasks whose versions workers keep: a session rarely uses more at a time.
KEPT_TASKS = 256


class Shipment:
    """A version of a task's code, as its owner sends it around."""

    __slots__ = ("at", "code", "task", "unsettled")

    def __init__(self, task: str, code: CodeVersion) -> None:
        self.task: str = task
        self.code: CodeVersion = code
        #: Workers that have it.
        self.at: set[str] = set()
        #: Attempts of it, queued or sent.
        self.unsettled: int = 0

    def __repr__(self) -> str:
        return f"<Shipment {self.code.id} of {self.task} [{len(self.at)} workers, {self.unsettled} unsettled]>"


class Shipments:
    """All versions that an owner has at workers.

    Args:
        send: Sends a message to a worker.
    """

    def __init__(self, send: Callable[[str, Message], None]) -> None:
        self._send = send
        #: By full name of the task, then by id; both latest last.
        self._tasks: OrderedDict[str, OrderedDict[str, Shipment]] = OrderedDict()

    def of(self, task: str, code: CodeVersion) -> Shipment:
        """The shipment of a version of a task, for an attempt: the caller counts it as `unsettled`."""
        versions = self._tasks.get(task)
        if versions is None:
            versions = self._tasks[task] = OrderedDict()
            if len(self._tasks) > KEPT_TASKS:
                self._trim_tasks()
        elif next(reversed(self._tasks)) != task:
            self._tasks.move_to_end(task)
        shipment = versions.get(code.id)
        if shipment is None:
            shipment = versions[code.id] = Shipment(task, code)
            self._trim(versions)
        elif next(reversed(versions)) != code.id:
            versions.move_to_end(code.id)
        return shipment

    def ship(self, address: str, shipment: Shipment) -> None:
        """See to it that a worker has a version before what is sent to it next."""
        if address not in shipment.at:
            shipment.at.add(address)
            self._send(address, ("code", shipment.code.id, shipment.code.payload))

    def settled(self, shipment: Shipment) -> None:
        """One attempt less needs it."""
        shipment.unsettled -= 1
        if not shipment.unsettled:
            self._trim(self._tasks.get(shipment.task, {}))

    def _trim(self, versions: dict[str, Shipment]) -> None:
        """Drop versions that nothing needs, those used longest ago first."""
        if len(versions) < 2:
            return
        older = list(versions.values())[:-1]
        size = sum(nbytes(shipment.code.payload) for shipment in older)
        for shipment in older:
            if len(versions) <= KEPT_VERSIONS and size <= KEPT_BYTES:
                return
            if not shipment.unsettled:
                size -= nbytes(shipment.code.payload)
                del versions[shipment.code.id]
                self._drop(shipment)

    def _trim_tasks(self) -> None:
        for task, versions in list(self._tasks.items()):
            if len(self._tasks) <= KEPT_TASKS:
                return
            if versions and not any(shipment.unsettled for shipment in versions.values()):
                del self._tasks[task]
                for shipment in versions.values():
                    self._drop(shipment)

    def _drop(self, shipment: Shipment) -> None:
        for address in shipment.at:
            self._send(address, ("drop", shipment.code.id))
        shipment.at.clear()

    def worker_lost(self, address: str) -> None:
        """Forget what a worker had."""
        for versions in self._tasks.values():
            for shipment in versions.values():
                shipment.at.discard(address)

    def __repr__(self) -> str:
        counts = sum(map(len, self._tasks.values()))
        return f"<Shipments [{counts} versions of {len(self._tasks)} tasks]>"
