"""Previews of large arguments and results, kept for a while, bounded. Runs in: worker; lane threads put, the loop gets.

Arguments and results of more than 64 kB are not kept with their action in the kernel. Its worker keeps the pickle where it is
short enough, and of data frames a table of their first and last rows; a view asks for them when somebody opens the action.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from typing import Any

from flyte_nb.core.transport.payload import Packed, Payload, carried, is_one_piece, nbytes
from flyte_nb.core.values import redact
from flyte_nb.core.values.describe import brief
from flyte_nb.core.values.tables import MAX_COLUMNS, Table, table_of

logger: logging.Logger = logging.getLogger("flyte")

#: Bytes kept in all; the oldest go first.
MAX_PREVIEW_BYTES = 32 * 1024 * 1024
#: Largest single value kept as it is.
MAX_ONE = 8 * 1024 * 1024
#: Tables of arguments that are remembered, and longest text of one.
MAX_TABLES, TEXT_CHARS = 200, 300
#: Bytes that a table is counted as: 20 rows of 20 short texts.
TABLE_BYTES = 20_000

Key = tuple[str, str]


class PreviewStore:
    """Previews by (run, action), the oldest first."""

    def __init__(self) -> None:
        self._previews: OrderedDict[Key, tuple[int, dict[str, Any]]] = OrderedDict()
        self._bytes = 0
        #: Tables of arguments, by what they were made of.
        self._tables: dict[Any, Table | None] = {}
        self._lock = threading.Lock()

    def put_inputs(self, key: Key, named: dict[str, Any], payload: Payload) -> None:
        """Keep what can be shown of arguments. From any thread; calls no code of the user's."""
        if is_one_piece(payload) and nbytes(payload) <= MAX_ONE:
            self._add(key, nbytes(payload), {"inputs": carried(payload)})
            return
        if type(payload) is not Packed:
            return
        # Their buffers go when the call has ended, and often serve thousands of calls: a table each, made once.
        blobs = tuple(blob.name for blob in payload.blobs)
        try:
            shown = [self._argument(blobs, name, value) for name, value in named.items()]
        except Exception:  # A value that cannot be shown must not fail the action that takes it.
            logger.debug("arguments of %s cannot be shown", key, exc_info=True)
        else:
            self._add(key, 500 * len(shown), {"arguments": shown})

    def _argument(self, blobs: tuple[str, ...], name: str, value: object) -> dict[str, Any]:
        if redact.hides(name, value):
            return {"name": name, "text": "<redacted: its name looks like a secret's>"}
        text = redact.scrub(brief(value, TEXT_CHARS))
        if not text.startswith("<"):  # Neither a frame nor an array.
            return {"name": name, "text": text}
        is_frame = type(value).__module__.partition(".")[0] in ("pandas", "polars", "pyarrow")
        columns = tuple(map(str, list(getattr(value, "columns", ()))[:MAX_COLUMNS])) if is_frame else ()
        known = (blobs, name, text, columns)
        if known not in self._tables:
            while len(self._tables) >= MAX_TABLES:
                self._tables.pop(next(iter(self._tables)), None)
            self._tables[known] = table_of(value)
        table = self._tables[known]
        return {"name": name, "text": text, **({"table": table} if table is not None else {})}

    def put(self, key: Key, value: object, payload: Payload) -> None:
        """Keep what can be shown of a result. From any thread; calls no code of the user's."""
        table = table_of(value)
        if table is not None:
            self._add(key, TABLE_BYTES, {"table": table})
        elif is_one_piece(payload) and nbytes(payload) <= MAX_ONE:
            self._add(key, nbytes(payload), {"output": carried(payload)})

    def _add(self, key: Key, size: int, what: dict[str, Any]) -> None:
        with self._lock:
            had, before = self._previews.pop(key, (0, {}))
            # An attempt that follows another one brings the same arguments.
            self._bytes += size if before.keys().isdisjoint(what) else 0
            self._previews[key] = (had + size if before.keys().isdisjoint(what) else had, {**before, **what})
            while self._bytes > MAX_PREVIEW_BYTES:
                _, (freed, _) = self._previews.popitem(last=False)
                self._bytes -= freed

    def get(self, run: str, action: str) -> dict[str, Any] | None:
        """Any of ``inputs`` and ``output`` (payloads), ``arguments`` (name, text, table), ``table``; None for nothing."""
        with self._lock:
            found = self._previews.get((run, action))
        return found[1] if found else None
