"""Turns of a process, against a model: whatever the order in which attempts of several threads compute, each has its own."""

from __future__ import annotations

import os
import queue
import random
import threading
import types
from collections.abc import Callable
from typing import Any
from unittest import mock

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flyte_nb.core.attempts import isolation, seeds
from flyte_nb.core.attempts.isolation import Isolation, Place
from flyte_nb.core.attempts.meter import Meter
from flyte_nb.core.attempts.surroundings import process

LANES = 3
#: What is looked at: set by attempts, by the notebook that they are of, and by cells that run everywhere.
NAMES = ("MODEL_OWN", "MODEL_NOTEBOOK", "MODEL_EVERYWHERE")
_here = threading.local()


def _sleep(seconds: float) -> None:
    _here.lane.sleep(seconds)


class Lane:
    """A thread that attempts compute on. It does one thing after another, and nothing by itself."""

    def __init__(self) -> None:
        self.tasks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()
        #: Whether it has a slot.
        self.holds = False
        #: Whether it is in a turn that waits for others.
        self.waits = False
        #: The attempt that is in a step, and whether that is blocked.
        self.body: Attempt | None = None
        self.blocked = False
        #: That was in its last step.
        self.latest: Attempt | None = None
        #: Attempts that are between two steps.
        self.suspended: list[Attempt] = []

    def _work(self) -> None:
        _here.lane = self
        while (task := self.tasks.get()) is not None:
            try:
                self.answers.put((True, task()))
            except Exception as exc:
                self.answers.put((True, exc))

    def sleep(self, _seconds: float) -> None:
        """On its thread: a turn waits."""
        self.answers.put((False, None))
        if (go_on := self.tasks.get()) is None:
            raise SystemExit
        go_on()

    def do(self, task: Callable[[], object]) -> Any:
        """Do it there, until it is done or waits."""
        self.tasks.put(task)
        done, found = self.answers.get(timeout=30)
        self.waits = not done
        if isinstance(found, BaseException):
            raise found
        return found

    def computes(self) -> bool:
        """As a lane of a worker answers: whether it has a slot, and is not the calling thread."""
        return self.holds and threading.current_thread() is not self.thread

    @property
    def is_in_step(self) -> bool:
        return self.body is not None and not self.blocked and not self.waits


class Attempt:
    """What an attempt is to the isolation, and what it should find."""

    def __init__(self, isolated: Isolation, lane: Lane, expected: dict[str, str | None], notebook: str) -> None:
        self.meter = Meter(lambda: 0.0)
        base = isolated.begin()
        environ = {**base.environ, b"MODEL_NOTEBOOK": notebook.encode()}
        self.place = Place(base._replace(environ=environ), lane.computes)
        #: The variables that it has; None once it had to share them.
        self.expected: dict[str, str | None] | None = {**expected, "MODEL_NOTEBOOK": notebook}
        #: The numbers that it draws next, if it has seeded them; None once it had to share the generator.
        self.numbers: random.Random | None = None
        #: Since when its turn is to begin, and beside whom it goes on without waiting.
        self.waits_since = 0.0
        self.met: set[Attempt] = set()


class Turns(RuleBasedStateMachine):
    """A driver of lanes: all that happens is one of these rules."""

    def __init__(self) -> None:
        super().__init__()
        self.before = process.read()
        self.clock = 0.0
        clock = types.SimpleNamespace(monotonic=lambda: self.clock, sleep=_sleep)
        self.patch = mock.patch.object(isolation, "time", clock)
        self.patch.start()
        self.isolated = Isolation()
        self.lanes = [Lane() for _ in range(LANES)]
        self.everywhere: dict[str, str | None] = dict.fromkeys(NAMES)
        self.number = 0

    def _lane(self, number: int, wanted: Callable[[Lane], Any]) -> Lane | None:
        """The next one, from some on, with which something can be done."""
        found = (self.lanes[(number + i) % LANES] for i in range(LANES))
        return next((lane for lane in found if wanted(lane)), None)

    def _computing(self) -> set[Attempt]:
        """Also who has just ended a step on a thread that has its slot still."""
        return {lane.latest for lane in self.lanes if lane.latest is not None and lane.holds and not lane.waits}

    def _turn(self, lane: Lane, body: Attempt, task: Callable[[], object] | None = None) -> None:
        lane.body, lane.latest, lane.holds, lane.blocked = body, body, True, False
        if not lane.waits:
            body.waits_since = self.clock
        beside = self._computing() - {body}
        lane.do(task or (lambda: self._begins_step(body)))
        if not lane.waits:
            self._check(lane, body, beside)

    def _begins_step(self, body: Attempt) -> None:
        if self.isolated.current is not body:
            self.isolated.turn(body)

    def _check(self, lane: Lane, body: Attempt, beside: set[Attempt]) -> None:
        """What it finds as its turn begins is its own, unless it has waited long enough for others."""
        seen = self._seen(lane)
        if self.clock - body.waits_since > isolation.PATIENCE:
            body.met |= beside
        others = any(each.is_in_step for each in self.lanes if each is not lane)
        finds_its_own = body.expected in (None, seen)
        if body.numbers is not None and (others or not self._draws(lane, body)):
            finds_its_own = False
        if not finds_its_own:
            assert beside, f"{body.expected} expected, {seen} found, and nobody else computes"
            assert beside <= body.met, f"{body.expected} expected, {seen} found, without waiting for others"
            for each in (body, *beside):
                each.numbers = None
            body.expected = None

    def _seen(self, lane: Lane) -> dict[str, str | None]:
        return lane.do(lambda: {name: os.environ.get(name) for name in NAMES})

    def _draws(self, lane: Lane, body: Attempt) -> bool:
        assert body.numbers is not None
        ahead = random.Random()
        ahead.setstate(body.numbers.getstate())
        if lane.do(random.random) != ahead.random():
            return False
        body.numbers = ahead
        return True

    # -- what happens ---------------------------------------------------------------------------------------------------

    @rule(number=st.integers(0, LANES - 1), notebook=st.sampled_from("aaab"))
    def begins(self, number: int, notebook: str) -> None:
        """An attempt, on a thread that is not in a step."""
        if (lane := self._lane(number, lambda lane: lane.body is None)) is not None:
            self._turn(lane, Attempt(self.isolated, lane, self.everywhere, notebook))

    @rule(number=st.integers(0, LANES - 1), which=st.integers(0, 5))
    def goes_on(self, number: int, which: int) -> None:
        """With its next step."""
        if (lane := self._lane(number, lambda lane: lane.body is None and lane.suspended)) is not None:
            self._turn(lane, lane.suspended.pop(which % len(lane.suspended)))

    @rule(number=st.integers(0, LANES - 1), keeps=st.booleans())
    def is_suspended(self, number: int, keeps: bool) -> None:
        """A step is over; its thread may keep the slot for another's."""
        if (lane := self._lane(number, lambda lane: lane.is_in_step)) is not None:
            body = lane.body
            assert body is not None
            if seeds.SEEDED:
                lane.do(lambda: self.isolated.pause(body))
            lane.suspended.append(body)
            lane.body = None
            if not keeps:
                self._releases(lane)

    @rule(number=st.integers(0, LANES - 1))
    def has_nothing_to_do(self, number: int) -> None:
        """A thread that has kept its slot."""
        if (lane := self._lane(number, lambda lane: lane.body is None and lane.holds)) is not None:
            self._releases(lane)

    def _releases(self, lane: Lane) -> None:
        lane.holds = False
        if self.isolated.crowd:
            lane.do(self.isolated.settle)

    @rule(number=st.integers(0, LANES - 1))
    def blocks(self, number: int) -> None:
        """A body waits in the middle of a step, without its slot."""
        if (lane := self._lane(number, lambda lane: lane.is_in_step)) is not None:
            lane.blocked = True
            self._releases(lane)

    @rule(number=st.integers(0, LANES - 1))
    def is_unblocked(self, number: int) -> None:
        """It goes on there."""
        if (lane := self._lane(number, lambda lane: lane.blocked)) is not None and lane.body is not None:
            body = lane.body
            self._turn(lane, body, lambda: self.isolated.turn(body))

    @rule(number=st.integers(0, LANES - 1), seconds=st.sampled_from([0.0, 0.4, 2.0]))
    def looks_again(self, number: int, seconds: float) -> None:
        """One that waits, after some time."""
        self.clock += seconds
        lane = self._lane(number, lambda lane: lane.waits)
        if lane is not None and lane.body is not None:
            self._turn(lane, lane.body, bool)

    @rule(number=st.integers(0, LANES - 1))
    def changes_its_process(self, number: int) -> None:
        """Whoever computes beside it has that, too."""
        if (lane := self._lane(number, lambda lane: lane.is_in_step)) is not None and lane.body is not None:
            self.number += 1
            value = str(self.number)
            lane.do(lambda: os.environ.update(MODEL_OWN=value))
            if self._shared(lane.body):
                return
            if lane.body.expected is not None:
                lane.body.expected["MODEL_OWN"] = value

    def _shared(self, body: Attempt) -> bool:
        computing = self._computing()
        if computing != {body}:
            for each in computing:
                each.expected = each.numbers = None
        return computing != {body}

    @rule(number=st.integers(0, LANES - 1))
    def seeds(self, number: int) -> None:
        """A generator, which all draw from that compute beside it."""
        if (lane := self._lane(number, lambda lane: lane.is_in_step)) is not None and lane.body is not None:
            self.number += 1
            seed = self.number
            lane.do(lambda: random.seed(seed))
            if not self._shared(lane.body):
                lane.body.numbers = random.Random(seed)

    @rule(number=st.integers(0, LANES - 1))
    def draws(self, number: int) -> None:
        """From its own sequence."""
        lane = self._lane(number, lambda lane: lane.is_in_step and lane.body and lane.body.numbers)
        if lane is not None and lane.body is not None and not self._shared(lane.body):
            assert self._draws(lane, lane.body)

    @rule(number=st.integers(0, LANES - 1))
    def ends(self, number: int) -> None:
        """An attempt: what it has changed is gone, unless others compute that have it, too."""
        if (lane := self._lane(number, lambda lane: lane.is_in_step)) is not None:
            body = lane.body
            assert body is not None
            lane.do(lambda: self._leaves(body))
            lane.body, lane.latest, lane.holds = None, None, False

    def _leaves(self, body: Attempt) -> None:
        if self.isolated.has(body):
            self.isolated.end(body)

    @rule()
    def cell_runs_everywhere(self) -> None:
        """What it sets is there for all that begin from then on."""
        self.number += 1
        value = self.everywhere["MODEL_EVERYWHERE"] = str(self.number)
        self.isolated.rebase(lambda: os.environ.update(MODEL_EVERYWHERE=value))

    # -- what holds -----------------------------------------------------------------------------------------------------

    @invariant()
    def each_that_computes_has_its_own(self) -> None:
        """At any moment, and however many do."""
        for lane in self.lanes:
            if lane.is_in_step and lane.body is not None and lane.body.expected is not None:
                assert lane.body.expected == self._seen(lane)

    @precondition(lambda self: not any(lane.body or lane.suspended for lane in self.lanes))
    @invariant()
    def nothing_is_left(self) -> None:
        """When all have ended."""
        assert os.environ.get("MODEL_OWN") is None
        assert (self.isolated.current, dict(self.isolated.crowd)) == (None, {})

    def teardown(self) -> None:
        """Nobody waits for ever, and when all have ended the process is as it was in the beginning."""
        try:
            self._all_end()
            self.nothing_is_left()
        finally:
            for lane in self.lanes:
                lane.tasks.put(None)
            self.patch.stop()
            process.apply(process.read(), self.before)
            seeds.drop()

    def _all_end(self) -> None:
        for _ in range(100):
            for number, lane in enumerate(self.lanes):
                if lane.waits:
                    self.looks_again(number, 2.0)
                elif lane.blocked:
                    self.is_unblocked(number)
                elif lane.body is not None:
                    self.ends(number)
                elif lane.suspended:
                    self.goes_on(number, 0)
        assert not any(lane.body or lane.suspended for lane in self.lanes)


TestTurns = Turns.TestCase
TestTurns.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


#: What went wrong once, as the search has found it with more time.
STORIES: dict[str, list[tuple[Any, ...]]] = {
    "a change beside one that is blocked": [
        ("begins", 0, "a"), ("begins", 0, "a"), ("blocks", 1), ("changes_its_process", 0), ("is_unblocked", 0),
    ],
    "changed, then shared by one that has waited": [
        ("begins", 0, "a"), ("changes_its_process", 0), ("begins", 0, "a"), ("is_suspended", 0, True), ("looks_again", 0, 2.0),
    ],
    "seeded, then shared by one that has waited": [
        ("begins", 0, "a"), ("seeds", 0), ("begins", 0, "a"), ("looks_again", 0, 2.0), ("blocks", 0), ("ends", 0), ("is_unblocked", 0),
    ],
    "both have seeded": [
        ("begins", 0, "a"), ("seeds", 0), ("begins", 0, "a"), ("is_suspended", 0, False), ("looks_again", 0, 0.0), ("seeds", 0),
        ("goes_on", 0, 0), ("looks_again", 0, 2.0), ("blocks", 0), ("draws", 0),
    ],
    "one begins beside another that has seeded": [("begins", 0, "a"), ("seeds", 0), ("begins", 0, "a"), ("draws", 0)],
    "a cell runs everywhere beside one that has changed something": [
        ("begins", 0, "a"), ("changes_its_process", 0), ("cell_runs_everywhere",), ("begins", 0, "a"), ("ends", 0),
    ],
    "two notebooks": [("begins", 0, "a"), ("begins", 0, "b"), ("is_suspended", 0, False), ("looks_again", 0, 0.0)],
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
def test_stories(story: str) -> None:
    """Each that was found once."""
    turns = Turns()
    try:
        for name, *arguments in STORIES[story]:
            getattr(turns, name)(*arguments)
            turns.each_that_computes_has_its_own()
    finally:
        turns.teardown()
