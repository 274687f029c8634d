"""Make the stop button work, whatever the cell is doing. Runs in: kernel main thread.

Three things are missing in a stock kernel (measured with ipykernel 6.31 to 7.4):

* While a cell awaits and the event loop is idle, the stop button does nothing until something else wakes the loop: ipykernel
  only appends a callback. `signal.set_wakeup_fd` cures it, from the C signal handler.
* Synchronous code inside a cell that also awaits isn't interrupted at all. `_CellInterrupt` raises `KeyboardInterrupt` there.
* A cancelled cell leaves behind what asyncio leaves behind: tasks under `asyncio.wait`, `as_completed`, bare `create_task`.
  `Interrupts.on_interrupt` tells the session, so that it can cancel the remote actions of the cell all the same.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
import socket
import threading
from collections.abc import Callable
from contextvars import ContextVar
from types import CodeType, FrameType
from typing import Any, NamedTuple

from flyte_nb.kernel.cells import Cell, CellTracker

logger = logging.getLogger(__name__)

#: The handler of the async cell that the running code belongs to: tells a user's task from one of ipykernel's own.
_GUARD: ContextVar[_CellInterrupt | None] = ContextVar("flyte_nb_interrupt_guard", default=None)


class _Listener(NamedTuple):
    """Who wants to know about an interrupt, and how to reach its thread."""

    callback: Callable[[Cell], object]
    post: Callable[..., object]


class Interrupts:
    """Installs and removes the cures.

    Args:
        cells: Tells which cell starts and ends; installed before this.
    """

    def __init__(self, cells: CellTracker) -> None:
        self._cells = cells
        self._wakeup = _WakeUp()
        self._listeners: list[_Listener] = []
        self._guard: _CellInterrupt | None = None
        self._unsubscribe: list[Callable[[], None]] = []

    def install(self) -> None:
        """Start guarding cells, the running one included. Does nothing when installed already."""
        if self._unsubscribe:
            return
        self._unsubscribe = [self._cells.on_start(self._start), self._cells.on_end(self._end)]
        running = self._cells.owner()
        if running is not None:
            self._start(running)

    def uninstall(self) -> None:
        """Put everything back, also in the middle of a cell. Does nothing when not installed."""
        if not self._unsubscribe:
            return
        for remove in self._unsubscribe:
            remove()
        self._unsubscribe = []
        self._release()
        self._wakeup.disarm()

    def on_interrupt(self, callback: Callable[[Cell], object], *, post: Callable[..., object]) -> Callable[[], None]:
        """Have ``callback(cell)`` called, in a thread of yours, for every interrupt that arrives while a cell runs.

        Args:
            callback: Gets the interrupted cell. It is never called from the signal handler itself.
            post: Hands a call to that thread without blocking, as ``engine_loop.call_soon_threadsafe`` does:
                ``post(callback, cell)``. It is called from the signal handler.

        Returns:
            A function that takes the callback off again.
        """
        listener = _Listener(callback, post)
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    def _start(self, cell: Cell) -> None:
        """Take over SIGINT for a cell that starts, or runs, now."""
        if threading.current_thread() is not threading.main_thread():
            return  # A cell in a subshell: signals never arrive there.
        previous = signal.getsignal(signal.SIGINT)
        if not callable(previous) or isinstance(previous, _CellInterrupt):
            return  # Ignored on purpose, or set outside Python; or a cell within a cell, which ours guards already.
        task, loop = _running_task()
        in_kernel = getattr(self._cells.ip, "kernel", None) is not None
        if in_kernel and loop is not None:
            self._wakeup.arm(loop)
        if in_kernel and previous is signal.default_int_handler:
            task = None  # A sync cell: the running task is ipykernel's own, and KeyboardInterrupt ends the cell.
        self._guard = _CellInterrupt(
            cell, self._notify, previous, task, loop, _code_runner(self._cells.ip), in_kernel=in_kernel
        )
        if task is not None:
            _GUARD.set(self._guard)  # In the cell's own context: gone with the cell, inherited by all that it starts.
        signal.signal(signal.SIGINT, self._guard)

    def _end(self, cell: Cell, _error: BaseException | None) -> None:
        if self._guard is not None and self._guard.cell is cell:
            self._release()

    def _release(self) -> None:
        """Give SIGINT back to whoever had it before the cell."""
        guard, self._guard = self._guard, None
        if guard is not None and threading.current_thread() is threading.main_thread():
            guard.restore()

    def _notify(self, cell: Cell) -> None:
        for listener in tuple(self._listeners):
            try:
                listener.post(listener.callback, cell)
            except RuntimeError:  # Its loop is closed; the stop itself must go on.
                logger.debug("an interrupt could not be passed on", exc_info=True)


class _CellInterrupt:
    """The SIGINT handler of one cell.

    Args:
        cell: The cell.
        notify: Called first with the cell, for every signal.
        previous: The handler in place before; ipykernel's cancels an async cell, once.
        task: The cell's task; None for a sync cell.
        loop: The loop that the task runs on.
        runner: The code of IPython's `run_code`, which catches what is raised in the cell's code; None if unknown.
        in_kernel: Whether ``previous`` is ipykernel's.
    """

    def __init__(
        self,
        cell: Cell,
        notify: Callable[[Cell], None],
        previous: Callable[[int, FrameType | None], Any],
        task: asyncio.Task[Any] | None,
        loop: asyncio.AbstractEventLoop | None,
        runner: CodeType | None,
        *,
        in_kernel: bool,
    ) -> None:
        self.cell = cell
        self.previous = previous
        self._notify = notify
        self._task = task
        self._loop = loop
        self._runner = runner
        self._in_kernel = in_kernel
        self._count = 0

    def restore(self) -> None:
        """Give SIGINT back, unless someone else has taken it since."""
        if signal.getsignal(signal.SIGINT) is self:
            signal.signal(signal.SIGINT, self.previous)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self._count += 1
        self._notify(self.cell)
        if self._task is None or self._loop is None:
            self.previous(signum, frame)
            return
        running = asyncio.current_task(self._loop)
        if running is self._task and self._within_user_code(frame):
            raise KeyboardInterrupt
        self._cancel_cell(signum, frame)
        if running is not self._task and _GUARD.get() is not None:
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
            self.previous(
                signum, frame
            )  # Terminal, second Ctrl-C: the cell resists; KeyboardInterrupt gives the prompt back.

    def _within_user_code(self, frame: FrameType | None) -> bool:
        """Whether IPython catches an exception raised here. Outside, it would reach, and end, the kernel's loop."""
        while frame is not None:
            if frame.f_code is self._runner:
                return True
            frame = frame.f_back
        return False


def _running_task() -> tuple[asyncio.Task[Any] | None, asyncio.AbstractEventLoop | None]:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None, None
    return asyncio.current_task(loop), loop


def _code_runner(ip: Any) -> CodeType | None:
    function = inspect.unwrap(getattr(type(ip), "run_code", None) or (lambda: None))
    return getattr(function, "__code__", None)


class _WakeUp:
    """Wakes an event loop when a signal arrives, at whichever thread the system delivers it."""

    def __init__(self) -> None:
        self._sockets: tuple[socket.socket, socket.socket] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake ``loop`` from now on. Main thread only; cheap to repeat, which undoes what others did to the setting."""
        if loop is not self._loop:
            self.disarm()
            if not self._listen(loop):
                return
        assert self._sockets is not None
        ours = self._sockets[1].fileno()
        before = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
        if before not in (-1, ours) and _has_own_wakeup(loop, before):
            # `loop.add_signal_handler` was used: the loop reads that fd itself, and needs the bytes for its handlers.
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)

    def disarm(self) -> None:
        """Undo `arm`. Does nothing when not armed, or off the main thread."""
        if self._sockets is None or threading.current_thread() is not threading.main_thread():
            return
        reader, writer = self._sockets
        before = signal.set_wakeup_fd(-1)
        if before not in (-1, writer.fileno()):
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(reader.fileno())
        reader.close()
        writer.close()
        self._sockets = self._loop = None

    def _listen(self, loop: asyncio.AbstractEventLoop) -> bool:
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        try:
            loop.add_reader(reader.fileno(), _drain, reader)
        except NotImplementedError:  # Windows' proactor loop, which a Windows kernel doesn't use.
            reader.close()
            writer.close()
            return False
        self._sockets, self._loop = (reader, writer), loop
        return True


def _has_own_wakeup(loop: asyncio.AbstractEventLoop, fd: int) -> bool:
    """Whether ``fd`` is the one that ``loop`` wakes itself with. Loops that don't tell (uvloop) are believed to."""
    own = getattr(loop, "_csock", None)
    return own is None or own.fileno() == fd


def _drain(reader: socket.socket) -> None:
    try:
        while reader.recv(4096):
            pass
    except (BlockingIOError, InterruptedError):
        pass  # Empty: waking the loop was all there was to do.
