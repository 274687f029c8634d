"""Private folders of this process: removed at its end, or by the next process where it was killed. Runs in: everywhere.

Two uses: files of large buffers (`flyte_nb.core.transport.blob_files`), and the folder for a session's large data where a run
is given no ``raw_data_path`` (`session_folder`). Embedded workers share the session's disk; on a cluster of several machines,
give runs a `raw_data_path` that all of them reach.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import socket
from pathlib import Path

#: Where shared memory is a directory.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - ours is a private directory below it


@functools.cache
def session_folder() -> str:
    """The session's folder, readable by its user only; made by the first call."""
    return make_folder(roots()[-1])


def roots() -> list[Path]:
    """Where such folders are made, fastest first: shared memory, if it can be written to, and the temporary directory."""
    import tempfile  # here and below: these take 10 ms to import, and a program that makes no folder needs none of them

    found = [Path(tempfile.gettempdir())]
    return [SHARED_MEMORY, *found] if SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK) else found


def make_folder(root: Path) -> str:
    """Make a folder below `root` that goes with this process, and sweep those of killed ones."""
    import tempfile

    sweep(root)
    made = tempfile.mkdtemp(prefix=f"{prefix()}{os.getpid()}-", dir=root)
    atexit.register(_remove, made, os.getpid())
    return made


def _remove(folder: str, owner: int) -> None:
    import shutil

    if os.getpid() == owner:  # not in a fork
        shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path | None = None) -> None:
    """Remove folders of this user's processes that were killed: those in `root`, or in all of `roots`."""
    import shutil

    if os.name != "posix":  # no user ids, and ``os.kill(pid, 0)`` would end the process
        return
    for parent in [root] if root else roots():
        for folder in parent.glob(f"{prefix()}*-*"):
            number = folder.name.removeprefix(prefix()).partition("-")[0]
            with contextlib.suppress(OSError):
                if number.isdigit() and folder.lstat().st_uid == os.getuid() and not is_alive(int(number)):
                    shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def prefix() -> str:
    """What names begin with where process numbers mean what they mean here; the number of the process follows.

    That is a machine, and on Linux a container (a namespace of process numbers) of it: those that share a disk or memory must
    not take each other's processes for dead.
    """
    place = socket.gethostname()
    with contextlib.suppress(OSError):
        place += str(os.stat("/proc/self/ns/pid").st_ino)  # noqa: PTH116
    return f"flyte_nb-{hashlib.sha1(place.encode(), usedforsecurity=False).hexdigest()[:8]}-"


def is_alive(process: int) -> bool:
    """Whether a process of this machine, or container, runs."""
    try:
        os.kill(process, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True
