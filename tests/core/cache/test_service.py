"""The authority over cached results, and how a controller uses it, on a scripted executor and a clock that jumps."""

from __future__ import annotations

from typing import Any

import pytest

import flyte_nb as flyte
from flyte_nb.core.cache import location
from flyte_nb.core.cache.service import CacheClient, CacheService
from flyte_nb.core.control.controller import Controller
from flyte_nb.core.control.questions import Answers
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import ErrorNote, Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.history.store import RunStore
from flyte_nb.core.tasks.context import CallScope, Context
from flyte_nb.core.tasks.prepare import prepare
from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.payload import dumps, loads
from flyte_nb.testing import FakeClock, ScriptedExecutor

env = flyte.TaskEnvironment("cachingcore")


@env.task(cache=flyte.Cache("auto", serialize=True))
async def alone(x: int) -> int:
    return x


class World:
    """Two peers' controllers and one home."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = RunStore()
        self.answers = Answers()
        self.cache = CacheService(lambda function, *args: function(*args), self.store)
        self.cache.serve(self.answers)
        self.executors = {peer: ScriptedExecutor() for peer in ("w1", "w2")}
        self.controllers = {
            peer: Controller(
                executor, self.store.append, self.clock, home=self.answers, cache=CacheClient(self.answers, peer)
            )
            for peer, executor in self.executors.items()
        }
        self.blobs, self.code = Blobs(), None
        self.store.append(ev.RunOpened("r1", "t", "cell", 0.0))
        self.settled: list[Any] = []
        self.scope = CallScope()

    def submit(self, peer: str, x: int, parent: str = "a0") -> Any:
        context = Context(gateway=self, run=RunInfo(name="r1"), action=parent, scope=self.scope)  # type: ignore[arg-type]
        return self.controllers[peer].submit(prepare(context, alone, (x,), {}), self.settled.append)

    def action(self, flight: Any) -> Any:
        return self.store.runs["r1"].actions[flight.call.name]

    def executing(self) -> list[int]:
        return [len(executor.pending) for executor in self.executors.values()]


@pytest.fixture
def world(tmp_path):
    """Its cache is the test's own."""
    location.configure(tmp_path / "cache")
    made = World()
    yield made
    made.cache.close()
    location.configure(None)


def test_identical_calls_of_two_peers_execute_once(world):
    """The other waits, says so after a while, and gets the result as a hit."""
    first, second = world.submit("w1", 1), world.submit("w2", 1)
    assert [1, 0] == world.executing()
    world.clock.advance(2)
    assert "an identical call is executing" in world.action(second).note
    assert "<CacheService [1 executing, 1 waiting]>" == repr(world.cache)

    world.executors["w1"].end(value=dumps(1))

    assert [1, 1] == [loads(settled.payload) for settled in world.settled]
    assert [False, True] == [world.action(flight).cached for flight in (first, second)]
    assert "" == world.action(second).note
    assert "<CacheService [0 executing, 0 waiting]>" == repr(world.cache)


def test_when_the_holder_fails_the_next_executes(world):
    """And the note goes."""
    world.submit("w1", 1)
    second = world.submit("w2", 1)
    world.clock.advance(2)

    world.executors["w1"].end("error", error=ErrorNote("user", "ValueError", "no"))

    assert [0, 1] == world.executing()
    assert "" == world.action(second).note


def test_when_the_holders_peer_is_lost_the_next_executes(world):
    """Its controller cannot give up any more."""
    world.submit("w1", 1)
    world.submit("w2", 1)
    world.cache.peer_lost("w1")

    assert 1 == world.executing()[1]


def test_a_lost_waiter_is_passed_over(world):
    """The claim goes to one that is still there."""
    world.submit("w1", 1)
    world.submit("w2", 1)
    world.submit("w1", 1)
    world.cache.peer_lost("w2")
    world.executors["w1"].end("error", error=ErrorNote("user", "ValueError", "no"))

    assert [1, 0] == world.executing()


def test_a_cancelled_waiter_ends_at_once(world):
    """It waits for no worker, so nothing has to confirm it; the holder goes on."""
    world.submit("w1", 1)
    second = world.submit("w2", 1)
    world.controllers["w2"].cancel(second, "not needed")

    assert Phase.ABORTED is world.action(second).phase
    world.executors["w1"].end("error", error=ErrorNote("user", "ValueError", "no"))
    assert [0, 0] == world.executing()


def test_a_call_inside_its_holder_does_not_wait(world):
    """Else it would wait for its own parent."""
    first = world.submit("w1", 1)
    world.submit("w2", 1, parent=first.call.name)

    assert [1, 1] == world.executing()


def test_with_other_code_a_call_takes_no_part(world):
    """A retry by hand with a redefined task must not be kept under the old code's key."""
    flight = world.submit("w1", 1)
    flight.call.replace_task(flight.call.task)
    assert flight.call.cache_key
    flight.call.replace_task(alone.override(retries=1))

    assert not flight.call.cache_key
