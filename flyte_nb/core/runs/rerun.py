"""Rerun: ``flyte.rerun`` makes a new run of an earlier one, with its inputs. Runs in: the calling code.

With ``recover=True``, results of actions that succeeded there are reused (`flyte_nb.core.control.replay`). Executing again what
failed in a run, in that run itself, is `flyte_nb.core.runs.retry`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.runs import defaults, retry, run_registry
from flyte_nb.core.runs.engine import ROOT
from flyte_nb.core.runs.run import Run
from flyte_nb.core.runs.run_control import RunControl
from flyte_nb.core.transport.payload import loads
from flyte_nb.core.values.aio import blocking


def rerun_with(
    options: Mapping[str, Any], run_name: str, action_name: str = ROOT, recover: bool = False,
    force_rerun_actions: Sequence[str] | None = None,
    allow_missing_source_outputs: bool = False,  # noqa: ARG001 - a lost result is computed again anyway
    **inputs: Any,
) -> Run:  # fmt: skip
    """`rerun`, with options of `flyte.with_runcontext`; the others are those of the earlier run."""
    if force_rerun_actions and not recover:
        raise ValueError("force_rerun_actions requires recover=True: without it every action is executed again.")
    if recover and action_name != ROOT:
        raise ValueError(
            f"recover=True cannot be combined with action_name={action_name!r}: a run that begins with another action has "
            "other actions. Leave one of them out."
        )
    source = run_registry.find(run_name).control
    engine = source.engine
    record = engine.gateway.ask(lambda: engine.store.runs.get(run_name))
    action = record.find(action_name) if record is not None else None
    if action is None:
        raise LookupError(f"run {run_name} has no action {action_name}, or is not kept any more.")
    if action.name == ROOT and record.state.kind == "cell":
        raise ValueError(
            f"{run_name} is the run of a cell: run the cell again, with `%%flyte recover` in its first line to reuse what "
            "succeeded. Or give the action_name of one of its actions."
        )
    source.make_ready()
    call = engine.gateway.ask(retry.call_of, engine, record, action)
    task = retry.current_version(call.task)
    named = {**task.interface.named(*loads(call.payload)), **inputs}
    bound = task.interface.bind((), named)
    custom = tuple((options.get("custom_context") or dict(call.custom)).items())
    control = RunControl(engine, _info(source, options, run_name if recover else ""), task, bound, custom)
    if recover:
        engine.gateway.ask(retry.changed_tasks, engine.store, run_name)
        names = [found.name for each in force_rerun_actions or () if (found := record.find(each)) is not None]
        engine.gateway.run_soon(engine.replay.force, control.name, names)
    return run_registry.launch(control)


def _info(source: RunControl, options: Mapping[str, Any], recovers: str) -> RunInfo:
    """Facts of the new run: those of the source, but for what is given."""
    old = source.info
    mode = options.get("mode") or ("local" if old.mode == "local" else "remote")
    if mode != old.mode:
        raise ValueError(
            f"run {old.name} was a {old.mode} run, and can be run again as such only: leave out mode={mode!r}."
        )
    fresh = defaults.info_for(source.engine, mode, dict(options))
    known = {field.name for field in fields(RunInfo)}
    given = {name: getattr(fresh, name) for name, value in options.items() if name in known and value is not None}
    given |= {
        "name": fresh.name, "started_at": fresh.started_at, "mode": fresh.mode, "recovers": recovers,
        "surroundings": fresh.surroundings,
    }  # fmt: skip
    return replace(old, aliases=(), **given)


@blocking
def rerun(
    run_name: str, action_name: str = ROOT, recover: bool = False, force_rerun_actions: Sequence[str] | None = None,
    allow_missing_source_outputs: bool = False, **inputs: Any,
) -> Run:  # fmt: skip
    """Run an earlier run again, as a new run, with the code of now.

    Args:
        run_name: The earlier run ("r3"; "k41.r3", of an earlier kernel), started with `flyte.run`.
        action_name: The action to begin with, by name or number ("a17"): its task runs with the inputs it had. "a0", the
            root, by default.
        recover: Whether actions that succeeded there are reused; only the rest is executed, and every parent of it. An action
            is the same if its task's code and inputs, and its place among the calls, are.
        force_rerun_actions: With ``recover``, actions that are executed although they succeeded; unknown ones are ignored.
        allow_missing_source_outputs: Accepted; a result that is not kept any more is computed again.
        **inputs: Inputs to change; those left out are as they were.

    Raises:
        ValueError: The arguments contradict each other, or the run is that of a cell.
        errors.ActionNotFoundError: There is no such run.
        LookupError: There is no such action, or its arguments are not kept any more.

    Example:
        >>> run = flyte.rerun("r3", recover=True)
    """
    return rerun_with({}, run_name, action_name, recover, force_rerun_actions, allow_missing_source_outputs, **inputs)
