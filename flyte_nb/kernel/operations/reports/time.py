"""Time of a run or an action: where it went, ``%flyte time``. Runs in: kernel main thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flyte_nb.core.history.facts import Action
from flyte_nb.core.history.parts import parts_of
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.history.timing import MAX_ACTIONS, Timing, more_slots_text, timing_of
from flyte_nb.kernel.operations import SLOW, button, subcommand
from flyte_nb.kernel.operations.runs import find, latest, load_if_earlier
from flyte_nb.kernel.session import Session
from flyte_nb.views.words import PARTS, duration, label_text, part_word, usage_text, worth_saying

#: Actions of the path that are listed.
MAX_LISTED = 8
#: Share of a run that is worth a line.
WORTH = 0.02
#: Actions of a run whose path a view is told without being asked for it: about 0.1 s.
MAX_AT_ONCE = 20_000
#: Actions of the path that a view names.
MAX_NAMED = 3
#: Actions of the path that a view lists.
MAX_ON_PATH = 500
#: Characters of the longest bar.
BAR = 24


@subcommand(
    "time", "[r3 | [r3/]a17]", "where the time of a run or an action went, and the chain that made it last", when=SLOW
)
def time(session: Session, *words: str) -> str:
    """The time of a run by part, its critical path, what two more slots would bring; or the time of an action."""
    name = words[0] if words else latest(session)
    amiss = load_if_earlier(session, name.partition("/")[0])
    if amiss:
        return amiss
    if name not in session.store.runs and (found := find(session, name)) is not None:
        return session.gateway.ask(_action_text, *found, session.engine.controller.now())  # type: ignore[no-any-return]

    def look() -> str:
        record = session.store.runs.get(name)
        if record is None:
            return session.store.missing(name)
        timing = timing_of(record, session.engine.controller.now())
        if timing is None:
            return (
                f"{name} has no action yet."
                if not record.numbered
                else f"{name} has more than {MAX_ACTIONS:,} actions."
            )
        more = _more(session, record, timing)
        return "\n".join([*_lines(name, timing), *([more] if more else [])])

    return session.gateway.ask(look)  # type: ignore[no-any-return]


@button("timing")
def timing_button(session: Session, run: str, _args: Mapping[str, Any]) -> dict[str, Any]:
    """What a view says of its run: where the time went, how few actions made most of it, what more slots would bring."""
    record = session.store.runs[run]
    if len(record.numbered) > MAX_AT_ONCE:
        return {"parts": []}
    timing = timing_of(record, session.engine.controller.now())
    if timing is None:
        return {"parts": []}
    count, share = timing.most()
    return {
        "parts": [[part, PARTS[part], round(seconds, 3)] for part, seconds in worth_saying(timing.parts)],
        "actions": timing.actions, "count": count, "share": round(share, 3), "more": _more(session, record, timing),
        "path": [[action.number, round(seconds, 3)] for action, seconds in timing.longest[:MAX_ON_PATH]],
        "named": [
            [action.number, label_text(action.label or action.task, 40), round(seconds, 3)]
            for action, seconds in timing.longest[: min(count, MAX_NAMED)]
        ],
    }  # fmt: skip


def _more(session: Session, record: RunRecord, timing: Timing) -> str:
    slots = sum(worker.nthreads for worker in session.engine.network.roster.values())
    return more_slots_text(record, slots, timing)


def _action_text(record: RunRecord, action: Action, now: float) -> str:
    """Where the time of one action went, and what its attempts used."""
    found = parts_of(record, action, now)
    lines = [
        f"{record.state.run}/{action.id} {label_text(action.label or action.task, 80)}: {duration(sum(found.values()))}"
    ]
    lines += _bars(found, action.task)
    used = ((attempt, usage_text(attempt)) for attempt in action.all_attempts)
    lines += [f"  attempt {attempt.number + 1} {text}" for attempt, text in used if text]
    return "\n".join(lines)


def _bars(found: Mapping[str, float], task: str = "") -> list[str]:
    """A line for each part that is worth one, with a bar."""
    whole = max(sum(found.values()), 1e-9)
    return [
        f"  {part_word(part, task):<40} {duration(seconds):>9}  {share:4.0%}  {'▇' * round(BAR * share)}".rstrip()
        for part, seconds in worth_saying(found)
        for share in (seconds / whole,)
    ]


def _lines(name: str, timing: Timing) -> list[str]:
    """Where the time went: by part, then by action."""
    total = max(timing.seconds, 1e-9)
    lines = [f"{name} took {duration(timing.seconds)}, by the chain that made it last:", *_bars(timing.parts)]
    shown = [(action, seconds) for action, seconds in timing.longest[:MAX_LISTED] if seconds > WORTH * total]
    if not shown:
        return lines
    count, share = timing.most()
    lines.append(f"{count:,} of {timing.actions:,} actions made {share:.0%} of the time. The longest of the chain:")
    lines += [
        f"  {action.id:>6}  {duration(seconds):>9}  {seconds / total:4.0%}  {label_text(action.label or action.task, 80)}"
        for action, seconds in shown
    ]
    return lines
