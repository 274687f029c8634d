"""Stop attempts before their end: cancelled, out of time, or over their memory. Runs in: worker loop.

An attempt may be stopped at any moment: while its arguments are on their way, in its lane's queue, between the queue and its
first instruction, and while it is under way. A body that does not end within its grace is interrupted by an exception in its
thread; then its worker process is replaced (`flyte_nb.worker.process.last_words`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from flyte_nb.core.attempts.body import GRACE
from flyte_nb.core.attempts.threads import interrupt_thread
from flyte_nb.core.control.controller import Controller
from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.streams.outlet import LEAVE_S
from flyte_nb.engine.links.wire import Key
from flyte_nb.worker.lanes.lane import LaneThread
from flyte_nb.worker.process.memory import process_size

logger: logging.Logger = logging.getLogger("flyte")

#: Seconds that a body has to give memory back before its process is replaced.
OOM_GRACE = 0.5
#: Seconds between the exception that is raised in a body's thread and the replacement of the process.
INTERRUPTED_GRACE = 0.2
#: Seconds for the outcome to leave before the process is replaced.
REPORT_S = 0.1
#: Seconds that a lane waits for the end of its process.
RETIRE_S = 5.0
#: Seconds between two looks whether a process can be replaced in which others compute.
ALONE_EVERY_S = 0.5
#: Seconds after which an owner asks again about an attempt that has not begun.
AGAIN_S = 1.0
#: Stops kept for attempts that are about to begin; one that came when its attempt had ended stays here, too.
MAX_EARLY = 1_000


class Stopping:
    """Ends attempts of one worker early.

    Args:
        replace_process: Ends this worker's process; another follows.
        is_shared: Whether others compute in it.
        lanes: The lanes of the worker, by their id.
        controller: Of their attempts' children.
        loop: The worker's.
    """

    def __init__(
        self, replace_process: Callable[[], None], is_shared: Callable[[], bool], lanes: dict[str, LaneThread],
        controller: Controller, loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        self._replace = replace_process
        self._is_shared = is_shared
        self._lanes = lanes
        self._controller = controller
        self._loop = loop
        self.memory: MemoryLimits = MemoryLimits(self.stop)
        #: Attempts whose arguments are on their way, and why they were stopped meanwhile ("": they were not).
        self._arriving: dict[Key, str] = {}
        #: When attempts under way were stopped (`time.monotonic`).
        self._since: dict[Key, float] = {}
        #: Attempts that were stopped while their lane was about to begin them, and why.
        self.early: dict[Key, str] = {}

    def cancel(self, key: Key, why: str, grace: float) -> None:
        """Stop an attempt, wherever it is on its way."""
        if key in self._arriving:
            self._arriving[key] = why
            return
        for lane in self._lanes.values():
            if key in lane.bodies:
                self.stop(lane, key, why, grace)
                return
            if lane.take_out(key):
                lane.host.report(lane, [Outcome(*key, "cancelled")], None)
                return
        # Off the queue and not begun yet: its lane's thread, which is between the two, looks here; unless it just did.
        self.early[key] = why
        for lane in list(self._lanes.values()):
            if key in lane.bodies and self.early.pop(key, ""):
                self.stop(lane, key, why, grace)
        while len(self.early) > MAX_EARLY:
            del self.early[next(iter(self.early))]

    def expect(self, bundle: Iterable[Work]) -> None:
        """The arguments of these attempts are on their way."""
        self._arriving.update((work.key, "") for work in bundle)

    def arrived(self, bundle: Iterable[Work]) -> list[Outcome]:
        """The arguments of these attempts have arrived; returns the outcomes of those that were stopped meanwhile."""
        return [Outcome(*work.key, why) for work in bundle if (why := self._arriving.pop(work.key))]

    def stop(self, lane: LaneThread, key: Key, why: str, grace: float) -> None:
        """Stop an attempt under way: "cancelled", "timeout" or "oom"."""
        body = lane.bodies.get(key)
        if body is None or body.stop:
            return
        self._since[key] = time.monotonic()
        body.stop = why  # first: a child's end must not be taken for the reason why the body ended
        self._controller.close_parent(key[0], key[1], "its parent was cancelled")
        if body.outlet is None or body.outlet.closed:
            lane.interrupt(key, why)
        else:  # one that yields gets GeneratorExit there
            body.outlet.close()
            self._loop.call_later(LEAVE_S, self._interrupt, lane, key, why)
        self._loop.call_later(grace, self._escalate_stop, lane, key)

    def took(self, key: Key, count: int) -> None:
        """Tell a body that yields how far its consumer is; negative: have it end, since that wants no more."""
        for lane in self._lanes.values():
            body = lane.bodies.get(key)
            if body is not None and body.outlet is not None:
                body.outlet.took(count)
                if count < 0:
                    self._loop.call_later(LEAVE_S, self._left, lane, key)

    def _left(self, lane: LaneThread, key: Key) -> None:
        """A body that yields has not ended, though its consumer has left: stop it, unless its clean-up is under way."""
        body = lane.bodies.get(key)
        wait = GRACE if body is not None and body.outlet is not None and body.outlet.ending else 0.0
        self._loop.call_later(wait, self.stop, lane, key, "cancelled", GRACE)

    def _interrupt(self, lane: LaneThread, key: Key, why: str) -> None:
        """Interrupt a body that yields and has not come to a ``yield``."""
        body = lane.bodies.get(key)
        if body is not None and body.outlet is not None and not body.outlet.ending:
            lane.interrupt(key, why)

    def overdue(self, key: Key) -> float | None:
        """For how many seconds an attempt should have ended, as its owner asks; negative for one that has time left.

        None: it is not here, or its end is reported already. Where others compute it has time left: its owner would have the
        process ended.
        """
        if key in self._arriving or key in self.early:
            return -AGAIN_S
        late = self._overdue(key)
        return -AGAIN_S if late is not None and late > 0 and self._is_shared() else late

    def _overdue(self, key: Key) -> float | None:
        for lane in list(self._lanes.values()):
            body = lane.bodies.get(key)
            if body is not None and key in self._since:
                return time.monotonic() - self._since[key]
            if body is not None:
                return time.time() - body.started_at - body.work.max_runtime if body.started_at else -AGAIN_S
            if (found := lane.queue.find(key)) is not None:
                return -max(found.max_runtime if isinstance(found, Work) else 0.0, AGAIN_S)
        return None

    def stop_later(self, lane: LaneThread, key: Key, why: str, seconds: float) -> None:
        """Stop an attempt under way after a time, unless it has ended."""
        self._loop.call_later(seconds, self.stop, lane, key, why, GRACE)

    def _escalate_stop(self, lane: LaneThread, key: Key) -> None:
        """It did not end within its grace: interrupt its thread; then replace the process."""
        if key not in lane.bodies:
            self._since.pop(key, None)
        else:
            if lane.holder.held or lane.holder.waiting:
                interrupt_thread(lane.thread_id, asyncio.CancelledError)
            self._loop.call_later(INTERRUPTED_GRACE, self._give_up, lane, key)

    def _give_up(self, lane: LaneThread, key: Key) -> None:
        """Nothing ends it: report it as ended, and replace the process."""
        body = lane.bodies.get(key)
        self._since.pop(key, None)
        if body is None:
            return
        logger.warning("%s did not stop: its worker process is replaced", body.work.label)
        lane.host.report(lane, [lane.stopped(body)], None)
        self._loop.call_later(REPORT_S, self._replace_process)

    def _replace_process(self) -> None:
        if self._is_shared():  # they go first: what is stopped here is nothing of theirs
            self._loop.call_later(ALONE_EVERY_S, self._replace_process)
        else:
            self._replace()

    def retire(self) -> None:
        """Have this process replaced, once what has ended in it is reported. From a lane's thread, which begins nothing more.

        Not before anything that is under way here has ended: it would be done again, what has failed just now with it.
        """
        waits = self._is_shared() or any(lane.bodies for lane in list(self._lanes.values()))
        self._loop.call_soon_threadsafe(self._loop.call_later, REPORT_S, self._retire_when_idle)
        if not waits:
            time.sleep(RETIRE_S)

    def _retire_when_idle(self) -> None:
        if any(lane.bodies for lane in self._lanes.values()):
            self._loop.call_later(ALONE_EVERY_S, self._retire_when_idle)
        else:
            self._replace_process()

    def __repr__(self) -> str:
        return f"<Stopping [{len(self._arriving)} arriving, {len(self.early)} early]>"


class MemoryLimits:
    """Stops attempts under which this process has grown by more than their tasks' ``Resources(memory=...)``.

    Args:
        stop: Called with the lane, the attempt, why, and seconds of grace.
    """

    def __init__(self, stop: Callable[[LaneThread, Key, str, float], None]) -> None:
        self._stop = stop
        #: By attempt: its lane, and the size of this process, in bytes, at which it is stopped.
        self._limits: dict[Key, tuple[LaneThread, int]] = {}

    def add(self, lane: LaneThread, key: Key, nbytes: int) -> None:
        """An attempt begins that may use so many bytes. From any thread."""
        self._limits[key] = (lane, process_size() + nbytes)

    def check(self) -> None:
        """Stop what uses more than it may."""
        if not self._limits:
            return
        used = process_size()
        for key, (lane, limit) in list(self._limits.items()):
            if key not in lane.bodies:
                self._limits.pop(key, None)
            elif used > limit:
                del self._limits[key]
                self._stop(lane, key, "oom", OOM_GRACE)
