"""The folder for a session's large data, where a run is given no ``raw_data_path``. Runs in: everywhere; removed at home.

The kernel (or script) makes one folder when its first run is described, and removes it when it ends. Embedded workers share
its disk. On a cluster of several machines, give runs a `raw_data_path` that all of them reach.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import platform
import shutil
import tempfile
from pathlib import Path


def _prefix() -> str:
    """What the names of this user's folders on this machine begin with; the number of the process follows.

    Machines, and containers, that share a disk for temporary files must not take each other's processes for dead.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    return f"flyte_nb-{hashlib.sha1(platform.node().encode(), usedforsecurity=False).hexdigest()[:8]}-{user}-"


@functools.cache
def session_folder() -> str:
    """The session's folder, readable by its user only; made by the first call."""
    _remove_left_overs()
    folder = tempfile.mkdtemp(prefix=f"{_prefix()}{os.getpid()}-")
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not in a fork
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def _remove_left_overs() -> None:
    """Remove folders of this user's processes that were killed."""
    prefix = _prefix()
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        number = folder.name.removeprefix(prefix).partition("-")[0]
        if number.isdigit() and not _is_alive(int(number)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # ``os.kill(pid, 0)`` would end it there
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
