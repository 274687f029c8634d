"""The controller, on a scripted executor and a clock that jumps."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

import flyte_nb as flyte
from flyte_nb.core.control.controller import Controller
from flyte_nb.core.control.replay import resume_point
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import ErrorNote, Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.history.store import RunStore
from flyte_nb.core.tasks.context import CallScope, Context
from flyte_nb.core.tasks.prepare import prepare
from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.payload import dumps
from flyte_nb.testing import FakeClock, ScriptedExecutor

env = flyte.TaskEnvironment("ctl")


@env.task
async def work(x: int) -> int:
    return x


class World:
    """A controller with everything around it under control."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.executor = ScriptedExecutor()
        self.store = RunStore()
        self.controller = Controller(self.executor, self.store.append, self.clock)
        self.blobs, self.code = Blobs(), None
        self.store.append(ev.RunOpened("r1", "t", "cell", 0.0))
        self.settled: list[Any] = []
        self.with_run()

    def with_run(self, **fields: Any) -> None:
        """What the actions that follow know of their run."""
        self.context = Context(gateway=self, run=RunInfo(name="r1", **fields), action="a0", scope=CallScope())  # type: ignore[arg-type]

    def submit(self, task: Any, *args: Any) -> Any:
        return self.controller.submit(prepare(self.context, task, args, {}), self.settled.append)

    def action(self, flight: Any) -> Any:
        return self.store.runs["r1"].actions[flight.call.name]


@pytest.fixture
def world() -> World:
    return World()


def failing(code: str = "ValueError", recoverable: bool = True) -> dict[str, Any]:
    return {"kind": "error", "error": ErrorNote("user", code, "no", recoverable=recoverable)}


def test_a_result_reaches_the_caller_and_the_store(world):
    """One attempt that returns makes a succeeded action."""
    flight = world.submit(work, 3)
    assert Phase.QUEUED is world.action(flight).phase

    world.executor.end(value=dumps(9))

    assert Phase.SUCCEEDED is world.action(flight).phase
    assert ["ok"] == [s.kind for s in world.settled]


def test_failed_attempts_are_retried_with_backoff(world):
    """A failing attempt is followed by another one after its backoff, not before."""
    backoff = flyte.Backoff(base=dt.timedelta(seconds=2), factor=2.0, cap=dt.timedelta(seconds=60))
    flight = world.submit(work.override(retries=flyte.RetryStrategy(count=2, backoff=backoff)), 3)

    world.executor.end(**failing())
    assert [] == world.executor.pending
    world.clock.advance(1.9)
    assert [] == world.executor.pending
    world.clock.advance(0.2)
    assert 1 == world.executor.end(**failing()).attempt
    world.clock.advance(4.1)
    assert 2 == world.executor.end(**failing()).attempt

    assert Phase.FAILED is world.action(flight).phase
    assert ["RetriesExhaustedError"] == [s.code for s in world.settled]


def test_an_error_that_is_not_recoverable_ends_the_action_at_once(world):
    """No retry follows a NonRecoverableError."""
    flight = world.submit(work.override(retries=5), 3)

    world.executor.end(**failing("NonRecoverableError", recoverable=False))

    assert Phase.FAILED is world.action(flight).phase
    assert [] == world.executor.pending


def test_a_lost_worker_uses_up_no_retry(world):
    """An attempt lost with its worker runs again although the action has no retries."""
    flight = world.submit(work, 3)

    world.executor.end("lost")
    world.executor.end("lost")
    world.executor.end(value=dumps(1))

    assert Phase.SUCCEEDED is world.action(flight).phase


def test_an_action_that_loses_worker_after_worker_is_given_up(world):
    """Three losses in a row end it with a system error."""
    flight = world.submit(work, 3)

    for _ in range(3):
        world.executor.end("lost")

    assert Phase.FAILED is world.action(flight).phase
    assert ["WorkerLostError"] == [s.code for s in world.settled]


def test_losses_count_in_a_row_and_by_blame(world):
    """What only waited when its worker died begins to count anew; what is not explained counts half."""
    flight = world.submit(work, 3)

    for kind in ("lost", "lost", "stranded", "lost", "lost", *(["stranded"] * 20), *(["unexplained"] * 5)):
        world.executor.end(kind)
    assert Phase.QUEUED is world.action(flight).phase
    world.executor.end("unexplained")

    assert Phase.FAILED is world.action(flight).phase
    assert ["WorkerLostError"] == [s.code for s in world.settled]


def test_a_cancelled_action_is_cancelling_until_its_worker_confirms(world):
    """States are truthful: CANCELLING first, ABORTED once confirmed; a late result is not delivered."""
    flight = world.submit(work, 3)

    world.controller.cancel(flight, "enough")
    assert Phase.CANCELLING is world.action(flight).phase
    assert ["cancelled"] == [s.kind for s in world.settled]
    world.executor.end(value=dumps(9))

    assert Phase.ABORTED is world.action(flight).phase
    assert 1 == len(world.settled)


def test_a_deadline_ends_an_action_over_all_attempts(world):
    """The deadline counts from queueing and beats retries."""
    flight = world.submit(work.override(retries=5, timeout=flyte.Timeout(deadline=10)), 3)

    world.clock.advance(10.1)
    assert 1 == len(world.executor.cancelled)
    world.executor.end("cancelled")

    assert Phase.TIMED_OUT is world.action(flight).phase
    assert ["DeadlineExceededError"] == [s.code for s in world.settled]


def test_children_of_an_ended_parent_are_cancelled(world):
    """Closing a parent cancels exactly its unfinished children."""
    flights = [world.submit(work, n) for n in range(3)]
    world.executor.end(value=dumps(0))

    found = world.controller.close_parent("r1", "a0", "its parent ended")

    assert (2, [flight.call.label for flight in flights[1:]]) == found
    assert all(flight.cancel_reason for flight in flights[1:])


def test_names_are_deterministic_and_count_equal_calls(world):
    """Two runs of the same calls give the same names; equal calls differ by their count."""
    names = [world.submit(work, x).call.name for x in (1, 1, 2)]
    other = World()

    assert names == [other.submit(work, x).call.name for x in (1, 1, 2)]
    assert 3 == len(set(names))


def test_a_paused_failure_waits_for_a_decision(world):
    """Under on_failure="pause" a failed action is parked; resuming it gives the caller the value."""
    world.with_run(on_failure="pause")
    flight = world.submit(work, 3)
    world.executor.end(**failing())
    assert Phase.PAUSED is world.action(flight).phase
    assert [] == world.settled

    # Retried, as the run is known to others, who know nothing of a block's `on_failure`: it waits again.
    assert world.controller.resolve("r1", flight.call.name, "retry", renewed=RunInfo(name="r1"))
    world.executor.end(**failing())
    assert Phase.PAUSED is world.action(flight).phase
    assert world.controller.resolve("r1", flight.call.name, "resume", dumps(5))

    assert (Phase.SUCCEEDED, "5") == (world.action(flight).phase, world.action(flight).preview)
    assert ["ok"] == [s.kind for s in world.settled]


def test_actions_over_the_limit_of_their_parent_are_held_back_in_order(world):
    """Under max_action_concurrency=2 the third call executes once one has ended; a parked one does not count."""
    world.with_run(max_action_concurrency=2, on_failure="pause")
    flights = [world.submit(work, n) for n in range(5)]
    assert "<Controller [5 in flight, 3 held, 0 parked]>" == repr(world.controller)

    world.executor.end(value=dumps(0))
    assert [flights[n].call.name for n in (1, 2)] == [w.action for w, _ in world.executor.pending]
    world.executor.end(**failing())

    assert "<Controller [4 in flight, 1 held, 1 parked]>" == repr(world.controller)
    world.controller.cancel(flights[4], "enough")
    assert "<Controller [3 in flight, 0 held, 1 parked]>" == repr(world.controller)
    for _ in range(2):
        world.executor.end(value=dumps(0))
    assert world.controller.resolve("r1", flights[1].call.name, "raise")
    assert "<Controller [0 in flight, 0 held, 0 parked]>" == repr(world.controller)


def test_a_retry_by_hand_goes_on_with_the_numbers_of_the_action(world):
    """The events of an action that is executed again follow those of before."""
    flight = world.submit(work, 3)
    world.executor.end(**failing(), started_at=1.0, ended_at=2.0)
    before = world.action(flight)
    assert (Phase.FAILED, 0) == (before.phase, before.attempt.number)

    again = world.controller.resubmit(flight.call, world.settled.append, point=resume_point(before))
    assert 1 == world.executor.end(value=dumps(9), started_at=3.0, ended_at=4.0).attempt

    assert (Phase.SUCCEEDED, 1, 1) == (
        world.action(again).phase, world.action(again).attempt.number, len(world.action(again).earlier)
    )  # fmt: skip
    assert ["error", "ok"] == [s.kind for s in world.settled]


def test_a_result_tells_the_caller_what_became_of_the_call(world):
    """A settled call gives its value, or the error of the last attempt."""
    world.submit(work, 3)
    world.executor.end(value=dumps(9))
    world.submit(work, 4)
    world.executor.end(**failing("TypeError"))

    returned, failed = world.settled
    assert 9 == returned.result()
    with pytest.raises(flyte.errors.RuntimeUserError, match="no"):
        failed.result()
