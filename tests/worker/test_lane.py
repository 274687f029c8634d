"""A lane's thread under cancellations: every attempt ends, whenever it is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import pickle
import random
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import flyte_nb as flyte
from flyte_nb.core.attempts.body import Body
from flyte_nb.core.attempts.family import Family
from flyte_nb.core.attempts.isolation import Isolation
from flyte_nb.core.attempts.meter import Meter
from flyte_nb.core.attempts.output import Output
from flyte_nb.core.attempts.row_body import RowBody
from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.history.facts import LogLine
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.engine.links.wire import Key, RowBundle
from flyte_nb.worker.lanes.async_lane import AsyncLane
from flyte_nb.worker.lanes.lane import LaneThread
from flyte_nb.worker.lanes.row_loop import LaneLoop
from flyte_nb.worker.lanes.sync_lane import SyncLane
from flyte_nb.worker.process.task_state import Copy, TaskState
from flyte_nb.worker.rows import QueuedBundle, RowEnd
from flyte_nb.worker.slots import RecordingMeter, SlotGate, SlotHolder

env = flyte.TaskEnvironment("lane")

#: Seconds after which something counts as never happening.
NEVER = 60.0


class LineSink:
    """Takes what nobody prints."""

    def line(self, line: LogLine) -> None:
        """As `flyte_nb.core.attempts.output.Sink`."""


class FakeBody:
    """An attempt that takes a moment."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.stop = ""
        self.started_at = 0.0
        self.outcome: Outcome | None = None
        self.variables = contextvars.Context()
        self.activate = self.isolation = self.place = self.patches = None
        self.family = Family()
        self.meter = Meter(time.perf_counter)
        self.busy = self.cpu = 0.0
        self.of_thread: list[object] = []
        self.output = Output(LineSink)

    def run_sync(self) -> None:
        """Compute for a moment."""
        try:
            for _ in range(300):
                time.perf_counter()
            self.outcome = Outcome(*self.work.key, "ok")
        except asyncio.CancelledError:
            self.outcome = Outcome(*self.work.key, self.stop)

    async def run_async(self) -> None:
        """End at once."""
        self.outcome = Outcome(*self.work.key, "ok")


class FakeHost:
    """What a lane needs of its worker; collects what lanes say."""

    address = "here"
    isolation: Isolation | None = None

    def __init__(self) -> None:
        self.gate = SlotGate(1)
        self.outcomes: list[Outcome] = []
        self.row_ends: list[RowEnd] = []
        self.failing: set[str] = set()
        self.early: dict[Key, str] = {}
        #: Set when an attempt ended.
        self.news = threading.Event()

    def post(self, function: Any, *args: Any) -> None:
        """At once, on the lane's thread."""
        function(*args)

    def body(self, _lane: LaneThread, work: Work) -> Any:
        """An attempt."""
        if work.action in self.failing:
            raise KeyError(work.run)
        return FakeBody(work)

    def report(self, _lane: LaneThread, outcomes: list[Outcome], _counters: Any) -> None:
        """What ended."""
        self.outcomes += outcomes
        self.news.set()

    def report_rows(
        self, _lane: LaneThread, alone: list[tuple[int, int]], ends: list[RowEnd], wrote: list[Key]
    ) -> None:
        """What rows did."""
        self.row_ends += ends
        self.news.set()

    def meter(self, holder: SlotHolder) -> RecordingMeter:
        """Without a black box."""
        return RecordingMeter(holder, None)

    def nothing(self, *_args: Any) -> None:
        """Nobody listens."""

    secede = failed = begin = finish = lane_opened = lane_closed = send = row_body = nothing


def run(lane: LaneThread) -> threading.Thread:
    """Have it work on a thread."""
    thread = threading.Thread(target=lane.run, daemon=True)
    thread.start()
    return thread


def close(lane: LaneThread, thread: threading.Thread) -> None:
    """Have it end."""
    lane.closed = True
    lane.wake()
    thread.join(NEVER)
    assert not thread.is_alive()


def wait_for(host: FakeHost, number: int) -> None:
    """Return once so many have ended."""
    end = time.monotonic() + NEVER
    while len(host.outcomes) < number:
        assert time.monotonic() < end, f"{len(host.outcomes)} of {number} ended"
        host.news.wait(0.05)
        host.news.clear()


@pytest.fixture
def eager() -> Iterator[None]:
    """Threads take turns all the time: an interrupt may fall between any two calls."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    gc.disable()  # hypothesis is called back by it, and an interrupt that falls in there is lost
    yield
    gc.enable()
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager")
def test_every_attempt_ends_whenever_it_is_interrupted() -> None:
    """An interrupt that arrives as its body ends takes neither its outcome along nor the next attempt's."""
    dice = random.Random(7)
    host = FakeHost()
    lane = SyncLane(host, "lane", "owner")
    thread = run(lane)
    works = [Work("r", f"a{i}", 0, b"") for i in range(3_000)]
    for number, work in enumerate(works, 1):
        lane.add([work])
        while work.key not in lane.bodies and len(host.outcomes) < number and thread.is_alive():
            pass
        for _ in range(dice.randrange(300)):
            time.perf_counter()
        with contextlib.suppress(KeyError):
            lane.interrupt(work.key, "cancelled")
        end = time.monotonic() + 10
        while len(host.outcomes) < number and thread.is_alive() and time.monotonic() < end:
            pass
        assert len(host.outcomes) == number, (number, host.outcomes[-1:], lane.bodies)
        assert thread.is_alive() or len(host.outcomes) == number, f"{work.action} never ended"
    wait_for(host, len(works))
    assert [outcome[:3] for outcome in host.outcomes] == [work.key for work in works]
    assert not lane.bodies
    close(lane, thread)
    assert host.gate.free == 1


class RowHost(FakeHost):
    """One whose lanes execute rows."""

    isolation: Isolation

    def __init__(self) -> None:
        super().__init__()
        self.isolation = Isolation()
        self.state = TaskState(lambda: Copy(moment), 100)
        self.gateway: Any = SimpleNamespace(blobs=SimpleNamespace(results=None))

    def row_body(self, lane: LaneThread, queued: QueuedBundle) -> RowBody:  # type: ignore[override]
        """As of `flyte_nb.worker.host.Host`."""
        copy = self.state.take()
        body = RowBody(
            copy.task, RunInfo(name="r"), queued.work(queued.left[0]), self.gateway, lambda _: LineSink(), lane.location, None,
            lane.meter, None, self.isolation, lane,
        )  # fmt: skip
        body.code, body.of = copy, queued
        return body

    def finish(self, body: Body) -> None:
        """An attempt has ended."""
        body.leave_process()
        body.code.state.give_back(body.code, bool)


@env.task
def moment(x: int) -> int:
    """Compute for a moment."""
    for _ in range(x % 400):
        time.perf_counter()
    return x


@pytest.mark.usefixtures("eager")
def test_every_row_ends_once_whenever_it_is_interrupted() -> None:
    """Rows that nobody sees, those that somebody does, and those that are interrupted, at any moment."""
    dice, host, n = random.Random(7), RowHost(), 6_000
    lane = SyncLane(host, "lane", "owner")
    payloads = [pickle.dumps(((x,), {}), 5) for x in range(n)]
    names = b"".join(x.to_bytes(8, "big") for x in range(n))
    bundle = RowBundle(1, "r", "a0", "", "", "", "c", ("moment", ("x",), 1), 0, names, payloads)
    lane.add([QueuedBundle(bundle)])  # first: what comes between two looks at the queue begins as an attempt of its own
    thread = run(lane)
    stopped: set[Key] = set()
    end = time.monotonic() + NEVER
    while len(host.outcomes) + len(host.row_ends) < n:
        assert thread.is_alive()
        assert time.monotonic() < end, (len(host.outcomes), len(host.row_ends), lane)
        for key in list(lane.bodies) if dice.random() < 0.3 else []:
            with contextlib.suppress(KeyError):
                lane.interrupt(key, "cancelled")
                stopped.add(key)
        for _ in range(dice.randrange(2_000)):
            pass
    ended = [row for _, row, *_ in host.row_ends] + [int(outcome.action[:16], 16) for outcome in host.outcomes]
    assert sorted(ended) == list(range(n))
    assert all(pickle.loads(end[5]) == end[1] for end in host.row_ends)
    assert {outcome.kind for outcome in host.outcomes} == {"cancelled"}
    assert {outcome[:3] for outcome in host.outcomes} <= stopped
    assert not lane.bodies
    close(lane, thread)
    host.isolation.close()
    assert host.gate.free == 1


def test_an_attempt_that_cannot_begin_fails_alone() -> None:
    """Those behind it run, on both kinds of lane."""
    for kind in (SyncLane, AsyncLane):
        host = FakeHost()
        host.failing = {"a1"}
        lane = kind(host, "lane", "owner")
        thread = run(lane)
        lane.add([Work("r", f"a{i}", 0, b"") for i in range(3)])
        wait_for(host, 3)
        kinds = {outcome.action: outcome.kind for outcome in host.outcomes}
        assert kinds == {"a0": "ok", "a1": "error", "a2": "ok"}
        close(lane, thread)
        assert f"<{kind.__name__} lane of owner [0 queued, 0 under way, 3 finished]>" == repr(lane)


def test_what_is_called_back_while_a_task_is_made_is_no_step_of_it() -> None:
    """As by a finalizer: the garbage collector runs whenever something is made."""
    done: list[str] = []

    class Loop(LaneLoop):
        making = False

        def get_debug(self) -> bool:  # asked by a task that is made
            if self.making:
                self.making = False
                self.call_soon(done.append, "called back")
            return False

    async def body() -> str:
        done.append("first step")
        return "result"

    loop = Loop()
    loop.making = True
    task = loop.begin(body(), contextvars.copy_context())
    assert (task.result(), done) == ("result", ["first step"])
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert "called back" in done
