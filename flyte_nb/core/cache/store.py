"""Store of the result cache: one SQLite file, shared by all kernels of a user. Runs in: controller's thread of the run's home.

Theory of operation. Reading is by one index look-up and happens on the calling thread where the result is small; large results
are read, and everything is written, on a thread of the store's own, so that the engine never waits for a disk. What is not
yet written is answered from memory. SQLite in WAL mode lets kernels read while another writes, and a crash loses what was
being written and nothing else. Entries carry a checksum. Whatever goes wrong here costs a result that is computed again, and
one notice: never an error of the user's run.
"""

from __future__ import annotations

import atexit
import hashlib
import queue
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from flyte_nb.core.cache import rebind
from flyte_nb.core.cache.sqlite_file import Nothing, SqliteFile, is_damage
from flyte_nb.core.transport.blobs import content_of
from flyte_nb.core.transport.payload import Packed, Payload, carried

#: Bytes kept in all. Beyond it, what was used longest ago goes.
MAX_CACHE_BYTES = 2 * 1024**3
#: Largest result kept: one result must not push out everything else, and SQLite takes less than 1 GB in one piece.
MAX_ENTRY_BYTES = 512 * 1024**2
#: Results up to this size are read on the calling thread: about 20 us.
SMALL_BYTES = 64 * 1024
#: Results waiting to be written, in bytes; beyond it further ones are not kept: the disk is slower than the program.
MAX_PENDING_BYTES = 1024**3
#: Results written between two checks of the bound.
EVICT_EVERY = 64
#: Seconds that a write waits for another kernel's.
BUSY_S = 10.0
#: The same for a look-up, which must not hold up the engine: then it finds nothing.
READ_BUSY_S = 0.05
#: Seconds after which hits are counted on disk.
FLUSH_S = 1.0

Then = Callable[[Payload | None], None]


class TaskEntries(NamedTuple):
    """What is kept of one task."""

    task: str
    entries: int
    nbytes: int
    hits: int
    #: Seconds since the epoch.
    used_at: float


class CacheStore:
    """Results by key.

    Args:
        folder: Where the file is; made if need be.
        post: Calls a function on the controller's thread, from any thread.
        max_bytes: Bytes kept in all.
    """

    def __init__(
        self, folder: Path, post: Callable[..., object] = lambda function, *args: function(*args), *,
        max_bytes: int = MAX_CACHE_BYTES,
    ) -> None:  # fmt: skip
        self.folder = folder
        self._file = SqliteFile(folder)
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
        self._reader: Any = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "off" if self.off else "closed" if self._closed else f"{len(self._pending)} pending"
        return f"<CacheStore {self.folder} [{state}]>"

    @property
    def off(self) -> str:
        """Why nothing is kept; "" while all is well."""
        return self._file.off

    # -- reading --------------------------------------------------------------------------------------------------

    def get(self, key: bytes, max_age: float | None, then: Then) -> None:
        """Find a result.

        Args:
            key: Identifies the call.
            max_age: Seconds a result may be old; None for any age.
            then: Called with the result, or None, on the controller's thread: at once, or once a large result has been read.
        """
        oldest = 0.0 if max_age is None else time.time() - max_age
        pending = self._pending.get(key)
        if pending is not None:
            fresh = pending[1] if pending[0] >= oldest else None
            if fresh is not None:
                self._count(key, fresh)
            then(fresh)
            return
        try:
            row = self._read("SELECT id, checksum, data FROM entries WHERE key = ? AND made_at >= ?", key, oldest)
        except Exception as exc:
            self._trouble(exc)
            row = None
        if row is None:
            then(None)
        elif row[2] is not None and not rebind.has_globals(row[2]):
            found = row[2] if _checksum([row[2]]) == row[1] else None
            self._count(key, found)
            then(found)
        else:
            self._run(lambda db: self._fetch(db, key, row[0], then))

    def _read(self, sql: str, *args: Any) -> Any:
        if self.off:
            return None
        if self._reader is None:
            self._reader = self._file.open(READ_BUSY_S)
        return self._reader.execute(sql, args).fetchone()

    def _fetch(self, db: Any, key: bytes, entry: int, then: Then) -> None:
        """Read a large result, or one with classes in it. On the store's thread."""
        found: Payload | None = None
        try:
            row = db.execute("SELECT checksum, data, nbytes FROM entries WHERE id = ?", (entry,)).fetchone()
            parts = db.execute("SELECT name, data FROM parts WHERE entry = ? ORDER BY number", (entry,)).fetchall()
            whole = _assembled(row[1], parts, row[0], row[2]) if row is not None else None
            found = rebind.renewed(whole) if whole is not None else None
        finally:
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
        if self.off or self._closed or size > min(MAX_ENTRY_BYTES, self.max_bytes // 4):
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
        sql = "SELECT task, count(*), sum(nbytes), sum(hits), max(used_at) FROM entries GROUP BY task ORDER BY sum(nbytes) DESC"
        return [TaskEntries(*row) for row in self._ask(lambda db: db.execute(sql).fetchall()) or ()]

    def clear(self, task: str = "") -> int:
        """Drop the results of a task (its full name, or its function's), or all; returns how many there were. Blocks."""
        pattern = "%." + task.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        where = "WHERE task = ? OR task LIKE ? ESCAPE '\\'" if task else ""
        args = (task, pattern) if task else ()

        def drop(db: Any) -> int:
            count = db.execute(f"DELETE FROM entries {where}", args).rowcount  # noqa: S608 - one of two texts of ours
            db.commit()
            db.execute("PRAGMA incremental_vacuum").fetchall()
            return int(count)

        return int(self._ask(drop) or 0)

    def _ask(self, work: Callable[[Any], Any]) -> Any:
        """What `work` returns on the store's thread, once all before it is on disk; None where there is no store."""
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def ask(db: Any) -> None:
            found = None
            try:
                self._flush_hits(db)
                found = work(db)
                db.commit()
            finally:
                answer.put(found)

        if self.off or self._closed:
            return None
        self._run(ask)
        try:
            return answer.get(timeout=BUSY_S + 5)
        except queue.Empty:
            return None

    def flush(self) -> None:
        """Wait until everything is on disk. Not on the controller's thread."""
        self._ask(lambda _db: None)

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

    def _trouble(self, exc: BaseException) -> None:
        self._reader = None
        self._file.trouble(exc)

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
                db = self._file.open_or_none(BUSY_S)
            todo = [job for job in jobs if job is not None]
            written += len(todo)
            evict = written >= EVICT_EVERY or ending
            written = 0 if evict else written
            if not self._transact(db or Nothing(), todo, count=ending or not jobs, evict=evict) and db is not None:
                db.close()
                db = None
        if db is not None:
            db.close()

    def _transact(self, db: Any, jobs: list[Callable[[Any], None]], *, count: bool, evict: bool) -> bool:
        """Do all jobs that wait, in one transaction (a disk makes a few hundred a second); whether the file is still good.

        Each job is done, also without a database: its caller waits for an answer.
        """
        good = True
        last: list[Callable[[Any], None]] = [*([self._flush_hits] if count else []), lambda db: db.commit()]
        for job in [*jobs, *last, *([self._evict] if evict else [])]:
            try:
                job(db)
            except Exception as exc:
                self._trouble(exc)
                if is_damage(exc):
                    db, good = Nothing(), False
        # Only now can it be read from the file.
        done, self._done = self._done, []
        if done:
            self._post(self._written, done)
        return good

    def _flush_hits(self, db: Any) -> None:
        with self._lock:
            hits, self._hits = self._hits, {}
        now = time.time()
        db.executemany(
            "UPDATE entries SET hits = hits + ?, used_at = ? WHERE key = ?", [(n, now, key) for key, n in hits.items()]
        )

    def _evict(self, db: Any) -> None:
        found = db.execute("SELECT coalesce(sum(nbytes), 0) FROM entries").fetchone()
        total = found[0] if found is not None else 0
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
