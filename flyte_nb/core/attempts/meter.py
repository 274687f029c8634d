"""Meter: slot time and CPU time of a thread, by the attempt that uses it. Runs in: the thread of a lane."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol


class Metered(Protocol):
    """An attempt (`flyte_nb.core.attempts.body.Body`)."""

    busy: float
    cpu: float

    @property
    def work(self) -> Any:
        """What it executes."""


class Meter:
    """Slot time and CPU time of one thread: of several attempts on a loop, the one that began a step last is using it."""

    __slots__ = ("_at", "_cpu", "_cpu_at", "_held", "_turn")

    def __init__(self, held: Callable[[], float], cpu: Callable[[], float] = time.thread_time) -> None:
        #: Seconds that the thread has held a slot so far, and CPU seconds meanwhile.
        self._held = held
        self._cpu = cpu
        #: Whose turn it is, and what the two were when it began.
        self._turn: Metered | None = None
        self._at = self._cpu_at = 0.0

    def turn(self, body: Metered) -> None:
        """An attempt begins a step."""
        before = self._turn
        if before is body:
            return
        now, cpu = self._held(), self._cpu()
        if before is not None:
            before.busy += now - self._at
            before.cpu += cpu - self._cpu_at
        self._turn, self._at, self._cpu_at = body, now, cpu

    def paused(self) -> None:
        """The thread's attempt does not compute for now."""

    def resumed(self, body: Metered) -> None:
        """It goes on, without a new turn."""

    def leave(self) -> None:
        """What follows is no attempt's, until the next turn."""
        before, self._turn = self._turn, None
        if before is not None:
            before.busy += self._held() - self._at
            before.cpu += self._cpu() - self._cpu_at

    def began(self, body: Metered, seconds: float) -> None:
        """An attempt's turn began so many seconds ago; its CPU time is measured from now on. From any thread."""
        self._turn, self._at, self._cpu_at = body, self._held() - seconds, self._cpu()

    def end(self, body: Metered) -> float:
        """An attempt has ended; returns its slot time in seconds."""
        if self._turn is body:
            self.leave()
        return body.busy

    @property
    def current(self) -> Metered | None:
        """The attempt whose turn it is."""
        return self._turn

    def memory(self) -> int:
        """Bytes of this process, where somebody looks at them; else 0."""
        return 0
