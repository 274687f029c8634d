"""Stops of attempts, wherever they are on their way. No cluster."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.worker import stopping as stopping_module
from flyte_nb.worker.stopping import Stopping

KEY = ("r1", "a1", 0)


class FakeLane:
    """A lane with one attempt under way."""

    thread_id = 0
    location = ("here", 1, "lane")

    def __init__(self, *under_way: tuple[str, str, int]) -> None:
        self.bodies = {
            key: SimpleNamespace(stop="", work=Work(*key, b""), started_at=1.0, outlet=None) for key in under_way
        }
        self.holder = SimpleNamespace(held=False, waiting=False)
        self.interrupted: list[Any] = []

    def take_out(self, _key: Any) -> bool:
        """Nothing is queued."""
        return False

    def stopped(self, body: Any) -> Outcome:
        """As `LaneThread.stopped`."""
        run, action, attempt = body.work.key
        return Outcome(
            run, action, attempt, body.stop, started_at=body.started_at, ended_at=2.0, location=self.location
        )

    def interrupt(self, key: Any, why: str) -> None:
        """Take note."""
        self.interrupted.append((key, why))


class FakeHost:
    """What stopping needs of its worker."""

    def __init__(self, *lanes: Any) -> None:
        self.lanes = {str(number): lane for number, lane in enumerate(lanes)}
        self.controller = SimpleNamespace(close_parent=lambda *_args: None)
        self.loop = asyncio.get_running_loop()
        for lane in lanes:
            lane.host = self
        self.outcomes: list[Outcome] = []

    def report(self, _lane: Any, outcomes: list[Outcome], _progress: Any) -> None:
        """What ended."""
        self.outcomes += outcomes


def stopping_of(host: Any) -> Stopping:
    """Of a worker in this process, which is never replaced."""
    return Stopping(lambda: None, lambda: False, host.lanes, host.controller, host.loop)


async def test_an_attempt_whose_arguments_are_on_their_way_ends_when_they_arrive() -> None:
    """The others of its bundle are executed."""
    stopping = stopping_of(FakeHost())
    works = [Work("r1", name, 0, b"") for name in ("a1", "a2")]
    stopping.expect(works)
    stopping.cancel(KEY, "cancelled", 3.0)

    assert [(*KEY, "cancelled")] == [outcome[:4] for outcome in stopping.arrived(works)]
    assert "<Stopping [0 arriving, 0 early]>" == repr(stopping)


async def test_a_stop_before_the_first_instruction_is_kept_for_the_lane() -> None:
    """Between queue and body it is in neither."""
    stopping = stopping_of(FakeHost(FakeLane()))
    stopping.cancel(KEY, "cancelled", 3.0)

    assert {KEY: "cancelled"} == stopping.early
    assert "<Stopping [0 arriving, 1 early]>" == repr(stopping)


async def test_a_body_that_does_not_end_is_reported_after_its_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, although it is stopped twice."""
    monkeypatch.setattr(stopping_module, "INTERRUPTED_GRACE", 0.0)
    lane = FakeLane(KEY)
    host = FakeHost(lane)
    stopping = stopping_of(host)
    for _ in range(2):
        stopping.cancel(KEY, "timeout", 0.0)
    assert [(KEY, "timeout")] == lane.interrupted
    while not host.outcomes:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0)

    assert [(*KEY, "timeout")] == [outcome[:4] for outcome in host.outcomes]


async def test_an_attempt_over_its_memory_is_stopped() -> None:
    """One that has room is not; one that has ended is forgotten."""
    lane = FakeLane(KEY, ("r1", "a2", 0))
    stopping = stopping_of(FakeHost(lane))
    for key, limit in ((KEY, -1), (("r1", "a2", 0), 2**40), (("r1", "ended", 0), -1)):
        stopping.memory.add(lane, key, limit)  # type: ignore[arg-type]
    stopping.memory.check()
    stopping.memory.check()

    assert [(KEY, "oom")] == lane.interrupted
