"""GPUs that a worker process was given (``CUDA_VISIBLE_DEVICES``), lent to lanes. Runs in: worker process."""

from __future__ import annotations

import os
import threading

from flyte_nb.engine.clusters.devices import VISIBLE


class Devices:
    """Those of this process. Dask counts them: a lane comes only where enough are free."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: In the order in which they are lent: where each process sees all, its own comes first.
        self._names = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
        self._lent: set[str] = set()

    def lend(self, number: int) -> tuple[str, ...]:
        """So many of them; none where this process was not told which ones are its own."""
        with self._lock:
            found = [name for name in self._names if name not in self._lent][:number]
            if len(found) < number:
                return ()
            self._lent.update(found)
            return tuple(found)

    def give_back(self, names: tuple[str, ...]) -> None:
        """They are free again."""
        with self._lock:
            self._lent.difference_update(names)

    def __repr__(self) -> str:
        return f"<Devices {self._names} [{len(self._lent)} lent]>"
