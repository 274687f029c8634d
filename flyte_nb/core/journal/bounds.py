"""Bounds of the journal: what is too old, or too much, goes, oldest first; its name stays. Runs in: the journal's thread."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from flyte_nb.core.journal.format import VALUES

#: Names kept of runs that were dropped.
MAX_DROPPED = 2_000
#: What is emptied of a run that goes.
_PARTS = ("batches", "versions", "customs", "missing")


def trim(db: Any, folder: Path, max_bytes: int, max_days: float) -> None:
    """Drop runs that are older than `max_days`, and the oldest beyond `max_bytes`; the newest win."""
    oldest = time.time() - max_days * 86_400
    total = 0
    for row, seen, nbytes in db.execute(
        "SELECT id, seen, nbytes FROM runs WHERE dropped = '' ORDER BY seen DESC"
    ).fetchall():
        total += nbytes
        if seen < oldest:
            drop(db, folder, row, f"it is older than {max_days:g} days")
        elif total > max_bytes:
            drop(db, folder, row, f"newer runs took the {max_bytes // 1024**2:,} MB that the history may take")
    db.execute(
        "DELETE FROM runs WHERE dropped != '' AND id NOT IN "
        "(SELECT id FROM runs WHERE dropped != '' ORDER BY seen DESC LIMIT ?)", (MAX_DROPPED,),
    )  # fmt: skip


def drop(db: Any, folder: Path, row: int, why: str) -> None:
    """Drop what is kept of a run, all but its name and why."""
    for table in _PARTS:
        db.execute(f"DELETE FROM {table} WHERE run = ?", (row,))  # noqa: S608 - names of ours
    db.execute("UPDATE runs SET dropped = ?, nbytes = 0, info = NULL WHERE id = ?", (why, row))
    shutil.rmtree(folder / VALUES / str(row), ignore_errors=True)
