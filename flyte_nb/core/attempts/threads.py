"""Threads with an event loop: start, post to, stop and interrupt them; share asyncio's locks. Runs in: everywhere."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import threading
import time
from asyncio import mixins
from collections.abc import Callable, Iterator
from typing import Any

from flyte_nb.core.control.work import Handle


class LoopClock:
    """The controller's clock on an asyncio loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Handle:
        """Call back after `delay` seconds on the loop."""
        return self._loop.call_later(delay, callback)


class LoopThread:
    """A daemon thread that runs an asyncio loop until it is stopped."""

    def __init__(self, name: str) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self.thread: threading.Thread = threading.Thread(target=self._run, name=name, daemon=True)
        # JupyterLab's debugger stops all threads at a breakpoint but those marked so: the cluster keeps working.
        self.thread.pydev_do_not_trace = self.thread.is_pydev_daemon_thread = True  # type: ignore[attr-defined]
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function on the thread; from any thread. Silently dropped once it has stopped."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *args)

    def stop(self) -> None:
        """Stop the loop and wait for the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        if threading.current_thread() is not self.thread:
            self.thread.join(timeout=5)
            if not self.thread.is_alive():
                self.loop.close()


def interrupt_thread(thread_id: int, exception: type[BaseException]) -> None:
    """Raise an exception in another thread, at its next bytecode; a call that blocks in C is not disturbed."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(exception))


def drain(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what was left running on a loop that has stopped, as `asyncio.run` does."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())


def allow_other_loops() -> None:
    """Let asyncio's locks, events, semaphores, conditions and queues be bound to another loop. Idempotent.

    Flyte runs all of a process's coroutines on one loop; here each attempt (in local mode) or each lane (on a worker) has its
    own. Python binds a lock to the loop that first waited on it and refuses every other one for ever, so that a module's
    ``limit = asyncio.Semaphore(3)`` served the first action only. Here it is bound anew, unless something awaits it right now.
    """
    mixin: Any = vars(mixins)["_LoopBoundMixin"]
    mixin._get_loop = _get_loop  # noqa: SLF001 - there is no public way


def _get_loop(self: Any) -> asyncio.AbstractEventLoop:
    loop = asyncio.get_running_loop()
    bound = self._loop
    elsewhere = bound is not None and bound is not loop and not bound.is_closed()
    if elsewhere and any(getattr(self, name, None) for name in ("_waiters", "_getters", "_putters")):  # what awaits it
        raise RuntimeError(f"{self!r} is bound to a different event loop")
    self._loop = loop
    return loop


class Waits(threading.local):
    """How long the calling thread has waited for actions."""

    def __init__(self) -> None:
        self._seconds = 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """A wait."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds += time.perf_counter() - began

    def time_outside(self) -> float:
        """A clock that stops during waits: what would be slot time on a worker."""
        return time.perf_counter() - self._seconds


#: Of threads that run actions in this process.
WAITS = Waits()
