"""Runs that a task on a worker starts, or finds: they live at home, the worker asks. Runs in: worker, and the run's home.

``flyte.run`` inside a task starts an independent run: no child of the task's, not ended with it. Its home is that of the
task's run, where it is shown beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import cloudpickle

from flyte_nb import errors
from flyte_nb.core.control.calls import Settled
from flyte_nb.core.control.questions import Answers
from flyte_nb.core.history.facts import Action, Phase
from flyte_nb.core.runs import run_registry
from flyte_nb.core.runs.outputs import ActionOutputs
from flyte_nb.core.runs.run import Dual, Run
from flyte_nb.core.runs.start import with_runcontext
from flyte_nb.core.tasks.context import Context
from flyte_nb.core.transport.payload import carried
from flyte_nb.core.values import pickler
from flyte_nb.core.values.aio import DualIterator

#: Seconds between two looks at home whether a run has ended.
LOOK_EVERY = 0.02


def is_far(context: Context | None) -> bool:
    """Whether the running code is a task of a worker, whose home is elsewhere."""
    return context is not None and context.in_task and not context.gateway.is_home


# -- on the worker -----------------------------------------------------------------------------------------------------


def start(context: Context, task: Any, bound: Any, options: Mapping[str, Any]) -> WorkerRun:
    """Have the home of the running task's run start a run.

    Raises:
        Exception: What `flyte.run` raises there.
    """
    blob = pickler.dumps((task, bound, dict(options)))
    return WorkerRun(context, _ask(context, "run.start", blob), task, bound)


def find(context: Context, name: str) -> WorkerRun:
    """A run that the home knows.

    Raises:
        errors.ActionNotFoundError: There is none.
    """
    run = WorkerRun(context, name, None, None)
    run._facts()
    return run


def _ask(context: Context, op: str, *args: Any) -> Any:
    answer = context.gateway.wait_for_home(context.run, op, args)
    if answer is None:
        raise errors.RuntimeSystemError("RuntimeSystemError", "the kernel that keeps this run did not answer")
    kind, value = answer
    if kind == "raised":
        raise cloudpickle.loads(value)
    return value


class WorkerRun(Run):
    """A run, as a task on a worker sees it."""

    def __init__(self, context: Context, name: str, task: Any, bound: Any) -> None:
        self._context = context
        self._name = name
        self._task = task
        self._bound = bound
        self._settled: Settled | None = None

    @property
    def name(self) -> str:
        """Unique at its home."""
        return self._name

    def _facts(self) -> tuple[str, bool, list[Action], list[str], str]:
        found: tuple[str, bool, list[Action], list[str], str] = _ask(self._context, "run.facts", self._name)
        return found

    @property
    def phase(self) -> Phase:
        """Where it stands."""
        return Phase(self._facts()[0])

    @property
    def actions(self) -> list[Action]:
        """Its actions, root first, as they are now."""
        return self._facts()[2]

    @property
    def action(self) -> Action | None:
        """Its root action, as it is now."""
        return next(iter(self.actions), None)

    def done(self) -> bool:
        """Whether nothing of it executes any more."""
        return self._facts()[1]

    def _wait(self, quiet: bool = False, wait_for: str = "terminal", **_ignored: Any) -> None:
        answer = _ask(self._context, "run.wait", self._name, wait_for)
        if answer is not None:
            self._settled = Settled(answer[0], None, *answer[1:])

    wait = Dual(_wait)

    def _value(self) -> Any:
        self._wait()
        assert self._settled is not None
        return self._settled.result()

    def _abort(self, reason: str = "aborted") -> None:
        _ask(self._context, "run.abort", self._name, reason)

    abort = cancel = Dual(_abort)

    def _inputs(self) -> Mapping[str, Any]:
        if self._task is None:
            self._task, self._bound = cloudpickle.loads(_ask(self._context, "run.inputs", self._name))
        return super()._inputs()

    inputs = Dual(_inputs)

    def _outputs(self) -> ActionOutputs:
        if self._task is None:
            self._inputs()
        return super()._outputs()

    outputs = Dual(_outputs)

    def _get_logs(self, **_ignored: Any) -> list[str]:
        return self._facts()[3]

    get_logs = DualIterator(_get_logs)

    def _get_report(self, **_ignored: Any) -> str:
        return self._facts()[4]

    get_report = Dual(_get_report)

    def __repr__(self) -> str:
        return f"<Run {self._name} {self._task.name if self._task else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _by_name, (self._name,)


def _by_name(name: str) -> Any:
    return Run.get(name)


# -- at home -----------------------------------------------------------------------------------------------------------


def serve(answers: Answers, loop: asyncio.AbstractEventLoop) -> None:
    """Answer what workers ask about runs. All of it on the controller's thread, but for the user's own code."""

    def in_a_thread(then: Callable[[Any], None], function: Callable[..., Any], *args: Any) -> None:
        def work() -> None:
            try:
                answer = ("ok", function(*args))
            except BaseException as exc:
                answer = ("raised", _pickled(exc))
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
                loop.call_soon_threadsafe(then, answer)

        loop.run_in_executor(None, work)

    def wait(_run: str, then: Callable[[Any], None], name: str, wait_for: str) -> None:
        run = run_registry.known(name)
        if run is None:
            in_a_thread(then, Run.get, name)  # raises
        elif run.done():
            in_a_thread(then, _settled, run)
        elif wait_for == "running" and run.phase is Phase.RUNNING:
            then(("ok", None))
        else:
            loop.call_later(LOOK_EVERY, wait, _run, then, name, wait_for)

    answers.serve("run.start", lambda _run, then, blob: in_a_thread(then, _start, blob))
    answers.serve("run.facts", lambda _run, then, name: in_a_thread(then, _facts, name))
    answers.serve("run.inputs", lambda _run, then, name: in_a_thread(then, _inputs, name))
    answers.serve("run.abort", lambda _run, then, name, reason: in_a_thread(then, _abort, name, reason))
    answers.serve("run.wait", wait)


def _start(blob: bytes) -> str:
    task, (args, kwargs), options = cloudpickle.loads(blob)
    run: Run = with_runcontext(**options).run(task, *args, **kwargs)
    return run.name


def _facts(name: str) -> tuple[str, bool, list[Action], list[str], str]:
    run = Run.get(name)
    return run.phase.value, run.done(), run.actions, list(run.get_logs()), run.get_report()


def _inputs(name: str) -> bytes:
    run = Run.get(name)
    return pickler.dumps((run._task, run._bound))


def _abort(name: str, reason: str) -> str:
    Run.get(name).abort(reason)
    return name


def _settled(run: Run) -> tuple[Any, ...]:
    settled = run._settled
    assert settled is not None
    payload = settled.payload
    return settled.kind, payload and carried(payload), settled.error, settled.code, settled.message


def _pickled(exc: BaseException) -> bytes:
    try:
        return bytes(cloudpickle.dumps(exc))
    except Exception:
        return bytes(cloudpickle.dumps(errors.RuntimeUserError(type(exc).__name__, str(exc))))
