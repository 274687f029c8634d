"""SIGINT handlers: what an interrupt does while a cell runs, and between cells. Runs in: kernel main thread.

Signal handlers run between any two instructions. So they only raise where IPython or ipykernel catches it, call what is safe
from a handler (`call_soon_threadsafe`), and leave the rest to others.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any

from IPython.core.events import EventManager
from IPython.core.interactiveshell import InteractiveShell

from flyte_nb.kernel.cells.tracker import Cell

#: The handler of the async cell that the running code belongs to; None in ipykernel's own tasks.
GUARD: ContextVar[CellInterrupt | None] = ContextVar("flyte_nb_interrupt_guard", default=None)

#: Methods of a kernel in which KeyboardInterrupt does harm: the reply to a cell is lost, or the kernel's loop ends.
_KERNELS_OWN = frozenset({"execute_request", "pre_handler_hook", "post_handler_hook"})


class CellInterrupt:
    """The SIGINT handler of one cell.

    Args:
        cell: The cell.
        notify: Called first with the cell, for every signal.
        previous: The handler in place before; ipykernel's cancels an async cell, once.
        task: The cell's task; None for a sync cell.
        loop: The loop that the task runs on.
        in_kernel: Whether ``previous`` is ipykernel's.
    """

    def __init__(
        self, cell: Cell, notify: Callable[[Cell], None], previous: Callable[[int, FrameType | None], Any],
        task: asyncio.Task[Any] | None, loop: asyncio.AbstractEventLoop | None, *, in_kernel: bool,
    ) -> None:  # fmt: skip
        self.cell = cell
        self.previous = previous
        self._notify = notify
        self._task = task
        self._loop = loop
        self._in_kernel = in_kernel
        self._count = 0

    def restore(self) -> None:
        """Give SIGINT back, unless someone else has taken it since."""
        current: object = signal.getsignal(signal.SIGINT)
        if current is self:
            signal.signal(signal.SIGINT, self.previous)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """The signal handler.

        Raises:
            KeyboardInterrupt: In the cell's own synchronous code.
            asyncio.CancelledError: In synchronous code of a task or callback that a cell started.
        """
        self._count += 1
        self._notify(self.cell)
        if self._task is None or self._loop is None:
            self.previous(signum, frame)
            return
        running = asyncio.current_task(self._loop)
        if running is self._task and in_user_code(frame):
            raise KeyboardInterrupt
        self._cancel_cell(signum, frame)
        if running is not self._task and GUARD.get() is not None:
            # Synchronous code in a task or callback that a cell started. (KeyboardInterrupt here would end the kernel's loop.)
            raise asyncio.CancelledError("interrupted")

    def _cancel_cell(self, signum: int, frame: FrameType | None) -> None:
        assert self._task is not None
        assert self._loop is not None
        if self._in_kernel and self._count == 1:
            self.previous(signum, frame)
        elif self._in_kernel or self._count == 1:
            # ipykernel's handler works once a cell: a cell that caught its first cancellation ignores every later stop.
            self._loop.call_soon_threadsafe(self._task.cancel)
        else:
            # Terminal, second Ctrl-C: the cell resists; KeyboardInterrupt gives the prompt back.
            self.previous(signum, frame)


class BetweenCells:
    """The SIGINT handler while ipykernel handles a message: before a cell's code has begun, and after it has ended.

    The stock handler raises KeyboardInterrupt anywhere. Between cells that loses the reply to the cell, which then shows
    ``[*]`` for ever; a stop button pressed twice is enough.

    Args:
        stopped: Called first, for every signal.
    """

    def __init__(self, stopped: Callable[[], object] = lambda: None) -> None:
        self._stopped = stopped

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """The signal handler: raises KeyboardInterrupt where it is caught, and drops the signal elsewhere."""
        self._stopped()
        if in_user_code(frame) or _in_event_callback(frame) or _in_other_handler(frame):
            signal.default_int_handler(signum, frame)


_RUN_CODE = InteractiveShell.run_code.__code__
_TRIGGER = EventManager.trigger.__code__


def in_user_code(frame: FrameType | None) -> bool:
    """Whether IPython catches what is raised here, as it does for anything in a cell's code."""
    return any(f.f_code is _RUN_CODE for f in _stack(frame))


def _in_event_callback(frame: FrameType | None) -> bool:
    """Whether a callback of an IPython event runs (matplotlib draws in one), other than our own."""
    for f in _stack(frame):
        if f.f_back is not None and f.f_back.f_code is _TRIGGER:
            return not f.f_globals.get("__name__", "").startswith("flyte_nb.")
    return False


def _in_other_handler(frame: FrameType | None) -> bool:
    """Whether ipykernel handles a completion, a widget's message or the like, and survives KeyboardInterrupt in it."""
    return any(
        f.f_back is not None and f.f_back.f_code.co_name == "dispatch_shell" and f.f_code.co_name not in _KERNELS_OWN
        for f in _stack(frame)
    )


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
