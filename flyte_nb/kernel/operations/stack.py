"""Stack of a running action, or tree of a run: ``%flyte stack [a17 | r3]``, the Stack button. Runs in: kernel; asks workers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from flyte_nb.core.history.facts import Action
from flyte_nb.core.history.store import RunRecord
from flyte_nb.kernel import stack_tree
from flyte_nb.kernel.operations import SLOW, answered, button, subcommand
from flyte_nb.kernel.session import Session

#: Seconds to wait for the workers' answers.
ANSWER_WITHIN = 5.0


@subcommand("stack", "[a17 | r3]", "where an action is right now; of a run: who waits for whom", when=SLOW)
def stack(session: Session, *words: str) -> str:
    """The Python stack of a running action with the actions it waits for, or the tree of a run's unfinished actions."""
    found = session.gateway.ask(_named, session, words[0] if words else "")
    if found is None:
        return session.store.missing(words[0]) if words else "No runs yet."
    return str(session.engine.call(_text, session, *found))


@button("stack")
async def stack_button(session: Session, run: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """The Stack button of an action, or of a run."""
    record = session.store.runs[run]
    action = record.find(str(args.get("action") or ""))
    return {"ok": True, "text": await _text(session, record, action)}


def _named(session: Session, name: str) -> tuple[RunRecord, Action | None] | None:
    runs = session.store.runs
    if not name:
        going = [record for record in runs.values() if record.state.ended_at is None]
        latest = going or list(runs.values())
        return (latest[-1], None) if latest else None
    return (runs[name], None) if name in runs else session.store.find(name)


async def _text(session: Session, record: RunRecord, action: Action | None) -> str:
    answers: list[Any] = []
    if record.state.ended_at is None:
        question = (record.state.run, action.name if action is not None else "")
        try:
            answers = await answered(lambda then: session.engine.ask_all("stacks", question, then), ANSWER_WITHIN)
        except TimeoutError:
            return (
                f"A worker did not answer within {ANSWER_WITHIN:g} s: it computes without letting go of Python's lock."
            )
    look = stack_tree.gather(answers)
    if action is None:
        return stack_tree.tree(record, look, time.time())
    return stack_tree.action_text(record, action, look, time.time())
