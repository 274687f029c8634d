"""Conditions of a run: find them and answer them. Runs in: the run's home, on the controller's thread."""

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


class ConditionFacts(NamedTuple):
    """A condition as its run's home has it: its action, and what was asked."""

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


def conditions_of(record: RunRecord) -> list[ConditionFacts]:
    """The conditions of a run, in order of arrival."""
    return [_facts_of(a) for n in record.numbered if (a := record.actions[n]).kind == "condition"]


def _facts_of(action: Action) -> ConditionFacts:
    about = loads(action.inputs)[1] if action.inputs is not None else {}
    return ConditionFacts(
        action.run, action.name, action.parent, action.task, action.phase, about.get("data_type", "str"),
        about.get("prompt", action.label), about.get("prompt_type", "text"), about.get("description", ""),
    )  # fmt: skip


def waiting(record: RunRecord, name: str) -> ConditionFacts | None:
    """The condition of a name (the user's, "a17", or its action's): the latest unanswered one, else the latest."""
    action = record.find(name)
    if action is not None and action.kind == "condition":
        return _facts_of(action)
    found = [condition for condition in conditions_of(record) if condition.name == name]
    open_ones = [condition for condition in found if condition.phase is Phase.PAUSED]
    return next(reversed(open_ones or found), None)


def answer(engine: Engine, condition: ConditionFacts, value: Any) -> bool:
    """Settle a condition with an answer of its type. On the controller's thread.

    Returns:
        Whether it was still unanswered.
    """
    record = engine.store.runs.get(condition.run)
    action = record.actions.get(condition.action) if record is not None else None
    if action is None or action.phase is not Phase.PAUSED:
        return False
    info = engine.info_of(condition.run) or RunInfo(name=condition.run)
    engine.resolve(condition.run, condition.action, "resume", dumps(value), None, info)
    return True


def serve(answers: Answers, engine: Engine) -> None:
    """Answer what tasks ask about conditions of their run: "conditions" lists them, "signal" settles one."""

    def conditions(run: str, then: Callable[[Any], None]) -> None:
        record = engine.store.runs.get(run)
        then(conditions_of(record) if record is not None else [])

    def signal(_run: str, then: Callable[[Any], None], condition: ConditionFacts, value: Any) -> None:
        then(answer(engine, condition, value))

    answers.serve("conditions", conditions)
    answers.serve("signal", signal)
