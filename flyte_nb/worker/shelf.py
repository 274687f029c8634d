"""Keep what a reader may want to see of large results for a while, bounded. Runs in: worker; lane threads put, the loop gets.

A result of more than 64 kB is not kept with its action in the kernel. Its worker keeps the pickle where it is short enough, or
a table of a data frame's first and last rows; a view asks for them when somebody opens the action.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from flyte_nb.core.serial import Payload
from flyte_nb.core.tables import table_of

#: Bytes kept in all; the oldest go first.
MAX_BYTES = 32 * 1024 * 1024
#: Largest single result kept as it is.
MAX_ONE = 8 * 1024 * 1024
#: Bytes that a table is counted as: 20 rows of 20 short texts.
TABLE_BYTES = 20_000

Key = tuple[str, str]


class Shelf:
    """Large results by (run, action), the oldest first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, tuple[int, dict[str, Any]]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def put(self, key: Key, value: object, payload: Payload) -> None:
        """Keep what can be shown of a result. From any thread; calls no code of the user's."""
        table = table_of(value)
        if table is not None:
            self._keep(key, TABLE_BYTES, {"table": table})
        elif type(payload) is bytes and len(payload) <= MAX_ONE:
            self._keep(key, len(payload), {"output": payload})

    def _keep(self, key: Key, size: int, what: dict[str, Any]) -> None:
        with self._lock:
            old = self._kept.pop(key, None)
            self._bytes += size - (old[0] if old else 0)
            self._kept[key] = (size, what)
            while self._bytes > MAX_BYTES:
                _, (freed, _) = self._kept.popitem(last=False)
                self._bytes -= freed

    def get(self, run: str, action: str) -> dict[str, Any] | None:
        """``{"output": payload}`` or ``{"table": table}``; None if it is not there (any more)."""
        with self._lock:
            found = self._kept.get((run, action))
        return found[1] if found else None
