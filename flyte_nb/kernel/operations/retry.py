"""Retry what failed, recover what succeeded, decide over parked actions: ``%flyte retry | recover | resume | raise``, buttons.

Runs in: kernel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from IPython.core.error import UsageError

from flyte_nb.core.history.facts import Action
from flyte_nb.core.history.store import FORGETS
from flyte_nb.core.journal.history import PastRun, is_past_name
from flyte_nb.core.runs import run_registry
from flyte_nb.core.runs.retry import changed_tasks, is_parked, to_retry
from flyte_nb.core.runs.run import Run
from flyte_nb.kernel.cells.tracker import Cell
from flyte_nb.kernel.operations import FAILED, LOST, WAITS, button, subcommand
from flyte_nb.kernel.operations.runs import find, load_if_earlier
from flyte_nb.kernel.session import Session

#: Retried actions that are named.
MAX_NAMED = 5


@subcommand("retry", "[r3 | a17]", "run what failed again, with the code of now; or retry a paused action", when=FAILED)
def retry(session: Session, *words: str) -> str:
    """Retry a run's failed actions, or one action; the latest run without a name."""
    name = words[0] if words else next(reversed(run_registry.runs()), "")
    try:
        run, action = _named(session, name)
        before = [action] if action is not None else session.gateway.ask(_to_retry, session, run.name)
        if action is None:
            run.retry_failed()
        else:
            run.retry(action)
    except (LookupError, RuntimeError) as exc:
        return _sentence(exc)
    session.show_here(run.name)
    names = ", ".join(f"{a.id} {a.label}" for a in before[:MAX_NAMED])
    more = f", and {len(before) - MAX_NAMED} more" if len(before) > MAX_NAMED else ""
    return (
        f"Retrying {len(before)} action{'s' * (len(before) != 1)} of {run.name}: {names}{more}.\n"
        f'`await flyte_nb.runs()["{run.name}"]` gives the results of all its calls, in order.'
    )


@subcommand("resume", "a17 expression", "let a paused action succeed with a value", raw=True, when=WAITS)
def resume(session: Session, line: str) -> str:
    """Give a parked action a result: an expression, evaluated in the notebook."""
    name, _, expression = line.partition(" ")
    if not name or not expression.strip():
        return "Which action, with what? %flyte resume a17 expression"
    try:
        run, action = _action(session, name)
    except LookupError as exc:
        return _sentence(exc)
    value = session.cells.ip.ev(expression)
    try:
        run.resume(action, value)
    except (LookupError, RuntimeError, TypeError) as exc:
        return _sentence(exc)
    return f"{run.name}/{action.id} {action.label} succeeds with {str(value)[:200]}."


@subcommand("raise", "a17", "let a paused action fail with its error", when=WAITS)
def let_raise(session: Session, *words: str) -> str:
    """Raise a parked action's error where the action is awaited."""
    if not words:
        return "Which action? %flyte raise a17"
    try:
        run, action = _action(session, words[0])
        run.fail(action)
    except (LookupError, RuntimeError) as exc:
        return _sentence(exc)
    return f"{run.name}/{action.id} {action.label} fails."


@subcommand(
    "recover", "[r3]", "as %%flyte recover in a cell's first line: reuse what succeeded in its previous run", when=LOST
)
def recover(session: Session, *words: str) -> str:
    """Have the running cell reuse results of its previous run, or of the run that is named."""
    cell = session.cells.current
    assert cell is not None  # a magic is in one
    older = words[0] if words else session.gateway.ask(_previous_run, session, cell)
    of = ""
    if not older and (found := _earlier_run(session, cell)) is not None:
        older = found.name
        assert session.past is not None
        if found.notebook != session.past.journal.notebook:
            of = f" of {found.notebook}"
    if not older:
        return (
            "There is no previous run of this cell to recover from: it runs in full. `%flyte runs --all` lists those of other "
            "cells and notebooks; `%%flyte recover k41.r7` names one."
        )
    amiss = load_if_earlier(session, older)
    if amiss or older not in session.store.runs:
        return f"{amiss or session.store.missing(older)} The cell runs in full."
    if session.past is not None:
        session.past.ready(older)
    changed = session.gateway.ask(changed_tasks, session.store, older)
    try:
        count = session.cell_runs.recover(cell, older)
    except RuntimeError as exc:
        return f"Nothing is recovered: {exc}"
    again = (
        f"\nThe code of {', '.join(changed)} has changed since: what it computed is computed again." if changed else ""
    )
    return f"Recovering {older}{of}: {count} result{'s' * (count != 1)} of its calls can be reused.{again}"


def _previous_run(session: Session, cell: Cell) -> str:
    """The latest run of the same notebook cell, or of a cell of the same title where cells have no id; "" if there is none.

    On the engine thread.
    """
    for name, record in reversed(session.store.runs.items()):
        state = record.state
        same = state.cell == cell.cell_id if cell.cell_id else state.title == cell.title
        if state.kind == "cell" and same and not is_past_name(name):
            return name
    return ""


def _earlier_run(session: Session, cell: Cell) -> PastRun | None:
    """The same in earlier kernels of the notebook, or of one that has this very cell.

    Raises:
        UsageError: The latest one may, or may not, go on elsewhere; the cell is not executed, which would be in full.
    """
    if session.past is None:
        return None
    place = session.past.journal.notebook, cell.cell_id or "", cell.title
    found, maybe = session.past.history.previous(*place), session.past.history.may_live(*place)
    if maybe and (found is None or found.notebook != place[0] or found.started < maybe[-1].started):
        raise UsageError(
            f"{maybe[-1].may_live_text}: run this cell again then. Nothing was executed; without its first line the cell "
            "runs in full."
        )
    return found


@button("retry_failed")
def retry_failed(_session: Session, run: str, _args: Mapping[str, Any]) -> Any:
    """The run's Retry button."""
    return _do(run, lambda found: found.retry_failed())


@button("retry_action")
def retry_action(_session: Session, run: str, args: Mapping[str, Any]) -> Any:
    """An action's Retry button."""
    return _do(run, lambda found: found.retry(str(args.get("action", ""))))


@button("resume")
async def resume_action(session: Session, run: str, args: Mapping[str, Any]) -> Any:
    """An action's Resume button: its value is an expression, with the notebook's names."""
    action = session.store.runs[run].find(str(args.get("action", "")))
    typed = args.get("value")
    if action is None or not isinstance(typed, str):
        hint = action.id if action is not None else "a17"
        return {"error": f"With what? Run `%flyte resume {hint} expression` in a cell."}
    if not is_parked(action):  # nothing is evaluated for it
        return {"error": f"{run}/{action.id} {action.label} is {action.phase.value} and waits for no decision."}
    # Not on the engine's thread, and not on the notebook's, which may be in a cell that waits for this very action.
    value, amiss = await session.reader.read(lambda: _evaluated(session, typed), lambda why: (None, why))
    if amiss:
        return {"error": f"{typed[:80]!r} is no value: {amiss}."}
    # It is checked and pickled there, too.
    return await asyncio.to_thread(_do, run, lambda found: found.resume(action, value))


def _evaluated(session: Session, typed: str) -> tuple[Any, str]:
    """The value of an expression, and what is wrong with it. On the reader's thread."""
    names = session.cells.ip.user_ns if session.notebook is not None else {}
    try:
        return eval(typed, names), ""  # noqa: S307 - typed by the notebook's own user
    except BaseException as exc:
        return None, f"{type(exc).__name__}: {exc}"[:300]


@button("raise")
def raise_action(_session: Session, run: str, args: Mapping[str, Any]) -> Any:
    """An action's Raise button."""
    return _do(run, lambda found: found.fail(str(args.get("action", ""))))


def _do(run: str, what: Any) -> dict[str, Any]:
    found = run_registry.runs().get(run)
    if found is None:
        return {"ok": False, "error": f"{run} is not kept any more: {FORGETS}."}
    try:
        what(found)
    except (LookupError, RuntimeError, TypeError) as exc:
        return {"ok": False, "error": _sentence(exc)}
    return {"ok": True}


def _named(session: Session, name: str) -> tuple[Run, Action | None]:
    """The run "r3", or the run and the action of "a17" or "r3/a17"."""
    if not name:
        raise LookupError("no runs yet.")
    amiss = load_if_earlier(session, name)
    if amiss:
        raise LookupError(amiss)
    found = run_registry.runs().get(name)
    return (found, None) if found is not None else _action(session, name)


def _action(session: Session, name: str) -> tuple[Run, Action]:
    found = find(session, name)
    run = run_registry.runs().get(found[0].state.run) if found is not None else None
    if found is None or run is None:
        raise LookupError(f"there is no run or action {name}; `%flyte runs` lists the runs.")
    return run, found[1]


def _to_retry(session: Session, run: str) -> list[Action]:
    record = session.store.runs[run]
    return [a for a in record.actions.values() if is_parked(a)] or to_retry(record)


def _sentence(exc: BaseException) -> str:
    text = str(exc.args[0]) if exc.args else type(exc).__name__
    starts_with_word = text.partition(" ")[0].isalpha()  # else with a name: "r7/a1"
    return text[:1].upper() + text[1:] if starts_with_word else text
