"""SIGINT handlers: what an interrupt does while a cell runs, and between cells. Runs in: kernel main thread.

Signal handlers run between any two instructions. So they raise only where a cell's own code catches it. Where what is
raised would be lost (in a callback of the garbage collector, of a weak reference, in ``__del__``) or do harm (between the two
halves of a hand-over to another thread, in IPython's own code), the stop is delivered again a moment later, until it arrives or
the cell has ended.
"""

from __future__ import annotations

import _thread
import asyncio
import asyncio.selector_events
import contextlib
import gc
import importlib._bootstrap
import logging
import signal
import sys
import threading
import time
import weakref
from asyncio.events import Handle
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from types import FrameType
from typing import Any

from IPython.core.events import EventManager
from IPython.core.interactiveshell import InteractiveShell

from flyte_nb.core.transport.mailbox import Mailbox
from flyte_nb.kernel.cells.tracker import Cell
from flyte_nb.kernel.interrupts import cell_first
from flyte_nb.kernel.interrupts.clean_up import Reached, Stop

#: The handler of the async cell that the running code belongs to; None in ipykernel's own tasks.
GUARD: ContextVar[CellInterrupt | None] = ContextVar("flyte_nb_interrupt_guard", default=None)

#: Methods of a kernel in which KeyboardInterrupt does harm: the reply to a cell is lost, or the kernel's loop ends.
_KERNELS_OWN = frozenset({"execute_request", "pre_handler_hook", "post_handler_hook"})
#: Seconds after which a stop that could not be delivered is delivered again.
AGAIN_S = 0.002
#: Seconds that code which would lose a stop, or be harmed by it, has to end. Then it is raised there all the same.
DELICATE_S = 0.1
#: Seconds between two looks whether a step of the cell's tasks blocks.
LOOK_S = 0.02
#: Seconds after a stop within which its cell ends.
IDLE_S = 0.5
#: Seconds that another thread computes meanwhile before it hands over the GIL.
HAND_OVER_S = 0.0005
#: Seconds after a stop from which on the next one counts as insistence, and no more as the same press.
SAME_PRESS_S = 0.3


class Redelivery:
    """Has a stop come again, on the main thread: when a frame goes on, or a moment later.

    Args:
        deliver: Called with the frame that goes on; what it raises is raised there.
    """

    def __init__(self, deliver: Callable[[FrameType | None], None]) -> None:
        self._deliver = deliver
        self._due = False
        #: Whether the signal was sent: one that comes from elsewhere meanwhile is a press of its own.
        self._sent = False

    def when_back(self, frame: FrameType | None, at_latest: float = AGAIN_S) -> None:
        """Deliver it as soon as this frame, which has called what runs now, goes on; at the latest after some seconds.

        Not by time alone: a loop may be in its callbacks whenever one looks.
        """
        self.later(at_latest)
        if frame is None or sys.gettrace() is not None:  # a debugger's
            return

        def trace(traced: FrameType, _event: str, _argument: object) -> Any:
            if traced is not frame:
                return None
            sys.settrace(None)
            frame.f_trace, frame.f_trace_opcodes = None, False
            if self.drop():
                self._deliver(frame)
            return None

        frame.f_trace, frame.f_trace_opcodes = trace, True
        sys.settrace(trace)

    def later(self, seconds: float = AGAIN_S) -> None:
        """Send the signal again. Safe in a signal handler: takes no lock of Python's."""
        if not self._due:
            self._due = True
            _thread.start_new_thread(self._send, (seconds,))

    def arrived(self) -> bool:
        """Whether the signal that is being handled is one that was sent again."""
        sent, self._sent = self._sent, False
        return sent

    def drop(self) -> bool:
        """Have nothing come any more; returns whether it would have."""
        due, self._due = self._due, False
        return due

    def _send(self, seconds: float) -> None:
        time.sleep(seconds)
        main = threading.main_thread().ident
        if self.drop() and main is not None:
            self._sent = True
            if hasattr(signal, "pthread_kill"):
                signal.pthread_kill(main, signal.SIGINT)  # also ends a call that blocks there
            else:
                signal.raise_signal(signal.SIGINT)


class CellInterrupt:
    """The SIGINT handler of one cell.

    Args:
        cell: The cell.
        notify: Called first with the cell, for every stop.
        previous: The handler in place before.
        task: The cell's task; None for a sync cell.
        loop: The loop that the task runs on.
        in_kernel: Whether the cell runs in a kernel, and not in a terminal.
    """

    def __init__(
        self, cell: Cell, notify: Callable[[Cell], None], previous: Callable[[int, FrameType | None], Any],
        task: asyncio.Task[Any] | None, loop: asyncio.AbstractEventLoop | None, *, in_kernel: bool,
    ) -> None:  # fmt: skip
        self.cell = cell
        self.previous = previous
        self.redelivery: Redelivery = Redelivery(self._deliver)
        self._notify = notify
        self._task = task
        self._loop = loop
        self._in_kernel = in_kernel
        self._count = 0
        self.stop = Stop(cell.serial)
        self._reached = Reached(self.stop, task)
        self._counted_at = self._pressed_at = 0.0
        #: Blocks that run now which a stop must not cut in two: see `held`.
        self.holds = 0
        #: Whether the latest stop has cancelled the cell's task.
        self._cancelled = False
        #: The step of a task, or the callback, that ran when the latest stop was looked at.
        self._step: FrameType | None = None

    def restore(self) -> None:
        """Give SIGINT back, unless someone else has taken it since."""
        if not self.holds:  # else the cell goes on, and has yet to be stopped
            self.redelivery.drop()  # a stop that is due was for this cell
        self._step = None
        current: object = signal.getsignal(signal.SIGINT)
        if current is self:
            signal.signal(signal.SIGINT, self.previous)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """The signal handler.

        Raises:
            KeyboardInterrupt: In the cell's own synchronous code.
            asyncio.CancelledError: In synchronous code of a task or callback that a cell started.
        """
        if not self.redelivery.arrived():
            self.redelivery.drop()
            self._press()
        self._deliver(frame)

    def _deliver(self, frame: FrameType | None) -> None:
        back = delicate_until(frame)
        fresh = time.monotonic() - self._pressed_at < DELICATE_S
        if self.holds:
            self.redelivery.later()
        elif back is not None and fresh:
            self.redelivery.when_back(back, DELICATE_S)
        elif fresh and frame is not None and id(frame.f_globals) in _OF_LOOPS:
            self.redelivery.later()
        elif self._task is None or self._loop is None:
            self._interrupt_sync_cell(frame)
        else:
            self._interrupt_async_cell(self._task, self._loop, frame)

    def stopped_before(self) -> None:
        """A stop came while the cell was about to begin."""
        self._press()
        self.redelivery.later()

    def _is_own(self, context: Context) -> bool:
        return context.get(GUARD) is self

    def _press(self) -> None:
        now = time.monotonic()
        self._pressed_at = now
        self._cancelled = False
        _make_way()
        if not self._in_kernel or now - self._counted_at > SAME_PRESS_S:
            self._count += 1
            self._counted_at = now
            self.stop.again = self._count > 1
            self._notify(self.cell)

    def _interrupt_sync_cell(self, frame: FrameType | None) -> None:
        if not self._in_kernel:
            self._reached.mark()
            self.previous(signal.SIGINT, frame)
        elif in_cell_code(frame) or _in_event_callback(frame):
            self._reached.mark()
            raise KeyboardInterrupt
        else:  # IPython's own: it compiles the cell, or shows its error
            self.redelivery.later()

    def _interrupt_async_cell(
        self, task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop, frame: FrameType | None
    ) -> None:
        running = asyncio.current_task(loop)
        if running is task:
            if in_cell_code(frame):
                self._reached.mark()
                cell_first.put_off(task, loop, self._is_own)
                raise KeyboardInterrupt
            self.redelivery.later()
            return
        if not self._cancelled:
            self._cancelled = True
            self._cancel(task, loop, frame)
        if GUARD.get() is None:
            return
        # Synchronous code in a task or callback that a cell started. (KeyboardInterrupt here would end the kernel's loop.)
        step = _step_of(frame)
        if step is not None and step is self._step:
            self._step = None
            raise asyncio.CancelledError("interrupted")
        self._step = step  # it may be about to end: only what blocks is interrupted
        self.redelivery.later(LOOK_S)

    def _cancel(self, task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop, frame: FrameType | None) -> None:
        self._reached.mark(loop)
        if self._count == 1:
            cell_first.cancel(task, loop, self._is_own)
        elif self._in_kernel:
            loop.call_soon_threadsafe(cell_first.insist, task)
        else:
            # Terminal, second Ctrl-C: the cell resists; KeyboardInterrupt gives the prompt back.
            self.previous(signal.SIGINT, frame)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Have a stop come when this block has ended: what it begins is there as a whole, or not at all.

    It must not block for long: a stop is to end its cell within `IDLE_S`.
    """
    guard: object = signal.getsignal(signal.SIGINT)
    if not isinstance(guard, CellInterrupt) or threading.current_thread() is not threading.main_thread():
        yield
        return
    guard.holds += 1
    try:
        yield
    finally:
        guard.holds -= 1


class BetweenCells:
    """The SIGINT handler while ipykernel handles a message: before a cell's code has begun, and after it has ended.

    The stock handler raises KeyboardInterrupt anywhere. Between cells that loses the reply to the cell, which then shows
    ``[*]`` for ever; a stop button pressed twice is enough. A stop that comes before is the cell's: it is kept for it.

    Args:
        stopped: Called first, for every signal.
    """

    def __init__(self, stopped: Callable[[], object] = lambda: None) -> None:
        self._stopped = stopped
        #: Whether a cell is about to begin.
        self.before: bool = False
        #: Whether it was stopped already.
        self.pending: bool = False

    def message(self) -> None:
        """A message is about to be handled."""
        self.before, self.pending = True, False

    def cell_begins(self) -> bool:
        """Its code runs from now on; returns whether it was stopped before."""
        pending, self.before, self.pending = self.pending, False, False
        return pending

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """The signal handler: raises KeyboardInterrupt where it is caught, and keeps or drops the signal elsewhere."""
        self._stopped()
        self.pending = self.before
        if in_cell_code(frame) or _in_event_callback(frame) or _in_other_handler(frame):
            signal.default_int_handler(signum, frame)


class Unraisable:
    """``sys.unraisablehook``: a stop that was lost is delivered again, without a word.

    Args:
        guard: Gives the handler of the cell that runs.
    """

    def __init__(self, guard: Callable[[], CellInterrupt | None]) -> None:
        self._guard = guard
        self._previous: Callable[[Any], object] = sys.unraisablehook

    def install(self) -> None:
        """Be the hook."""
        self._previous, sys.unraisablehook = sys.unraisablehook, self

    def uninstall(self) -> None:
        """Undo `install`, unless someone else has taken its place."""
        if sys.unraisablehook is self:
            sys.unraisablehook = self._previous

    def __call__(self, what: Any) -> None:
        """The hook."""
        guard = self._guard()
        ours = issubclass(what.exc_type, KeyboardInterrupt | asyncio.CancelledError)
        if ours and guard is not None and threading.current_thread() is threading.main_thread():
            guard.redelivery.when_back(sys._getframe(1))  # noqa: SLF001 - Python's name for what called
        else:
            self._previous(what)


def _make_way() -> None:
    """Let the main thread end the cell.

    The garbage collector waits: with a million objects it takes as long as a stop may. And other threads hand over the GIL at
    once: beside one that computes, as the engine's does while the cluster starts, each file that IPython reads for its
    traceback would cost 5 ms.
    """
    interval = sys.getswitchinterval()

    def go_on() -> None:
        time.sleep(IDLE_S)
        sys.setswitchinterval(interval)
        gc.enable()

    if gc.isenabled():
        gc.disable()
        sys.setswitchinterval(min(interval, HAND_OVER_S))
        _thread.start_new_thread(go_on, ())


_RUN_CODE = InteractiveShell.run_code.__code__
_TRIGGER = EventManager.trigger.__code__
_RUN_HANDLE = Handle._run.__code__  # noqa: SLF001 - what every step and callback runs below
_SHELL = vars(sys.modules[InteractiveShell.__module__])
#: Modules whose innermost frame is left to finish: they hold locks, or are called where what is raised is lost.
_DELICATE = tuple(map(id, map(vars, (logging, weakref, sys.modules["_weakrefset"], importlib._bootstrap))))  # noqa: SLF001

#: Modules of asyncio's own loops: one that is interrupted between two lines of its own may have taken a step that is due from
#: its queue and not have begun it. What waits for that step waits for ever, also once it is cancelled.
_OF_LOOPS = frozenset(map(id, map(vars, (asyncio.base_events, asyncio.events, asyncio.selector_events))))


def delicate_until(frame: FrameType | None) -> FrameType | None:
    """Where to raise instead, if what is raised here would be lost, or leave something half done; else None."""
    back: FrameType | None = None
    innermost = frame
    while innermost is not None and id(innermost.f_globals) in _DELICATE:
        back = innermost = innermost.f_back
    callbacks = {id(getattr(callback, "__code__", None)) for callback in gc.callbacks}
    for f in _stack(frame):
        if f.f_code.co_name == "__del__" or f.f_code is Mailbox.post.__code__ or id(f.f_code) in callbacks:
            back = f.f_back
    return back


def in_cell_code(frame: FrameType | None) -> bool:
    """Whether a cell's own code runs: IPython catches what is raised in it."""
    return any(
        f.f_back is not None and f.f_back.f_code is _RUN_CODE and f.f_globals is not _SHELL for f in _stack(frame)
    )


def _step_of(frame: FrameType | None) -> FrameType | None:
    """The step of a task, or the callback, that the loop runs."""
    return next((f for f in _stack(frame) if f.f_back is not None and f.f_back.f_code is _RUN_HANDLE), None)


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
