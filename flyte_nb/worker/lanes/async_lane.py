"""Lanes of ``async def`` tasks: attempts that overlap on one loop. Runs in: worker process, task thread.

The next attempt is begun only after the one before has had its first step, so that what waits behind a long step can still be
handed back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from flyte_nb.core.attempts import seeds
from flyte_nb.core.attempts.body import Body, Steps, task_factory
from flyte_nb.core.attempts.family import running
from flyte_nb.core.control.work import Outcome
from flyte_nb.engine.links.wire import Key
from flyte_nb.worker.lanes.lane import LaneThread
from flyte_nb.worker.lanes.row_loop import AsyncRows, LaneLoop
from flyte_nb.worker.process.soundness import escaped_from


class AsyncLane(LaneThread):
    """Attempts that overlap on one loop."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.loop: LaneLoop = LaneLoop()
        self.loop.set_task_factory(task_factory)
        self._pumping = False
        #: When it looked at its queue last, or had reason to.
        self._looked_at = 0.0

    @property
    def stuck(self) -> bool:
        """Whether what waits here waits for one long step, or for a slot that does not come."""
        return bool(self.queue) and (self.blocked or time.perf_counter() - self._looked_at > self.patience)

    def _taken(self) -> None:
        super()._taken()
        body = running()  # None in the loop's own code, where the next step's turn follows
        if body is not None and body.isolation is not None and body.outcome is None:
            body.isolation.turn(body)

    def wake(self) -> None:
        """Have the loop check its queue."""
        if not self._pumping:
            self._looked_at = time.perf_counter()
        with contextlib.suppress(RuntimeError):  # closed meanwhile
            self.loop.call_soon_threadsafe(self._start_pump)

    def interrupt(self, key: Key, why: str) -> None:
        """Cancel the body's asyncio task."""
        if (body := self.bodies.get(key)) is not None:
            body.stop = why
            body.family.interrupt()
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._cancel, key)

    def _cancel(self, key: Key) -> None:
        if (task := self.tasks.get(key)) is not None:
            task.cancel()

    def _work(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.call_soon(self._start_pump)
            while True:
                try:
                    self.loop.run_forever()
                    break
                except (SystemExit, KeyboardInterrupt) as exc:
                    self._escaped(exc)
            left = list(self.tasks.values())
            for task in left:
                task.cancel()
            if left:
                self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    def _escaped(self, error: BaseException) -> None:
        """End the attempt whose code raised what ends a loop, and go on with the others.

        A callback, or an asyncio task that a body made: asyncio lets these two exceptions through.
        """
        variables = escaped_from(error)
        body = next((body for body in self.bodies.values() if variables is not None and body.made(variables)), None)
        if body is None:
            self.host.failed(error, "the loop of a lane")
        elif body.outcome is None:
            body.fails_with(error)
            self._cancel(body.work.key)
        self._pumping = False
        self.loop.call_soon(self._start_pump)

    def _start_pump(self) -> None:
        if not self._pumping:
            self._pumping = True
            self._pump()

    def _pump(self) -> None:
        """Begin one attempt, or some rows, then come back after its first step."""
        self._looked_at = time.perf_counter()
        if self._execute_rows():
            self.loop.call_soon(self._pump)
            return
        try:
            work = self.queue.next_work()
        except IndexError:
            self._pumping = False
            if self.closed and not self.tasks:
                self.loop.stop()
            return
        try:
            body = self.new_body(work)
        except Exception as exc:
            self.host.failed(exc, "the start of an action")
            raise
        if body is None:
            self.loop.call_soon(self._pump)
            return
        self._go_on(body, asyncio.Task(Steps(body), loop=self.loop, context=body.variables))
        self.loop.call_soon(self._pump)

    def _go_on(self, body: Body, task: asyncio.Task[Any]) -> None:
        self.tasks[body.work.key] = task
        task.add_done_callback(lambda task: self._done(body, task))

    def _execute_rows(self) -> bool:
        """Do the first steps of some of the rows that are next; False if what is next must be an attempt of its own."""
        queued = self.queue.first_rows()
        body = self.host.row_body(self, queued) if queued is not None else None
        if queued is None or body is None:
            return False
        rows = self._loop_of_rows = AsyncRows(self, queued, body, self.loop)
        try:
            found = rows.run()
            if found is None:
                rows.put_down()
                self.report_in_time()
                return True
            self.see()
            if isinstance(found, asyncio.Task):
                self.host.begin(self, body)
                if seeds.SEEDED:
                    rows.pause()
                self._go_on(body, found)
            else:
                body.settle(found)
                body.finish(None)
                self._done(body, None)
        except Exception as exc:
            self.host.failed(exc, "rows of a map")
            raise
        finally:
            self._loop_of_rows = None
        return True

    def _done(self, body: Body, task: asyncio.Task[Any] | None) -> None:
        key = body.work.key
        try:
            self.tasks.pop(key, None)
            self._bodies.pop(key, None)
            if task is not None and not task.cancelled():
                task.exception()
            self.host.finish(body)
            # Without an outcome it was cancelled before its first step.
            outcome = body.outcome or Outcome(*body.work[:3], body.stop or "cancelled")
            self.ended(outcome, body.work, body.output.writes)
        except Exception as exc:
            self.host.failed(exc, "the end of an action")
            raise
        if self.closed and not self.tasks and not self.queue:
            self.loop.stop()
