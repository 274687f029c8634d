"""History of runs across kernels, looked at and cleared: ``%flyte history``. Runs in: kernel main thread."""

from __future__ import annotations

from flyte_nb.core.journal import location
from flyte_nb.kernel.operations import LOST, subcommand
from flyte_nb.kernel.session import Session

#: Runs that are looked through.
MAX_RUNS = 100_000


@subcommand(
    "history", "[clear [k41.r7]]", "what is kept of runs of earlier kernels, and how much; clear: drop it", when=LOST
)
def history(session: Session, *words: str) -> str:
    """Where the history is and how large; with "clear", drop a run, or all that no kernel works at."""
    past = session.past
    if past is None:
        return "Runs are not recorded. `flyte_nb.init(history=True)` turns that on; FLYTE_NB_HISTORY says where."
    past.journal.flush()
    found = [run for run in past.history.runs(limit=MAX_RUNS) if not run.dropped]
    if words[:1] == ("clear",):
        gone = [run for run in found if (run.name in words[1:] if words[1:] else not run.lives)]
        past.history.clear(gone)
        return f"Dropped {len(gone):,} run{'s' * (len(gone) != 1)}: {sum(run.nbytes for run in gone) / 1e6:,.1f} MB."
    max_bytes, days = location.bounds()
    kernels = len({run.kernel for run in found})
    said = f"; nothing is added to it: {past.journal.off}" if past.journal.off else ""
    size = f"{sum(run.nbytes for run in found) / 1e6:,.1f} MB"
    return (
        f"{len(found):,} runs of {kernels:,} kernels, {size}, in {past.history.folder}{said}.\n"
        f"Kept for {days:g} days, and up to {max_bytes / 1e6:,.0f} MB (FLYTE_NB_HISTORY_DAYS, FLYTE_NB_HISTORY_BYTES); "
        "`flyte_nb.init(history=False)` turns it off."
    )
