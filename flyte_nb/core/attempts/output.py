"""Output of an attempt: captures what its code prints, logs and warns, by ContextVar. Runs in: worker; in local mode, here.

Streams are replaced once per process by proxies that look up whose code is writing; so two coroutines that share a thread
never mix their lines, and a helper thread started with `asyncio.to_thread` still belongs to its action.
"""

from __future__ import annotations

import io
import logging
import sys
import time
from contextvars import ContextVar
from typing import Any, Protocol, TextIO

from flyte_nb.core.history.facts import LogLine

#: Longest unfinished line that is held back for its end, in characters.
MAX_PARTIAL = 8_192


class Sink(Protocol):
    """Where the lines of one attempt go. Called from any thread."""

    def line(self, line: LogLine) -> None:
        """Take one line."""


class Output:
    """The open lines of one attempt, per stream."""

    __slots__ = ("_partial", "sink")

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self._partial: dict[str, str] = {}

    def write(self, stream: str, text: str) -> None:
        """Take text: send whole lines, buffer the rest until its end."""
        if not text:
            return
        *lines, rest = (self._partial.pop(stream, "") + text).split("\n")
        now = time.time()
        for line in lines:
            self.sink.line(LogLine(now, stream, line.rsplit("\r", 1)[-1] if "\r" in line else line))
        if len(rest) > MAX_PARTIAL:
            self.sink.line(LogLine(now, stream, rest))
        elif rest:
            self._partial[stream] = rest

    def close(self) -> None:
        """Let unfinished lines go."""
        now = time.time()
        while self._partial:
            stream, text = self._partial.popitem()
            self.sink.line(LogLine(now, stream, text.rsplit("\r", 1)[-1]))


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
            output.write(self._name, text)
            if not self.tee:
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


class LogHandler(logging.Handler):
    """Sends log records to the running attempt's output, under their level's name."""

    #: Whether they are printed as well.
    tee = False

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record, if an attempt is running."""
        output = OUTPUT.get()
        try:
            if output is not None:
                output.write(record.levelname.lower(), self.format(record) + "\n")
            if output is None or self.tee:
                self._print(record)
        except Exception:
            self.handleError(record)

    def _print(self, record: logging.LogRecord) -> None:
        """Print warnings where logging is not set up, as Python does: this handler keeps it from doing so."""
        alone = logging.getLogger().handlers == [self]
        if record.levelno >= logging.WARNING and alone and record.name.partition(".")[0] != "flyte":
            stream = sys.stderr.original if isinstance(sys.stderr, StreamProxy) else sys.stderr
            stream.write(f"{record.getMessage()}\n")
            if record.exc_info:
                stream.write(f"{logging.Formatter().formatException(record.exc_info)}\n")


#: The latest proxy of each stream.
_installed: dict[str, StreamProxy] = {}
_handler: LogHandler | None = None


def install(*, tee: bool) -> None:
    """Start capturing in this process; harmless if done before, needed again where a stream was replaced since.

    Args:
        tee: Whether captured text also goes to the original streams (local mode: the user's own process).
    """
    global _handler
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is not StreamProxy:
            _installed[name] = StreamProxy(name, stream, tee)
            setattr(sys, name, _installed[name])
    if _handler is None:
        _handler = LogHandler()
        _handler.tee = tee
        _handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        logging.getLogger().addHandler(_handler)


def uninstall() -> None:
    """Restore the original streams, unless ours were replaced since."""
    global _handler
    while _installed:
        name, proxy = _installed.popitem()
        if getattr(sys, name) is proxy:
            setattr(sys, name, proxy.original)
    if _handler is not None:
        logging.getLogger().removeHandler(_handler)
        _handler = None
