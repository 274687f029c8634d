"""Location of the result cache: its folder and size bound. Runs in: the user's process."""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

from flyte_nb.core.cache.store import MAX_CACHE_BYTES, CacheStore

#: Stores of this process's engines.
open_stores: weakref.WeakSet[CacheStore] = weakref.WeakSet()


class Configured:
    """Folder of the results, if the user gave one."""

    folder: Path | None = None
    #: How often it was given: a service opens its store anew after each.
    changes = 0


def configure(folder: str | os.PathLike[str] | None) -> None:
    """Set where results are kept.

    Args:
        folder: A folder, made if need be; None for the default: ``FLYTE_NB_CACHE_DIR``, else the user's cache folder.
    """
    Configured.folder = None if folder is None else Path(folder).expanduser().absolute()
    Configured.changes += 1


def folder_and_bound() -> tuple[Path, int]:
    """The folder of the store, and the bytes it may take (``FLYTE_NB_CACHE_BYTES``)."""
    bound = os.environ.get("FLYTE_NB_CACHE_BYTES", "")
    max_bytes = int(bound) if bound.isdigit() else MAX_CACHE_BYTES
    if Configured.folder is not None:
        return Configured.folder, max_bytes
    given = os.environ.get("FLYTE_NB_CACHE_DIR")
    return (Path(given).expanduser().absolute() if given else _user_cache() / "flyte_nb"), max_bytes


@contextlib.contextmanager
def opened() -> Iterator[CacheStore]:
    """The store of the configured folder, for looking and clearing; what engines of this process have pending is on disk."""
    folder, max_bytes = folder_and_bound()
    for store in list(open_stores):
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
