"""Rows of one run in the journal: its events, how it stands, and which code its tasks have. Runs in: the journal's thread."""

from __future__ import annotations

import pickle
import time
from dataclasses import fields
from typing import Any

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.journal.format import encoded
from flyte_nb.core.journal.secrecy import without_secrets
from flyte_nb.core.runs.engine import ROOT
from flyte_nb.core.tasks.registry import version_of
from flyte_nb.core.transport.process_folder import session_folder
from flyte_nb.core.values import redact

#: Characters of logs and reports recorded of one run: as many as the store keeps.
MAX_TEXT = 16_000_000


class Recorded:
    """A run that is being recorded."""

    __slots__ = ("id", "open", "tasks", "text")

    def __init__(self, row: int) -> None:
        self.id: int = row
        self.open: bool = True
        #: Tasks whose version is recorded.
        self.tasks: set[str] = set()
        #: Characters of logs and reports so far.
        self.text: int = 0


def write(db: Any, found: Recorded, events: list[ev.Event]) -> int:
    """Add a batch of its events to a run, whose row is there. Returns its bytes."""
    events = _worth(found, events)
    data = encoded(without_secrets(events, redact.secret_values()))
    db.execute("INSERT INTO batches (run, data) VALUES (?, ?)", (found.id, data))
    queued = done = 0
    for event in events:
        kind = type(event)
        if kind is ev.CallsEnded:
            done += event.phase.is_success * len(event.outputs)  # type: ignore[union-attr]
        elif kind is ev.ActionQueued or kind is ev.CallsQueued:
            queued += len(event.inputs) if kind is ev.CallsQueued else event.kind != "root"  # type: ignore[union-attr, arg-type]
            if event.task not in found.tasks:  # type: ignore[union-attr]
                _version(db, found, event.task)  # type: ignore[union-attr]
        elif kind is ev.ActionEnded:
            done += event.phase.is_success and event.action != ROOT  # type: ignore[union-attr]
        elif kind is ev.RunClosed:
            found.open = False
            state = (str(event.phase), event.at, found.id)  # type: ignore[union-attr]
            db.execute("UPDATE runs SET phase = ?, ended = ? WHERE id = ?", state)
        elif kind is ev.RunReopened:
            found.open = True
            db.execute("UPDATE runs SET phase = 'running', ended = NULL WHERE id = ?", (found.id,))
    db.execute(
        "UPDATE runs SET actions = actions + ?, done = done + ?, nbytes = nbytes + ?, seen = ? WHERE id = ?",
        (queued, done, len(data), time.time(), found.id),
    )
    return len(data)


def _version(db: Any, found: Recorded, task: str) -> None:
    """Record which code a task has, with the helpers that it uses."""
    found.tasks.add(task)
    version = version_of(task)
    if version:
        db.execute("INSERT OR IGNORE INTO versions (run, task, version) VALUES (?, ?, ?)", (found.id, task, version))


def _worth(found: Recorded, events: list[ev.Event]) -> list[ev.Event]:
    """Without reports that a later one of the batch replaces, and without what is printed beyond `MAX_TEXT`."""
    texts = [event for event in events if type(event) is ev.Reported or type(event) is ev.Logged]
    if not texts:
        return events
    last = {(e.action, e.tab): e for e in texts if type(e) is ev.Reported}
    skipped = {id(e) for e in texts if type(e) is ev.Reported and last[e.action, e.tab] is not e}
    for event in texts:
        if id(event) not in skipped:
            found.text += _characters(event)
            if found.text > MAX_TEXT:
                skipped.add(id(event))
    return [event for event in events if id(event) not in skipped]


def _characters(event: ev.Logged | ev.Reported) -> int:
    return len(event.html) if isinstance(event, ev.Reported) else sum(len(line.text) for line in event.lines)


def plain_info(info: RunInfo | None) -> bytes | None:
    """A run's facts, as far as they mean anything to another kernel; secrets aside, such as variables that cells have set."""
    if info is None:
        return None
    kept: dict[str, Any] = {field.name: getattr(info, field.name) for field in fields(RunInfo)}
    for name in ("name", "home", "aliases", "as_flyte", "recovers", "surroundings"):
        del kept[name]
    kept["started_at"] = info.started_at.timestamp()
    kept["env_vars"] = tuple((name, value) for name, value in info.env_vars if not redact.hides(name, value))
    if info.raw_data_path == session_folder():  # it goes with this kernel
        del kept["raw_data_path"]
    return pickle.dumps(kept, 5)
