"""Imports that take long: what a worker's process imports is said at the action that waits for it. Runs in: worker loop.

The first action of a session, and of each new process, spends seconds on ``import pandas``, while its code or its arguments are
loaded or in its own body. A thread's stack tells, so nothing is hooked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from flyte_nb.core.attempts.meter import Meter
from flyte_nb.core.attempts.stacks import importing
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.history.worker_names import name_of
from flyte_nb.engine.links.wire import Key, Message

#: Seconds after which an attempt's stack is looked at, and no more looked at: imports come first.
LOOK_AFTER_S, LOOK_UNTIL_S = 0.25, 20.0


class _Lane(Protocol):
    """A lane (`flyte_nb.worker.lanes.lane.LaneThread`)."""

    thread_id: int
    owner: str

    @property
    def meter(self) -> Meter: ...


class ImportNotes:
    """Those of one host.

    Args:
        address: Of the worker.
        send: Sends a message to an owner.
    """

    def __init__(self, address: str, send: Callable[[str, Message], None]) -> None:
        self._address = address
        self._send = send
        #: Attempts whose code is being loaded, by the lane's thread. Its own thread writes.
        self.loading: dict[int, Key] = {}
        #: Attempts that are first on their lanes: since when, and what was said of them.
        self._seen: dict[Key, tuple[float, str]] = {}

    def look(self, lanes: Iterable[_Lane]) -> None:
        """Say what is imported just now, and take it back when it is done."""
        now, seen = time.monotonic(), self._seen
        self._seen = {}
        for lane in lanes:
            key, phase = self._first(lane)
            if key is None:
                continue
            since, said = seen.get(key, (now, ""))
            if LOOK_AFTER_S < now - since < LOOK_UNTIL_S or said:
                module = importing(lane.thread_id)
                if module != said:
                    text = f"importing {module} on {name_of(self._address)}" if module else ""
                    self._send(lane.owner, ("noted", key, phase, text))
                    said = module
            self._seen[key] = since, said

    def _first(self, lane: _Lane) -> tuple[Key | None, Phase]:
        """The attempt that a lane's thread is at."""
        key = self.loading.get(lane.thread_id)
        if key is not None:
            return key, Phase.INITIALIZING
        body: Any = lane.meter.current
        return (body.work.key if body is not None else None), Phase.RUNNING

    def __repr__(self) -> str:
        return f"<ImportNotes of {self._address} [{sum(bool(said) for _, said in self._seen.values())} import]>"
