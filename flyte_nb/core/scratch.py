"""The folder for a session's large data, where a run is given no ``raw_data_path``. Runs in: everywhere; removed at home.

The kernel (or script) makes one folder when its first run is described, and removes it when it ends. Embedded workers share
its disk. On a cluster of several machines, give runs a `raw_data_path` that all of them reach.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

#: Names begin with this, then the user's number and that of the process.
_PREFIX = "flyte_nb-"


@functools.cache
def session_folder() -> str:
    """The session's folder, readable by its user only; made by the first call."""
    _remove_left_overs()
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{_user()}-{os.getpid()}-")
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not in a fork
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _remove_left_overs() -> None:
    """Remove folders of this user's processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}{_user()}-*"):
        number = folder.name.removeprefix(f"{_PREFIX}{_user()}-").partition("-")[0]
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
