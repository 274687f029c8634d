"""Garbage collector thresholds while many actions are in flight. Runs in: engine thread; worker loop.

A map of 100,000 actions makes millions of objects, all of which go by reference counting. Python's collector looks for cycles
every 700 new ones and, as they pile up, walks all of them: half of the kernel's time in such a map (measured: 68 us per action
with it, 46 us without). While many actions are in flight it therefore looks less often; never not at all, since the user's
own code may make cycles.
"""

from __future__ import annotations

import gc

#: Actions in flight from which on the threshold is raised, and below which it is restored.
MANY, FEW = 2_000, 200
#: New objects per collection meanwhile: the young ones then take about 1 ms.
THRESHOLD = 50_000


class GcPacing:
    """Raises the garbage collector's threshold while many actions are in flight."""

    def __init__(self) -> None:
        self._usual: tuple[int, int, int] | None = None

    def load(self, actions: int) -> None:
        """Adapt the threshold to the number of actions in flight."""
        if self._usual is None:
            if actions >= MANY and 0 < gc.get_threshold()[0] < THRESHOLD:
                self._usual = gc.get_threshold()
                gc.set_threshold(THRESHOLD, *self._usual[1:])
        elif actions <= FEW:
            self.release()

    def release(self) -> None:
        """Restore the previous thresholds."""
        usual, self._usual = self._usual, None
        if usual is not None and gc.get_threshold()[0] == THRESHOLD:
            gc.set_threshold(*usual)
