"""Proxy of a run whose home is another process, for a task on a worker that starts or finds it. Runs in: worker.

``flyte.run`` inside a task starts an independent run: no child of the task's, not ended with it. Its home is that of the
task's run, where it is shown beside it, and where `flyte_nb.core.runs.run_answers` answers.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

import cloudpickle

from flyte_nb import errors
from flyte_nb.core.control.calls import Settled
from flyte_nb.core.history.facts import Action, Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.tasks.context import Context, of_task
from flyte_nb.core.values import pickler


def remote_context() -> Context | None:
    """The context of the running task, if its run has its home in another process."""
    context = of_task()
    return context if context is not None and not context.gateway.is_home else None


def start(context: Context, task: Any, bound: Any, options: Mapping[str, Any]) -> RunProxy:
    """Have the home of the running task's run start a run.

    Raises:
        Exception: What `flyte.run` raises there.
    """
    blob = pickler.dumps((task, bound, dict(options)))
    return RunProxy(context, _ask(context, "run.start", blob), task, bound)


def find(context: Context, name: str) -> RunProxy:
    """A run that the home knows.

    Raises:
        errors.ActionNotFoundError: There is none.
    """
    proxy = RunProxy(context, name)
    proxy.facts()
    return proxy


def _ask(context: Context, op: str, *args: Any) -> Any:
    answer = context.gateway.wait_for_home(context.run, op, args)
    if answer is None:
        raise errors.RuntimeSystemError("RuntimeSystemError", "the kernel that keeps this run did not answer")
    kind, value = answer
    if kind == "raised":
        raise cloudpickle.loads(value)
    return value


class RunProxy:
    """A run as a task on a worker sees it: its home is asked each time, for its own task and arguments if none are given."""

    def __init__(self, context: Context, name: str, task: Any = None, bound: Any = None) -> None:
        self.name = name
        self._context = context
        self._task = task
        self._bound = bound
        self._settled: Settled | None = None

    def facts(self) -> tuple[str, bool, list[Action], list[str], str]:
        """Its phase, whether it is done, its actions, logs and report, as they are now."""
        return _ask(self._context, "run.facts", self.name)  # type: ignore[no-any-return]

    @property
    def info(self) -> RunInfo:
        """What its actions know of it, as far as it is that of the task's own run."""
        return dataclasses.replace(self._context.run, name=self.name)

    @property
    def phase(self) -> Phase:
        """Its phase now."""
        return Phase(self.facts()[0])

    @property
    def action(self) -> Action | None:
        """Its root action."""
        return next(iter(self.actions), None)

    @property
    def actions(self) -> list[Action]:
        """Its actions, root first."""
        return self.facts()[2]

    def done(self) -> bool:
        """Whether nothing of it executes any more."""
        return self.facts()[1]

    #: A task that is stopped ends no run that it watches.
    waiting = staticmethod(contextlib.nullcontext)

    def wait(self, wait_for: str = "terminal") -> None:
        """Block until it is done, or with ``wait_for="running"`` has begun."""
        answer = _ask(self._context, "run.wait", self.name, wait_for)
        if answer is not None:
            self._settled = Settled(answer[0], None, *answer[1:])

    def value(self) -> Any:
        """Wait, and return what its task returned; raise what it raised."""
        self.wait()
        assert self._settled is not None
        return self._settled.result()

    def reading(self) -> None:
        """None: items do not travel from there one by one, all of them do as its value."""

    def called(self) -> tuple[Any, Any]:
        """Its task, and the bound arguments of it."""
        if self._task is None:
            self._task, self._bound = cloudpickle.loads(_ask(self._context, "run.inputs", self.name))
        return self._task, self._bound

    def abort(self, reason: str) -> None:
        """Cancel it."""
        _ask(self._context, "run.abort", self.name, reason)

    def logs(self) -> list[str]:
        """What its actions printed, line by line."""
        return self.facts()[3]

    def report(self) -> str:
        """Its report as one HTML page; "" if there is none."""
        return self.facts()[4]

    def __str__(self) -> str:
        return f"{self.name} {self._task.name if self._task else ''}"
