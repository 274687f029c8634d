"""Execute attempts in threads of this process: local mode, unit tests, and the fake of contract tests. Runs in: this process.

Every attempt has a thread of its own, an asynchronous one also a loop of its own, as on a worker. Arguments and results are
copied all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from flyte_nb.core.attempts import family, output
from flyte_nb.core.attempts.body import GRACE, Body, Steps
from flyte_nb.core.attempts.meter import Meter
from flyte_nb.core.attempts.threads import WAITS, drain, interrupt_thread
from flyte_nb.core.control.controller import Controller
from flyte_nb.core.control.gateway import Gateway
from flyte_nb.core.control.rows import NAMED
from flyte_nb.core.control.work import Handle, Outcome, Work
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import LogLine
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.streams.inlet import arrived
from flyte_nb.core.streams.outlet import LEAVE_S, Outlet
from flyte_nb.core.tasks.prepare import CallersVariables
from flyte_nb.core.tasks.task import Task


class _Running:
    """One attempt in its thread."""

    def __init__(self, body: Body, done: Callable[[Outcome], None]) -> None:
        self.body = body
        self.done = done
        self.thread: threading.Thread | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.task: asyncio.Task[Outcome] | None = None
        self.timer: Handle | None = None


class InlineExecutor:
    """Executes attempts in threads of this process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, emit: Callable[[ev.Event], None]) -> None:
        self._loop = loop
        self._emit = emit
        #: Set by the engine that it belongs to.
        self.gateway: Gateway
        self.controller: Controller
        self._running: dict[tuple[str, str, int], _Running] = {}

    def start(
        self, task: Task[..., Any], run: RunInfo, work: Work, done: Callable[[Outcome], None], code: Any = None
    ) -> None:
        """Execute an attempt in a thread of its own."""
        family.install(processes=False)
        output.install(tee=True)  # test runners replace the streams for each test
        body = Body(
            task, run, work, self.gateway, functools.partial(_EventSink, self.gateway), ("local", os.getpid(), ""),
            # A loop's waits are not seen: of an async body the computing time is taken.
            meter=Meter(time.thread_time if task.is_async else WAITS.time_outside),
            inherited=code.context if isinstance(code, CallersVariables) else None,
        )  # fmt: skip
        if task.is_stream:
            body.outlet = self._outlet(task, work)
        running = self._running[work.key] = _Running(body, done)
        self._emit(ev.AttemptStarted(*work[:3], time.time(), "local", os.getpid(), ""))
        if work.max_runtime:
            running.timer = self._loop.call_later(work.max_runtime, lambda: self._stop(work, "timeout"))
        target = self._run_async if task.is_async else self._run_sync
        running.thread = threading.Thread(target=target, args=(running,), name=f"flyte-{work.label[:40]}", daemon=True)
        running.thread.start()
        self.controller.started(work.run, work.action)

    def cancel(self, work: Work, reason: str) -> None:
        """Interrupt an attempt: an async body at its next await, a sync one at its next bytecode."""
        self._stop(work, "cancelled")

    def _outlet(self, task: Any, work: Work) -> Outlet:
        gateway = self.gateway
        return Outlet(
            task.name, task.items, task.ahead, gateway.blobs.results.of_items(),
            lambda first, items: arrived(self.controller, work.key, first, items), gateway.run_soon, gateway.blocking,
        )  # fmt: skip

    def took(self, work: Work, count: int) -> None:
        """Tell a body that yields how far its consumer is."""
        running = self._running.get(work.key)
        if running is not None and running.body.outlet is not None:
            running.body.outlet.took(count)
            if count < 0:
                self._loop.call_later(LEAVE_S, self._left, running)

    def _left(self, running: _Running) -> None:
        outlet = running.body.outlet
        wait = GRACE if outlet is not None and outlet.ending else 0.0
        self._loop.call_later(wait, self._stop, running.body.work, "cancelled")

    def tell_again(self, run: str) -> None:
        """Nothing to do: each attempt is given its run's facts."""

    def _stop(self, work: Work, why: str) -> None:
        running = self._running.get(work.key)
        if running is None or running.body.stop:
            return
        running.body.stop = why
        self.controller.close_parent(work.run, work.action, "its parent was cancelled")
        outlet = running.body.outlet
        if outlet is not None and not outlet.closed:
            outlet.close()
            self._loop.call_later(LEAVE_S, self._interrupt, running)
        else:
            self._interrupt(running)
        self._loop.call_later(GRACE, lambda: self._abandon(running))

    def _interrupt(self, running: _Running) -> None:
        outlet = running.body.outlet
        if running.body.work.key not in self._running or (outlet is not None and outlet.ending):
            return
        if running.task is not None and running.loop is not None:
            with contextlib.suppress(RuntimeError):
                running.loop.call_soon_threadsafe(running.task.cancel)
        elif running.thread is not None and running.thread.ident and not running.body.task.is_async:
            interrupt_thread(running.thread.ident, asyncio.CancelledError)
        running.body.family.interrupt()

    def _abandon(self, running: _Running) -> None:
        # The thread cannot be killed: its caller is settled without it.
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
            running.task = asyncio.Task(Steps(body), loop=loop, context=body.variables)
            if body.stop:
                running.task.cancel()
            try:
                outcome = loop.run_until_complete(running.task)
            except BaseException:
                outcome = Outcome(*body.work[:3], body.stop or "cancelled")
            # Before the drain, which cancels what the body left behind: orphans must be seen as such.
            self._report(running, outcome)
            drain(loop)
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    def _report(self, running: _Running, outcome: Outcome) -> None:
        self.gateway.run_soon(self._ended, running, outcome)

    def _ended(self, running: _Running, outcome: Outcome) -> None:
        work = running.body.work
        if self._running.pop(work.key, None) is None:
            return
        if running.timer is not None:
            running.timer.cancel()
        warn_of_orphans(self.controller, self._emit, work)
        running.done(outcome)


def warn_of_orphans(controller: Controller, emit: Callable[[ev.Event], None], work: Work) -> None:
    """Cancel the unfinished children of an attempt that has ended, and log a warning that names them."""
    count, labels = controller.close_parent(work.run, work.action, "its parent ended")
    if count:
        names = ", ".join(labels[:NAMED]) + (", ..." if count > NAMED else "")
        text = f"{work.label} ended while {count} of its actions were unfinished; they were cancelled: {names}"
        emit(ev.Logged(*work[:3], (LogLine(time.time(), "warning", text),)))


class _EventSink:
    """Turns an attempt's lines into events, from any thread."""

    def __init__(self, gateway: Gateway, work: Work) -> None:
        self._gateway = gateway
        self._work = work

    def line(self, line: LogLine) -> None:
        """Send one line."""
        self._gateway.emit(ev.Logged(*self._work[:3], (line,)))
