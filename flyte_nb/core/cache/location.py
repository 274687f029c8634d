"""Folder and size bound of the result cache. Runs in: the user's process."""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

from flyte_nb.core.cache.store import MAX_BYTES, CacheStore



#: Stores of this process's engines.
_open_stores: weakref.WeakSet[CacheStore] = weakref.WeakSet()


class _Place:
    """Where results are kept, if the user said so."""

    folder: Path | None = None
    #: How often it was said.
    changes = 0


def configure(folder: str | os.PathLike[str] | None) -> None:
    """Say where results are kept.

    Args:
        folder: A folder, made if need be; None for the default: ``FLYTE_NB_CACHE_DIR``, else the user's cache folder.
    """
    _Place.folder = None if folder is None else Path(folder).expanduser().absolute()
    _Place.changes += 1


def folder_and_bound() -> tuple[Path, int]:
    """The folder of the store, and the bytes it may take (``FLYTE_NB_CACHE_BYTES``)."""
    bound = os.environ.get("FLYTE_NB_CACHE_BYTES", "")
    max_bytes = int(bound) if bound.isdigit() else MAX_BYTES
    if _Place.folder is not None:
        return _Place.folder, max_bytes
    given = os.environ.get("FLYTE_NB_CACHE_DIR")
    return (Path(given).expanduser().absolute() if given else _user_cache() / "flyte_nb"), max_bytes


@contextlib.contextmanager
def opened() -> Iterator[CacheStore]:
    """The store of the configured folder, for looking and clearing; what engines of this process have pending is on disk."""
    folder, max_bytes = folder_and_bound()
    for store in list(_open_stores):
        if store.folder == folder:
            store.flush()
    own = CacheStore(folder, max_bytes=max_bytes)
    try:
        yield own
    finally:
        own.close()


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
