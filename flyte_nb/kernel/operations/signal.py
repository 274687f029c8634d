"""Answer a condition: ``%flyte signal``, and the form in the view. Runs in: kernel; engine thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flyte_nb.core.history.facts import Phase
from flyte_nb.core.runs import conditions
from flyte_nb.core.steps.conditions import answer_from_text
from flyte_nb.kernel.operations import WAITS, button, subcommand
from flyte_nb.kernel.session import Session


@subcommand("signal", "[r3/]name value", "answer a condition; without a value, list those that wait", when=WAITS)
def signal(session: Session, *words: str) -> str:
    """Answer the condition of a name; list what waits without one."""
    if len(words) < 2:
        return session.gateway.ask(_waiting, session)  # type: ignore[no-any-return]
    run, _, name = words[0].rpartition("/")
    return session.gateway.ask(_signal, session, run, name, " ".join(words[1:]))  # type: ignore[no-any-return]


def _waiting(session: Session) -> str:
    lines = [
        f"%flyte signal {record.state.run}/{asked.name} <{asked.data_type}>    {asked.prompt}"
        for record in session.store.runs.values()
        if record.state.ended_at is None
        for asked in conditions.conditions_of(record)
        if asked.phase is Phase.PAUSED
    ]
    return "\n".join(lines) or "No condition waits."


def _signal(session: Session, run: str, name: str, text: str) -> str:
    records = [session.store.runs[run]] if run in session.store.runs else list(reversed(session.store.runs.values()))
    found = [asked for record in records if (asked := conditions.waiting(record, name)) is not None]
    if run and run not in session.store.runs:
        return session.store.missing(run)
    asked = next((each for each in found if each.phase is Phase.PAUSED), None)
    if asked is None:
        gone = f"Condition {name} does not wait any more."
        return gone if found else f"There is no condition {name}.\n{_waiting(session)}"
    try:
        value = answer_from_text(text, asked.type)
    except TypeError as exc:
        return str(exc)
    conditions.answer(session, asked, value)
    return f"{asked.run}/{asked.name}: {value!r}."


@button("signal")
def pressed(session: Session, run: str, args: Mapping[str, Any]) -> Any:
    """The answer that was typed into the view."""
    asked = conditions.waiting(session.store.runs[run], str(args.get("action", "")))
    if asked is None or asked.phase is not Phase.PAUSED:
        return {"ok": False, "error": "this condition does not wait any more"}
    value = args.get("value")
    try:
        answer = answer_from_text(value if isinstance(value, str) else str(value), asked.type)
    except TypeError as exc:
        return {"ok": False, "error": str(exc)}
    return {"ok": conditions.answer(session, asked, answer)}
