"""Format of the journal: its tables, and batches of events as bytes. Runs in: the journal's thread; where it is read.

A batch is the events of one run that came within a fraction of a second, pickled as one flat list. It is read with an unpickler
that makes nothing but facts: results and arguments stay bytes until somebody asks for them.
"""

from __future__ import annotations

import io
import pickle
import zlib
from collections.abc import Iterable
from typing import Any

from flyte_nb.core.cache.sqlite_file import Layout
from flyte_nb.core.history import events as ev
from flyte_nb.core.history import facts

_TABLES = """
CREATE TABLE IF NOT EXISTS kernels (
    id INTEGER PRIMARY KEY AUTOINCREMENT, notebook TEXT NOT NULL, place TEXT NOT NULL, pid INTEGER NOT NULL,
    born TEXT NOT NULL, seen REAL NOT NULL, closed REAL);
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kernel INTEGER NOT NULL, name TEXT NOT NULL, title TEXT NOT NULL,
    kind TEXT NOT NULL, cell TEXT NOT NULL, phase TEXT NOT NULL, started REAL NOT NULL, ended REAL, seen REAL NOT NULL,
    actions INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0, nbytes INTEGER NOT NULL DEFAULT 0,
    info BLOB, dropped TEXT NOT NULL DEFAULT '', UNIQUE (kernel, name));
CREATE INDEX IF NOT EXISTS runs_seen ON runs (seen);
CREATE TABLE IF NOT EXISTS batches (id INTEGER PRIMARY KEY, run INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS batches_run ON batches (run);
CREATE TABLE IF NOT EXISTS versions (
    run INTEGER NOT NULL, task TEXT NOT NULL, version TEXT NOT NULL, PRIMARY KEY (run, task));
CREATE TABLE IF NOT EXISTS customs (run INTEGER NOT NULL, action TEXT NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS customs_run ON customs (run);
CREATE TABLE IF NOT EXISTS missing (run INTEGER NOT NULL, action TEXT NOT NULL, why TEXT NOT NULL);
"""

LAYOUT = Layout(
    "history-1.sqlite", _TABLES, 1, "The history of runs", "Runs are not recorded",
    "They run as always, and are lost with this kernel; set FLYTE_NB_HISTORY to a folder that can be written, or turn it "
    "off with `flyte_nb.init(history=False)`.",
    "A part of a run could not be recorded",
)  # fmt: skip
#: Kind of a run that a process of its own works at, and not a notebook's kernel or a script.
DETACHED = "detached"
#: Folder beside the file, for values that are too large for it.
VALUES = "history-1"

#: Kinds of events by code, which is their place here: a new kind comes last, and new fields of a kind have defaults.
_KINDS: tuple[Any, ...] = (
    ev.RunOpened, ev.RunClosed, ev.RunReopened, ev.RunNoted, ev.ActionQueued, ev.ActionNoted, ev.ActionEnded,
    ev.AttemptStarted, ev.AttemptEnded, ev.Logged, ev.Reported, ev.Progressed, ev.CallsQueued, ev.CallsEnded,
)  # fmt: skip
_CODES = {kind: code for code, kind in enumerate(_KINDS)}
_ENDED = _CODES[ev.ActionEnded]
#: An `ActionEnded` with the fields of its attempt in place of the attempt, as nearly every action has one.
_ENDED_WITH_ATTEMPT = 100
#: How many fields events have, by code: what is read may have fewer.
_SIZES = {code: len(kind._fields) for code, kind in enumerate(_KINDS)} | {
    _ENDED_WITH_ATTEMPT: len(ev.ActionEnded._fields) - 1 + len(facts.Attempt._fields)
}
_ATTEMPT_AT = ev.ActionEnded._fields.index("attempt")
#: What a batch may name.
_FACTS = {"Phase": facts.Phase, "ErrorNote": facts.ErrorNote, "Attempt": facts.Attempt, "LogLine": facts.LogLine}


def encoded(events: Iterable[ev.Event]) -> bytes:
    """Events of one run as bytes."""
    # One flat list of fields: a tuple more for each event would cost twice as much, and most of that in garbage collection.
    flat: list[Any] = [_SIZES]
    for event in events:
        if type(event) is ev.ActionEnded and event.attempt is not None:
            flat.append(_ENDED_WITH_ATTEMPT)
            flat += event[:_ATTEMPT_AT]
            flat += event.attempt
        else:
            flat.append(_CODES[type(event)])
            flat += event
    return zlib.compress(pickle.dumps(flat, 5), 1)


def decoded(data: bytes, run: str) -> list[ev.Event]:
    """The events of a batch, as events of a run of this name.

    Raises:
        pickle.UnpicklingError: It holds anything but facts.
        zlib.error: It is damaged.
    """
    sizes, *flat = plain(zlib.decompress(data))
    found, at = [], 0
    while at < len(flat):
        code = flat[at]
        fields = flat[at + 2 : at + 1 + sizes[code]]  # without the name that the run had in its own kernel
        at += 1 + sizes[code]
        if code == _ENDED_WITH_ATTEMPT:
            code, cut = _ENDED, sizes[_ENDED] - 2
            fields = [*fields[:cut], facts.Attempt(*fields[cut:])]
        found.append(_KINDS[code](run, *fields))
    return found


class _Facts(pickle.Unpickler):
    """Makes facts and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module == facts.__name__ and name in _FACTS:
            return _FACTS[name]
        raise pickle.UnpicklingError(f"a batch of events names {module}.{name}")


def plain(data: bytes) -> Any:
    """What was pickled of built-in values.

    Raises:
        pickle.UnpicklingError: It names a class or function.
    """
    return _Facts(io.BytesIO(data)).load()
