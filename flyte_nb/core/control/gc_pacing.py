"""Keep Python's garbage collector from walking a large run again and again. Runs in: engine thread; worker loop.

A map of 100,000 actions makes millions of objects, all of which go by reference counting. Python's collector looks for cycles
every 700 new ones and, as they pile up, walks all of them: half of the kernel's time in such a map (measured: 68 us per action
with it, 46 us without). While many actions are under way it therefore looks less often; never not at all, since the user's
own code may make cycles.
"""

from __future__ import annotations

import gc

#: Actions under way from which on the collector is held back, and below which it is let go again.
MANY, FEW = 2_000, 200
#: New objects per collection meanwhile: the young ones then take about 1 ms.
THRESHOLD = 50_000


class GcPacing:
    """Holds the garbage collector back while much is under way."""

    def __init__(self) -> None:
        self._usual: tuple[int, int, int] | None = None

    def load(self, actions: int) -> None:
        """Say how many actions are under way."""
        if self._usual is None:
            if actions >= MANY and 0 < gc.get_threshold()[0] < THRESHOLD:
                self._usual = gc.get_threshold()
                gc.set_threshold(THRESHOLD, *self._usual[1:])
        elif actions <= FEW:
            self.release()

    def release(self) -> None:
        """As before."""
        usual, self._usual = self._usual, None
        if usual is not None and gc.get_threshold()[0] == THRESHOLD:
            gc.set_threshold(*usual)
