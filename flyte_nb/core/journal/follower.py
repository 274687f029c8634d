"""Follower: see the runs that other living processes work at, and ask for things. Runs in: its own thread.

The process that works at a run writes its events every fraction of a second; they are folded here as those of a run of this
kernel are, so that everything that can show a run shows this one, live. It ends as the other process says, or with it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from flyte_nb.core.history import events as ev
from flyte_nb.core.journal.history import History, PastRun
from flyte_nb.core.settings.notices import notice_once

#: Seconds between two looks at what was written.
LOOK_EVERY_S = 0.25


class Follower:
    """Follows runs until they end.

    Args:
        history: Where they are read.
        emit: Given what happened to a run since the last time; on this thread.
        cut_off: Given a run whose process has ended before it; on this thread.
    """

    def __init__(
        self, history: History, emit: Callable[[list[ev.Event]], None], cut_off: Callable[[PastRun], None]
    ) -> None:
        self._history = history
        self._emit = emit
        self._cut_off = cut_off
        #: Each run, and its latest batch of events that was read.
        self._followed: dict[str, tuple[PastRun, int]] = {}
        self._asked: deque[tuple[PastRun, str, Mapping[str, Any]]] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Follower [{', '.join(self._followed) or 'nothing'}]>"

    def follow(self, run: PastRun, batch: int) -> None:
        """Follow a run from a batch of its events on."""
        self._followed[run.name] = (run, batch)
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._serve, name="flyte-follower", daemon=True)
            self._thread.start()

    def ask(self, name: str, op: str, args: Mapping[str, Any]) -> bool:
        """Ask the process that works at a run to do what a button does; does not wait. Returns whether it is followed."""
        found = self._followed.get(name)
        if found is not None:
            self._asked.append((found[0], op, args))
            self._wake.set()
        return found is not None

    def follows(self, name: str) -> bool:
        """Whether another process works at a run."""
        return name in self._followed

    def close(self) -> None:
        """Stop looking."""
        self._closing = True
        self._wake.set()

    def _serve(self) -> None:
        while self._followed and not self._closing:
            while self._asked:
                self._put(*self._asked.popleft())
            for run, batch in list(self._followed.values()):
                self._look(run, batch)
            self._wake.wait(LOOK_EVERY_S)
            self._wake.clear()

    def _put(self, run: PastRun, op: str, args: Mapping[str, Any]) -> None:
        try:
            self._history.request(run, op, args)
        except Exception as exc:
            notice_once(f"request {run.name}", f"{run.name} could not be asked to {op.replace('_', ' ')}: {exc}.")

    def _look(self, run: PastRun, batch: int) -> None:
        # Before the events are read: a process that has ended has written all that it will.
        now = self._history.find(run.name)
        try:
            latest, events = self._history.events_after(run, batch)
        except Exception as exc:  # another process writes, or the file is damaged: the next look tells
            notice_once(f"follow {run.name}", f"{run.name} could not be looked at ({exc}); it is tried again.")
            return
        self._followed[run.name] = (run, latest)
        if events:
            self._emit(events)
        if now is None or not now.lives or any(type(event) is ev.RunClosed for event in events):
            del self._followed[run.name]
            if now is not None and not any(type(event) is ev.RunClosed for event in events):
                self._cut_off(now)
