"""History: read the runs of earlier kernels from the journal. Runs in: the thread that asks; not the engine's.

A run of kernel 41 is called ``k41.r7`` everywhere but in that kernel, where it is ``r7``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from flyte_nb.core.cache.sqlite_file import SqliteFile
from flyte_nb.core.history import events as ev
from flyte_nb.core.journal import requests, values
from flyte_nb.core.journal.bounds import drop, remove
from flyte_nb.core.journal.format import DETACHED, LAYOUT, decoded, plain
from flyte_nb.core.journal.kernels import SILENT_S, is_certain, lives
from flyte_nb.core.transport.payload import Payload

#: Seconds that a look waits for a kernel that writes.
BUSY_S = 2.0
#: Seconds between a stop and the end of the kernel that are one restart.
RESTART_S = 8.0
_NAME = re.compile(r"k(\d+)\.(.+)")
_COLUMNS = (
    "runs.id, runs.kernel, runs.name, title, kind, cell, phase, started, ended, runs.seen, actions, done, nbytes, dropped, "
    "notebook, info, place, pid, born, kernels.seen, closed"
)
_FROM = f"SELECT {_COLUMNS} FROM runs JOIN kernels ON kernels.id = runs.kernel"  # noqa: S608 - ours


class PastRun(NamedTuple):
    """What is known of a run without reading it."""

    row: int
    kernel: int
    #: In its own kernel: "r7".
    short: str
    title: str
    kind: str
    cell: str
    phase: str
    started: float
    ended: float | None
    seen: float
    actions: int
    done: int
    nbytes: int
    #: Why nothing more is kept of it; "" while it is.
    dropped: str
    notebook: str
    #: Its facts (`flyte_nb.core.history.run_info.RunInfo`), as far as they were kept.
    info: bytes | None
    #: Whether its kernel lives, and when that was last known to.
    lives: bool
    kernel_seen: float
    #: Whether that is known, and not only how long ago its last sign of life was.
    certain: bool = True

    @property
    def name(self) -> str:
        """Its name everywhere else: "k41.r7"."""
        return f"k{self.kernel}.{self.short}"

    @property
    def cut_off(self) -> bool:
        """Whether its kernel ended before it did; a restart stops the cell that runs, and the kernel then."""
        stopped = self.phase == "aborted" and self.ended is not None and self.kernel_seen - self.ended < RESTART_S
        return not self.lives and (self.ended is None or stopped)

    @property
    def may_live_text(self) -> str:
        """What is known of one whose kernel may, or may not, live elsewhere; "" of others."""
        if self.certain or not self.lives or self.ended is not None:
            return ""
        silent = max(0.0, time.time() - self.kernel_seen)
        return (
            f"{self.name}, {self.title!r}, may still go on in another container or machine (last sign of its kernel "
            f"{silent:.0f} s ago). If its kernel is gone, that is certain in {max(1.0, SILENT_S - silent):.0f} s"
        )

    @property
    def last_at(self) -> float:
        """When it ended, or was last known to go on: its kernel lived on beside actions that said nothing for an hour."""
        return self.ended or max(self.seen, self.kernel_seen)

    @property
    def cut_off_text(self) -> str:
        """When that was: "cut off at 03:12:44"."""
        return f"cut off at {clock(self.last_at)}"


def is_past_name(name: str) -> bool:
    """Whether a run of an earlier kernel may be called so."""
    return _NAME.fullmatch(name) is not None


def clock(at: float) -> str:
    """A moment as people say it: with the day unless it is today."""
    then, now = time.localtime(at), time.localtime()
    return time.strftime("%H:%M:%S" if then[:3] == now[:3] else "%d %b %Y %H:%M:%S", then)


def _qualified(event: ev.Event, run: PastRun) -> ev.Event:
    if type(event) is ev.RunOpened and event.recovers and not is_past_name(event.recovers):
        return event._replace(recovers=f"k{run.kernel}.{event.recovers}")
    return event


class History:
    """Runs in the journal of a folder.

    Args:
        folder: Where it is; nothing is made there by looking.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = SqliteFile(folder, LAYOUT)

    def __repr__(self) -> str:
        return f"<History {self._file.path}>"

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """A connection for one look; None where there is nothing to look at, which has been said."""
        db = self._file.open_or_none(BUSY_S) if self._file.path.exists() else None
        if db is None:
            yield None
            return
        with closing(db):
            yield db

    def _all(self, sql: str, *args: Any) -> list[Any]:
        """What a query finds; nothing where there is nothing to look at."""
        with self._opened() as db:
            return db.execute(sql, args).fetchall() if db is not None else []

    def _rows(self, where: str, *args: Any) -> list[PastRun]:
        try:
            found = self._all(f"{_FROM} {where}", *args)
        except Exception as exc:
            self._file.trouble(exc)
            found = []
        alive: dict[int, bool] = {}
        for row in found:
            if row[1] not in alive:
                alive[row[1]] = lives(*row[16:])
        return [PastRun._make((*row[:16], alive[row[1]], row[20] or row[19], is_certain(row[16]))) for row in found]

    def _living(self, certain: bool = True) -> str:
        """Numbers of the kernels that live, for a query; with `certain` False, of those of which that is not known."""
        try:
            found = self._all("SELECT id, place, pid, born, seen, closed FROM kernels WHERE closed IS NULL")
        except Exception as exc:
            self._file.trouble(exc)
            found = []
        return ", ".join(str(row[0]) for row in found if (certain or not is_certain(row[1])) and lives(*row[1:]))

    def runs(self, notebook: str = "", limit: int = 100, but: int = 0) -> list[PastRun]:
        """The latest runs of a notebook, or of all; oldest first, and none of the kernel of number `but`."""
        where = "WHERE runs.kernel != ? AND ? IN ('', notebook) ORDER BY started DESC LIMIT ?"
        return self._rows(where, but, notebook, limit)[::-1]

    def find(self, name: str) -> PastRun | None:
        """The run that is called ``k41.r7``."""
        match = _NAME.fullmatch(name)
        found = self._rows("WHERE runs.kernel = ? AND runs.name = ?", int(match[1]), match[2]) if match else []
        return found[0] if found else None

    def previous(self, notebook: str, cell: str, title: str) -> PastRun | None:
        """The latest run of a cell in an earlier kernel; of a cell of this title, where cells have no ids.

        Where the notebook has none, that of a cell of the same id in another notebook: it was renamed, or is a copy.
        """
        column, value = ("cell", cell) if cell else ("title", title)
        # What has ended may be read while it is not known whether its kernel lives.
        over = f"ended IS NOT NULL AND runs.kernel IN ({self._living(certain=False)})"
        gone = f"runs.kernel NOT IN ({self._living()}) OR {over}"
        where = f"WHERE ({gone}) AND kind = 'cell' AND dropped = '' AND {column} = ?"
        latest = "ORDER BY started DESC LIMIT 1"
        found = self._rows(f"{where} AND notebook = ? {latest}", value, notebook)
        if not found and cell:
            found = self._rows(f"{where} {latest}", value)
        return found[0] if found else None

    def may_live(self, notebook: str, cell: str = "", title: str = "") -> list[PastRun]:
        """The runs of a notebook, or of one cell, that a kernel may still work at of which that is not known, oldest first."""
        column, value = ("cell", cell) if cell else ("title", title)
        where = f"WHERE runs.kernel IN ({self._living(certain=False)}) AND notebook = ?1 AND kind != ?2"
        if value:
            where += f" AND kind = 'cell' AND {column} = ?3"
        where += " AND ended IS NULL AND dropped = '' ORDER BY started"
        found = self._rows(where, notebook, DETACHED, *([value] if value else []))
        return [run for run in found if run.may_live_text]

    def cut_off(self, notebook: str) -> list[PastRun]:
        """The runs that the latest kernel of it that is gone, or a process of their own, did not see through; oldest first."""
        of_kernels = (
            "FROM runs JOIN kernels ON kernels.id = runs.kernel "
            f"WHERE notebook = ?1 AND kind != ?2 AND runs.kernel NOT IN ({self._living()})"
        )
        latest = f"(SELECT max(runs.kernel) {of_kernels})"
        where = f"runs.kernel = {latest} OR (notebook = ?1 AND kind = ?2 AND ended IS NULL)"
        found = self._rows(f"WHERE ({where}) AND dropped = '' ORDER BY started", notebook, DETACHED)
        return [run for run in found if run.cut_off]

    def under_way(self, notebook: str) -> list[PastRun]:
        """The runs of a notebook that processes of their own work at, oldest first."""
        where = "WHERE notebook = ? AND kind = ? AND ended IS NULL AND dropped = '' ORDER BY started"
        return [run for run in self._rows(where, notebook, DETACHED) if run.lives]

    # -- all of one run -------------------------------------------------------------------------------------------

    def events_after(self, run: PastRun, batch: int) -> tuple[int, list[ev.Event]]:
        """What happened to it after a batch of events, and the number of the latest batch."""
        found = self._all("SELECT id, data FROM batches WHERE run = ? AND id > ? ORDER BY id", run.row, batch)
        latest = found[-1][0] if found else batch
        return latest, [_qualified(event, run) for _, data in found for event in decoded(data, run.name)]

    def request(self, run: PastRun, op: str, args: Mapping[str, Any]) -> None:
        """Ask the process that works at a run to do something: `flyte_nb.core.journal.requests`."""
        with self._opened() as db:
            if db is not None:
                requests.put(db, run.kernel, run.short, op, args)

    def versions(self, run: PastRun) -> dict[str, str]:
        """Versions that the code of its tasks had, helpers included, by name."""
        return dict(self._all("SELECT task, version FROM versions WHERE run = ?", run.row))

    def customs(self, run: PastRun) -> dict[str, tuple[tuple[str, str], ...]]:
        """Custom contexts of its calls, by action."""
        customs = self._all("SELECT action, data FROM customs WHERE run = ?", run.row)
        return {name: plain(data) for name, data in customs}

    def missing(self, run: PastRun) -> dict[str, str]:
        """Why large values of its actions were not kept, by action."""
        return dict(self._all("SELECT action, why FROM missing WHERE run = ?", run.row))

    def value(self, run: PastRun, action: str, what: str) -> Payload | None:
        """A large "result", or "inputs", of an action; None if none is kept. From any thread."""
        return values.read(values.path_of(self.folder, run.row, action, what))

    def clear(self, runs: list[PastRun]) -> int:
        """Drop runs; returns how many."""
        with self._opened() as db:
            for run in runs if db is not None else ():
                drop(db, run.row, "the history was cleared")
            if db is not None:
                db.commit()
                remove(values.path_of(self.folder, run.row, "", "").parent for run in runs)
                db.execute("PRAGMA incremental_vacuum").fetchall()
        return len(runs)
