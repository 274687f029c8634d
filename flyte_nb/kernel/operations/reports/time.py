"""Time of a run: where it went, ``%flyte time``. Runs in: kernel main thread."""

from __future__ import annotations

from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.history.timing import MAX_ACTIONS, Timing, timing_of, with_more_slots
from flyte_nb.core.values.describe import plain
from flyte_nb.kernel.operations import SLOW, subcommand
from flyte_nb.kernel.operations.runs import latest, load_if_earlier
from flyte_nb.kernel.session import Session
from flyte_nb.views.words import cut, duration

#: Actions of the path that are listed.
MAX_LISTED = 8
#: Share of a run that is worth a line.
WORTH = 0.02


@subcommand("time", "[r3]", "where a run's time went: the chain of actions that made it last", when=SLOW)
def time(session: Session, *words: str) -> str:
    """The critical path of a run, by action, and what two more slots would bring."""
    name = words[0] if words else latest(session)
    amiss = load_if_earlier(session, name)
    if amiss:
        return amiss

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
        slots = sum(worker.nthreads for worker in session.engine.network.roster.values())
        return "\n".join([*_lines(name, timing), *_more(record, slots, timing)])

    return session.gateway.ask(look)  # type: ignore[no-any-return]


def _lines(name: str, timing: Timing) -> list[str]:
    """Where the time went: by kind, then by action."""
    total = max(timing.seconds, 1e-9)
    parts = [
        f"{duration(seconds)} {what}"
        for what, seconds in (
            ("in actions", timing.spent("running")),
            ("waiting for a worker or slot", timing.spent("waiting")),
            ("in the cell's own code, and between calls", sum(s.seconds for s in timing.path if s.action is None)),
        )
        if seconds > WORTH * total
    ]
    lines = [f"{name} took {duration(timing.seconds)}: {', '.join(parts) or 'nothing that lasted'}."]
    shown = [(action, seconds) for action, seconds in timing.longest[:MAX_LISTED] if seconds > WORTH * total]
    if not shown:
        return lines
    share = sum(seconds for _, seconds in shown) / total
    lines.append(
        f"The chain that made it last: {len(timing.longest):,} of {timing.actions:,} actions. Of it, the longest "
        f"({len(shown)}, {share:.0%} of the time):"
    )
    lines += [
        f"  {action.id:>6}  {duration(seconds):>9}  {seconds / total:4.0%}  {cut(plain(action.label or action.task), 80)}"
        for action, seconds in shown
    ]
    return lines


def _more(record: RunRecord, slots: int, timing: Timing) -> list[str]:
    if not slots or (found := with_more_slots(record, slots)) is None:
        return []
    waited = timing.spent("waiting")
    if waited < WORTH * timing.seconds:
        return ["More slots would bring next to nothing: little waited for one."]
    now, then = found
    if now - then < WORTH * timing.seconds:
        return [f"Two more slots than the {slots} of now would bring next to nothing."]
    saved = duration(min(now - then, waited))
    assumed = "if each call took as long as it did and none needed another's result"
    return [f"Two more slots than the {slots} of now would make it about {saved} shorter, {assumed}."]
