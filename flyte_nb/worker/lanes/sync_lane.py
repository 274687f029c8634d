"""Lanes of plain ``def`` tasks: one attempt after another. Runs in: worker process, task thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Any

from flyte_nb.core.attempts.body import Body
from flyte_nb.core.attempts.row_body import RowBody
from flyte_nb.core.attempts.threads import interrupt_thread
from flyte_nb.core.control.work import Work
from flyte_nb.engine.links.wire import Key
from flyte_nb.worker.lanes.lane import LaneThread
from flyte_nb.worker.lanes.row_loop import SyncRows


def _checkpoint() -> None:
    """Where Python raises an interrupt that was on its way to this thread: it looks for one as a function begins.

    (``time.sleep(0)`` would do as well, and gives the GIL away: 0.2 ms for each action beside a busy loop.)
    """


class SyncLane(LaneThread):
    """One attempt at a time."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ready = threading.Event()
        self._current: Key | None = None
        self._began = 0.0

    @property
    def blocked(self) -> bool:
        """A body that waits in any way, ``asyncio.run`` of a child included."""
        return self._current is not None and not self.holder.held and not self.holder.waiting

    @property
    def stuck(self) -> bool:
        """Whether the running body has taken long, computing or waiting, or the next one waits long for its slot."""
        self.see()
        if self._current is None:
            return bool(self.queue) and self.holder.waited_for > self.patience
        return bool(self.queue) and time.perf_counter() - self._began > self.patience

    def wake(self) -> None:
        """Have the thread check its queue."""
        self._ready.set()

    def _see(self) -> RowBody | None:
        body = super()._see()
        if body is not None and self._loop_of_rows is not None:
            self._current, self._began = body.work.key, self._loop_of_rows.began
        return body

    def _taken(self) -> None:
        super()._taken()
        body = self.bodies.get(self._current) if self._current is not None else None
        if body is not None and body.isolation is not None and body.outcome is None:
            body.isolation.turn(body)

    def interrupt(self, key: Key, why: str) -> None:
        """Raise CancelledError in the body, if it is the one that runs."""
        with self._guard:
            if self._current == key:
                self._bodies[key].stop = why
                self._bodies[key].family.interrupt()
                interrupt_thread(self.thread_id, asyncio.CancelledError)

    def _work(self) -> None:
        while True:
            self.holder.take()
            self.holder.share()  # first: what is in the queue meanwhile can be handed back, or cancelled
            with contextlib.suppress(asyncio.CancelledError):  # an interrupt that came as its body was ending
                if self._execute_rows():
                    continue
                try:
                    work = self.queue.next_work()
                except IndexError:
                    if not self._wait():
                        return
                    continue
                self._execute(work)

    def _wait(self) -> bool:
        self._ready.clear()
        if self.queue:
            return True
        if self.closed:
            return False
        self.holder.give()
        self._ready.wait()
        self.holder.take()
        return True

    def _execute(self, work: Work) -> None:
        body = self.new_body(work)
        if body is None:
            return
        try:
            with self._guard:
                self._current = work.key
                self._began = time.perf_counter()
            if not body.stop:
                body.run_sync()
        finally:
            while True:  # no call before it: one might come there
                try:
                    self._end_interrupts()
                    break
                except asyncio.CancelledError:
                    continue
            self._close(body)

    def _end_interrupts(self) -> None:
        """The current attempt is not interrupted any more."""
        with self._guard:
            self._current = None
        _checkpoint()

    def _close(self, body: Body) -> None:
        self._bodies.pop(body.work.key, None)
        self.host.finish(body)
        self.ended(body.outcome or self.stopped(body), body.work, body.output.writes)

    def _execute_rows(self) -> bool:
        """Execute some of the rows that are next; False if what is next must be an attempt of its own."""
        queued = self.queue.first_rows()
        body = self.host.row_body(self, queued) if queued is not None else None
        if queued is None or body is None:
            return False
        rows = self._loop_of_rows = SyncRows(self, queued, body)
        try:
            found = rows.run()
            if found is not None:
                self.see()
                body.settle(found)
        except BaseException as exc:
            if not rows.going:
                raise
            self.see()
            body.raised(exc)
        finally:
            if rows.going:
                try:
                    body.finish(None)
                finally:
                    while True:
                        try:
                            self._end_interrupts()
                            break
                        except asyncio.CancelledError:
                            continue
                    self._close(body)
            else:
                rows.put_down()
                self.report_in_time()
            self._loop_of_rows = None
        return True
