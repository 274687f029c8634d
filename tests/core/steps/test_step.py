"""Steps: their names, their records, and the events of one that is executed in place."""

from __future__ import annotations

from typing import Any

from flyte_nb.core.control.calls import ResumePoint
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.steps.step import Step, name_step
from flyte_nb.core.tasks.context import CallScope, Context


class Recorder:
    """A gateway and a controller that keep events."""

    def __init__(self) -> None:
        self.events: list[ev.Event] = []
        self.controller = self
        self.emit = self.events.append

    def run_soon(self, function: Any, *args: Any) -> None:
        function(*args)


def context(records: dict[str, Any] | None = None, group: str = "") -> Context:
    """The context of a task that makes steps."""
    gateway: Any = Recorder()
    return Context(gateway=gateway, run=RunInfo(name="r1"), action="a", scope=CallScope(records), group=group)


def test_names_are_the_same_in_each_attempt_and_count_equal_steps() -> None:
    """The nth equal step of an attempt has the name of the nth of another; groups tell apart."""
    first, second, grouped = context(), context(), context(group="g")

    names = [name_step(first, "time()"), name_step(first, "time()"), name_step(first, "now()")]
    assert names == [name_step(second, "time()"), name_step(second, "time()"), name_step(second, "now()")]
    assert 4 == len({*names, name_step(grouped, "time()")})


def test_a_step_that_is_executed_ends_its_attempt_and_itself() -> None:
    """Four events, and the sequence numbers of a step that is executed again go on."""
    scene = context({"s": ResumePoint(3, 1)})
    step = Step(scene, "s", "f", "f()")
    assert step.record is None

    step.resume(1.0, 4, 1)
    step.begin(2.0)
    step.end(Phase.SUCCEEDED, 3.0, output=b"1", preview="1")

    assert [
        ev.ActionNoted("r1", "s", 4, Phase.QUEUED, 1.0, "", 1),
        ev.AttemptStarted("r1", "s", 1, 2.0),
        ev.AttemptEnded("r1", "s", 1, 2.0, 3.0, True),
        ev.ActionEnded("r1", "s", 5, Phase.SUCCEEDED, 3.0, None, False, b"1", "1"),
    ] == scene.gateway.events  # type: ignore[attr-defined]


def test_a_replayed_step_has_no_attempt() -> None:
    """It is queued and ended with its record."""
    scene = context({"s": b"1"}, "g")
    step = Step(scene, "s", "f", "f()", "sleep")

    assert b"1" == step.record
    step.queue(1.0, 2)
    step.end(Phase.RECOVERED, 1.0)
    assert [
        ev.ActionQueued("r1", "s", "a", "f", "f()", "g", 1.0, "sleep", 2),
        ev.ActionEnded("r1", "s", 1, Phase.RECOVERED, 1.0),
    ] == scene.gateway.events  # type: ignore[attr-defined]
