"""Outputs of a run, a tuple whose values have names; and results of the calls that it made. Runs in: everywhere."""

from __future__ import annotations

from typing import Any, NamedTuple

from flyte_nb.core.control.calls import Settled
from flyte_nb.core.history.as_dict import AsDict
from flyte_nb.core.history.facts import Action, ErrorNote
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.runs.engine import ROOT, Engine
from flyte_nb.core.runs.retry import CannotRetryError, in_call_order, needs_retry
from flyte_nb.core.transport.payload import Payload, rebuilt


class ActionOutputs(tuple[Any, ...], AsDict):  # noqa: SLOT001 - as Flyte's
    """Outputs of a run: a tuple, one value for each output; `o0`, `o1`, ... (the fields of a NamedTuple) name them."""

    _names: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: tuple[Any, ...], names: tuple[str, ...]) -> ActionOutputs:
        """Values under their names."""
        made = cls(values)
        made._names = names
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, tuple) and len(self) == 1:
            return bool(self[0] == other)
        return tuple.__eq__(self, other) if isinstance(other, tuple) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return tuple.__hash__(self)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            if name in self._names:
                return self[self._names.index(name)]
            if name[:1] == "o" and name[1:].isdigit() and int(name[1:]) < len(self):
                return self[int(name[1:])]
        if name == "pb2":
            raise AttributeError(
                "outputs have no 'pb2' here: they are the Python values themselves. `outputs.named_outputs` has them by name, "
                "outputs[0] is the first."
            )
        raise AttributeError(f"these outputs have no {name!r}: {self!r}")

    @property
    def named_outputs(self) -> dict[str, Any]:
        """Values by name."""
        names = self._names or tuple(f"o{i}" for i in range(len(self)))
        return dict(zip(names, self, strict=False))

    def to_dict(self) -> dict[str, Any]:
        """Values by name."""
        return self.named_outputs

    def __repr__(self) -> str:
        return "ActionOutputs(" + ", ".join(f"{name}={value!r}" for name, value in self.named_outputs.items()) + ")"

    def __reduce__(self) -> tuple[Any, ...]:
        return ActionOutputs.of, (tuple(self), self._names)


class Result(NamedTuple):
    """Result of one call: a payload, or a failure."""

    action: Action
    payload: Payload | None
    error: ErrorNote | None


def results_of(engine: Engine, record: RunRecord, group: str = "", task: str = "") -> list[Result]:
    """Results of the calls of a run's cell, or of its first task, in call order. On the controller's thread.

    Where they are not "": only calls of this group, and of this task, by its full name or the function's.
    """
    found = []
    for action in in_call_order(record.children_of(ROOT)):
        if action.kind != "task" or (group and action.group != group):
            continue
        if task and task not in {action.task, action.task.rpartition(".")[2]}:
            continue
        payload: Payload | None = action.output
        if payload is None:
            payload = engine.retained.result(record.state.run, action.name)
        error = None
        if needs_retry(action):
            payload = None
            error = action.error or ErrorNote(
                "system", "ActionAbortedError", f"{action.label} was {action.phase.value}"
            )
        found.append(Result(action, payload, error))
    return found


def open_results(results: list[Result], run: str, *, return_exceptions: bool) -> list[Any]:
    """The values, in call order. In the caller's thread: unpickling may take long.

    Raises:
        errors.BaseRuntimeError: A call failed, and `return_exceptions` is false: the first one's error.
        CannotRetryError: A result is not kept.
    """
    failed = [result for result in results if result.error is not None]
    if failed and not return_exceptions:
        error = _error(failed[0].error)
        error.add_note(
            f"{len(failed):,} of {len(results):,} calls of {run} have no result; `%flyte retry {run}` runs them again"
        )
        raise error
    values = []
    for action, payload, error_note in results:
        if error_note is not None:
            values.append(_error(error_note))
        elif payload is None:
            raise CannotRetryError(
                f"the result of {run}/{action.id} {action.label} is not kept any more (over 64 kB are kept up to 512 MB in "
                "all): call the task again, or have it return a flyte.io.File."
            )
        else:
            values.append(rebuilt(payload, "{} succeeded, but its result", f"{action.label} of {run}"))
    return values


def _error(note: ErrorNote | None) -> BaseException:
    return Settled("error", None, error=note).exception()
