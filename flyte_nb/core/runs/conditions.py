"""Find the conditions of a run and answer them. Runs in: the run's home, on the controller's thread; asked from anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from flyte_nb.core.control.questions import Answers
from flyte_nb.core.history.facts import Action, Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.runs.engine import Engine
from flyte_nb.core.steps.conditions import TYPES
from flyte_nb.core.transport.payload import dumps, loads


class Asked(NamedTuple):
    """A condition, as its home knows it."""

    run: str
    #: Name of its action.
    action: str
    #: Name of the action that made it.
    parent: str
    #: The user's name for it.
    name: str
    phase: Phase
    #: "bool", "int", "float" or "str".
    data_type: str
    prompt: str
    prompt_type: str = "text"
    description: str = ""

    @property
    def type(self) -> type:
        """Type of the answer."""
        return TYPES.get(self.data_type, str)


def conditions_of(record: RunRecord) -> list[Asked]:
    """The conditions of a run, in order of arrival."""
    return [_asked(a) for n in record.numbered if (a := record.actions[n]).kind == "condition"]


def _asked(action: Action) -> Asked:
    about = loads(action.inputs)[1] if action.inputs is not None else {}
    return Asked(
        action.run, action.name, action.parent, action.task, action.phase, about.get("data_type", "str"),
        about.get("prompt", action.label), about.get("prompt_type", "text"), about.get("description", ""),
    )  # fmt: skip


def waiting(record: RunRecord, name: str) -> Asked | None:
    """The condition of a name (the user's, "a17", or its action's): the latest one that waits, else the latest."""
    action = record.find(name)
    if action is not None and action.kind == "condition":
        return _asked(action)
    found = [asked for asked in conditions_of(record) if asked.name == name]
    open_ones = [asked for asked in found if asked.phase is Phase.PAUSED]
    return next(reversed(open_ones or found), None)


def answer(engine: Engine, asked: Asked, value: Any) -> bool:
    """Give a condition its answer, which is of its type. On the controller's thread.

    Returns:
        Whether it was still waiting.
    """
    record = engine.store.runs.get(asked.run)
    action = record.actions.get(asked.action) if record is not None else None
    if action is None or action.phase is not Phase.PAUSED:
        return False
    info = engine.info_of(asked.run) or RunInfo(name=asked.run)
    engine.resolve(asked.run, asked.action, "resume", dumps(value), None, info)
    return True


def serve(answers: Answers, engine: Engine) -> None:
    """Answer what tasks ask about conditions of their own run."""

    def conditions(run: str, then: Callable[[Any], None]) -> None:
        record = engine.store.runs.get(run)
        then(conditions_of(record) if record is not None else [])

    def signal(_run: str, then: Callable[[Any], None], asked: Asked, value: Any) -> None:
        then(answer(engine, asked, value))

    answers.serve("conditions", conditions)
    answers.serve("signal", signal)
