"""Log files of attempts that print a lot, on the worker's disk, bounded. Runs in: worker; lanes write, the loop reads.

The kernel keeps the first and the last lines of an action. An attempt that prints more than `EARLY` lines also writes them all
to files here, which a reader fetches when they ask for the full log. Files are opened for each write and closed again: a
thousand attempts may print at once.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections import OrderedDict
from pathlib import Path

from flyte_nb.core.values.describe import plain
from flyte_nb.engine.links.wire import Key

#: Lines that an attempt prints before it gets a file; until then the kernel has them all.
EARLY = 200
#: Bytes gathered before a write.
BUFFER = 64 * 1024
#: Bytes of one segment. Of a longer log the first segment is kept, and the last two.
SEGMENT = 8 * 1024 * 1024
#: Bytes of all logs of a worker; the oldest are deleted.
MAX_LOG_BYTES = 512 * 1024 * 1024
#: Bytes per answer.
CHUNK = 512 * 1024


class LogFile:
    """The log of one attempt. Its writer holds the lock of its sink; a reader may come at any time."""

    __slots__ = (
        "_buffer",
        "_first",
        "_last",
        "_lock",
        "_missing",
        "_path",
        "_size",
        "_waiting",
        "_why",
        "bytes",
        "lost",
    )

    def __init__(self, path: Path) -> None:
        self._path = path
        self._buffer: list[str] = []
        self._waiting = 0
        #: Segments 0, and from `_first` to `_last`, are there.
        self._first = self._last = 0
        self._size = 0
        self._lock = threading.RLock()
        self.bytes: int = 0
        #: Bytes dropped between the first segment and the others.
        self.lost: int = 0
        #: Bytes that could not be written, and why.
        self._missing = 0
        self._why = ""

    def write(self, text: str) -> None:
        """Append a line."""
        with self._lock:
            self._buffer.append(plain(text))
            self._waiting += len(text) + 1
            if self._waiting >= BUFFER:
                self.spill()

    def spill(self) -> None:
        """Put what waits on disk."""
        with self._lock:
            if not self._buffer:
                return
            data = ("\n".join(self._buffer) + "\n").encode("utf-8", "replace")
            self._buffer.clear()
            self._waiting = 0
            try:
                self._append(data)
            except OSError as exc:  # a full disk must not fail what prints: the kernel has the first and last lines
                self._missing += len(data)
                self._why = exc.strerror or str(exc)

    def _append(self, data: bytes) -> None:
        if self._size + len(data) > SEGMENT and self._size:
            self._last += 1
            self._size = 0
            self._first = max(self._first, 1)
            if self._last - self._first >= 2:
                gone = self._segment(self._first)
                self.lost += gone.stat().st_size
                self.bytes -= gone.stat().st_size
                gone.unlink()
                self._first += 1
        with self._segment(self._last).open("ab") as file:
            file.write(data)
        self._size += len(data)
        self.bytes += len(data)

    def _segment(self, number: int) -> Path:
        return self._path.with_suffix(f".{number}.log")

    def read(self, at: tuple[int, int]) -> tuple[str, tuple[int, int] | None]:
        """A stretch of the log from a place, and the place that follows; None for the end.

        Args:
            at: (segment, offset in bytes); (0, 0) to begin.
        """
        with self._lock:
            self.spill()
            number, offset = at
            gap = ""
            if 0 < number < self._first:
                number, offset = self._first, 0
            if number > self._last:
                return "", None
            if number == self._first and offset == 0 and self.lost:
                gap = f"... about {self.lost:,} bytes not kept ...\n"
            try:
                with self._segment(number).open("rb") as file:
                    file.seek(offset)
                    data = file.read(CHUNK)
            except OSError:
                return gap + self._end(), None
        if len(data) == CHUNK:
            data = data[: data.rfind(b"\n") + 1] or data
            return gap + data.decode("utf-8", "replace"), (number, offset + len(data))
        following = (number + 1, 0) if number < self._last else None
        return gap + data.decode("utf-8", "replace") + (self._end() if following is None else ""), following

    def _end(self) -> str:
        return f"... {self._missing:,} bytes are not kept: {self._why} ...\n" if self._missing else ""

    def delete(self) -> None:
        """Take its files away."""
        with self._lock:
            for number in (0, *range(self._first, self._last + 1)):
                self._segment(number).unlink(missing_ok=True)


class LogFiles:
    """All logs of a worker, the oldest first.

    Args:
        folder: Made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: OrderedDict[Key, LogFile] = OrderedDict()
        self._lock = threading.Lock()
        self._made = 0

    def open(self, key: Key, early: list[str]) -> LogFile:
        """Make the file of an attempt that prints on, with what it has printed so far. From any thread."""
        with self._lock:
            if not self._made:
                with contextlib.suppress(OSError):  # then the files are missing, which they say
                    self._folder.mkdir(parents=True, exist_ok=True)
            self._made += 1
            made = self._files[key] = LogFile(self._folder / str(self._made))
        for text in early:
            made.write(text)
        return made

    def ended(self, key: Key) -> None:
        """An attempt has ended: nothing of it waits in memory, and old logs make room."""
        file = self._files.get(key)
        if file is None:
            return
        file.spill()
        with self._lock:
            while len(self._files) > 1 and sum(one.bytes for one in self._files.values()) > MAX_LOG_BYTES:
                self._files.popitem(last=False)[1].delete()

    def read(self, run: str, action: str, attempt: int, at: object) -> tuple[str, tuple[int, int] | None] | None:
        """A stretch of an attempt's log (`LogFile.read`); None if there is no file of it."""
        file = self._files.get((run, action, attempt))
        place = at if isinstance(at, tuple) else (0, 0)
        return file.read(place) if file is not None else None

    def delete(self) -> None:
        """Take them all away."""
        shutil.rmtree(self._folder, ignore_errors=True)
