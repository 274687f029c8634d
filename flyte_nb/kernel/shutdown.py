"""Shutdown of the kernel: the cluster ends first, a running cell is stopped, and ipykernel signals the user's processes alone.

ipykernel 7.4 signals every child of the kernel until there is none, for up to 29 s. Nannies replace a worker that it has ended,
and the tracker of multiprocessing's semaphores, which ignores SIGTERM, complains of all of them once it is killed and replaced.

Runs in: kernel's control thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing import resource_tracker
from typing import Any

from flyte_nb.kernel.cells.tracker import CellTracker

#: Seconds that the cluster has to close; then the kernel ends all the same.
PATIENCE = 1.5
_REQUEST = "shutdown_request"


class Shutdown:
    """Puts the end of the cluster before that of the kernel.

    Args:
        cells: The notebook's.
        close: Begins to close the cluster, and returns what is set when that is done; None if there is none.
    """

    def __init__(self, cells: CellTracker, close: Callable[[], Future[None] | None]) -> None:
        self._cells = cells
        self._close = close
        self._kernel: Any = getattr(cells.ip, "kernel", None)
        self._undo: Callable[[], None] = lambda: None

    def install(self) -> None:
        """Begin. Does nothing where there is no kernel."""
        handlers: Any = getattr(self._kernel, "control_handlers", None)
        if not isinstance(handlers, dict) or _REQUEST not in handlers:
            return
        original = handlers[_REQUEST]

        async def shutdown_request(*args: Any) -> None:
            await self._end()
            await original(*args)

        handlers[_REQUEST] = shutdown_request
        if hasattr(self._kernel, "_process_children"):
            self._kernel._process_children = self._children  # noqa: SLF001 - there is no public way

        def undo() -> None:
            if handlers.get(_REQUEST) is shutdown_request:
                handlers[_REQUEST] = original
            vars(self._kernel).pop("_process_children", None)

        self._undo = undo

    def uninstall(self) -> None:
        """Undo `install`."""
        self._undo()

    async def _end(self) -> None:
        if self._cells.current is not None and hasattr(signal, "pthread_kill"):
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGINT)
        closed = self._close()
        if closed is not None:
            with contextlib.suppress(Exception):  # it ends either way
                await asyncio.wait_for(asyncio.wrap_future(closed), PATIENCE)

    def _children(self) -> list[Any]:
        """The processes to end: not the tracker, which ends when the last process that it serves has ended."""
        children: list[Any] = type(self._kernel)._process_children(self._kernel)  # noqa: SLF001
        tracker = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]  # noqa: SLF001 - it has no public name
        return [child for child in children if child.pid != tracker]
