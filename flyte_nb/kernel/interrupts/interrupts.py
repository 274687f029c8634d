"""Stop button: interrupts reach the running cell, whatever it is doing. Runs in: kernel main thread.

Three things are missing in a stock kernel (measured with ipykernel 6.31 to 7.4):

* While a cell awaits and the event loop is idle, the stop button does nothing until something else wakes the loop (`wakeup`).
* Synchronous code inside a cell that also awaits isn't interrupted at all, and a stop that arrives just before or after a
  cell's code can leave the cell without its reply (`sigint`).
* A cancelled cell leaves behind what asyncio leaves behind: tasks under `asyncio.wait`, `as_completed`, bare `create_task`.
  `Interrupts.on_interrupt` notifies the session, so that it can cancel the remote actions of the cell all the same.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import threading
from collections.abc import Callable
from typing import Any

from flyte_nb.kernel.cells.tracker import Cell, CellTracker, add_callback
from flyte_nb.kernel.interrupts.clean_up import STOP
from flyte_nb.kernel.interrupts.sigint import GUARD, BetweenCells, CellInterrupt, Unraisable
from flyte_nb.kernel.interrupts.wakeup import WakeUp

logger: logging.Logger = logging.getLogger(__name__)


class Interrupts:
    """Takes over SIGINT while a cell runs, and gives it back.

    Args:
        cells: Reports cells that start and end; installed before this.
        between: Called for a stop that arrives when a cell's code has ended.
    """

    def __init__(self, cells: CellTracker, between: Callable[[], object] = lambda: None) -> None:
        self._between = BetweenCells(between)
        self._unraisable = Unraisable(lambda: self._guard)
        self._cells = cells
        self._wakeup = WakeUp()
        #: Each posts its callback to the thread that it belongs to.
        self._listeners: list[Callable[[Cell], object]] = []
        self._guard: CellInterrupt | None = None
        self._undo: list[Callable[[], None]] = []

    def install(self) -> None:
        """Start guarding cells, the running one included. Does nothing when installed already."""
        if self._undo:
            return
        self._unraisable.install()
        self._undo = [
            self._cells.on_start(self._start), self._cells.on_end(self._end), self._hook_kernel(), self._unraisable.uninstall,
        ]  # fmt: skip
        running = self._cells.owner()
        if running is not None:
            self._start(running)

    def uninstall(self) -> None:
        """Put everything back, also in the middle of a cell. Does nothing when not installed."""
        if not self._undo:
            return
        for undo in self._undo:
            undo()
        self._undo = []
        self._wakeup.disarm()
        self._release()

    def on_interrupt(self, callback: Callable[[Cell], object], *, post: Callable[..., object]) -> Callable[[], None]:
        """Have ``callback(cell)`` called, in a thread of yours, for every interrupt that arrives while a cell runs.

        Args:
            callback: Gets the interrupted cell. It is never called from the signal handler itself.
            post: Hands a call to that thread without blocking, as ``engine_loop.call_soon_threadsafe`` does:
                ``post(callback, cell)``. It is called from the signal handler.

        Returns:
            A function that takes the callback off again.
        """
        listener: Callable[[Cell], object] = functools.partial(post, callback)
        return add_callback(self._listeners, listener)

    def _hook_kernel(self) -> Callable[[], None]:
        """Have `BetweenCells` guard what surrounds a cell. Returns the function that undoes it."""
        kernel: Any = getattr(self._cells.ip, "kernel", None)
        if not hasattr(kernel, "pre_handler_hook"):
            return lambda: None
        original: Callable[[], None] = kernel.pre_handler_hook
        between = self._between

        def pre_handler_hook() -> None:
            original()
            between.message()
            signal.signal(signal.SIGINT, between)  # `post_handler_hook` gives it back.

        def undo() -> None:
            if vars(kernel).get("pre_handler_hook") is pre_handler_hook:
                del kernel.pre_handler_hook

        kernel.pre_handler_hook = pre_handler_hook
        return undo

    def _start(self, cell: Cell) -> None:
        """Take over SIGINT for a cell that starts, or runs, now."""
        if threading.current_thread() is not threading.main_thread():
            return  # A cell in a subshell: signals never arrive there.
        previous = signal.getsignal(signal.SIGINT)
        if not callable(previous) or isinstance(previous, CellInterrupt):
            return  # Ignored on purpose, or set outside Python; or a cell within a cell, which ours guards already.
        task, loop = _running_task()
        in_kernel = getattr(self._cells.ip, "kernel", None) is not None
        if in_kernel and loop is not None:
            self._wakeup.arm(loop)
        if in_kernel and (previous is signal.default_int_handler or isinstance(previous, BetweenCells)):
            task = None  # A sync cell: the running task is ipykernel's own, and KeyboardInterrupt ends the cell.
        self._guard = CellInterrupt(cell, self._notify, previous, task, loop, in_kernel=in_kernel)
        if task is not None:
            STOP.set(self._guard.stop)
            GUARD.set(self._guard)  # In the cell's own context: gone with the cell, inherited by all that it starts.
        signal.signal(signal.SIGINT, self._guard)
        if self._between.cell_begins():
            self._guard.stopped_before()

    def _end(self, cell: Cell, _error: BaseException | None) -> None:
        if self._guard is not None and self._guard.cell is cell:
            self._release()

    def _release(self) -> None:
        """Give SIGINT back to the handler that was installed before the cell."""
        guard, self._guard = self._guard, None
        if guard is not None and threading.current_thread() is threading.main_thread():
            guard.restore()

    def _notify(self, cell: Cell) -> None:
        for post in tuple(self._listeners):
            try:
                post(cell)
            except RuntimeError:  # Its loop is closed; the stop itself must go on.
                logger.debug("an interrupt could not be passed on", exc_info=True)


def _running_task() -> tuple[asyncio.Task[Any] | None, asyncio.AbstractEventLoop | None]:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None, None
    return asyncio.current_task(loop), loop
