"""Status of a failed action's run, in lines under the error: how many failed, and where the others are. Runs in: kernel.

The numbers are those of the moment at which the error is shown: its siblings may still be running.
"""

from __future__ import annotations

from flyte_nb.core.failures.traceback_text import fold_texts
from flyte_nb.core.failures.wording import Standing
from flyte_nb.core.history.columns import Group
from flyte_nb.core.history.facts import PHASES, Action
from flyte_nb.core.history.store import RunRecord
from flyte_nb.kernel.session import Session
from flyte_nb.views.words import SIBLINGS

#: Seconds that an error waits for the numbers; beyond it, it is shown without them.
ANSWER_WITHIN = 1.0
#: Failed siblings whose errors are compared; a million equal ones are not worth a second.
MAX_COMPARED = 10_000

_FAILED = frozenset(phase.code for phase in PHASES if phase.is_failure)


def short_name(action: str) -> str:
    """The short name ("a17") for an action's full name, in the latest run that has it; "" if none has."""
    session = Session.current
    records = reversed(list(session.store.runs.values())) if session is not None else ()
    return next((found.id for record in records if (found := record.actions.get(action)) is not None), "")


def was_stopped() -> bool:
    """Whether the cell that executes was stopped."""
    session = Session.current
    return session is not None and session.notebook is not None and session.cell_runs.was_stopped(session.cells.current)


def run_status(action: str) -> Standing:
    """Where an action's run and siblings stand; empty if the action is unknown, or the engine is busy."""
    session = Session.current
    if session is None:
        return Standing()
    try:
        return session.gateway.ask(_run_status, session, action, timeout=ANSWER_WITHIN)  # type: ignore[no-any-return]
    except (TimeoutError, RuntimeError):
        return Standing()


def _run_status(session: Session, name: str) -> Standing:
    for record in reversed(session.store.runs.values()):
        action = record.actions.get(name)
        if action is not None:
            place = record.group_of(name)
            return Standing(record.state.run, _lines(record, place[0]) if place is not None else ())
    return Standing()


def _lines(record: RunRecord, group: Group) -> tuple[str, ...]:
    total = len(group.members)
    failed = [record.actions[group.members[i]] for i, code in enumerate(group.phases) if code in _FAILED]
    if total < 2 or not failed:
        return ()
    same = [a for a in failed[:MAX_COMPARED] if a.error is not None]
    kinds = fold_texts((_summary(a), f"{a.id} {a.label}") for a in same)
    head = f"{len(failed):,} of {total:,} failed"
    lines = [f"{head}: {kinds[0]}"] if len(kinds) == 1 else [f"{head}:", *(f"  {kind}" for kind in kinds)]
    others = [f"{group.count(*phases):,} {word}" for word, phases in SIBLINGS if group.count(*phases)]
    if others:
        lines.append(f"the others: {', '.join(others)}")
    return tuple(lines)


def _summary(action: Action) -> str:
    assert action.error is not None
    first = action.error.message.strip().partition("\n")[0][:200]
    return f"{action.error.code}: {first}" if first else action.error.code
