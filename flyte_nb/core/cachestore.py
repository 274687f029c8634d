"""Results of earlier calls on disk, shared by all kernels of a user: one SQLite file. Runs in: controller's thread at home.

Theory of operation. Reading is by one index look-up and happens on the calling thread where the result is small; large results
are read, and everything is written, on a thread of the store's own, so that the engine never waits for a disk. What is not
yet written is answered from memory. SQLite in WAL mode lets kernels read while another writes, and a crash loses what was
being written and nothing else. Entries carry a checksum. Whatever goes wrong here costs a result that is computed again, and
one notice: never an error of the user's run.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from flyte_nb.core import shelfclasses
from flyte_nb.core.blobs import content_of
from flyte_nb.core.notices import notice_once
from flyte_nb.core.serial import Packed, Payload, carried

logger = logging.getLogger("flyte")

#: Name of the file; another layout of the tables is another file.
FILE_NAME = "results-1.sqlite"
#: Marks the file as ours (``PRAGMA application_id``): "fnb1".
APPLICATION_ID = 0x666E6231
#: Bytes kept in all. Beyond it, what was used longest ago goes.
MAX_BYTES = 2 * 1024**3
#: Largest result kept: one result must not push out everything else, and SQLite takes less than 1 GB in one piece.
MAX_ENTRY_BYTES = 512 * 1024**2
#: Results up to this size are read on the calling thread: about 20 us.
SMALL_BYTES = 64 * 1024
#: Results waiting to be written, in bytes; beyond it further ones are not kept: the disk is slower than the program.
MAX_PENDING_BYTES = 1024**3
#: Seconds that a write waits for another kernel's.
BUSY_S = 10.0
#: Seconds after which hits are counted on disk.
FLUSH_S = 1.0

#: Times a damaged file is replaced; a disk that damages every one is not written to any more.
MAX_DAMAGES = 3
#: What SQLite says of a file that it will not be able to write later either.
_HOPELESS = ("readonly", "unable to open")

_TABLES = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, task TEXT NOT NULL, made_at REAL NOT NULL, used_at REAL NOT NULL,
    hits INTEGER NOT NULL DEFAULT 0, nbytes INTEGER NOT NULL, checksum BLOB NOT NULL, data BLOB);
CREATE INDEX IF NOT EXISTS entries_used ON entries (used_at);
CREATE INDEX IF NOT EXISTS entries_task ON entries (task);
CREATE TABLE IF NOT EXISTS parts (
    id INTEGER PRIMARY KEY, entry INTEGER NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS parts_entry ON parts (entry, number);
CREATE TRIGGER IF NOT EXISTS parts_go AFTER DELETE ON entries BEGIN DELETE FROM parts WHERE entry = OLD.id; END;
"""

Then = Callable[[Payload | None], None]


class TaskEntries(NamedTuple):
    """What is kept of one task."""

    task: str
    entries: int
    nbytes: int
    hits: int
    #: Seconds since the epoch.
    used_at: float


class _ForeignFileError(Exception):
    """The file is a database of somebody else's."""


class CacheStore:
    """Results by key.

    Args:
        folder: Where the file is; made if need be.
        post: Calls a function on the controller's thread, from any thread.
        max_bytes: Bytes kept in all.
    """

    def __init__(
        self, folder: Path, post: Callable[..., object] = lambda function, *args: function(*args), *,
        max_bytes: int = MAX_BYTES,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.path = folder / FILE_NAME
        self.max_bytes = max_bytes
        self._post = post
        self._jobs: queue.SimpleQueue[Callable[[Any], None] | None] = queue.SimpleQueue()
        #: Results that the thread has not written yet, and their bytes.
        self._pending: dict[bytes, tuple[float, Payload]] = {}
        self._pending_bytes = 0
        #: Of those, what the transaction under way holds; the thread's own.
        self._done: list[tuple[bytes, float, int]] = []
        self._hits: dict[bytes, int] = {}
        self._lock = threading.Lock()
        self._damages = 0
        self._reader: Any = None
        self._thread: threading.Thread | None = None
        self._off = ""
        self._closed = False

    @property
    def off(self) -> str:
        """Why nothing is kept; "" while all is well."""
        return self._off

    # -- reading --------------------------------------------------------------------------------------------------

    def get(self, key: bytes, max_age: float | None, then: Then) -> None:
        """Find a result.

        Args:
            key: Identifies the call.
            max_age: Seconds a result may be old; None for any age.
            then: Told the result, or None, on the controller's thread: at once, or once a large result has been read.
        """
        oldest = 0.0 if max_age is None else time.time() - max_age
        pending = self._pending.get(key)
        if pending is not None:
            then(pending[1] if pending[0] >= oldest else None)
            return
        try:
            row = self._read(
                "SELECT id, checksum, data FROM entries WHERE key = ? AND made_at >= ?", (key, oldest)
            )  # fmt: skip
        except Exception as exc:
            self._trouble(exc)
            row = None
        if row is None:
            then(None)
        elif row[2] is not None and not shelfclasses.has_globals(row[2]):
            found = row[2] if _checksum([row[2]]) == row[1] else None
            self._count(key, found)
            then(found)
        else:
            self._run(lambda db: self._fetch(db, key, row[0], then))

    def _read(self, sql: str, args: tuple[Any, ...]) -> Any:
        if self._off:
            return None
        if self._reader is None:
            self._reader = self._open(timeout=0.05)
        return self._reader.execute(sql, args).fetchone()

    def _fetch(self, db: Any, key: bytes, entry: int, then: Then) -> None:
        """Read a large result, or one with classes in it. On the store's thread."""
        found: Payload | None = None
        try:
            row = db.execute("SELECT checksum, data, nbytes FROM entries WHERE id = ?", (entry,)).fetchone()
            parts = db.execute("SELECT name, data FROM parts WHERE entry = ? ORDER BY number", (entry,)).fetchall()
            if row is not None:
                found = _assembled(row[1], parts, row[0], row[2])
        except Exception as exc:
            self._trouble(exc)
        if found is not None:
            found = shelfclasses.renewed(found)
        self._post(self._fetched, key, found, then)

    def _fetched(self, key: bytes, found: Payload | None, then: Then) -> None:
        self._count(key, found)
        then(found)

    def _count(self, key: bytes, found: Payload | None) -> None:
        if found is None:  # damaged, or it cannot be read here (a package is missing): as if it were not there
            self._run(lambda db: db.execute("DELETE FROM entries WHERE key = ?", (key,)))
            return
        if not self._hits:
            self._run(lambda _db: None)  # wakes the thread, which writes them a little later
        with self._lock:
            self._hits[key] = self._hits.get(key, 0) + 1

    # -- writing --------------------------------------------------------------------------------------------------

    def put(self, key: bytes, task: str, payload: Payload) -> None:
        """Keep a result; it is on disk a few milliseconds later. A newer one replaces an older one."""
        size = payload.nbytes if type(payload) is Packed else len(payload)
        if self._off or self._closed or size > min(MAX_ENTRY_BYTES, self.max_bytes // 4):
            return
        if self._pending_bytes + size > MAX_PENDING_BYTES:
            return
        made_at = time.time()
        self._pending[key] = (made_at, payload)
        self._pending_bytes += size
        self._run(lambda db: self._write(db, key, task, payload, made_at, size))

    def _write(self, db: Any, key: bytes, task: str, payload: Payload, made_at: float, size: int) -> None:
        try:
            whole = carried(payload)
            data = whole.data if type(whole) is Packed else whole
            buffers = [(blob.name, bytes(blob.get())) for blob in whole.blobs] if type(whole) is Packed else []
            parts: list[tuple[str, bytes]] = [("", data), *buffers]  # type: ignore[list-item]
            checksum = _checksum(part for _, part in parts)
            inline = data if len(parts) == 1 and len(data) <= SMALL_BYTES else None
            db.execute("DELETE FROM entries WHERE key = ?", (key,))
            cursor = db.execute(
                "INSERT INTO entries (key, task, made_at, used_at, nbytes, checksum, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (key, task, made_at, made_at, size, checksum, inline),
            )
            if inline is None:
                rows = [(cursor.lastrowid, number, name, part) for number, (name, part) in enumerate(parts)]
                db.executemany("INSERT INTO parts (entry, number, name, data) VALUES (?, ?, ?, ?)", rows)
        finally:
            self._done.append((key, made_at, size))

    def _written(self, done: list[tuple[bytes, float, int]]) -> None:
        for key, made_at, size in done:
            self._pending_bytes -= size
            if self._pending.get(key, (0.0,))[0] == made_at:
                del self._pending[key]

    # -- looking and clearing, from any thread --------------------------------------------------------------------

    def overview(self) -> list[TaskEntries]:
        """What is kept of each task, the largest first. Blocks; not on the controller's thread."""
        rows = self._ask(
            "SELECT task, count(*), sum(nbytes), sum(hits), max(used_at) FROM entries GROUP BY task ORDER BY sum(nbytes) DESC"
        )
        return [TaskEntries(*row) for row in rows]

    def clear(self, task: str = "") -> int:
        """Drop the results of a task (its full name, or its function's), or all; returns how many there were. Blocks."""
        if not task:
            return len(self._ask("DELETE FROM entries RETURNING 1", vacuum=True))
        pattern = "%." + task.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        sql = "DELETE FROM entries WHERE task = ? OR task LIKE ? ESCAPE '\\' RETURNING 1"
        return len(self._ask(sql, (task, pattern), vacuum=True))

    def _ask(self, sql: str, args: tuple[Any, ...] = (), *, vacuum: bool = False) -> list[Any]:
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def ask(db: Any) -> None:
            try:
                self._flush_hits(db)
                rows = db.execute(sql, args).fetchall()
                db.commit()  # what was put before is on disk when this is answered
                answer.put(rows)
                if vacuum:
                    db.execute("PRAGMA incremental_vacuum").fetchall()
            except Exception as exc:
                answer.put([])
                self._trouble(exc)

        if self._off or self._closed:
            return []
        self._run(ask)
        try:
            return list(answer.get(timeout=BUSY_S + 5))
        except queue.Empty:
            return []

    def flush(self) -> None:
        """Wait until everything is on disk. Not on the controller's thread."""
        self._ask("SELECT 1")

    def close(self) -> None:
        """Write what is pending and close the file. Idempotent."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join(timeout=BUSY_S)
        if self._reader is not None:
            self._reader.close()

    # -- the store's thread ---------------------------------------------------------------------------------------

    def _run(self, job: Callable[[Any], None]) -> None:
        if self._closed:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="flyte-cache", daemon=True)
            self._thread.start()
            atexit.register(self.close)
        self._jobs.put(job)

    def _serve(self) -> None:
        db: Any = None
        written = 0
        ending = False
        while not ending:
            try:
                jobs = [self._jobs.get(timeout=FLUSH_S if self._hits else None)]
            except queue.Empty:
                jobs = []
            while not self._jobs.empty():
                jobs.append(self._jobs.get())
            ending = None in jobs
            if db is None:
                db = self._open_or_none(timeout=BUSY_S)
            try:
                self._transact(db, [job for job in jobs if job is not None], ending or not jobs)
                written += len(jobs)
                if written >= 64 or ending:
                    written = 0
                    self._evict(db)
            except Exception as exc:
                self._trouble(exc)
                db = None if self._is_damage(exc) else db
        if db is not None:
            db.close()

    def _transact(self, db: Any, jobs: list[Callable[[Any], None]], count: bool) -> None:
        """All jobs that wait, in one transaction: a file system makes a few hundred a second."""
        db = db if db is not None else _Nothing()
        try:
            for job in jobs:
                try:
                    job(db)
                except Exception as exc:
                    self._trouble(exc)
                    if self._is_damage(exc):
                        db = _Nothing()
            if count:
                self._flush_hits(db)
            db.commit()
        except Exception:
            db.rollback()
            raise
        finally:
            # Only now can it be read from the file.
            done, self._done = self._done, []
            if done:
                self._post(self._written, done)

    def _flush_hits(self, db: Any) -> None:
        with self._lock:
            hits, self._hits = self._hits, {}
        now = time.time()
        db.executemany(
            "UPDATE entries SET hits = hits + ?, used_at = ? WHERE key = ?", [(n, now, key) for key, n in hits.items()]
        )

    def _evict(self, db: Any) -> None:
        if db is None:
            return
        total = db.execute("SELECT coalesce(sum(nbytes), 0) FROM entries").fetchone()[0]
        if total <= self.max_bytes:
            return
        surplus = total - int(self.max_bytes * 0.9)
        for entry, size in db.execute("SELECT id, nbytes FROM entries ORDER BY used_at").fetchall():
            db.execute("DELETE FROM entries WHERE id = ?", (entry,))
            surplus -= size
            if surplus <= 0:
                break
        db.commit()
        db.execute("PRAGMA incremental_vacuum").fetchall()

    # -- the file -------------------------------------------------------------------------------------------------

    def _open_or_none(self, timeout: float) -> Any:
        if self._off:
            return None
        try:
            return self._open(timeout)
        except Exception as exc:
            self._trouble(exc)
            return None

    def _open(self, timeout: float) -> Any:
        """A connection; a damaged file is put aside first."""
        for last in (False, True):
            try:
                return self._connect(timeout)
            except Exception as exc:
                if last or not self._is_damage(exc):
                    raise
                self._put_aside(exc)
        raise AssertionError

    def _connect(self, timeout: float) -> Any:
        import sqlite3

        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        db = sqlite3.connect(self.path, timeout=timeout, check_same_thread=False)
        try:
            mark = db.execute("PRAGMA application_id").fetchone()[0]
            tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if tables and mark != APPLICATION_ID:
                raise _ForeignFileError(f"{self.path} is a database of another program")
            if not tables:
                db.execute("PRAGMA auto_vacuum = INCREMENTAL")
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute("PRAGMA journal_mode = WAL")
                db.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA journal_size_limit = 33554432")
        except BaseException:
            db.close()
            raise
        return db

    def _is_damage(self, exc: BaseException) -> bool:
        import sqlite3

        # OperationalError: locked, disk full, no permission. The other kinds speak of the file's content.
        return isinstance(exc, sqlite3.DatabaseError) and not isinstance(
            exc, sqlite3.OperationalError | sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.DataError
        )

    def _put_aside(self, exc: BaseException) -> None:
        aside = self.path.with_name(f"{FILE_NAME}.damaged-{int(time.time())}")
        try:
            self.path.rename(aside)
            for suffix in ("-wal", "-shm"):
                self.path.with_name(FILE_NAME + suffix).unlink(missing_ok=True)
        except FileNotFoundError:
            return  # another kernel was faster
        except OSError as fault:  # Windows renames no file that another kernel has open
            self._off = f"{exc}; {fault}"
            notice_once(
                "cache-off", f"Results are not cached: {self.path} is damaged and in use. Close the other kernels."
            )
            return
        notice_once(
            "cache-damaged",
            f"The result cache was damaged ({exc}) and starts anew; the old file is {aside}. Delete it unless you need it.",
        )

    def _trouble(self, exc: BaseException) -> None:
        """Something failed: say so once, and go without where it will not get better."""
        self._reader = None
        damage = self._is_damage(exc)
        self._damages += damage
        if damage and self._damages <= MAX_DAMAGES:
            self._put_aside(exc)
        elif damage or isinstance(exc, _ForeignFileError | OSError) or any(sign in str(exc) for sign in _HOPELESS):
            self._off = str(exc)
            notice_once(
                "cache-off",
                f"Results are not cached: {exc}. Tasks run as if cache= were off; set FLYTE_NB_CACHE_DIR to a folder that can "
                "be written, or `flyte_nb.init(cache_dir=...)`.",
            )
        elif "locked" not in str(exc):
            notice_once("cache-trouble", f"A result could not be cached, or looked up: {type(exc).__name__}: {exc}.")
        logger.debug("result cache", exc_info=exc)


class _Nothing:
    """Stands for a database that cannot be opened: takes everything, keeps nothing."""

    lastrowid = 0

    def execute(self, *_args: Any) -> _Nothing:
        return self

    executemany = execute

    def fetchall(self) -> list[Any]:
        return []

    def fetchone(self) -> None:
        return None

    def commit(self) -> None: ...

    rollback = commit


def _checksum(parts: Iterable[Any]) -> bytes:
    found = hashlib.blake2b(digest_size=8)
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.digest()


def _assembled(data: bytes | None, parts: list[tuple[str, bytes]], checksum: bytes, size: int) -> Payload | None:
    if data is not None:
        return data if _checksum([data]) == checksum else None
    if not parts or _checksum(part for _, part in parts) != checksum:
        return None
    (_, data), *buffers = parts
    if not buffers:
        return data
    return Packed(data, tuple(content_of(name, buffer) for name, buffer in buffers), size)
