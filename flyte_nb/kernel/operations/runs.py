"""Runs, looked up by name: ``%flyte status``, ``runs``, ``show``, ``logs``, ``links``. Runs in: kernel main thread.

Those of earlier kernels, ``k41.r7``, are read from the history when they are named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from flyte_nb.core.history.facts import PHASES, Action, ErrorNote
from flyte_nb.core.history.store import FORGETS, RunRecord
from flyte_nb.core.journal.history import PastRun, is_past_name
from flyte_nb.core.journal.restore import when
from flyte_nb.core.tasks.registry import links_of
from flyte_nb.core.values.describe import plain
from flyte_nb.errors import ActionNotFoundError
from flyte_nb.kernel.operations import LOOK, button, subcommand
from flyte_nb.kernel.operations.cluster import cluster_text
from flyte_nb.kernel.session import Session
from flyte_nb.views.words import shown

#: Runs of earlier kernels that are listed: the latest.
MAX_LISTED = 30


def find(session: Session, name: str) -> tuple[RunRecord, Action] | None:
    """The action called "a17" (in the latest run that has it), "r3/a17" or "k41.r3/a17"."""
    load_if_earlier(session, name.rpartition("/")[0])
    return session.gateway.ask(session.store.find, name)  # type: ignore[no-any-return]


def load_if_earlier(session: Session, run: str) -> str:
    """Read a run of an earlier kernel, if it is one; returns why that cannot be, "" if nothing is amiss."""
    past = session.past
    if past is not None and run in session.store.forgotten and past.journal.kernel:
        return f"{run} is not in memory any more; the history has it as k{past.journal.kernel}.{run}: use that name."
    if past is not None and is_past_name(run) and run not in session.store.runs:
        try:
            past.load(run)
        except ActionNotFoundError as exc:
            return str(exc)
    return ""


def latest(session: Session) -> str:
    """Name of the latest run; "" before the first."""
    return next(reversed(session.store.runs), "")


@subcommand("status", "", "cluster and latest run", when=LOOK)
def status(session: Session, *_words: str) -> str:
    """Which cluster, and how the latest run stands."""
    return "\n".join([cluster_text(session), *_lines(session)[-1:]])


@subcommand(
    "runs",
    "[--all]",
    "runs of this notebook, those of earlier kernels first; --all: of every notebook of yours",
    when=LOOK,
)
def runs(session: Session, *words: str) -> str:
    """One line for each run."""
    gone = list(session.store.forgotten)
    said = [f"{gone[0]} to {gone[-1]} ({len(gone):,} runs) are not kept any more: {FORGETS}."] if gone else []
    return "\n".join([*_earlier_lines(session, "--all" in words), *said, *_lines(session)]) or "No runs yet."


@button("runs")
def runs_in_view(session: Session, _run: str, _args: Mapping[str, Any]) -> Any:
    """The runs of this kernel, the latest first, for the view's list. On the engine thread."""
    now = session.engine.controller.now()
    names = [name for name in reversed(session.store.runs) if not is_past_name(name)][:MAX_LISTED]
    return {"runs": [_listed(session, name, now) for name in names]}


def _listed(session: Session, name: str, now: float) -> dict[str, Any]:
    record, view = session.store.runs[name], session.shown.views.get(name)
    state = record.state
    return {
        "run": name, "title": shown(state.title, 80), "phase": state.phase.code, "prompt": state.prompt,
        "counts": [record.count(phase) for phase in PHASES], "took": round((state.ended_at or now) - state.started_at, 3),
        "view": view.uid if view is not None else "",
    }  # fmt: skip


def _lines(session: Session) -> list[str]:
    def rows() -> list[str]:
        now = session.engine.controller.now()
        return [
            _line(
                name,
                state.phase.value,
                (state.ended_at or now) - state.started_at,
                record.count(*PHASES),
                state.title,
                state.prompt,
            )
            for name, record in session.store.runs.items()
            for state in (record.state,)
            if not is_past_name(name)  # those of earlier kernels come from the history, read or not
        ]

    return session.gateway.ask(rows)  # type: ignore[no-any-return]


def _line(name: str, state: str, took: float, actions: int, what: str, prompt: int = 0) -> str:
    noun = "action " if actions == 1 else "actions"
    cell = f"In [{prompt}]" if prompt else ""
    return f"{name:>5}  {state:<10} {f'{took:.1f} s':>8}  {actions:>7,} {noun}  {cell:<8}  {plain(what)}"


def _earlier_lines(session: Session, everywhere: bool) -> list[str]:
    found = session.past.runs(everywhere=everywhere, limit=MAX_LISTED) if session.past is not None else []
    return [_earlier_line(session, run, everywhere) for run in found]


def _earlier_line(session: Session, run: PastRun, everywhere: bool) -> str:
    here = session.store.runs.get(run.name)
    goes_on = here is not None and here.state.ended_at is None  # it was retried
    cut_off = run.cut_off and not run.dropped and not goes_on
    state = "dropped" if run.dropped else "cut off" if cut_off else "running" if run.ended is None else run.phase
    where = f"  [{PurePath(run.notebook).name}]" if everywhere else ""
    what = f"{run.title}{where}  ({when(run)}{f', {run.cut_off_text}' if cut_off else ''})"
    actions = run.actions + (run.kind != "cell")  # what `flyte.run` was given is an action, too
    return _line(run.name, state, run.last_at - run.started, actions, what)


@subcommand("show", "[r3]", "show a run here", when=LOOK)
def show(session: Session, *words: str) -> str | None:
    """Show a run under this cell."""
    name = words[0] if words else latest(session)
    amiss = load_if_earlier(session, name)
    if amiss:
        return amiss
    if name not in session.store.runs:
        return session.store.missing(name)
    session.show_here(name)
    return None


@subcommand(
    "logs",
    "[r3/]a17 [--traceback] [--raw]",
    "what an action printed, or its error in full; --raw: as it came",
    when=LOOK,
)
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


@subcommand("links", "[r3/]a17", "addresses that an action's task links to", when=LOOK)
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
