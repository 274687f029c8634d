"""Reuse what succeeded in a cell's previous run: ``%%flyte recover``. Runs in: kernel main thread."""

from __future__ import annotations

from flyte_nb.kernel.cells.tracker import Cell
from flyte_nb.kernel.operations import subcommand
from flyte_nb.kernel.session import Session


@subcommand("recover", "[r3]", "as %%flyte recover in a cell's first line: reuse what succeeded in its previous run")
def recover(session: Session, *words: str) -> str:
    """Have the running cell reuse results of its previous run, or of the run that is named."""
    cell = session.cells.current
    assert cell is not None  # a magic is in one
    older = words[0] if words else session.gateway.ask(previous_run, session, cell)
    if not older:
        return "There is no previous run of this cell to recover from: it runs in full."
    if older not in session.store.runs:
        return f"There is no run {older}; `%flyte runs` lists them. The cell runs in full."
    try:
        count = session.cell_runs.recover(cell, older)
    except RuntimeError as exc:
        return f"Nothing is recovered: {exc}"
    return f"Recovering {older}: {count} result{'s' * (count != 1)} of its calls can be reused."


def previous_run(session: Session, cell: Cell) -> str:
    """The latest run of the same notebook cell, or of a cell of the same title where cells have no id; "" if there is none.

    On the engine thread.
    """
    for name, record in reversed(session.store.runs.items()):
        state = record.state
        same = state.cell == cell.cell_id if cell.cell_id else state.title == cell.title
        if state.kind == "cell" and same:
            return name
    return ""
