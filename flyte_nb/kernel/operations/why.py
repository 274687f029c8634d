"""Why an action waits: ``%flyte why``, and what the view asks for an action that is queued. Runs in: kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flyte_nb.core.history.facts import Action, Phase
from flyte_nb.core.history.store import RunRecord
from flyte_nb.kernel.operations import SLOW, answered, button, subcommand
from flyte_nb.kernel.operations.runs import latest
from flyte_nb.kernel.session import Session
from flyte_nb.views.words import LOOKS, duration, label_text

#: Phases in which an action waits to run.
WAITS = (Phase.QUEUED, Phase.WAITING_FOR_RESOURCES, Phase.INITIALIZING)
#: Seconds that the owner of an action has to answer.
ANSWER_WITHIN = 2.0


@subcommand("why", "[[r3/]a17]", "what a queued action waits for; without a name the first that waits", when=SLOW)
def why(session: Session, *words: str) -> str:
    """The reason, as a sentence."""
    found = session.gateway.ask(session.store.find, words[0]) if words else session.gateway.ask(_first, session)
    if found is None:
        return session.store.missing(words[0]) if words else "Nothing waits."
    action: Action = found[1]
    name = f"{found[0].state.run}/{action.id} {label_text(action.label, 80)}"
    if action.phase not in WAITS:
        note = f" ({action.note})" if action.note and not action.phase.is_terminal else ""
        return f"{name} is {LOOKS[action.phase].word}{note}."
    said = session.engine.call(reason, session, action) or "its turn has not come"
    waited = session.engine.controller.now() - action.queued_at
    return f"{name} has waited for {duration(waited)}: {said}."


@button("why")
async def why_button(session: Session, run: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """What a view shows of a queued action: ``{"why": text}``, and empty once it runs."""
    action = session.store.runs[run].find(str(args.get("action") or ""))
    return {"why": await reason(session, action) if action is not None else ""}


async def reason(session: Session, action: Action) -> str:
    """Why an action does not run yet, as a clause; "" if it does. On the engine thread."""
    if action.phase not in WAITS:
        return ""
    note = session.store.runs[action.run].state.note if action.run in session.store.runs else ""
    try:
        said: str = await answered(lambda then: session.engine.why_queued(action, then), ANSWER_WITHIN)
        return said or action.note or note
    except TimeoutError:
        return "its owner, the worker that awaits it, does not answer"


def _first(session: Session) -> tuple[RunRecord, Action] | None:
    """The first action of the latest run that waits."""
    record = session.store.runs.get(latest(session))
    if record is None:
        return None
    codes = {phase.code for phase in WAITS}
    for group in record.groups.values():
        at = next((at for at, code in enumerate(group.phases) if code in codes), None)
        if at is not None:
            return record, record.actions[group.members[at]]
    return None
