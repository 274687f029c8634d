"""Runs, looked up by name: ``%flyte status``, ``runs``, ``show``, ``logs``, ``links``. Runs in: kernel main thread."""

from __future__ import annotations

from collections.abc import Sequence

from flyte_nb.core.history.facts import Action, ErrorNote
from flyte_nb.core.history.store import FORGETS, RunRecord
from flyte_nb.core.tasks.registry import links_of
from flyte_nb.core.values.describe import plain
from flyte_nb.kernel.operations import subcommand
from flyte_nb.kernel.operations.cluster import cluster_text
from flyte_nb.kernel.session import Session


def find(session: Session, name: str) -> tuple[RunRecord, Action] | None:
    """The action called "a17" (in the latest run that has it) or "r3/a17"."""
    return session.gateway.ask(session.store.find, name)  # type: ignore[no-any-return]


def latest(session: Session) -> str:
    """Name of the latest run; "" before the first."""
    return next(reversed(session.store.runs), "")


@subcommand("status", "", "cluster and latest run")
def status(session: Session, *_words: str) -> str:
    """Which cluster, and how the latest run stands."""
    return "\n".join([cluster_text(session), *_lines(session)[-1:]])


@subcommand("runs", "", "runs of this kernel")
def runs(session: Session, *_words: str) -> str:
    """One line for each run."""
    gone = list(session.store.forgotten)
    said = [f"{gone[0]} to {gone[-1]} ({len(gone):,} runs) are not kept any more: {FORGETS}."] if gone else []
    return "\n".join([*said, *_lines(session)]) or "No runs yet."


def _lines(session: Session) -> list[str]:
    def rows() -> list[str]:
        lines = []
        for name, record in session.store.runs.items():
            state = record.state
            took = f"{(state.ended_at or session.engine.controller.now()) - state.started_at:.1f} s"
            count = f"{len(record.numbered):>7,} actions"
            lines.append(f"{name:>5}  {state.phase.value:<10} {took:>8}  {count}  {plain(state.title)}")
        return lines

    return session.gateway.ask(rows)  # type: ignore[no-any-return]


@subcommand("show", "[r3]", "show a run here")
def show(session: Session, *words: str) -> str | None:
    """Show a run under this cell."""
    name = words[0] if words else latest(session)
    if name not in session.store.runs:
        return session.store.missing(name)
    session.show_here(name)
    return None


@subcommand("logs", "[r3/]a17 [--traceback] [--raw]", "what an action printed, or its error in full; --raw: as it came")
def logs(session: Session, *words: str) -> str:
    """An action's log lines, or its full traceback; without what a terminal would obey, unless they are asked for raw."""
    names = [w for w in words if not w.startswith("-")]
    found = named(session, "logs", names)
    if isinstance(found, str):
        return found
    record, action = found
    as_shown = (lambda text: text) if "--raw" in words else plain
    if "--traceback" in words:
        return as_shown(_traceback(action))
    log = record.logs.of(action.name)
    hidden = f"\n[{log.hidden:,} lines hidden]" if log.hidden else ""
    return "\n".join(as_shown(line.text) for line in log) + hidden or f"{action.label} printed nothing."


@subcommand("links", "[r3/]a17", "addresses that an action's task links to")
def links(session: Session, *words: str) -> str:
    """Name and address of each link, one a line."""
    found = named(session, "links", words)
    if isinstance(found, str):
        return found
    record, action = found
    info = session.info_of(record.state.run)
    if info is None:
        return f"{record.state.run} is forgotten."
    lines = [plain(f"{name}: {address}") for name, address in links_of(action, info)]
    return "\n".join(lines) or f"{action.label} has no links."


def named(session: Session, command: str, names: Sequence[str]) -> tuple[RunRecord, Action] | str:
    """The action that a command names first, and its run; else what to say."""
    if not names:
        return f"Which action? %flyte {command} a17"
    return find(session, names[0]) or session.store.missing(names[0])


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
