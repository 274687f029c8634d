"""Loops over rows: what an action of a map costs in a lane is little more than its body. Runs in: worker process, task thread.

Theory of operation. A `RowBody` stands for one row after another. While a row is under way it is in `LaneThread.unseen`.
Whoever looks for attempts (`LaneThread.bodies`: to announce, cancel, hand back, attribute output) takes it out, and it is one
like any other from then on. So is a row that changes its process or its task's globals, fails, waits, or leaves anything
behind.

Invariant: a row that is taken out ends as attempts do (`LaneThread`), any other one as a line in `RowReports`; each once.
"""

from __future__ import annotations

import asyncio
import contextvars
import pickle
import time
from collections.abc import Callable, Collection
from typing import Any, Protocol

from flyte_nb.core.attempts.body import Steps
from flyte_nb.core.attempts.isolation import Isolation
from flyte_nb.core.attempts.row_body import Described, Found, RowBody
from flyte_nb.core.control.work import Outcome
from flyte_nb.engine.links.wire import Key
from flyte_nb.worker import slots
from flyte_nb.worker.rows import LaneQueue, QueuedBundle, RowReports

#: Seconds that one body stands for rows: then others have their turn, and what the process is like is looked at anew.
LOOP_S = 0.01
#: The same on a loop, whose other callbacks wait meanwhile.
TURN_S = 0.002

_clock = time.perf_counter
_dumps, _loads = pickle.dumps, pickle.loads


class _Host(Protocol):
    """What a loop needs of its host."""

    @property
    def early(self) -> Collection[Key]:
        """Attempts that were stopped before they began."""


class _Lane(Protocol):
    """What a loop needs of its lane."""

    @property
    def host(self) -> _Host:
        """Of its worker."""

    queue: LaneQueue
    rows: RowReports
    started: int
    finished: int
    #: The row that is under way and that nobody has seen, at 0.
    unseen: dict[int, RowBody]
    meter: slots.RecordingMeter

    def begin_seen(self) -> None:
        """The row that is under way is an attempt like any other, which may have been stopped already."""


class RowLoop:
    """Rows of one bundle, for a moment.

    Args:
        lane: Whose thread this is.
        queued: Its first bundle.
        body: Stands for the rows.
    """

    def __init__(self, lane: _Lane, queued: QueuedBundle, body: RowBody) -> None:
        assert body.isolation is not None
        self.lane = lane
        self.queued = queued
        self.body = body
        #: Whether a row is under way.
        self.going: bool = False
        #: When it began (`time.perf_counter`), and what to add for the time of day.
        self.began: float = 0.0
        self.ahead: float = time.time() - _clock()
        self._isolation: Isolation = body.isolation
        self._drain: Callable[[], object] = body.isolation.before_end or bool
        self._is_changed: Callable[[], bool] = body.code.is_changed if body.task.config.reusable is None else bool
        body.meter.leave()
        self._isolation.turn(body)
        if body.activate is not None:
            body.activate()

    def seen(self) -> None:
        """The row that is under way is an attempt like any other from now on."""
        body = self.body
        body.is_seen = True
        body.started_at = self.ahead + self.began
        body.meter.began(body, _clock() - self.began)

    def ends_plainly(self, references: int) -> bool:
        """Whether the row that is under way has ended so that nothing is left of it but its result."""
        if (
            self.body.is_unseen(references)
            and self._isolation.is_plain(self.body)
            and not self._is_changed()
            and pickle.dumps is _dumps
            and pickle.loads is _loads
        ):
            self._drain()  # what it has written to file descriptors is its own: who hands that on looks for it
            if self.lane.unseen.pop(0, None) is not None:
                if self.body.forget():
                    self.lane.rows.printed(self.body.work.key)
                return True
        return False

    def pause(self) -> None:
        """The first step of the row is over, which has seeded generators."""
        self._isolation.pause(self.body)

    def put_down(self) -> None:
        """The body stands for no row any more."""
        body = self.body
        body.leave_process()
        body.code.state.give_back(body.code, bool)


class SyncRows(RowLoop):
    """Rows of plain ``def`` bodies."""

    def run(self) -> Found | None:
        """Execute rows; returns what one returned that has not ended plainly and is still under way, None if none is.

        Raises:
            BaseException: What one raised that is still under way.
        """
        lane, body, bundle = self.lane, self.body, self.queued.bundle
        left, unseen, early, execute = self.queued.left, lane.unseen, lane.host.early, body.row
        number, low, payloads, ahead = bundle.number, bundle.low, bundle.payloads, self.ahead
        note, done = lane.meter.rows(bundle.run, bundle.names, bundle.suffix), lane.rows.ends.append
        references, until = body.references() + 1, _clock() + LOOP_S
        while True:
            try:
                at = left.popleft()
            except IndexError:  # handed back
                return None
            if not left:
                lane.queue.drop(self.queued)
            lane.started += 1
            variables = body.stand_for(at)
            note(at)
            self.going = True
            began = self.began = _clock()
            unseen[0] = body
            if early and self.queued.key(at) in early:
                lane.begin_seen()
            found = variables.run(execute, payloads[at])
            ended = _clock()
            del variables
            if isinstance(found, Outcome) or not self.ends_plainly(references):
                return found
            self.going = False
            lane.finished += 1
            output, preview = found if isinstance(found, Described) else (found, "")
            done((number, low + at, ahead + began, ahead + ended, ended - began, output, preview))
            if ended > until or not left:
                return None


class AsyncRows(RowLoop):
    """Rows of ``async def`` bodies, each of which does its first step at once."""

    def __init__(self, lane: _Lane, queued: QueuedBundle, body: RowBody, loop: LaneLoop) -> None:
        super().__init__(lane, queued, body)
        self._loop = loop

    def run(self) -> asyncio.Task[Found] | Found | None:
        """Execute rows; returns what one returned that has not ended plainly, the task of one that waits, None if none does."""
        lane, body, bundle, loop = self.lane, self.body, self.queued.bundle, self._loop
        left, unseen, execute = self.queued.left, lane.unseen, body.row_async
        number, low, payloads, ahead = bundle.number, bundle.low, bundle.payloads, self.ahead
        note, done = lane.meter.rows(bundle.run, bundle.names, bundle.suffix), lane.rows.ends.append
        references, until = body.references() + 1, _clock() + TURN_S
        while True:
            try:
                at = left.popleft()
            except IndexError:  # handed back
                return None
            if not left:
                lane.queue.drop(self.queued)
            lane.started += 1
            variables = body.stand_for(at)
            note(at)
            self.going = True
            began = self.began = _clock()
            unseen[0] = body
            task = loop.begin(_RowSteps(body, execute(payloads[at])), variables)
            ended = _clock()
            del variables
            if not task.done() or task.cancelled():
                return task
            found: Found = task.result()
            del task  # which leads to the body
            if isinstance(found, Outcome) or not self.ends_plainly(references):
                return found
            self.going = False
            lane.finished += 1
            output, preview = found if isinstance(found, Described) else (found, "")
            done((number, low + at, ahead + began, ahead + ended, ended - began, output, preview))
            if ended > until or not left or loop.is_waited_for:
                return None


class _RowSteps(Steps):
    """Those of a row, whose turn it is already as it begins."""

    __slots__ = ("_has_begun",)

    def __init__(self, body: RowBody, coroutine: Any) -> None:
        super().__init__(body, coroutine)
        self._has_begun = False

    def send(self, value: Any) -> Any:
        """As a coroutine's."""
        if self._has_begun:
            return super().send(value)
        self._has_begun = True
        return self._coroutine.send(value)


class LaneLoop(asyncio.SelectorEventLoop):
    """An event loop that can do the first step of a task at once."""

    def __init__(self) -> None:
        super().__init__(slots.SlotSelector())
        self._first: list[Callable[[], object]] | None = None

    def call_soon(  # type: ignore[override]  # its type variables
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """As of any loop, but for the first step of a task that is to begin at once."""
        if self._first is None:
            return super().call_soon(callback, *args, context=context)
        self._first.append(callback)
        return None

    def begin(self, coroutine: Any, context: contextvars.Context) -> asyncio.Task[Any]:
        """A task that has done its first step."""
        first = self._first = []
        try:
            task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=self, context=context)
        finally:
            self._first = None
        context.run(*first)
        return task

    @property
    def is_waited_for(self) -> bool:
        """Whether callbacks are ready to be called."""
        return bool(self._ready)  # type: ignore[attr-defined]  # of asyncio's own loops
