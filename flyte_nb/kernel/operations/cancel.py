"""Cancel a run or one action: ``%flyte cancel``, and the Cancel buttons. Runs in: kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flyte_nb.kernel.operations import SLOW, button, subcommand
from flyte_nb.kernel.operations.runs import latest
from flyte_nb.kernel.session import Session


@subcommand("cancel", "[r3[/a17]]", "cancel a run or one action", when=SLOW)
def cancel(session: Session, *words: str) -> str:
    """Cancel by name; the latest run without one."""
    name = words[0] if words else latest(session)
    if not name:
        return "No runs yet."

    def cancel() -> str:
        if name in session.store.runs:
            state = session.store.runs[name].state
            if state.ended_at is not None:
                return f"{name} has ended already: {state.phase.value}."
            session.abort_run(name, "%flyte cancel")
            return f"Cancelling {name}."
        found = session.store.find(name)
        if found is None:
            return session.store.missing(name)
        record, action = found
        if action.phase.is_terminal:
            return f"{record.state.run}/{action.id} {action.label} has ended already: {action.phase.value}."
        session.abort_action(record.state.run, action.name, "%flyte cancel")
        return f"Cancelling {record.state.run}/{action.id} {action.label}."

    return session.gateway.ask(cancel)  # type: ignore[no-any-return]


@button("cancel_run")
def cancel_run(session: Session, run: str, _args: Mapping[str, Any]) -> Any:
    """The run's Cancel button."""
    session.abort_run(run, "cancelled by its Cancel button")
    return {"ok": True}


@button("cancel_action")
def cancel_action(session: Session, run: str, args: Mapping[str, Any]) -> Any:
    """An action's Cancel button."""
    found = session.store.runs[run].find(str(args.get("action", "")))
    if found is not None:
        session.abort_action(run, found.name, "cancelled by its Cancel button")
    return {"ok": found is not None}
