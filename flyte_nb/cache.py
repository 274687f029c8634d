"""Look at the result cache, and clear it: what ``%flyte cache`` does, for programs. Runs in: the user's process.

Example:
    >>> import flyte_nb
    >>> flyte_nb.cache.entries()
    [TaskEntries(task='demo.square', entries=3, nbytes=15, hits=2, used_at=1764000000.0)]
    >>> flyte_nb.cache.clear("square")
    3
"""

from __future__ import annotations

from pathlib import Path

from flyte_nb.core.cache.location import folder_and_bound, opened
from flyte_nb.core.cache.store import TaskEntries

__all__ = ["TaskEntries", "clear", "entries", "folder"]


def folder() -> Path:
    """Where results are kept: ``flyte_nb.init(cache_dir=...)``, else ``FLYTE_NB_CACHE_DIR``, else the user's cache folder."""
    return folder_and_bound()[0]


def entries() -> list[TaskEntries]:
    """What is kept, task by task, the largest first: number of results, bytes, hits, and when one was last made or used."""
    with opened() as store:
        return store.overview()


def clear(task: str = "") -> int:
    """Drop results; calls whose result is gone execute again.

    Args:
        task: Of one task only: its full name ("env.function"), or that of its function.

    Returns:
        How many results there were.
    """
    with opened() as store:
        return store.clear(task)
