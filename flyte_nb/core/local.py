"""Run actions in this process: local mode, unit tests, and the fake that contract tests hold to the truth.

One daemon thread carries the controller's loop; every attempt has a thread of its own, an asynchronous one also a loop of
its own, as on a worker. Arguments and results are copied all the same. Runs in: this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from flyte_nb.core import capture, signalling
from flyte_nb.core import events as ev
from flyte_nb.core.attempt import GRACE, Body
from flyte_nb.core.caching import CacheClient, CacheDesk
from flyte_nb.core.context import RunInfo
from flyte_nb.core.controller import Controller
from flyte_nb.core.home import Desk
from flyte_nb.core.kept import Kept
from flyte_nb.core.loopbound import allow_other_loops
from flyte_nb.core.model import LogLine
from flyte_nb.core.outcome import Handle, Outcome, Work
from flyte_nb.core.port import Port
from flyte_nb.core.recall import Recall
from flyte_nb.core.serial import Payload
from flyte_nb.core.store import RunStore
from flyte_nb.core.task import Task


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
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        # JupyterLab's debugger stops all threads at a breakpoint but those that say so: the cluster goes on.
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


class _Running:
    """One attempt in its thread."""

    def __init__(self, body: Body, done: Callable[[Outcome], None]) -> None:
        self.body = body
        self.done = done
        self.thread: threading.Thread | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.task: asyncio.Task[Outcome] | None = None
        self.timer: Handle | None = None
        self.told = False


class InlineExecutor:
    """Executes attempts in threads of this process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, emit: Callable[[ev.Event], None]) -> None:
        self._loop = loop
        self._emit = emit
        self.port: Port | None = None
        self._running: dict[tuple[str, str, int], _Running] = {}

    def start(self, task: Task[..., Any], run: RunInfo, work: Work, done: Callable[[Outcome], None]) -> None:
        """Execute an attempt in a thread of its own."""
        assert self.port is not None
        capture.install(tee=True)  # test runners replace the streams for each test
        body = Body(task, run, work, self.port, _EventSink(self.port, work), ("local", os.getpid(), ""))
        running = self._running[work.key] = _Running(body, done)
        self._emit(ev.AttemptStarted(*work[:3], time.time(), "local", os.getpid(), ""))
        if work.max_runtime:
            running.timer = self._loop.call_later(work.max_runtime, lambda: self._stop(work, "timeout"))
        target = self._run_async if task.is_async else self._run_sync
        running.thread = threading.Thread(target=target, args=(running,), name=f"flyte-{work.label[:40]}", daemon=True)
        running.thread.start()
        self.port.controller.started(work.run, work.action)

    def cancel(self, work: Work, reason: str) -> None:
        """Interrupt an attempt: an async body at its next await, a sync one at its next bytecode."""
        self._stop(work, "cancelled")

    def _stop(self, work: Work, why: str) -> None:
        running = self._running.get(work.key)
        if running is None or running.body.stop:
            return
        running.body.stop = why
        assert self.port is not None
        self.port.controller.close_parent(work.run, work.action, "its parent was cancelled")
        if running.task is not None and running.loop is not None:
            with contextlib.suppress(RuntimeError):
                running.loop.call_soon_threadsafe(running.task.cancel)
        elif running.thread is not None and running.thread.ident and not running.body.task.is_async:
            interrupt_thread(running.thread.ident, asyncio.CancelledError)
        self._loop.call_later(GRACE, lambda: self._abandon(running))

    def _abandon(self, running: _Running) -> None:
        # The thread cannot be killed: its caller goes on without it.
        work = running.body.work
        if work.key in self._running:
            self._ended(running, Outcome(*work[:3], running.body.stop or "cancelled"))

    def _run_sync(self, running: _Running) -> None:
        self._report(running, running.body.run_sync())

    def _run_async(self, running: _Running) -> None:
        body = running.body
        loop = running.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            running.task = asyncio.Task(body.run_async(), loop=loop, context=body.variables)
            if body.stop:
                running.task.cancel()
            try:
                outcome = loop.run_until_complete(running.task)
            except BaseException:
                outcome = Outcome(*body.work[:3], body.stop or "cancelled")
            # Before the drain, which cancels what the body left behind: orphans must be seen as such.
            self._report(running, outcome)
            _drain(loop)
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    def _report(self, running: _Running, outcome: Outcome) -> None:
        assert self.port is not None
        self.port.run_soon(self._ended, running, outcome)

    def _ended(self, running: _Running, outcome: Outcome) -> None:
        work = running.body.work
        if self._running.pop(work.key, None) is None:
            return
        if running.timer is not None:
            running.timer.cancel()
        assert self.port is not None
        warn_of_orphans(self.port.controller, self._emit, work)
        running.done(outcome)


def warn_of_orphans(controller: Controller, emit: Callable[[ev.Event], None], work: Work) -> None:
    """Cancel the unfinished children of an attempt that has ended, and say so in its log."""
    orphans = controller.close_parent(work.run, work.action, "its parent ended")
    if orphans:
        names = ", ".join(flight.call.label for flight in orphans[:5]) + (", ..." if len(orphans) > 5 else "")
        text = f"{work.label} ended while {len(orphans)} of its actions were unfinished; they were cancelled: {names}"
        emit(ev.Logged(*work[:3], (LogLine(time.time(), "warning", text),)))


def _drain(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what a body left running on its loop, as `asyncio.run` does."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())


class _EventSink:
    """Turns an attempt's lines into events, from any thread."""

    def __init__(self, port: Port, work: Work) -> None:
        self._port = port
        self._work = work

    def line(self, line: LogLine) -> None:
        """Send one line."""
        self._port.run_soon(self._port.controller.emit, ev.Logged(*self._work[:3], (line,)))


class LocalEngine:
    """A controller, its thread, and a store, all in this process."""

    def __init__(self) -> None:
        self.thread = LoopThread("flyte-local")
        self.store = RunStore()
        self.executor = InlineExecutor(self.thread.loop, self.store.append)
        self.desk = Desk()
        self.kept = Kept()
        self.recall = Recall(self.store, self.kept)
        self.recall.serve(self.desk)
        self.cache = CacheDesk(self.thread.post, self.store)
        self.cache.serve(self.desk)
        self.controller = Controller(
            self.executor, self.store.append, LoopClock(self.thread.loop), home=self.desk, kept=self.kept,
            cache=CacheClient(self.desk, "local"),
        )  # fmt: skip
        self.port = Port(self.thread.loop, self.controller)
        self.executor.port = self.port
        signalling.serve(self.desk, self)
        self._names = itertools.count(1)
        capture.install(tee=True)
        allow_other_loops()

    def new_run_name(self) -> str:
        """The next of local-1, local-2, and so on."""
        return f"local-{next(self._names)}"

    def info_of(self, run: str) -> RunInfo | None:
        """What a run's actions know of it."""
        from flyte_nb.core import runs

        known = runs.runs().get(run)
        return known._info if known is not None else None

    def is_open(self, run: str) -> bool:
        """Local runs have no cells."""
        return False

    def is_attended(self) -> bool:
        """No: a local run blocks whoever could decide."""
        return False

    def resolve(self, run: str, action: str, op: str, payload: Payload | None, task: Any, info: RunInfo) -> None:
        """Decide over a parked action. On the controller's thread."""
        self.controller.resolve(run, action, op, payload, task, info)

    def close(self) -> None:
        """Stop the thread."""
        self.cache.close()
        self.thread.stop()
