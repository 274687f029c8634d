"""Run what failed again, with the code of now, and collect what a run's calls gave. Runs in: controller's and caller's thread.

An action is retried under its own name: what succeeded stands, and children of the retried action that had succeeded are
recalled, not computed again, also where their task was redefined since (`flyte_nb.core.tasks.registry`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from flyte_nb.core.control.calls import Call, Settled
from flyte_nb.core.control.replay import resume_point
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Action, ErrorNote, Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.runs.engine import ROOT, Engine
from flyte_nb.core.tasks.registry import REGISTRY
from flyte_nb.core.tasks.task import Task
from flyte_nb.core.transport.payload import Payload, loads


class CannotRetryError(LookupError):
    """There is nothing to retry, or what it takes is gone."""


class Plan(NamedTuple):
    """What a retry will run."""

    calls: tuple[Call, ...]
    actions: tuple[Action, ...]


def renewed(task: Any) -> Task[..., Any]:
    """The task that a task's name means now, with the overrides that it was called with."""
    latest: Task[..., Any] | None = REGISTRY.latest(task.name)
    if latest is None or latest is task:
        return task  # type: ignore[no-any-return]
    return latest.override(**task.overrides) if task.overrides else latest


def renewed_run(record: RunRecord, info: RunInfo) -> RunInfo:
    """The run as its retried actions are to know it: with which code stands in for which."""
    return replace(info, aliases=REGISTRY.aliases(record.state.started_at))


def is_owed(action: Action) -> bool:
    """Whether an action ended without a result: it failed, timed out, or was cancelled (as siblings in a TaskGroup are)."""
    return (
        action.phase.is_terminal
        and action.phase not in {Phase.SUCCEEDED, Phase.RECOVERED}
        and action.kind != "condition"
    )


def is_parked(action: Action) -> bool:
    """Whether a failed action waits for somebody to decide (a condition, or a breakpoint, is paused too)."""
    return action.phase is Phase.PAUSED and action.kind in {"task", "root"} and not action.note.startswith("breakpoint")


def top_of(record: RunRecord, action: Action) -> Action:
    """The outermost action that must be executed again for this one to be: whose caller is the cell, or nobody."""
    seen = 0
    while action.parent and not (action.parent == ROOT and record.state.kind == "cell") and seen < 10_000:
        parent = record.actions.get(action.parent)
        if parent is None:
            break
        action, seen = parent, seen + 1
    return action


def owed(record: RunRecord) -> list[Action]:
    """The outermost actions of a run that ended without a result, in call order."""
    if record.state.kind == "cell":
        return [a for a in in_order(record.children_of(ROOT)) if is_owed(a)]
    root = record.actions.get(ROOT)
    return [root] if root is not None and any(is_owed(a) for a in record.actions.values() if a.number >= 0) else []


def in_order(actions: Iterable[Action]) -> list[Action]:
    """Actions in the order of their calls."""
    return sorted(actions, key=lambda action: action.number)


def plan(engine: Engine, record: RunRecord, only: Action | None = None) -> Plan:
    """Decide what to run again. On the controller's thread.

    Args:
        engine: Where the run ran.
        record: A run.
        only: Retry this action; None: all that ended without a result.

    Raises:
        CannotRetryError: Nothing failed, or arguments that it takes are not kept any more.
    """
    run = record.state.run
    actions = owed(record) if only is None else [top_of(record, only)]
    if not actions:
        raise CannotRetryError(f"nothing of {run} failed: there is nothing to retry.")
    calls = []
    for action in actions:
        call = call_of(engine, record, action)
        task = renewed(call.task)
        again = Call(
            task, renewed_run(record, call.run), call.name, call.parent, call.payload, call.label, call.group,
            call.custom, None, call.kind,
        )  # fmt: skip
        calls.append(again)
    return Plan(tuple(calls), tuple(actions))


def call_of(engine: Engine, record: RunRecord, action: Action) -> Call:
    """The call that made an action.

    Raises:
        CannotRetryError: Its arguments, or its task, are not known any more.
    """
    run = record.state.run
    retained = engine.retained
    call = retained.call(run, action.name)
    if call is not None:
        return call
    name = f"{run}/{action.id} {action.label}"
    task = REGISTRY.latest(action.task)
    if task is None:
        raise CannotRetryError(
            f"{name}: no task {action.task} is defined in this kernel; run the cell that defines it."
        )
    if action.inputs is None:
        raise CannotRetryError(
            f"the arguments of {name} are not kept any more (over 64 kB are kept for actions that a cell called, up to "
            "512 MB in all): call the task again."
        )
    info = engine.info_of(run) or RunInfo(name=run, home=engine.home)
    custom: tuple[tuple[str, str], ...] = ()
    caller: Action | None = action
    while caller is not None and not custom:  # it is handed down
        custom, caller = retained.custom(run, caller.name), record.actions.get(caller.parent)
    return Call(
        task, info, action.name, action.parent, action.inputs, action.label, action.group, custom, None, action.kind
    )


def start(engine: Engine, plan: Plan, settle: Callable[[Call], Callable[[Settled], None]]) -> None:
    """Carry a plan out. On the controller's thread.

    Args:
        engine: Where the run ran.
        plan: From `plan`.
        settle: Gives, for a call, whom to tell what came of it.
    """
    controller = engine.controller
    record = engine.store.runs[plan.calls[0].run.name]
    if record.state.ended_at is not None:
        controller.emit(ev.RunReopened(record.state.run, controller.now()))
    tell_again = getattr(controller.executor, "tell_again", None)
    if tell_again is not None:
        tell_again(record.state.run)  # the run's facts have changed: which code stands in for which
    root = record.actions.get(ROOT)
    if record.state.kind == "cell" and root is not None and root.phase.is_terminal:
        now = controller.now()
        controller.emit(ev.ActionNoted(record.state.run, ROOT, root.next_seq, Phase.QUEUED, now, "retried by hand"))
    for call, action in zip(plan.calls, plan.actions, strict=True):
        controller.resubmit(call, settle(call), point=resume_point(action))


def close_cell(engine: Engine, record: RunRecord) -> None:
    """Close a cell's run whose retried actions have ended: it succeeded if all its calls have a result.

    On the controller's thread.
    """
    controller = engine.controller
    now = controller.now()
    failed = [a for a in in_order(record.children_of(ROOT)) if is_owed(a)]
    phase = (Phase.FAILED if any(a.phase.is_failure for a in failed) else Phase.ABORTED) if failed else Phase.SUCCEEDED
    note = next((a.error for a in failed if a.error is not None), None)
    root = record.actions[ROOT]
    controller.emit(ev.ActionEnded(record.state.run, ROOT, root.next_seq, phase, now, note))
    controller.emit(ev.RunClosed(record.state.run, phase, now, note))


# -- results -----------------------------------------------------------------------------------------------------------


class Result(NamedTuple):
    """What one call gave: a payload, or a failure."""

    action: Action
    payload: Payload | None
    error: ErrorNote | None


def results_of(engine: Engine, record: RunRecord, group: str = "", task: str = "") -> list[Result]:
    """What the calls of a run's cell, or of its first task, gave, in call order. On the controller's thread.

    Args:
        engine: Where the run ran.
        record: The run.
        group: Only calls of this group; "": of all.
        task: Only calls of this task, by its full name or the function's; "": of all.
    """
    retained = engine.retained
    found = []
    for action in in_order(record.children_of(ROOT)):
        if action.kind != "task" or (group and action.group != group):
            continue
        if task and task not in {action.task, action.task.rpartition(".")[2]}:
            continue
        payload: Payload | None = action.output
        if payload is None:
            payload = retained.result(record.state.run, action.name)
        error = None
        if is_owed(action):
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
        error = _error(failed[0])
        error.add_note(
            f"{len(failed):,} of {len(results):,} calls of {run} have no result; `%flyte retry {run}` runs them again"
        )
        raise error
    values = []
    for action, payload, error_note in results:
        if error_note is not None:
            values.append(_error(Result(action, None, error_note)))
        elif payload is None:
            raise CannotRetryError(
                f"the result of {run}/{action.id} {action.label} is not kept any more (over 64 kB are kept up to 512 MB in "
                "all): call the task again, or have it return a flyte.io.File."
            )
        else:
            values.append(loads(payload))
    return values


def _error(result: Result) -> BaseException:
    return Settled("error", None, error=result.error).exception()
