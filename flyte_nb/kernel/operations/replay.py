"""Replay one action in the kernel, under the debugger: ``%flyte replay a17 [--step]``. Runs in: kernel main thread.

The body gets copies of the same arguments, and the action's own context: attempt, group, custom context, environment
variables. It is a run of its own, so that a view shows the children it awaits, which run on the cluster as always.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from flyte_nb.core.attempts.body import Body
from flyte_nb.core.control.calls import Call
from flyte_nb.core.control.work import Work
from flyte_nb.core.failures.record import summary_of
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Action, ErrorNote, LogLine, Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.runs import retry, run_registry
from flyte_nb.core.runs.engine import ROOT
from flyte_nb.core.tasks import context as ctx
from flyte_nb.core.transport.payload import loads
from flyte_nb.core.values.describe import brief
from flyte_nb.kernel.debugger.prompt import can_prompt
from flyte_nb.kernel.debugger.replay import Replayed
from flyte_nb.kernel.debugger.replay import replay as run_here
from flyte_nb.kernel.operations import FAILED, subcommand
from flyte_nb.kernel.operations.runs import named
from flyte_nb.kernel.session import Session

#: Longest text of the value that a replay gave, in characters.
VALUE_CHARS = 300


class _Silent:
    """Takes lines that go nowhere: what a replayed body prints goes straight to its cell."""

    def line(self, line: LogLine) -> None:
        """Take one line."""


@subcommand(
    "replay", "a17 [--step]", "run an action here, under the debugger; --step stops at its first line", when=FAILED
)
def replay(session: Session, *words: str) -> str:
    """Run an action's body in the kernel with its arguments."""
    names = [w for w in words if not w.startswith("-")]
    found = named(session, "replay", names)
    if isinstance(found, str):
        return found
    record, action = found
    known = run_registry.known(record.state.run)
    if known is not None:
        known.control.make_ready()
    try:
        call = session.gateway.ask(retry.call_of, session, record, action)
    except retry.CannotRetryError as exc:
        return str(exc)
    title = f"replay of {record.state.run}/{action.id}"
    with _run(session, call, action, title) as body:
        args, kwargs = loads(call.payload)
        variables = contextvars.copy_context()
        variables.run(ctx.enter, body.context)
        done = run_here(
            body.task.func, args, kwargs, context=variables, step="--step" in words, shell=session.cells.ip,
            what=f"%flyte replay {names[0]}",
        )  # fmt: skip
        body.context.scope.attachments["replayed"] = done
    if done.quit:
        return f"{action.label}: left by `quit`."
    if done.error is not None:
        return f"{action.label} raised {summary_of(done.error)}"
    return f"{action.label} returned {brief(done.value, VALUE_CHARS)}"


@contextmanager
def _run(session: Session, call: Call, action: Action, title: str) -> Iterator[Body]:
    """A run for the replay: opened before the body begins, closed when nothing of it executes any more."""
    info = replace(
        call.run, name=session.new_run_name(), aliases=(), on_failure="raise", breakpoint_wait=0.0,
        interactive_mode=can_prompt(session.cells.ip),
    )  # fmt: skip
    attempt = action.attempt.number if action.attempt is not None else 0
    work = Work(info.name, ROOT, attempt, call.payload, call.label, call.group, call.custom)
    body = Body(retry.current_version(call.task), info, work, session.gateway, lambda _: _Silent(), ("kernel", 0, ""))
    session.gateway.ask(_open, session, info, work, body, title)
    restore = body.begin()
    try:
        yield body
    except Exception as exc:
        body.context.scope.attachments["replayed"] = Replayed(error=exc)
        raise
    finally:
        body.finish(restore)
        session.gateway.ask(_close, session, info, body)


def _open(session: Session, info: RunInfo, work: Work, body: Body, title: str) -> None:
    now = time.time()
    cell = session.cells.current
    cell_id, prompt = getattr(cell, "cell_id", "") or "", getattr(cell, "prompt", 0) or 0
    session.store.append(ev.RunOpened(info.name, title, "replay", now, cell_id, prompt))
    session.store.append(ev.ActionQueued(info.name, ROOT, "", body.task.name, work.label, "", now, "root"))
    session.store.append(ev.AttemptStarted(info.name, ROOT, work.attempt, now, "kernel"))


def _close(session: Session, info: RunInfo, body: Body) -> None:
    """Cancel what the body left behind, and close the run once that has ended. On the engine thread."""
    controller = session.engine.controller
    controller.close_parent(info.name, ROOT, "the replay ended")
    session.engine.ask_workers("cancel_run", info.name, "the replay ended")
    done = body.context.scope.attachments.get("replayed")
    note = _note(done)
    phase = Phase.FAILED if note else Phase.SUCCEEDED if done is not None and not done.quit else Phase.ABORTED
    now = time.time()
    ended = ev.AttemptEnded(
        info.name, ROOT, body.work.attempt, body.started_at, now, phase is Phase.SUCCEEDED, "kernel", error=note
    )
    session.store.append(ended)
    session.store.append(ev.ActionEnded(info.name, ROOT, 1, phase, now, note))
    _close_when_quiet(session, info.name, phase, note)


def _close_when_quiet(session: Session, run: str, phase: Phase, note: ErrorNote | None) -> None:
    if session.engine.controller.is_busy(run):
        session.engine.thread.loop.call_later(0.05, _close_when_quiet, session, run, phase, note)
        return
    session.store.append(ev.RunClosed(run, phase, time.time(), note))


def _note(done: Any) -> ErrorNote | None:
    error = done.error if done is not None else None
    return ErrorNote("user", type(error).__name__, str(error)[:500]) if error is not None else None
