"""Garbage collector while many actions are in flight. Runs in: the kernel; worker loop.

A map of 100,000 actions makes millions of objects, all of which go by reference counting. Python's collector looks for cycles
every 700 new ones and, as they pile up, walks all of them: half of the kernel's time in such a map (measured: 68 us per action
with it, 46 us without). While many actions are in flight it therefore looks less often; never not at all, since the user's
own code may make cycles.

And it does not walk the same ones again: what is there as many come to be in flight, and what a long walk has found to be in
use, is set aside (`gc.freeze`) until few are. A walk of all takes half a second with 100,000 calls, in which no stop is heard.
(Not where something was set aside before, as in a forked worker: that could not be told apart.)
"""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

#: Actions in flight from which on this begins, and from which on it is over.
MANY, FEW = 2_000, 200
#: New objects per collection meanwhile: the young ones then take about 1 ms.
THRESHOLD = 50_000
#: Seconds of a walk that is long: a stop may take half a second.
LONG_S = 0.03


class GcPacing:
    """Has the garbage collector of this process do less while many actions are in flight, or called and about to be."""

    def __init__(self) -> None:
        #: By whose they are.
        self._loads: dict[object, int] = {}
        self._guard = threading.Lock()
        self._usual: tuple[int, int, int] | None = None
        self._sets_aside = False
        #: Actions there were as objects were set aside last, because of their number.
        self._aside = 0
        self._began = 0.0

    def load(self, owner: object, actions: int) -> None:
        """Adapt to the number of actions that an owner has now."""
        with self._guard:
            self._loads[owner] = actions
            if not actions:
                del self._loads[owner]
            total = sum(self._loads.values())
            if self._usual is None:
                if total >= MANY and 0 < gc.get_threshold()[0] < THRESHOLD:
                    self._begin(total)
            elif total <= FEW:
                self._end()
            elif self._sets_aside and total >= self._aside + MANY:
                self._aside = total
                gc.freeze()

    def _begin(self, total: int) -> None:
        self._usual, self._aside = gc.get_threshold(), total
        gc.set_threshold(THRESHOLD, *self._usual[1:])
        self._sets_aside = not gc.get_freeze_count()
        if self._sets_aside:
            gc.freeze()
            gc.callbacks.append(self._walked)

    def _walked(self, phase: str, _info: dict[str, Any]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._began = now
        elif now - self._began > LONG_S and self._sets_aside:
            gc.freeze()

    def _end(self) -> None:
        usual, self._usual = self._usual, None
        if usual is not None and gc.get_threshold()[0] == THRESHOLD:
            gc.set_threshold(*usual)
        if self._sets_aside:
            self._sets_aside = False
            gc.callbacks.remove(self._walked)
            gc.unfreeze()


#: Of this process.
PACING = GcPacing()
