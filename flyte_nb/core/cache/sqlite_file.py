"""SQLite files of results and of history: made, marked as ours, quarantined when damaged. Runs in: a run's home."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, NamedTuple

from flyte_nb.core.settings.notices import notice_once
from flyte_nb.core.transport import trust

logger: logging.Logger = logging.getLogger("flyte")

#: Name of the results' file; another layout of the tables is another file.
FILE_NAME = "results-1.sqlite"
#: Marks the file as ours (``PRAGMA application_id``): "fnb1".
APPLICATION_ID = 0x666E6231
#: Times a damaged file is replaced; a disk that damages every one is not written to any more.
MAX_DAMAGES = 3
#: Seconds between two attempts to make the tables while another kernel does.
LOCKED_EVERY_S = 0.05
#: Parts of SQLite's messages about a file that it will not be able to write later either.
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


class ForeignFileError(Exception):
    """The file is another program's database."""


class Layout(NamedTuple):
    """What is kept in a file, and what people are told of it."""

    #: Another layout of the tables is another file.
    file_name: str
    tables: str
    #: ``PRAGMA user_version`` of the file: one of another version is left alone.
    version: int
    #: "The result cache".
    name: str
    #: What becomes of it without the file: "Results are not cached".
    without: str
    #: What can be done then.
    remedy: str
    #: What one failure costs.
    failed: str


RESULTS = Layout(
    FILE_NAME, _TABLES, 0, "The result cache", "Results are not cached",
    "Tasks run as if cache= were off; set FLYTE_NB_CACHE_DIR to a folder that can be written, or "
    "`flyte_nb.init(cache_dir=...)`.",
    "A result could not be cached, or looked up",
)  # fmt: skip


class SqliteFile:
    """The file of a layout in a folder, which is made if need be. Both must be this user's alone (`trust`)."""

    def __init__(self, folder: Path, layout: Layout = RESULTS) -> None:
        self.layout = layout
        self.path: Path = folder / layout.file_name
        #: Why it is not used; "" while all is well.
        self.off: str = ""
        self._damages = 0

    def open_or_none(self, timeout: float) -> Any:
        """`open`; None where that fails, which has been reported."""
        if self.off:
            return None
        try:
            return self.open(timeout)
        except Exception as exc:
            self.trouble(exc)
            return None

    def open(self, timeout: float) -> Any:
        """A connection; a damaged file is put aside first.

        Args:
            timeout: Seconds to wait for another kernel, here and at each statement.

        Raises:
            ForeignFileError: The file is another program's.
            Exception: What `sqlite3` and the file system raise.
        """
        until = time.monotonic() + timeout
        while True:
            try:
                return self._connect(timeout)
            except Exception as exc:
                if is_damage(exc) and self._damages < MAX_DAMAGES:
                    self._damages += 1
                    self._quarantine(exc)
                elif "locked" not in str(exc) or time.monotonic() + LOCKED_EVERY_S > until:
                    raise
                else:  # SQLite itself does not wait where the journal's mode is set
                    time.sleep(LOCKED_EVERY_S)

    def _connect(self, timeout: float) -> Any:
        import sqlite3

        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for each in (self.path.parent, self.path):
            trust.check(each)
        if not trust.is_shared():
            trust.make_private(self.path)  # SQLite makes the files beside it with the same rights
        db = sqlite3.connect(self.path, timeout=timeout, check_same_thread=False)
        try:
            # The tables first: another kernel that makes the file marks it before it makes them.
            tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            mark = db.execute("PRAGMA application_id").fetchone()[0]
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if tables and mark != APPLICATION_ID:
                raise ForeignFileError(f"{self.path} is a database of another program")
            if tables and version != self.layout.version:
                raise ForeignFileError(f"{self.path} was written by another version of flyte_nb")
            if not tables:
                db.execute("PRAGMA auto_vacuum = INCREMENTAL")
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {self.layout.version}")
                db.execute("PRAGMA journal_mode = WAL")
                db.executescript(f"BEGIN IMMEDIATE; {self.layout.tables} COMMIT;")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA journal_size_limit = 33554432")
        except BaseException:
            db.close()
            raise
        return db

    def _quarantine(self, exc: BaseException) -> None:
        aside = self.path.with_name(f"{self.layout.file_name}.damaged-{int(time.time())}")
        try:
            self.path.rename(aside)
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.layout.file_name + suffix).unlink(missing_ok=True)
        except FileNotFoundError:
            return  # another kernel has done it
        except OSError as fault:  # Windows renames no file that another kernel has open
            self.off = f"{exc}; {fault}"
            notice_once(
                f"{self.path} off",
                f"{self.layout.without}: {self.path} is damaged and in use. Close the other kernels.",
            )
            return
        notice_once(
            f"{self.path} damaged",
            f"{self.layout.name} was damaged ({exc}) and starts anew; the old file is {aside}. Delete it unless you need it.",
        )

    def trouble(self, exc: BaseException) -> None:
        """Report a failure once; give the file up, or quarantine the file, where it will not get better."""
        damage = is_damage(exc)
        if damage and self._damages < MAX_DAMAGES:
            self._damages += 1
            self._quarantine(exc)
        elif isinstance(exc, trust.UntrustedError):
            self.off = str(exc)
            notice_once(f"{self.path} off", f"{self.layout.without}: {exc}.")
        elif (
            damage or isinstance(exc, ForeignFileError | OSError | ImportError) or any(x in str(exc) for x in _HOPELESS)
        ):
            self.off = str(exc)
            notice_once(f"{self.path} off", f"{self.layout.without}: {exc}. {self.layout.remedy}")
        elif "locked" not in str(exc):
            notice_once(f"{self.path} trouble", f"{self.layout.failed}: {type(exc).__name__}: {exc}.")
        logger.debug("%s", self.path, exc_info=exc)


def is_damage(exc: BaseException) -> bool:
    """Whether an error means that the file is damaged."""
    try:
        import sqlite3
    except ImportError:  # a Python that was built without it
        return False
    # OperationalError: locked, disk full, no permission.
    return isinstance(exc, sqlite3.DatabaseError) and not isinstance(
        exc, sqlite3.OperationalError | sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.DataError
    )


class Nothing:
    """Stands for a database that cannot be opened: takes everything, keeps nothing."""

    lastrowid = rowcount = 0

    def execute(self, *_args: Any) -> Nothing:
        """Do nothing."""
        return self

    executemany = execute

    def fetchall(self) -> list[Any]:
        """No rows."""
        return []

    def fetchone(self) -> None:
        """No row."""

    def commit(self) -> None:
        """Do nothing."""
