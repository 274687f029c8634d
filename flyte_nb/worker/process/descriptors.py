"""File descriptors 1 and 2: what subprocesses and C code print goes to logs, never raw into a cell. Runs in: worker process.

Python's own `print` goes by context (`flyte_nb.core.attempts.output`). What is written to the descriptors says nothing of its
attempt: it is the one's that is under way here, if it is the only one, else the worker's.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from flyte_nb.core.attempts.output import Output, StreamProxy

#: Bytes of the worker's own log; then it begins anew, and the one before is kept.
MAX_LOG_BYTES = 8 * 1024 * 1024
#: Seconds that the end of an attempt waits for what it wrote: a subprocess may go on writing for ever.
DRAIN_S = 0.3

_CHUNK = 64 * 1024
_NAMES = {1: "stdout", 2: "stderr"}


class Descriptors:
    """Reads what is written to the standard descriptors of this process.

    Args:
        owner: Gives the output that it belongs to; None = the worker's log.
        log: File of the worker's log; None = where it went before.
    """

    def __init__(self, owner: Callable[[], Output | None], log: Path | None) -> None:
        self._owner = owner
        self._log = log
        self._written = 0
        self._before: dict[int, int] = {}
        self._reading: dict[int, int] = {}
        self._decoders = {fd: codecs.getincrementaldecoder("utf-8")("replace") for fd in _NAMES}
        #: Held while what was read is handed on.
        self._busy = threading.Lock()
        self._poll = select.poll()
        #: Whether anything may be there to be read, or to be flushed.
        self._looks_busy: Callable[[], object] = lambda: True
        #: Handlers of logs and proxies that were given another stream, and the one they had.
        self._streams: list[tuple[logging.StreamHandler[TextIO] | StreamProxy, TextIO]] = []
        self._flush: Callable[[None], object] = lambda _all: None

    def start(self) -> None:
        """Take the descriptors over."""
        for fd in _NAMES:
            self._before[fd] = os.dup(fd)
            reading, writing = os.pipe()
            os.dup2(writing, fd)
            os.close(writing)
            self._reading[reading] = fd
            self._poll.register(reading, select.POLLIN)
        if self._log is None:
            self._spare_the_workers_own()
        with contextlib.suppress(Exception):  # another C library: its output comes when its buffer is full
            library = ctypes.CDLL(None)
            library.setvbuf(ctypes.c_void_p.in_dll(library, "stdout"), None, 1, 0)  # by lines, as on a terminal
            self._flush = library.fflush
            self._looks_busy = _look(list(self._reading))
        threading.Thread(target=self._read, name="flyte-descriptors", daemon=True).start()

    def _spare_the_workers_own(self) -> None:
        """Have what Dask logs, and what is printed outside attempts, written where it was: it is no action's."""
        for fd, name in _NAMES.items():
            stream = os.fdopen(os.dup(self._before[fd]), "w", buffering=1)
            proxy = getattr(sys, name)
            mine = {id(proxy), id(getattr(proxy, "original", None)), id(getattr(sys, f"__{name}__"))}
            for handler in [ref() for ref in logging._handlerList]:  # type: ignore[attr-defined]  # noqa: SLF001 - all there are
                if "stream" in getattr(handler, "__dict__", {}) and id(handler.stream) in mine:
                    self._streams.append((handler, handler.setStream(stream)))
            if isinstance(proxy, StreamProxy):
                self._streams.append((proxy, proxy.original))
                proxy.original = stream

    def stop(self) -> None:
        """Give them back; what children of this process still write is read until they end."""
        self.drain()
        for fd, before in self._before.items():
            os.dup2(before, fd)
        for user, stream in reversed(self._streams):
            if isinstance(user, StreamProxy):
                user.original = stream
            else:
                user.setStream(stream)

    def _read(self) -> None:
        poll = select.poll()
        for reading in self._reading:
            poll.register(reading, select.POLLIN)
        left = len(self._reading)
        while left:
            ready = poll.poll()
            with self._busy:
                for reading, _event in ready:
                    fd, data = self._reading[reading], os.read(reading, _CHUNK)
                    if not data:  # nobody can write to it any more
                        poll.unregister(reading)
                        os.close(reading)
                        left -= 1
                        continue
                    with contextlib.suppress(Exception):
                        self._hand_on(fd, data)
        for before in self._before.values():
            os.close(before)

    def _hand_on(self, fd: int, data: bytes) -> None:
        output = self._owner()
        if output is not None:
            output.write(_NAMES[fd], self._decoders[fd].decode(data))
        elif self._log is None:
            os.write(self._before[fd], data)
        else:
            self._keep(self._log, data)

    def _keep(self, log: Path, data: bytes) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        if self._written > MAX_LOG_BYTES:
            log.replace(log.with_suffix(".1.log"))
            self._written = 0
        with log.open("ab") as file:
            file.write(data)
        self._written += len(data)

    def drain(self) -> None:
        """Have everything that was written so far handed on: an attempt ends."""
        if not self._looks_busy() and not self._busy.locked():
            return
        self._flush(None)
        if not self._poll.poll(0) and not self._busy.locked():
            return
        until = time.monotonic() + DRAIN_S
        while time.monotonic() < until:
            with self._busy:
                pass
            if not self._poll.poll(0):
                return
            time.sleep(0.001)


class _PollFd(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


def _look(reading: list[int]) -> Callable[[], object]:
    """A function that tells whether C's ``stdout`` holds a part of a line, or a pipe has something to be read.

    It keeps the GIL. Python's own `select` gives it away: another thread takes it, and each action waits for it to come back.
    """
    library = ctypes.PyDLL(None)
    stdout = ctypes.c_void_p.in_dll(library, "stdout")
    pending, poll = library["__fpending"], library["poll"]
    entries = (_PollFd * len(reading))(*(_PollFd(fd, select.POLLIN, 0) for fd in reading))
    # Made once: converting arguments takes longer than the calls.
    address, count, at_once = ctypes.c_void_p(ctypes.addressof(entries)), ctypes.c_ulong(len(reading)), ctypes.c_int(0)
    kept = entries

    def look() -> object:
        return pending(stdout) or poll(address, count, at_once) or not kept

    return look
