"""Requests to a process that works at a run, from others of its user: rows beside the record. Runs in: both.

What a request may do is what a button of the view does; the file is this user's alone, as everything in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

#: Made by the process that listens: a file of an older version has no such table.
TABLE = (
    "CREATE TABLE IF NOT EXISTS requests (id INTEGER PRIMARY KEY AUTOINCREMENT, kernel INTEGER NOT NULL, "
    "run TEXT NOT NULL, op TEXT NOT NULL, args TEXT NOT NULL)"
)


class Request(NamedTuple):
    """What is asked for."""

    #: In the process that is asked: "r1".
    run: str
    #: A button's operation: "cancel_run".
    op: str
    args: Mapping[str, Any]


def put(db: Any, kernel: int, run: str, op: str, args: Mapping[str, Any]) -> None:
    """Ask a kernel for something."""
    db.execute(TABLE)
    db.execute(
        "INSERT INTO requests (kernel, run, op, args) VALUES (?, ?, ?, ?)", (kernel, run, op, json.dumps(dict(args)))
    )
    db.commit()


def take(db: Any, kernel: int) -> list[Request]:
    """What a kernel was asked for since the last time, oldest first."""
    db.execute(TABLE)
    found = db.execute("SELECT id, run, op, args FROM requests WHERE kernel = ? ORDER BY id", (kernel,)).fetchall()
    if found:
        db.execute("DELETE FROM requests WHERE kernel = ? AND id <= ?", (kernel, found[-1][0]))
        db.commit()
    return [Request(run, op, json.loads(args)) for _, run, op, args in found]
