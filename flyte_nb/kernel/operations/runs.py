"""Runs, looked up by name: ``%flyte status``, ``runs``, ``show``, ``logs``, ``links``. Runs in: kernel main thread.

Those of earlier kernels, ``k41.r7``, are read from the history when they are named.
"""

from __future__ import annotations

from pathlib import PurePath

from flyte_nb.core.history.facts import Action, ErrorNote
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.journal.restore import when
from flyte_nb.core.tasks.registry import links_of
from flyte_nb.errors import ActionNotFoundError
from flyte_nb.kernel.operations import subcommand
from flyte_nb.kernel.operations.cluster import cluster_text
from flyte_nb.kernel.session import Session

#: Runs of earlier kernels that are listed: the latest.
MAX_LISTED = 30


def find(session: Session, name: str) -> tuple[RunRecord, Action] | None:
    """The action called "a17" (in the latest run that has it), "r3/a17" or "k41.r3/a17"."""
    load_if_earlier(session, name.rpartition("/")[0])
    return session.gateway.ask(session.store.find, name)  # type: ignore[no-any-return]


def load_if_earlier(session: Session, run: str) -> str:
    """Read a run of an earlier kernel, if it is one; returns why that cannot be, "" if nothing is amiss."""
    if session.past is not None and run.startswith("k") and run not in session.store.runs:
        try:
            session.past.load(run)
        except ActionNotFoundError as exc:
            return str(exc)
    return ""


def latest(session: Session) -> str:
    """Name of the latest run; "" before the first."""
    return next(reversed(session.store.runs), "")


@subcommand("status", "", "cluster and latest run")
def status(session: Session, *_words: str) -> str:
    """Which cluster, and how the latest run stands."""
    return "\n".join([cluster_text(session), *_lines(session)[-1:]])


@subcommand(
    "runs", "[--all]", "runs of this notebook, those of earlier kernels first; --all: of every notebook of yours"
)
def runs(session: Session, *words: str) -> str:
    """One line for each run."""
    return "\n".join([*_earlier_lines(session, "--all" in words), *_lines(session)]) or "No runs yet."


def _lines(session: Session) -> list[str]:
    def rows() -> list[str]:
        now = session.engine.controller.now()
        return [
            _line(
                name, state.phase.value, (state.ended_at or now) - state.started_at, len(record.numbered), state.title
            )
            for name, record in session.store.runs.items()
            for state in (record.state,)
            if "." not in name  # those of earlier kernels come from the history, read or not
        ]

    return session.gateway.ask(rows)  # type: ignore[no-any-return]


def _line(name: str, state: str, took: float, actions: int, what: str) -> str:
    return f"{name:>5}  {state:<10} {f'{took:.1f} s':>8}  {actions:>7,} actions  {what}"


def _earlier_lines(session: Session, everywhere: bool) -> list[str]:
    found = session.past.runs(everywhere=everywhere, limit=MAX_LISTED) if session.past is not None else []
    lines = []
    for run in found:
        state = "dropped" if run.dropped else "running" if run.lives and run.ended is None else run.phase
        where = f"  [{PurePath(run.notebook).name}]" if everywhere else ""
        until = f", {run.cut_off_text}" if run.cut_off and not run.dropped else ""
        what = f"{run.title}{where}  ({when(run)}{until})"
        state = "cut off" if run.cut_off and not run.dropped else state
        lines.append(_line(run.name, state, (run.ended or run.seen) - run.started, run.actions, what))
    return lines


@subcommand("show", "[r3]", "show a run here")
def show(session: Session, *words: str) -> str | None:
    """Show a run under this cell."""
    name = words[0] if words else latest(session)
    amiss = load_if_earlier(session, name)
    if amiss:
        return amiss
    if name not in session.store.runs:
        return f"There is no run {name or 'yet'}; `%flyte runs` lists them."
    session.show_here(name)
    return None


@subcommand("logs", "[r3/]a17 [--traceback]", "what an action printed, or its error in full")
def logs(session: Session, *words: str) -> str:
    """An action's log lines, or its full traceback."""
    names = [w for w in words if not w.startswith("-")]
    if not names:
        return "Which action? %flyte logs a17"
    found = find(session, names[0])
    if found is None:
        return f"There is no action {names[0]}."
    record, action = found
    if "--traceback" in words:
        return _traceback(action)
    log = record.logs.of(action.name)
    hidden = f"\n[{log.hidden:,} lines hidden]" if log.hidden else ""
    return "\n".join(line.text for line in log) + hidden or f"{action.label} printed nothing."


@subcommand("links", "[r3/]a17", "addresses that an action's task links to")
def links(session: Session, *words: str) -> str:
    """Name and address of each link, one a line."""
    if not words:
        return "Which action? %flyte links a17"
    found = find(session, words[0])
    if found is None:
        return f"There is no action {words[0]}."
    record, action = found
    info = session.info_of(record.state.run)
    if info is None:
        return f"{record.state.run} is forgotten."
    lines = [f"{name}: {address}" for name, address in links_of(action, info)]
    return "\n".join(lines) or f"{action.label} has no links."


def error_of(action: Action) -> ErrorNote | None:
    """The error of an action: its own, or (parked, or between attempts) that of its latest attempt."""
    return action.error or (action.attempt.error if action.attempt is not None else None)


def _traceback(action: Action) -> str:
    error = error_of(action)
    if error is None:
        return f"{action.label} has no error."
    if error.record is None:
        return f"{error.code}: {error.message}"
    from flyte_nb.core.failures.record import FailureRecord
    from flyte_nb.core.failures.traceback_text import full_text

    return str(full_text(FailureRecord.loads(error.record)))
