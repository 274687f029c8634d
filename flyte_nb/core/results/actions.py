"""Actions of a run for people: ``run.actions``, with names, inputs and outputs as values. Runs in: the calling code."""

from __future__ import annotations

from typing import Any, NamedTuple

from flyte_nb.core.history.facts import Action
from flyte_nb.core.runs.engine import Engine
from flyte_nb.core.runs.run import Run
from flyte_nb.core.runs.run_control import RunControl
from flyte_nb.core.tasks.registry import REGISTRY
from flyte_nb.core.transport.payload import Payload, rebuilt


class Payloads(NamedTuple):
    """Of one action, as far as they are kept: its arguments and its result."""

    inputs: Payload | None
    output: Payload | None


def payloads_of(engine: Engine, run: str, actions: list[Action]) -> list[Payloads]:
    """What is kept of actions, large values included. On the controller's thread."""
    found, retained = [], engine.retained
    for action in actions:
        inputs, output = action.inputs, action.output
        if inputs is None:
            call = retained.call(run, action.name)
            inputs = call.payload if call is not None else retained.shelf(run, action.name, "inputs")  # type: ignore[assignment]
        if output is None and action.phase.is_success:
            output = retained.result(run, action.name)  # type: ignore[assignment]
        found.append(Payloads(inputs, output))
    return found


def kept(run: Run, actions: list[Action]) -> list[Payloads]:
    """What is kept of actions of a run, wherever its home is."""
    control = run.backend
    if isinstance(control, RunControl):
        return control.ask(payloads_of, control.engine, run.name, actions)  # type: ignore[no-any-return]
    return [Payloads(action.inputs, action.output) for action in actions]


def named_inputs(action: Action, payload: Payload) -> dict[str, Any]:
    """Arguments by name, from a call's payload; ``arg0`` and so on where the task is not known here."""
    args, kwargs = rebuilt(payload, "the inputs of {}", action.label)
    task = REGISTRY.latest(action.task)
    if task is not None and len(args) <= len(task.input_names):
        return dict(task.interface.named(args, kwargs))
    return {**{f"arg{i}": value for i, value in enumerate(args)}, **kwargs}


class RunAction:
    """One action of a run. All facts are attributes: ``phase label task group started_at ended_at attempt error ...``."""

    def __init__(self, run: Run, facts: Action) -> None:
        self._run = run
        #: What its run's store knows of it.
        self.facts = facts

    @property
    def name(self) -> str:
        """``"a2"``, as views show it."""
        return self.facts.id

    @property
    def inputs(self) -> dict[str, Any]:
        """Arguments by name, unpickled when they are asked for.

        Raises:
            LookupError: They are not kept.
        """
        payload = kept(self._run, [self.facts])[0].inputs
        if payload is None:
            raise LookupError(
                f"the inputs of {self._run.name}/{self.name} are not kept: only those of up to 64 kB are."
            )
        return named_inputs(self.facts, payload)

    @property
    def output(self) -> Any:
        """Its result, unpickled when it is asked for.

        Raises:
            LookupError: It has none, or it is not kept.
        """
        payload = kept(self._run, [self.facts])[0].output
        if payload is None:
            phase = self.facts.phase
            why = "its result is too large to have been kept" if phase.is_success else f"it is {phase.value}"
            raise LookupError(f"{self._run.name}/{self.name} {self.facts.label} has no output: {why}.")
        return rebuilt(payload, "{} succeeded, but its result", self.facts.label)

    def retry(self) -> None:
        """Run it again, if it failed or is parked."""
        self.facts.retry()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "facts":
            raise AttributeError(name)
        return getattr(self.facts, name)

    def __repr__(self) -> str:
        facts = self.facts
        took = f" in {facts.ended_at - facts.started_at:.2f} s" if facts.ended_at and facts.started_at else ""
        outcome = f": {facts.error.code}: {facts.error.message.splitlines()[0][:80]}" if facts.error else ""
        shown = f" -> {facts.preview[:80]}" if facts.preview and facts.phase.is_success else outcome
        return f"<{self.name} {facts.label} {facts.phase.value}{took}{shown}>"


def actions_of(run: Run) -> list[RunAction]:
    """The actions of a run, root first, in order of arrival."""
    return [RunAction(run, action) for action in run.backend.actions]
