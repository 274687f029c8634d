"""Lane threads: execute attempts of one task, holding a slot only while computing. Runs in: worker process, task thread.

What both kinds share: `flyte_nb.worker.lanes.sync_lane`, `flyte_nb.worker.lanes.async_lane`.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Iterable
from typing import Any, Protocol

from flyte_nb.core.attempts.body import Body, broken
from flyte_nb.core.attempts.isolation import Isolation
from flyte_nb.core.attempts.row_body import RowBody
from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.history.facts import ErrorNote
from flyte_nb.core.history.worker_names import name_of
from flyte_nb.engine.links.wire import Key, Message, ReturnedRows
from flyte_nb.worker import slots
from flyte_nb.worker.lanes.row_loop import RowLoop
from flyte_nb.worker.process import devices
from flyte_nb.worker.process.code import CodeNotLoadedError
from flyte_nb.worker.process.soundness import intact
from flyte_nb.worker.rows import LaneQueue, QueuedBundle, RowEnd, RowReports, taken

#: Seconds that attempts wait behind one that computes before they are handed back to their owner, to be run elsewhere.
HAND_BACK_AFTER_S = 0.03
#: Seconds between two reports of a lane that ends one attempt after another: a bundle of no-ops reports once.
REPORT_EVERY = 0.01

#: Not empty in a process that a task has forked from a worker: only the thread that forked goes on there.
_forks: list[int] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _forks.append(os.getpid()))
_exit = os._exit


def is_no_fork() -> None:
    """This process is a worker's, though it was forked itself: from the one that workers come from."""
    _forks.clear()


#: Counters of a lane: attempts started, attempts finished, seconds of slot held, whether it is blocked.
Progress = tuple[int, int, float, bool]


class _Host(Protocol):
    """What a lane needs of its worker."""

    address: str
    gate: slots.SlotGate
    #: Attempts that were stopped before they began.
    early: dict[Key, str]

    # Of the process; None where attempts are not kept apart.
    @property
    def isolation(self) -> Isolation | None: ...

    # From any thread: have the worker's loop call a function.
    def post(self, function: Callable[..., object], *args: Any) -> None: ...

    # On the worker's loop.
    def send(self, peer: str, message: Message) -> None: ...
    def lane_opened(self, lane: LaneThread) -> None: ...
    def lane_closed(self, lane: LaneThread) -> None: ...
    def report(self, lane: LaneThread, outcomes: list[Outcome], progress: Progress | None) -> None: ...
    def report_rows(
        self, lane: LaneThread, alone: list[tuple[int, int]], ends: list[RowEnd], wrote: list[Key]
    ) -> None: ...

    # On the lane's thread.
    def meter(self, holder: slots.SlotHolder) -> slots.RecordingMeter: ...
    def failed(self, error: BaseException, where: str) -> None: ...
    def retire(self, why: str) -> None: ...
    def secede(self) -> None: ...
    def body(self, lane: LaneThread, work: Work) -> Body: ...
    def row_body(self, lane: LaneThread, queued: QueuedBundle) -> RowBody | None: ...
    def begin(self, lane: LaneThread, body: Body) -> None: ...
    def finish(self, body: Body) -> None: ...


class LaneThread:
    """What both kinds of lane share: the queue, the counters, the reports."""

    def __init__(
        self, host: _Host, lane_id: str, owner: str, *, is_warm: bool = False, round_trip: float = 0.0
    ) -> None:
        self.host = host
        #: Seconds that a message to its owner and back takes, if that is long.
        self.round_trip = round_trip
        #: Environment variables of its attempts.
        self.environment: dict[str, str] = {}
        self.id = lane_id
        self.owner = owner
        #: Whether its owner counts attempts that await children.
        self.is_warm = is_warm
        self.holder: slots.SlotHolder = slots.SlotHolder(host.gate, self._released, self._taken)
        self.meter = host.meter(self.holder)
        self.queue: LaneQueue = LaneQueue()
        self.started: int = 0
        self.finished: int = 0
        self.closed = False
        self._bodies: dict[Key, Body] = {}
        #: The row that is under way, at 0, as long as nobody has looked for attempts.
        self.unseen: dict[int, RowBody] = {}
        self._loop_of_rows: RowLoop | None = None
        self._guard = threading.Lock()
        #: Those whose start has been sent home.
        self.announced: set[Key] = set()
        #: Their asyncio tasks; none where a body is what the thread does.
        self.tasks: dict[Key, asyncio.Task[Outcome]] = {}
        self.holder.has_begun = lambda: self.bodies
        self.thread_id: int = 0
        #: Where its attempts are executed: worker, process, slot.
        self.location: tuple[str, int, str] = (host.address, os.getpid(), lane_id[-6:])
        #: Ended and not yet reported. The thread appends; it and the host's loop take away.
        self.outcomes: deque[Outcome] = deque()
        #: The same of rows.
        self.rows: RowReports = RowReports()
        self._reported_at = 0.0
        #: Counters as reported last: started, finished, blocked.
        self._reported: tuple[int, int, bool] = (0, 0, False)
        self._seceded = False
        #: How many of its attempts await children, as reported last.
        self._reported_waiting = 0
        #: Whether work was handed back, and the owner sends nothing until the lane reports that it is ready again.
        self.handed_back: bool = False
        self._dask = contextvars.Context()

    @property
    def bodies(self) -> dict[Key, Body]:
        """Attempts under way, by key. From any thread."""
        if self.unseen:
            self.see()
        return self._bodies

    def see(self) -> None:
        """Make the row that is under way an attempt like any other. From any thread."""
        with self._guard:
            self._see()

    def _see(self) -> RowBody | None:
        """Returns the row that it was; None if there is none, or it is an attempt like any other already."""
        body = self.unseen.pop(0, None)
        if body is not None and self._loop_of_rows is not None:
            self._loop_of_rows.seen()
            self._bodies[body.work.key] = body
        return body

    def begin_seen(self) -> None:
        """The row that is under way is an attempt like any other, which may have been stopped already. On its thread."""
        self.see()
        if self._loop_of_rows is not None:
            self.host.begin(self, self._loop_of_rows.body)

    # -- from the host's loop -------------------------------------------------------------------------------------

    def add(self, bundle: Iterable[Work | QueuedBundle]) -> None:
        """Queue a bundle."""
        self.queue.extend(bundle)
        self.wake()

    def wake(self) -> None:
        """Have the lane's thread check its queue."""
        raise NotImplementedError

    def take_out(self, key: Key) -> bool:
        """Take one attempt off the queue; False if it has begun, or is not here."""
        if not self.queue.take_out(key):
            return False
        self.started += 1
        self.finished += 1
        return True

    def interrupt(self, key: Key, why: str) -> None:
        """Have an attempt under way end."""
        raise NotImplementedError

    def hand_back(self) -> None:
        """Return what has not begun to the owner, to be run elsewhere."""
        keys, rows = self.queue.take_back()
        if keys:
            self.host.send(self.owner, ("returned", self.id, keys))
        for number, found in rows:
            self.host.send(self.owner, ("rows_returned", self.id, ReturnedRows(number, found, recalled=False)))

    def report_waiting(self, parents: Container[tuple[str, str]]) -> None:
        """Report to the owner of a warm lane how many of its attempts await children, which those actions do."""
        waiting = sum((key[0], key[1]) in parents for key in list(self.bodies))
        if waiting != self._reported_waiting:
            self._reported_waiting = waiting
            self.host.send(self.owner, ("waiting", self.id, waiting))

    @property
    def patience(self) -> float:
        """Seconds that attempts wait behind another: on a far link as long as their like take, and the way back and forth."""
        if not self.round_trip:
            return HAND_BACK_AFTER_S
        return self.round_trip + (2 * self.holder.busy() / self.finished if self.finished else 0.0)

    @property
    def blocked(self) -> bool:
        """Whether its thread waits for a child action inside a body, so that nothing else can run on it."""
        return self.holder.blocked

    @property
    def stuck(self) -> bool:
        """Whether what waits here waits for one long computation, or for a slot that does not come."""
        raise NotImplementedError

    # -- on the lane's thread -------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until closed."""
        self.thread_id = threading.get_ident()
        # Dask finds the running task through a ContextVar, which bodies, in contexts of their own, do not have.
        self._dask = contextvars.copy_context()
        slots.adopt(self.holder)
        try:
            self.holder.take()
            self.host.post(self.host.lane_opened, self)
            self._work()
        except Exception as exc:
            self.host.failed(exc, "a lane")
            raise
        finally:
            self.holder.give()
            self.meter.close()
            slots.adopt(None)
            self.host.post(self.host.lane_closed, self)

    def _work(self) -> None:
        raise NotImplementedError

    def _released(self) -> None:
        """The slot was released: let Dask start other work, and report how far the lane is."""
        self.see()
        self.meter.paused()
        if (isolation := self.host.isolation) is not None and isolation.crowd:
            isolation.settle()
        self.before_threads()
        self.report()
        if self.handed_back and not self.blocked:
            self.handed_back = False
            self.host.post(self.host.send, self.owner, ("ready", self.id))

    def before_threads(self) -> None:
        """Let Dask start other work. Also where a body starts threads, which may give the slot back: they cannot do it."""
        if not self._seceded and threading.get_ident() == self.thread_id:
            self._seceded = True
            self._dask.run(self.host.secede)

    def computes_elsewhere(self) -> bool:
        """Whether it has its slot, and is not the calling thread."""
        return self.holder.held and threading.get_ident() != self.thread_id

    def _taken(self) -> None:
        if len(self.bodies) == 1:  # of several, the next turn tells
            self.meter.resumed(*self.bodies.values())
        if self._reported[2] and not self.blocked:
            self.report()

    def stopped(self, body: Body) -> Outcome:
        """The end of an attempt whose body does not end by itself, or never began."""
        why, started, now = body.stop or "cancelled", body.started_at, time.time()
        return Outcome(*body.work[:3], why, None, None, started, now, "", self.location, body.meter.end(body))

    def ended(self, outcome: Outcome, work: Work, printed: int = 0) -> None:
        """Note an outcome, and whether its body has printed; it travels with others of the same few milliseconds."""
        if _forks:  # a body has forked, and this is the child: its parent reports
            _exit(0)
        if not intact():
            self.host.failed(
                RuntimeError("modules that flyte_nb needs were removed, or replaced"), f"the end of {self.id}"
            )
        self.finished += 1
        if work.row is None or not self.rows.note(work.row, work, outcome, printed):
            self.outcomes.append(outcome)
        # A body that had GPUs may have caught the error of one, and gone on.
        if (outcome.kind == "error" or self.environment) and (error := devices.cuda_error()):
            self.report()
            self.host.retire(f"CUDA cannot be used any more in it, after error {error} of {work.label}")
        self.report_in_time()

    def report_in_time(self) -> None:
        """Report, unless that was just done and more will follow."""
        if not self.queue or time.perf_counter() - self._reported_at > REPORT_EVERY:
            self.report()

    def report(self) -> None:
        """Report to the owner what ended and how far the lane is. Also from the host's loop."""
        alone, ends, wrote = self.rows.take()
        outcomes = taken(self.outcomes)
        counters = (self.started, self.finished, self.blocked)
        if alone or ends or wrote:
            self.host.post(self.host.report_rows, self, alone, ends, wrote)
        if outcomes or ends or counters != self._reported:
            self._reported = counters
            self._reported_at = time.perf_counter()
            self.host.post(self.host.report, self, outcomes, (*counters[:2], self.holder.busy(), counters[2]))

    def new_body(self, work: Work) -> Body | None:
        """An attempt, about to begin; None if it cannot (its run was forgotten meanwhile), which is its end."""
        self.started += 1
        try:
            body = self.host.body(self, work)
        except CodeNotLoadedError as exc:
            why = type(exc.__cause__ or exc).__name__
            note = ErrorNote("system", why, f"{work.label}: {exc} (on {name_of(self.host.address)})", recoverable=False)
            self.ended(Outcome(*work[:3], "error", error=note), work)
            return None
        except Exception as exc:
            self.ended(Outcome(*work[:3], "error", error=broken(exc)), work)
            return None
        self._bodies[work.key] = body
        self.host.begin(self, body)
        return body

    def __repr__(self) -> str:
        counts = f"{len(self.queue)} queued, {len(self.bodies)} under way, {self.finished} finished"
        return f"<{type(self).__name__} {self.id} of {self.owner} [{counts}]>"
