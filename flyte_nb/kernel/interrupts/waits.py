"""Waits of cells for runs: a stop ends the wait, and not a run that an earlier cell has started. Runs in: any thread.

Such a run goes on, as a task of asyncio's does; the cell says so, and a second stop within two seconds cancels it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from flyte_nb.core.runs.run_control import RunControl
from flyte_nb.kernel.cells.tracker import Cell

#: Seconds within which a second stop cancels what the first has left alone.
SECOND_STOP = 2.0


class Waits:
    """The waits of cells.

    Args:
        ip: IPython's shell.
    """

    def __init__(self, ip: Any) -> None:
        self._kernel: Any = getattr(ip, "kernel", None)
        #: Number of the cell that started a run.
        self._started: weakref.WeakKeyDictionary[RunControl, int] = weakref.WeakKeyDictionary()
        #: Runs that are waited for, by the number of the cell; a wait that was broken off stays until its cell has ended.
        self._waited: dict[int, list[RunControl]] = {}
        #: What a second stop cancels, and until when.
        self._left: list[RunControl] = []
        self._until = 0.0
        self._undo: Callable[[], None] = lambda: None

    def install(self) -> None:
        """Have a stop between cells count, which a kernel would ignore."""
        if not hasattr(self._kernel, "post_handler_hook"):
            return
        kernel, original = self._kernel, self._kernel.post_handler_hook
        idle = _Idle(self.stopped_again)

        def post_handler_hook() -> None:
            original()
            if self.is_armed:
                idle.install()
            else:
                idle.uninstall()

        def undo() -> None:
            idle.uninstall()
            if vars(kernel).get("post_handler_hook") is post_handler_hook:
                del kernel.post_handler_hook

        kernel.post_handler_hook = post_handler_hook
        self._undo = undo

    def uninstall(self) -> None:
        """Undo `install`."""
        self._undo()

    def launched(self, cell: Cell, run: RunControl) -> None:
        """A cell has started a run."""
        self._started[run] = cell.serial

    @contextlib.contextmanager
    def waiting(self, cell: Cell, run: RunControl) -> Iterator[None]:
        """While code of a cell waits for a run: a wait that is broken off ends a run of that very cell."""
        waited = self._waited.setdefault(cell.serial, [])
        waited.append(run)
        try:
            yield
        except BaseException:
            if self._started.get(run) == cell.serial:
                run.abort("interrupted")
            raise
        if run in waited:
            waited.remove(run)

    def cell_started(self, _cell: Cell) -> None:
        """A stop is for the cell that runs from now on."""
        self._left = []

    def cell_ended(self, cell: Cell, error: BaseException | None) -> None:
        """Say what a stopped cell has waited for, and what becomes of it. On the main thread."""
        waited = dict.fromkeys(self._waited.pop(cell.serial, ()))
        if not isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
            return
        for run in waited:
            if not run.done() and self._started.get(run) == cell.serial:
                run.abort("interrupted")  # its wait is in another thread: `await run`
        left = [run for run in waited if not run.done() and self._started.get(run) != cell.serial]
        if not left:
            return
        names = ", ".join(run.name for run in left)
        again = ""
        if self._kernel is not None:
            self._left, self._until = left, time.monotonic() + SECOND_STOP
            again = f", and so does a second stop within {SECOND_STOP:.0f} s"
        print(  # noqa: T201 - under the cell
            f"flyte_nb: stopped waiting for {names}, which an earlier cell has started: it goes on. "
            f"`%flyte cancel {left[0].name}` ends it{again}."
        )

    @property
    def is_armed(self) -> bool:
        """Whether a stop now cancels what the last one has left alone."""
        return bool(self._left) and time.monotonic() < self._until

    def stopped_again(self) -> None:
        """A stop between cells. Safe in a signal handler."""
        left, self._left = self._left if self.is_armed else [], []
        for run in left:
            run.abort("stop was pressed twice")


class _Idle:
    """The SIGINT handler of a kernel in which no cell runs, as long as a second stop counts."""

    def __init__(self, stopped: Callable[[], None]) -> None:
        self._stopped = stopped
        self._previous: Any = None

    def install(self) -> None:
        current: object = signal.getsignal(signal.SIGINT)
        if current is not self:
            self._previous = signal.signal(signal.SIGINT, self)

    def uninstall(self) -> None:
        current: object = signal.getsignal(signal.SIGINT)
        if current is self:
            signal.signal(signal.SIGINT, self._previous)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self._stopped()
        if callable(self._previous):
            self._previous(signum, frame)
