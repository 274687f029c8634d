"""Bounds of the journal: what is too old, or too much, goes, oldest first; its name stays. Runs in: the journal's thread."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flyte_nb.core.journal.format import VALUES

#: Names kept of runs that were dropped.
MAX_DROPPED = 2_000
#: What is emptied of a run that goes.
_PARTS = ("batches", "versions", "customs", "missing")


def trim(db: Any, folder: Path, max_bytes: int, max_days: float) -> list[Path]:
    """Drop runs that are older than `max_days`, and the oldest beyond `max_bytes`; the newest win.

    Returns:
        What `remove` is to be given once that is committed: until then the runs are whole.
    """
    oldest = time.time() - max_days * 86_400
    total = 0
    for row, seen, nbytes in db.execute(
        "SELECT id, seen, nbytes FROM runs WHERE dropped = '' ORDER BY seen DESC"
    ).fetchall():
        total += nbytes
        if seen < oldest:
            drop(db, row, f"it is older than {max_days:g} days")
        elif total > max_bytes:
            drop(db, row, f"newer runs took the {max_bytes // 1024**2:,} MB that the history may take")
    there = set((folder / VALUES).iterdir()) if (folder / VALUES).exists() else set()
    # Of all that were ever dropped: a kernel that was killed between its commit and the removal has left them.
    gone = {folder / VALUES / str(row) for (row,) in db.execute("SELECT id FROM runs WHERE dropped != ''")} & there
    db.execute(
        "DELETE FROM runs WHERE dropped != '' AND id NOT IN "
        "(SELECT id FROM runs WHERE dropped != '' ORDER BY seen DESC LIMIT ?)", (MAX_DROPPED,),
    )  # fmt: skip
    return list(gone)


def drop(db: Any, row: int, why: str) -> None:
    """Drop what is kept of a run, all but its name and why; not yet its files."""
    for table in _PARTS:
        db.execute(f"DELETE FROM {table} WHERE run = ?", (row,))  # noqa: S608 - names of ours
    db.execute("UPDATE runs SET dropped = ?, nbytes = 0, info = NULL WHERE id = ?", (why, row))


def remove(folders: Iterable[Path]) -> None:
    """Remove files of runs that were dropped."""
    for each in folders:
        shutil.rmtree(each, ignore_errors=True)
