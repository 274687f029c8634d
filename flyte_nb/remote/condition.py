"""A condition, found again by name, to be answered: `flyte.remote.Condition`. Runs in: the run's process, and its tasks."""

from __future__ import annotations

from typing import Any, TypeVar

from flyte_nb.core.history.facts import Phase
from flyte_nb.core.runs.conditions import ConditionFacts
from flyte_nb.core.runs.run_registry import find
from flyte_nb.core.steps.conditions import answer_of
from flyte_nb.core.tasks.context import current
from flyte_nb.core.values.aio import Dual, DualIterator
from flyte_nb.remote.fact import Fact

T = TypeVar("T")


class _Fact(Fact[ConditionFacts, T]):
    """One of the facts of a condition."""


class Condition:
    """A condition of a run (`flyte.new_condition`), to be answered."""

    def __init__(self, facts: ConditionFacts) -> None:
        #: What was known of it when it was found.
        self.facts = facts

    name: _Fact[str] = _Fact(lambda facts: facts.name, "The name that it was made with.")
    action_name: _Fact[str] = _Fact(lambda facts: facts.action, "Name of its action.")
    run_name: _Fact[str] = _Fact(lambda facts: facts.run, "Name of its run.")
    phase: _Fact[str] = _Fact(
        lambda facts: facts.phase.name, 'Where it stood when it was found: "PAUSED" while it waits.'
    )
    prompt: _Fact[str] = _Fact(lambda facts: facts.prompt, "What it asks.")
    description: _Fact[str] = _Fact(lambda facts: facts.description, "More about it.")
    expected_type: _Fact[type] = _Fact(lambda facts: facts.type, "Type of its answer.")

    @DualIterator
    @staticmethod
    def listall(run_name: str, action_name: str | None = None, limit: int = 100) -> list[Condition]:
        """The conditions of a run, in order of arrival.

        Args:
            run_name: The run.
            action_name: Only those that this action made.
            limit: Most conditions to give.
        """
        found = _ask_home(run_name, "conditions")
        return [Condition(each) for each in found if action_name in {None, each.parent}][:limit]

    @Dual
    @staticmethod
    def get(name: str, /, run_name: str, action_name: str | None = None) -> Condition | None:
        """A condition of a run, by name: the latest that waits, else the latest; None if there is none (yet).

        Args:
            name: The name that it was made with.
            run_name: The run.
            action_name: Only one that this action made.
        """
        found = [each for each in Condition.listall(run_name, action_name) if each.name == name]
        waiting = [each for each in found if each.facts.phase is Phase.PAUSED]
        return next(reversed(waiting or found), None)

    @Dual
    def signal(self, payload: float | str) -> None:
        """Answer it.

        Args:
            payload: A bool, int, float or str: of its `expected_type`; an int is a float, too.

        Raises:
            TypeError: It is of another type.
            RuntimeError: It does not wait any more.
        """
        if not isinstance(payload, (bool, int, float, str)):
            raise TypeError(f"payload must be bool, int, float, or str, got {type(payload).__name__}")
        if not _ask_home(self.run_name, "signal", self.facts, answer_of(payload, self.expected_type)):
            raise RuntimeError(f"Condition {self.name!r} of {self.run_name} does not wait any more.")

    def __repr__(self) -> str:
        return f"<Condition {self.run_name}/{self.name} {self.phase}: {self.prompt}>"


def _ask_home(run_name: str, op: str, *args: Any) -> Any:
    """Ask the home of a run: this process; for a task that asks about its own run, wherever that is.

    Raises:
        errors.ActionNotFoundError: The run is not known here.
    """
    context = current()
    if context is not None and context.run.name == run_name:
        return context.gateway.wait_for_home(context.run, op, args)
    control = find(run_name).control
    return control.engine.gateway.wait_for_home(control.info, op, args)
