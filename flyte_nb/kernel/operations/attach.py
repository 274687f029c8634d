"""Attach a debugger to a remote frame: a failed one, ``%flyte debug a17``, or a live one, ``%flyte attach a17``.

Runs in: kernel main thread. At a breakpoint the debugger itself runs on the worker (`flyte_nb.worker.breakpoints`); here its
text is printed and its lines are asked for, with the notebook's own input.
"""

from __future__ import annotations

import asyncio
import linecache
from collections.abc import Iterable, Mapping
from typing import Any

from flyte_nb.core.failures import wording
from flyte_nb.core.history.facts import Action, Phase
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.history.worker_names import name_of
from flyte_nb.core.transport.mailbox import OneShot
from flyte_nb.kernel.debugger.prompt import demand_prompt
from flyte_nb.kernel.operations import FAILED, WAITS, answered, button, subcommand
from flyte_nb.kernel.operations.runs import error_of, latest, named
from flyte_nb.kernel.session import Session

#: Seconds to wait for the workers' answers, which of them holds an action at a breakpoint.
ANSWER_WITHIN = 5.0
#: Longest line that the panel may type, in characters.
MAX_LINE = 10_000


@subcommand("debug", "a17", "debugger at the remote frame of a failed action", when=FAILED)
def debug(session: Session, *words: str) -> str | None:
    """Open IPython's debugger on the frames of a failed action, with the locals they had on the worker."""
    found = named(session, "debug", words)
    if isinstance(found, str):
        return found
    _, action = found
    error = error_of(action)
    if error is None or error.record is None:
        return f"{action.label} has no failure record: it is {action.phase.value.replace('_', ' ')}."
    from flyte_nb.core.failures.record import FailureRecord
    from flyte_nb.kernel.debugger.post_mortem import post_mortem

    post_mortem(FailureRecord.loads(error.record))
    return None


@subcommand(
    "attach",
    "[a17] | off [r3]",
    "debugger prompt on an action that stands at breakpoint(); off lets all of a run go on",
    when=WAITS,
)
def attach(session: Session, *words: str) -> str | None:
    """Attach to an action at a breakpoint; the first that stands at one, without a name."""
    if words[:1] == ("off",):
        return _off(session, *words[1:])
    found = named(session, "attach", words) if words else session.gateway.ask(_first, session)
    if not found or isinstance(found, str):
        return found or "No action stands at a breakpoint."
    record, action = found
    run, name = record.state.run, f"{record.state.run}/{action.id} {action.label}"
    demand_prompt(session.cells.ip, f"%flyte attach {action.id}")
    place = _place(session, run, action.name)
    if place is None:
        return f"{name} stands at no breakpoint: it is {action.phase.value}."
    if place["attached"]:
        return f"{name} is attached to already."
    print(f"{name} on {name_of(place['address'])}. `c` or `q` lets it go on.")  # noqa: T201 - the answer to a command
    return _talk(session, place["address"], (run, action.name), _sources(place["files"]), action)


def _talk(session: Session, address: str, key: tuple[str, str], sources: dict[str, str], action: Action) -> str:
    answer: Any = None
    try:
        answer = _ask(session, address, "attach", (*key, sources))
        while answer is not None and answer["state"] == "prompt":
            print(_named(answer["text"], sources), end="")  # noqa: T201
            try:
                line = input(f"{action.id}> ")
            except EOFError:
                line = "continue"
            answer = _ask(session, address, "type", (*key, line))
    except KeyboardInterrupt:
        session.gateway.run_soon(session.engine.switchboard.ask, address, "detach", key, lambda _answer: None)
        return f"Detached: {action.id} goes on."
    if answer is None:
        return f"{action.id} is not at its breakpoint any more: its worker was lost, or it was cancelled."
    if answer["text"].strip():
        print(_named(answer["text"], sources), end="")  # noqa: T201
    return f"{action.id} {'has ended' if answer['state'] == 'ended' else 'goes on'}."


def _ask(session: Session, address: str, op: str, args: tuple[Any, ...]) -> Any:
    slot = OneShot()
    session.gateway.run_soon(session.engine.switchboard.ask, address, op, args, slot.put)
    return slot.get()  # The stop button ends it.


def _place(session: Session, run: str, action: str) -> Any:
    slot = OneShot()
    session.gateway.run_soon(session.engine.ask_all, "standing", (run, action), slot.put)
    answers = slot.get(ANSWER_WITHIN)
    return answers[0] if answers else None


@button("debug")
async def debug_in_view(session: Session, run: str, args: Mapping[str, Any]) -> Any:
    """The panel's debugger: attach to an action at a breakpoint, or type a line for it. On the engine thread.

    The cell that awaits it may go on waiting: nothing is asked of the kernel's main thread.
    """
    action = session.store.runs[run].find(str(args.get("action", "")))
    if action is None:
        return {"error": f"{run} has no such action."}
    more: tuple[Any, ...]
    standing = await answered(lambda then: session.engine.ask_all("standing", (run, action.name), then, ANSWER_WITHIN))
    if not standing:
        return {"error": f"{action.id} stands at no breakpoint: it is {action.phase.value}."}
    place, line = standing[0], args.get("line")
    if isinstance(line, str):
        op, more = "type", (line[:MAX_LINE],)
    else:
        op, more = "attach", (await asyncio.to_thread(_sources, place["files"]), place["attached"])
    key, ask = (run, action.name), session.engine.switchboard.ask
    answer = await answered(lambda then: ask(place["address"], op, (*key, *more), then))
    if not answer:
        return {"error": f"{action.id} is not at its breakpoint any more: its worker was lost, or it was cancelled."}
    return {"state": answer["state"], "text": _named(answer["text"], place["files"])}


def _named(text: str, files: Iterable[str]) -> str:
    """What pdb printed, with cells by their prompts."""
    for file in files:
        text = text.replace(file, wording.current().file(file))
    return text


def _sources(files: list[str]) -> dict[str, str]:
    return {file: text for file in files if (text := "".join(linecache.getlines(file)))}


def _first(session: Session) -> tuple[RunRecord, Action] | None:
    for record in reversed(list(session.store.runs.values())):
        if record.state.ended_at is None:
            for action in record.actions.unended():
                if action.phase is Phase.PAUSED and action.note.startswith("breakpoint"):
                    return record, action
    return None


def _off(session: Session, *words: str) -> str:
    name = words[0] if words else latest(session)
    if name not in session.store.runs:
        return session.store.missing(name)
    session.gateway.run_soon(session.engine.ask_workers, "breakpoints_off", name)
    return f"Nothing of {name} stops at a breakpoint any more."
