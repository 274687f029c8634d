"""A condition, found again by name, to be answered: `flyte.remote.Condition`. Runs in: the run's process, and its tasks."""

from __future__ import annotations

from typing import Any

from flyte_nb.core.history.facts import Phase
from flyte_nb.core.runs import conditions
from flyte_nb.core.runs.run import Run
from flyte_nb.core.runs.run_registry import runs
from flyte_nb.core.steps.conditions import answer_of
from flyte_nb.core.tasks.context import current
from flyte_nb.core.values.aio import Dual, DualIterator


class Condition:
    """A condition of a run (`flyte.new_condition`), to be answered."""

    def __init__(self, asked: conditions.Asked) -> None:
        self._asked = asked

    @property
    def name(self) -> str:
        """The name that it was made with."""
        return self._asked.name

    @property
    def action_name(self) -> str:
        """Name of its action."""
        return self._asked.action

    @property
    def run_name(self) -> str:
        """Name of its run."""
        return self._asked.run

    @property
    def phase(self) -> str:
        """Where it stood when it was found: "PAUSED" while it waits."""
        return self._asked.phase.name

    @property
    def prompt(self) -> str:
        """What it asks."""
        return self._asked.prompt

    @property
    def description(self) -> str:
        """More about it."""
        return self._asked.description

    @property
    def expected_type(self) -> type:
        """Type of its answer."""
        return self._asked.type

    @staticmethod
    def _listall(run_name: str, action_name: str | None = None, limit: int = 100) -> list[Condition]:
        """The conditions of a run, in order of arrival.

        Args:
            run_name: The run.
            action_name: Only those that this action made.
            limit: Most conditions to give.
        """
        asked = _ask_home(run_name, "conditions")
        return [Condition(each) for each in asked if action_name in {None, each.parent}][:limit]

    @staticmethod
    def _get(name: str, /, run_name: str, action_name: str | None = None) -> Condition | None:
        """A condition of a run, by name: the latest that waits, else the latest; None if there is none (yet).

        Args:
            name: The name that it was made with.
            run_name: The run.
            action_name: Only one that this action made.
        """
        found = [each for each in Condition._listall(run_name, action_name) if each.name == name]
        waiting = [each for each in found if each._asked.phase is Phase.PAUSED]
        return next(reversed(waiting or found), None)

    def _signal(self, payload: float | str) -> None:
        """Answer it.

        Args:
            payload: A bool, int, float or str: of its `expected_type`; an int is a float, too.

        Raises:
            TypeError: It is of another type.
            RuntimeError: It does not wait any more.
        """
        if not isinstance(payload, (bool, int, float, str)):
            raise TypeError(f"payload must be bool, int, float, or str, got {type(payload).__name__}")
        if not _ask_home(self.run_name, "signal", self._asked, answer_of(payload, self.expected_type)):
            raise RuntimeError(f"Condition {self.name!r} of {self.run_name} does not wait any more.")

    get = Dual(_get, name="get")
    listall = DualIterator(_listall, name="listall")
    signal = Dual(_signal, name="signal")

    def __repr__(self) -> str:
        return f"<Condition {self.run_name}/{self.name} {self.phase}: {self.prompt}>"


def _ask_home(run_name: str, op: str, *args: Any) -> Any:
    """Ask the home of a run: this process; for a task that asks about its own run, wherever that is.

    Raises:
        errors.ActionNotFoundError: The run is not known here.
    """
    known = runs().get(run_name)
    context = current()
    if known is not None:
        gateway, info = known._engine.gateway, known._info
    elif context is not None and context.run.name == run_name:
        gateway, info = context.gateway, context.run
    else:
        gateway, info = Run.get(run_name)._engine.gateway, None  # raises: it is unknown
    return gateway.wait_for_home(info, op, args)  # type: ignore[arg-type]
