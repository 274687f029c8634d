"""Output of an attempt: captures what its code prints, logs and warns, by ContextVar. Runs in: worker; in local mode, here.

Streams are replaced once per process by proxies that look up whose code is writing; so two coroutines that share a thread
never mix their lines, and a helper thread started with `asyncio.to_thread` still belongs to its action.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol, TextIO

from flyte_nb.core.history.facts import LogLine

#: Longest unfinished line that is held back for its end, in characters.
MAX_PARTIAL = 8_192
#: Longest line that may be a bar of progress, in characters.
MAX_BAR = 400


class Sink(Protocol):
    """Where the lines of one attempt go. Called from any thread."""

    def line(self, line: LogLine) -> None:
        """Take one line."""


#: Held while a sink is made.
_making = threading.Lock()


class Output:
    """The open lines of one attempt, per stream. Its sink is made when something is written: most bodies print nothing."""

    __slots__ = ("_make", "_sink", "_stands_since", "latest", "partial", "writes")

    def __init__(self, make_sink: Callable[[], Sink]) -> None:
        self._make = make_sink
        self._sink: Sink | None = None
        #: Unfinished lines, by stream; None before the first one.
        self.partial: dict[str, str] | None = None
        #: When an unfinished line was begun, or written over.
        self._stands_since = 0.0
        #: The latest whole line: some bars are printed line by line.
        self.latest: str = ""
        #: How often something was written.
        self.writes: int = 0

    @property
    def sink(self) -> Sink:
        """Where its lines go."""
        with _making:
            if self._sink is None:
                self._sink = self._make()
            return self._sink

    def write(self, stream: str, text: str) -> None:
        """Take text: send whole lines, buffer the rest until its end."""
        if not text:
            return
        self.writes += 1
        if self.partial is None:
            self.partial = {}
        *lines, rest = (self.partial.pop(stream, "") + text).split("\n")
        now = time.time()
        for line in lines:
            self._line(now, stream, line)
        if "\r" in rest:  # what was written over is gone, as on a screen
            rest = "\r" + _last(rest) + ("\r" if rest[-1] == "\r" else "")
            self._stands_since = 0.0
        elif rest and (lines or not self._stands_since):
            self._stands_since = now
        if len(rest) > MAX_PARTIAL:
            self.sink.line(LogLine(now, stream, rest))
        elif rest:
            self.partial[stream] = rest

    def close(self) -> None:
        """Let unfinished lines go."""
        while self.partial:
            stream, text = self.partial.popitem()
            self._line(time.time(), stream, text)

    def _line(self, now: float, stream: str, line: str) -> None:
        if "\r" in line:
            line = _last(line)
            if "%" in line or "/" in line:  # the end of a progress bar, which is no error
                stream = "stdout"
        self.latest = line if len(line) <= MAX_BAR else ""
        self.sink.line(LogLine(now, stream, line))

    def standing(self, since: float) -> str:
        """The unfinished line, if it was written over or has stood there that long. From any thread."""
        if self._stands_since > since:
            return ""
        return next((_last(text) for text in list((self.partial or {}).values()) if text.strip()), "")


def _last(line: str) -> str:
    """What stands in a line that was written over, part by part."""
    return next((part for part in reversed(line.split("\r")) if part), "")


#: The output of the running attempt; None outside one.
OUTPUT: ContextVar[Output | None] = ContextVar("flyte_nb_output", default=None)


class StreamProxy(io.TextIOBase):
    """Stands in for ``sys.stdout`` or ``sys.stderr``."""

    def __init__(self, name: str, original: TextIO, tee: bool) -> None:
        self._name = name
        self.original = original
        self.tee = tee

    def write(self, text: str) -> int:
        """Send text to the running attempt's output, else to the original stream."""
        output = OUTPUT.get()
        if output is not None:
            output.write(getattr(_handling, "level", "") or self._name, text)
            if not self.tee:
                return len(text)
        elif in_child:
            os.write(1 if self._name == "stdout" else 2, text.encode("utf-8", "replace"))
            return len(text)
        return self.original.write(text)

    def flush(self) -> None:
        """Flush the original stream."""
        self.original.flush()

    def isatty(self) -> bool:
        """Whether the original is a terminal and nothing is captured."""
        return OUTPUT.get() is None and self.original.isatty()

    def fileno(self) -> int:
        """File number of the original."""
        return self.original.fileno()

    def writable(self) -> bool:
        """Always true: a text sink."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the original."""
        return getattr(self.original, "encoding", "utf-8") or "utf-8"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


#: What is written while a thread handles a log record is of the record's level.
_handling = threading.local()
#: Whether this is a child process that a body forked: there is no way to the attempt's log but the file descriptors.
in_child = False


def leave_to_descriptors() -> None:
    """Have what is printed from now on written to file descriptors 1 and 2: this process is a child."""
    global in_child
    in_child = True


_call_handlers = logging.Logger.callHandlers
_formatter = logging.Formatter("%(levelname)s %(name)s: %(message)s")


def _handle(self: logging.Logger, record: logging.LogRecord) -> None:
    """`logging.Logger.callHandlers`: what no handler has written to the attempt's log is written there.

    The way of a record is left as it is: handlers of its logger, of those above it as far as they propagate, and of a
    ``basicConfig`` in a body write to the attempt's streams, in their own formats. Without any, or with some that write
    elsewhere, the record is written as "LEVEL name: message".
    """
    output = OUTPUT.get()
    if output is None:
        return _call_handlers(self, record)
    level, before = record.levelname.lower(), output.writes
    outer = getattr(_handling, "level", "")
    _handling.level = level
    try:
        if self.hasHandlers():
            _call_handlers(self, record)
        elif _tee:
            _print(record)
        if output.writes == before:
            output.write(level, _formatter.format(record) + "\n")
    finally:
        _handling.level = outer


def _print(record: logging.LogRecord) -> None:
    """Print warnings where logging is not set up, as Python does."""
    if record.levelno >= logging.WARNING:
        stream = sys.stderr.original if isinstance(sys.stderr, StreamProxy) else sys.stderr
        stream.write(f"{record.getMessage()}\n")
        if record.exc_info:
            stream.write(f"{logging.Formatter().formatException(record.exc_info)}\n")


#: The latest proxy of each stream.
_installed: dict[str, StreamProxy] = {}
#: Whether captured text also goes to the original streams.
_tee = False


def install(*, tee: bool) -> None:
    """Start capturing in this process; harmless if done before, needed again where a stream was replaced since.

    Args:
        tee: Whether captured text also goes to the original streams (local mode: the user's own process).
    """
    global _tee
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is not StreamProxy:
            _installed[name] = StreamProxy(name, stream, tee)
            setattr(sys, name, _installed[name])
    _tee = tee
    logging.Logger.callHandlers = _handle  # type: ignore[method-assign]


def uninstall() -> None:
    """Restore the original streams, unless ours were replaced since."""
    while _installed:
        name, proxy = _installed.popitem()
        if getattr(sys, name) is proxy:
            setattr(sys, name, proxy.original)
    logging.Logger.callHandlers = _call_handlers  # type: ignore[method-assign]
