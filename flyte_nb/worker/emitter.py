"""Events and log lines of a worker, sent to each run's home in batches, bounded. Runs in: worker loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import Path

from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import LogLine
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.engine.links.wire import Message
from flyte_nb.worker.lanes.lane import LaneThread
from flyte_nb.worker.process.logfile import EARLY, LogFile, LogFiles

#: Lines of one attempt that travel per second; what is printed faster is counted as hidden.
LINES_PER_SECOND = 500
#: Lines of a flooding attempt that travel with each flush: one screen.
FLOOD_LINES = 50
#: Seconds below which a row that goes on is not worth to be told of.
QUICK_S = 0.01
#: Longest line that travels, in characters.
SENT_LINE_CHARS = 2_000


class LineBuffer:
    """The lines of one attempt, until the next flush; takes them from any thread."""

    __slots__ = ("_early", "_emitter", "_file", "_since", "_spent", "hidden", "lines", "lock", "queued", "work")

    def __init__(self, emitter: Emitter, work: Work) -> None:
        self._emitter = emitter
        self.work: Work = work
        self.lines: list[LogLine] = []
        self.hidden: int = 0
        self.lock: threading.Lock = threading.Lock()
        self.queued: bool = False
        self._since = 0.0
        self._spent = 0
        #: The first lines, until there are so many that a file takes them all.
        self._early: list[str] = []
        self._file: LogFile | None = None

    def line(self, line: LogLine) -> None:
        """Take one line; beyond the rate, keep the newest and count what makes room."""
        with self.lock:
            if line.at - self._since > 1.0:
                self._since, self._spent = line.at, 0
            self._spent += 1
            if self._file is not None:
                self._file.write(line.text)
            else:
                self._early.append(line.text)
                if len(self._early) > EARLY:
                    self._file = self._emitter.files.open(self.work.key, self._early)
                    self._early = []
            if self._spent > LINES_PER_SECOND and len(self.lines) >= FLOOD_LINES:
                # Over the limit, drop the oldest lines and count them: the newest matter most.
                del self.lines[0]
                self.hidden += 1
            if len(line.text) > SENT_LINE_CHARS:
                line = line._replace(text=line.text[:SENT_LINE_CHARS] + " ...")
            self.lines.append(line)
            if not self.queued:
                self.queued = True
                self._emitter.printing.append(self)

    def take(self) -> ev.Logged | None:
        """What to send now."""
        with self.lock:
            lines, self.lines = self.lines, []
            hidden, self.hidden = self.hidden, 0
            self.queued = False
        return ev.Logged(*self.work[:3], tuple(lines), hidden) if lines or hidden else None


class Emitter:
    """Events to be sent home.

    Args:
        loop: The worker's.
        runs: Runs that are known here; an event of another one is dropped.
        send: Sends a message to a peer.
        log_folder: Where whole logs are kept.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, runs: Mapping[str, RunInfo], send: Callable[[str, Message], None],
        log_folder: Path,
    ) -> None:  # fmt: skip
        self._loop = loop
        self._runs = runs
        self._send = send
        self._events: dict[str, list[ev.Event]] = defaultdict(list)
        #: Attempts that have lines to send; they append themselves, from any thread.
        self.printing: deque[LineBuffer] = deque()
        self.files: LogFiles = LogFiles(log_folder)

    def emit(self, event: ev.Event) -> None:
        """Send an event home with the next flush."""
        if (run := self._runs.get(event.run)) is not None:
            if not self._events:
                self._loop.call_soon(self.flush)
            self._events[run.home].append(event)

    def announce(self, lane: LaneThread) -> None:
        """Send the start of attempts that have begun and go on."""
        bodies, now = dict(lane.bodies), time.time()
        lane.announced &= bodies.keys()
        for key, body in bodies.items():
            if key not in lane.announced and body.started_at and (now - body.started_at > QUICK_S or not body.work.row):
                lane.announced.add(key)
                self.emit(ev.AttemptStarted(*key, body.started_at, *lane.location))

    def ended(self, outcome: Outcome) -> None:
        """An attempt ended: its owner emits the event. Its log is put on disk."""
        self.files.ended(outcome[:3])

    def flush(self) -> None:
        """Send everything now."""
        for _ in range(len(self.printing)):
            logged = self.printing.popleft().take()
            run = logged and self._runs.get(logged.run)
            if logged and run:
                self._events[run.home].append(logged)
        events, self._events = self._events, defaultdict(list)
        for home, batch in events.items():
            self._send(home, ("events", batch))
