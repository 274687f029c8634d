"""``flyte.syncify``: async functions that sync code can call. Runs in: everywhere."""

from __future__ import annotations

from flyte_nb.core.syncify import Syncify, syncify

__all__ = ["Syncify", "syncify"]
