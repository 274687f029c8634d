"""Retry of a run: which of its actions have to be executed again, with which code. Runs in: the controller's thread.

An action is retried under its own name, in its own run (`flyte_nb.core.runs.rerun` makes a new run of an old one): what
succeeded stands, and children of the retried action that had succeeded are replayed, not computed again, also where their task
was redefined since (`flyte_nb.core.tasks.registry`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from flyte_nb.core.control.calls import Call, Settled
from flyte_nb.core.control.replay import resume_point
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import BY_HAND, Action, Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.history.store import RunRecord, RunStore
from flyte_nb.core.runs.engine import ROOT, Engine
from flyte_nb.core.tasks.registry import REGISTRY, version_of
from flyte_nb.core.tasks.task import Task


class CannotRetryError(LookupError):
    """Nothing to retry, or arguments that a retry takes are forgotten."""


class Plan(NamedTuple):
    """What a retry will run."""

    calls: tuple[Call, ...]
    actions: tuple[Action, ...]


def current_version(task: Any) -> Task[..., Any]:
    """The task as it is defined now, with the overrides that it was called with."""
    latest: Task[..., Any] | None = REGISTRY.latest(task.name)
    if latest is None or latest is task:
        return task  # type: ignore[no-any-return]
    return latest.override(**task.overrides) if task.overrides else latest


def with_aliases(record: RunRecord, info: RunInfo) -> RunInfo:
    """The run's facts for its retried actions: with the identities that tasks had when it began, by those they have now."""
    return replace(info, aliases=REGISTRY.aliases(record.state.started_at))


def needs_retry(action: Action) -> bool:
    """Whether an action ended without a result: it failed, timed out, or was cancelled (as siblings in a TaskGroup are)."""
    return action.phase.is_terminal and not action.phase.is_success and action.kind != "condition"


def is_parked(action: Action) -> bool:
    """Whether a failed action is paused until a person decides over it (a condition, or a breakpoint, is paused too)."""
    return action.phase is Phase.PAUSED and action.kind in {"task", "root"} and not action.note.startswith("breakpoint")


def outermost(record: RunRecord, action: Action) -> Action:
    """The outermost caller of an action, which must be executed again for the action to be: the root, or a call of the cell."""
    seen = 0
    while action.parent and not (action.parent == ROOT and record.state.kind == "cell") and seen < 10_000:
        parent = record.actions.get(action.parent)
        if parent is None:
            break
        action, seen = parent, seen + 1
    return action


def to_retry(record: RunRecord) -> list[Action]:
    """The outermost actions of a run that ended without a result, in call order."""
    if record.state.kind == "cell":
        return [a for a in in_call_order(record.children_of(ROOT)) if needs_retry(a)]
    root = record.actions.get(ROOT)
    return [root] if root is not None and any(needs_retry(a) for a in record.actions.values() if a.number >= 0) else []


def in_call_order(actions: Iterable[Action]) -> list[Action]:
    """Actions in the order of their calls."""
    return sorted(actions, key=lambda action: action.number)


def plan(engine: Engine, record: RunRecord, only: Action | None = None) -> Plan:
    """Decide what to run again: one action, or all that ended without a result. On the controller's thread.

    Raises:
        CannotRetryError: Nothing failed, or arguments that it takes are not kept any more.
    """
    run = record.state.run
    actions = to_retry(record) if only is None else [outermost(record, only)]
    if not actions:
        raise CannotRetryError(f"nothing of {run} failed: there is nothing to retry.")
    calls = []
    for action in actions:
        call = call_of(engine, record, action)
        task = current_version(call.task)
        calls.append(replace(call, task=task, run=with_aliases(record, call.run), record=None, cache_key=b""))
    return Plan(tuple(calls), tuple(actions))


def call_of(engine: Engine, record: RunRecord, action: Action) -> Call:
    """The call that made an action.

    Raises:
        CannotRetryError: Its arguments, or its task, are not known any more.
    """
    run, retained = record.state.run, engine.retained
    call = retained.call(run, action.name)
    if call is not None:
        return call
    name = f"{run}/{action.id} {action.label}"
    task = REGISTRY.latest(action.task)
    if task is None:
        raise CannotRetryError(
            f"{name}: no task {action.task} is defined in this kernel; run the cell that defines it."
        )
    payload = action.inputs if action.inputs is not None else retained.shelf(run, action.name, "inputs")
    if payload is None:
        raise CannotRetryError(
            f"the arguments of {name} are not kept any more (over 64 kB are kept for actions that a cell called, up to "
            "512 MB in all): call its task again."
        )
    info = engine.info_of(run) or RunInfo(name=run, home=engine.home)
    custom: tuple[tuple[str, str], ...] = ()
    caller: Action | None = action
    while caller is not None and not custom:  # it is handed down
        custom, caller = retained.custom(run, caller.name), record.actions.get(caller.parent)
    return Call(task, info, action.name, action.parent, payload, action.label, action.group, custom, None, action.kind)


def resubmit(engine: Engine, plan: Plan, settle: Callable[[Settled], None]) -> None:
    """Submit the calls of a plan again; `settle` is called when one of them has settled. On the controller's thread."""
    controller = engine.controller
    record = engine.store.runs[plan.calls[0].run.name]
    if record.state.ended_at is not None:
        controller.emit(ev.RunReopened(record.state.run, controller.now()))
    controller.executor.tell_again(record.state.run)  # its facts have changed: which code stands in for which
    root = record.actions.get(ROOT)
    if record.state.kind == "cell" and root is not None and root.phase.is_terminal:
        now = controller.now()
        controller.emit(ev.ActionNoted(record.state.run, ROOT, root.next_seq, Phase.QUEUED, now, BY_HAND))
    for call, action in zip(plan.calls, plan.actions, strict=True):
        controller.resubmit(call, settle, point=resume_point(action))


def close_cell(engine: Engine, record: RunRecord) -> None:
    """Close a cell's run whose retried actions have ended: it succeeded if all its calls have a result.

    On the controller's thread.
    """
    controller = engine.controller
    now = controller.now()
    failed = to_retry(record)
    phase = (Phase.FAILED if any(a.phase.is_failure for a in failed) else Phase.ABORTED) if failed else Phase.SUCCEEDED
    note = next((a.error for a in failed if a.error is not None), None)
    root = record.actions[ROOT]
    controller.emit(ev.ActionEnded(record.state.run, ROOT, root.next_seq, phase, now, note))
    controller.emit(ev.RunClosed(record.state.run, phase, now, note))


def changed_tasks(store: RunStore, name: str) -> list[str]:
    """Tasks of a run, and of those it recovered, whose code has changed since: what they returned there is not used again.

    On the engine thread.
    """
    changed, newer = set[str](), set[str]()
    while (record := store.runs.get(name)) is not None:
        then = {task: version for task, version in record.versions.items() if version}
        record.changed_tasks = frozenset(task for task in then if (now := version_of(task)) and now != then[task])
        changed |= record.changed_tasks - newer
        newer |= then.keys()
        name = record.state.recovers
    return sorted(changed)
