"""Journal: write what happens to runs to disk, so that they outlive their kernel. Runs in: engine thread, and its own.

Theory of operation. The store hands every event to a queue, which is all that the engine's thread does. A thread of the
journal's own takes what has come every `FLUSH_S`, and writes it in one transaction, a row per run: a process that is killed
loses that fraction of a second and nothing else. Large results and arguments, which are in no event, go to files beside.
Whatever goes wrong here costs history and one notice: never an error of the user's run.
"""

from __future__ import annotations

import atexit
import os
import pickle
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from flyte_nb.core.cache.sqlite_file import SqliteFile, is_damage
from flyte_nb.core.control.calls import Call
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.store import RunStore
from flyte_nb.core.journal import bounds, requests, values
from flyte_nb.core.journal.format import DETACHED, LAYOUT
from flyte_nb.core.journal.kernels import ALIVE_S, born, here
from flyte_nb.core.journal.recorded import Recorded, plain_info, write
from flyte_nb.core.journal.secrecy import hides_inputs
from flyte_nb.core.runs import run_registry
from flyte_nb.core.settings.notices import notice_once
from flyte_nb.core.transport.payload import Payload, nbytes, small

#: Seconds between two writes while a run goes on.
FLUSH_S = 0.2
#: The same while none does: what comes late.
LATE_S = 2.0
#: Events waiting to be written; beyond it the oldest are lost: the disk is slower than the program.
MAX_WAITING = 1_000_000
#: Most events that are tried again when writing them failed.
MAX_AGAIN = 100_000
#: Events that are pickled at once: the engine's thread stands still meanwhile, as Python has one lock, about a millisecond.
CHUNK = 800
#: Seconds that it has for itself then.
YIELD_S = 0.002
#: Bytes of large values waiting to be written; beyond it, further ones are not kept.
MAX_WAITING_BYTES = 1024**3
#: Runs of which something may follow: more than the store keeps.
MAX_RECORDED = 1_000
#: Seconds that a write waits for another kernel's.
BUSY_S = 5.0
#: Bytes that must be free on the disk for a large value to be kept.
SPARE_BYTES = 512 * 1024**2


class _Value(NamedTuple):
    """A large value to be kept."""

    run: str
    action: str
    what: str
    payload: Payload


#: (run, action, its custom context), why a value of it is not kept, or bytes of a value that a worker keeps.
_Custom = tuple[str, str, bytes | str | int]


class Journal:
    """Writes the runs of one store.

    Args:
        folder: Where the file is; made if need be.
        store: The runs.
        notebook: What they are found by later.
        max_bytes: Bytes kept in all.
        max_days: Days that a run is kept.
    """

    def __init__(self, folder: Path, store: RunStore, notebook: str, *, max_bytes: int, max_days: float) -> None:
        self.folder = folder
        self.notebook = notebook
        self._bounds = (max_bytes, max_days)
        self._store = store
        self._file = SqliteFile(folder, LAYOUT)
        self._events: deque[ev.Event] = deque(maxlen=MAX_WAITING)
        self._values: deque[_Value] = deque()
        self._customs: deque[_Custom] = deque()
        self._waiting_bytes = 0
        #: Number of this kernel; 0 before its first run.
        self.kernel = 0
        #: Given, on this journal's thread, what other processes ask for; None where nobody may.
        self.on_request: Callable[[requests.Request], None] | None = None
        self._recorded: dict[str, Recorded] = {}
        #: Rows of runs, from their beginning on.
        self._ids: dict[str, int] = {}
        self._wake = threading.Event()
        self._closing = threading.Event()
        #: Set, each, once what happened before it was put here is written.
        self._asked: deque[threading.Event] = deque()
        self._thread: threading.Thread | None = None
        self._seen = 0.0
        #: Bytes written since the bounds were looked at.
        self._added = 0
        store.tap = self._events.append
        store.listeners.append(self._run_changed)

    def __repr__(self) -> str:
        return f"<Journal {self._file.path} [{self._file.off or f'{len(self._events)} waiting'}]>"

    @property
    def off(self) -> str:
        """Why nothing is recorded; "" while all is well."""
        return self._file.off

    # -- on the engine thread -------------------------------------------------------------------------------------

    def _run_changed(self, event: ev.Event) -> None:
        if type(event) is ev.RunClosed:
            return
        if type(event) is ev.RunOpened:
            self._ids[event.run] = secrets.randbits(48)  # never used again, not even after a crash
            while len(self._ids) > MAX_RECORDED:
                del self._ids[next(iter(self._ids))]
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="flyte-journal", daemon=True)
            self._thread.start()
            atexit.register(self.close)
        self._wake.set()

    def continued(self, run: str, row: int) -> None:
        """Record what follows of a run of an earlier kernel as part of that."""
        self._ids[run] = row
        self._recorded.setdefault(run, Recorded(row)).open = False

    def keep_result(self, run: str, action: str, payload: Payload) -> None:
        """Keep a result that is too large for an event. On the controller's thread."""
        self._keep(_Value(run, action, "result", payload))

    def place(self, run: str, action: str, size: int) -> tuple[str, str] | None:
        """Machine and path where a worker of this machine puts a large result; None if it is not to be kept.

        On the controller's thread.
        """
        row = self._ids.get(run)
        if row is None or self.off or size > min(values.MAX_VALUE_BYTES, self._bounds[0] // 4):
            return None
        self._customs.append((run, action, size))
        return here(), str(values.path_of(self.folder, row, action, "result"))

    def keep_call(self, call: Call) -> None:
        """Keep arguments that are too large for an event. On the controller's thread."""
        if small(call.payload) is None and not hides_inputs(call.task.name, call.label):
            self._keep(_Value(call.run.name, call.name, "inputs", call.payload))

    def keep_custom(self, call: Call) -> None:
        """Keep the custom context of a call. On the controller's thread."""
        self._customs.append((call.run.name, call.name, pickle.dumps(call.custom, 5)))

    def _keep(self, value: _Value) -> None:
        size, most = nbytes(value.payload), min(values.MAX_VALUE_BYTES, self._bounds[0] // 4)
        if self.off or self._thread is None:
            return
        if size > most:
            self._customs.append((value.run, value.action, f"it is larger than {most // 1024**2:,} MB"))
        elif self._waiting_bytes + size > MAX_WAITING_BYTES:
            self._customs.append((value.run, value.action, "results were made faster than the disk took them"))
        else:
            self._waiting_bytes += size
            self._values.append(value)

    # -- on the journal's thread ----------------------------------------------------------------------------------

    def _serve(self) -> None:
        db: Any = None
        ending, late = False, False
        while not ending:
            busy = self._any_open()
            self._wake.wait(FLUSH_S if busy else LATE_S if late else None)
            self._wake.clear()
            if not busy and not self._asked and not self._closing.is_set():  # a run has just begun: let it
                self._wake.wait(FLUSH_S)
                self._wake.clear()
            ending = self._closing.is_set()
            asked = [self._asked.popleft() for _ in range(len(self._asked))]
            late = bool(self._events or self._values or self._customs)
            db = self._round(db)
            for each in asked:
                each.set()
        if db is not None:
            db = self._write(db, [("UPDATE kernels SET closed = ? WHERE id = ?", (time.time(), self.kernel))])
        if db is not None:
            db.close()

    def _any_open(self) -> bool:
        return any(found.open for found in self._recorded.values())

    def _round(self, db: Any) -> Any:
        """Write what has come; returns the connection, None if it is given up."""
        if db is None:
            db = self._file.open_or_none(BUSY_S)
        if db is None and not self.off and len(self._events) < MAX_AGAIN and not self._closing.is_set():
            return None  # another kernel has it: next time
        # Values first: the events before them, which name their runs, are taken then, too.
        kept = [self._values.popleft() for _ in range(len(self._values))]
        customs = [self._customs.popleft() for _ in range(len(self._customs))]
        events = [self._events.popleft() for _ in range(len(self._events))]
        if db is not None and (events or kept or customs):
            db = self._transact(db, events, kept, customs)
        elif db is not None and self._any_open() and time.time() - self._seen > ALIVE_S:
            db = self._write(db, self._alive())
        self._waiting_bytes = sum(nbytes(self._values[at].payload) for at in range(len(self._values)))
        if db is not None and self.on_request is not None and self.kernel:
            db = self._take_requests(db, self.on_request)
        return db

    def _take_requests(self, db: Any, on_request: Callable[[requests.Request], None]) -> Any:
        try:
            for request in requests.take(db, self.kernel):
                on_request(request)
        except Exception as exc:
            return self._failed(db, exc)
        return db

    def _transact(self, db: Any, events: list[ev.Event], kept: list[_Value], customs: list[_Custom]) -> Any:
        before = (self.kernel, dict(self._recorded))
        gone: list[Path] = []
        try:
            by_run: dict[str, list[ev.Event]] = {}
            for event in events:
                by_run.setdefault(event.run, []).append(event)
            db.execute("BEGIN IMMEDIATE")
            for run, found in by_run.items():
                for at in range(0, len(found), CHUNK):
                    self._record(db, run, found[at : at + CHUNK])
                    if len(found) > CHUNK:
                        time.sleep(YIELD_S)
            self._write_customs(db, customs)
            for value in kept:
                self._write_value(db, value)
            if self._added > self._bounds[0] // 16:
                self._added = 0
                gone = bounds.trim(db, self.folder, *self._bounds)
            for sql, args in self._alive():
                db.execute(sql, args)
            db.commit()
        except Exception as exc:
            self.kernel, self._recorded = before
            for each in self._recorded.values():
                each.tasks.clear()  # their versions may have been among what failed
            if (
                any(word in str(exc) for word in ("locked", "full"))  # another kernel writes now, or the disk is full
                and len(events) + len(kept) + len(customs) < MAX_AGAIN
                and not self._closing.is_set()
            ):
                self._events.extendleft(reversed(events))
                self._values.extendleft(reversed(kept))
                self._customs.extendleft(reversed(customs))
            return self._failed(db, exc)
        bounds.remove(gone)
        return db

    def _failed(self, db: Any, exc: Exception) -> Any:
        """Report it; returns the connection, None if it is given up."""
        self._file.trouble(exc)
        try:
            db.rollback()
        except Exception:
            return None
        if is_damage(exc) or self.off:
            db.close()
            return None
        return db

    def _write(self, db: Any, statements: list[tuple[str, tuple[Any, ...]]]) -> Any:
        try:
            for sql, args in statements:
                db.execute(sql, args)
            db.commit()
        except Exception as exc:
            return self._failed(db, exc)
        return db

    def _alive(self) -> list[tuple[str, tuple[Any, ...]]]:
        self._seen = time.time()
        return [("UPDATE kernels SET seen = ? WHERE id = ?", (self._seen, self.kernel))]

    # -- one run --------------------------------------------------------------------------------------------------

    def _record(self, db: Any, run: str, events: list[ev.Event]) -> None:
        for event in events:
            if type(event) is ev.RunOpened:
                self._recorded[run] = Recorded(self._opened(db, event))
                self._forget()
        found = self._recorded.get(run)
        if found is None:
            return
        was_open = found.open
        self._added += write(db, found, events)
        if was_open and not found.open:
            self._added = self._bounds[0]  # a good moment to look at the bounds

    def _forget(self) -> None:
        """Forget the runs that closed longest ago: nothing follows of them."""
        for run in list(self._recorded)[: len(self._recorded) - MAX_RECORDED]:
            if not self._recorded[run].open:
                del self._recorded[run]

    def _opened(self, db: Any, event: ev.RunOpened) -> int:
        if not self.kernel:
            facts = (self.notebook, here(), os.getpid(), born(os.getpid()), time.time())
            sql = "INSERT INTO kernels (notebook, place, pid, born, seen) VALUES (?, ?, ?, ?, ?)"
            self.kernel = db.execute(sql, facts).lastrowid
        info = run_registry.info_of(event.run)
        row = self._ids.get(event.run) or secrets.randbits(48)
        db.execute(
            "INSERT OR REPLACE INTO runs (id, kernel, name, title, kind, cell, phase, started, seen, info) "
            "VALUES (?, ?, ?, ?, ?, ?, 'running', ?, ?, ?)",
            (
                row,
                self.kernel,
                event.run,
                event.title,
                event.kind if self.on_request is None else DETACHED,
                event.cell,
                event.at,
                time.time(),
                plain_info(info),
            ),
        )
        return row

    def _write_customs(self, db: Any, customs: list[_Custom]) -> None:
        for run, action, data in customs:
            found = self._recorded.get(run)
            if found is not None and isinstance(data, bytes):
                db.execute("INSERT INTO customs (run, action, data) VALUES (?, ?, ?)", (found.id, action, data))
            elif found is not None and isinstance(data, int):
                self._added += data
                db.execute("UPDATE runs SET nbytes = nbytes + ? WHERE id = ?", (data, found.id))
            elif found is not None:
                db.execute("INSERT INTO missing (run, action, why) VALUES (?, ?, ?)", (found.id, action, data))

    def _write_value(self, db: Any, value: _Value) -> None:
        found = self._recorded.get(value.run)
        if found is None:
            return
        path = values.path_of(self.folder, found.id, value.action, value.what)
        try:
            if shutil.disk_usage(self.folder).free < SPARE_BYTES + nbytes(value.payload):
                raise OSError("the disk is nearly full")
            size = values.write(path, value.payload)
        except Exception as exc:  # the process that had it is gone, or the disk is full
            self._write_customs(db, [(value.run, value.action, str(exc)[:200])])
            if isinstance(exc, OSError):
                notice_once("history values", f"A large result could not be recorded: {exc}. The run goes on.")
            return
        self._added += size
        db.execute("UPDATE runs SET nbytes = nbytes + ? WHERE id = ?", (size, found.id))

    # -- from any other thread ------------------------------------------------------------------------------------

    def flush(self, timeout: float = BUSY_S + 1) -> None:
        """Wait until what has happened is on disk. Not on the controller's thread."""
        if self._thread is None or self._closing.is_set():
            return
        done = threading.Event()
        self._asked.append(done)
        self._wake.set()
        done.wait(timeout)

    def detach(self) -> None:
        """Record nothing that happens from now on: what is cut off with its kernel must be found so."""
        self._store.tap = None
        if self._run_changed in self._store.listeners:  # a later run would start it anew
            self._store.listeners.remove(self._run_changed)

    def close(self) -> None:
        """Write what has happened. Idempotent."""
        self.detach()
        atexit.unregister(self.close)
        self._closing.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=BUSY_S)
