"""Meter: slot time and CPU time of a thread, by the attempt that uses it. Runs in: the thread of a lane."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol


class Metered(Protocol):
    """An attempt (`flyte_nb.core.attempts.body.Body`)."""

    busy: float
    cpu: float
    work: Any


class Meter:
    """Slot time and CPU time of one thread, by attempt: of several on a loop, the one that began a step last is using it.

    A row's CPU time is measured from when the row is first looked at: a clock costs a quick one too much.
    """

    __slots__ = ("_at", "_cpu", "_cpu_at", "_held", "_turn")

    def __init__(self, held: Callable[[], float], cpu: Callable[[], float] = time.thread_time) -> None:
        #: Seconds that the thread has held a slot so far, and CPU seconds meanwhile.
        self._held = held
        self._cpu = cpu
        #: Whose turn it is, and what the two were when it began; None: its CPU time is not measured.
        self._turn: Metered | None = None
        self._at = 0.0
        self._cpu_at: float | None = None

    def turn(self, body: Metered) -> None:
        """An attempt begins a step."""
        before = self._turn
        if before is body:
            return
        now, measured = self._held(), body.work.row is None
        cpu = self._cpu() if measured or self._cpu_at is not None else 0.0
        if before is not None:
            before.busy += now - self._at
            if self._cpu_at is not None:
                before.cpu += cpu - self._cpu_at
        self._turn, self._at, self._cpu_at = body, now, cpu if measured else None

    @property
    def current(self) -> Metered | None:
        """The attempt whose turn it is."""
        return self._turn

    def look(self) -> None:
        """An attempt goes on for long enough to be measured. From another thread."""
        if self._cpu_at is None and self._turn is not None:
            self._cpu_at = self._cpu()

    def end(self, body: Metered) -> float:
        """An attempt has ended; returns its slot time in seconds."""
        if self._turn is body:
            body.busy += self._held() - self._at
            if self._cpu_at is not None:
                body.cpu += self._cpu() - self._cpu_at
            self._turn = self._cpu_at = None
        return body.busy

    def memory(self) -> int:
        """Bytes of this process, where somebody looks at them; else 0."""
        return 0
