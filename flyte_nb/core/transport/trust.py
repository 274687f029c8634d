"""Trust in files whose content is unpickled: only those that nobody else can write. Runs in: everywhere.

Unpickling runs code. Whoever can write a result into the cache has it run by the next kernel that finds it, so folder and file
must belong to the user (or the system's) and be writable by nobody else, unless the user says that others are trusted.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

#: Writable by group or others.
_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class UntrustedError(Exception):
    """Somebody else can write to a folder or a file whose content would be unpickled."""


def is_shared() -> bool:
    """Whether the user trusts everybody who can write to the files that are read (``FLYTE_NB_TRUST_SHARED``)."""
    return os.environ.get("FLYTE_NB_TRUST_SHARED", "").strip().lower() in ("1", "true", "yes")


def check(path: Path) -> None:
    """Refuse a folder or file that belongs to somebody else, or that others can write to; nothing where there is none yet.

    Raises:
        UntrustedError: It is refused; the message names it, and the remedy.
    """
    if os.name != "posix" or is_shared():  # other systems have lists of rights, which no number tells
        return
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    kind = "folder" if stat.S_ISDIR(found.st_mode) else "file"
    if found.st_uid not in (os.getuid(), 0):
        what, remedy = f"the {kind} {path} belongs to another user (number {found.st_uid})", "use a folder of your own"
    elif found.st_mode & _BY_OTHERS:
        mode = stat.S_IMODE(found.st_mode)
        what, remedy = f"others can write to the {kind} {path} (mode {mode:04o})", f"`chmod go-w {path}`"
    else:
        return
    raise UntrustedError(
        f"{what}, and what they write there would be run here. Do one of these: {remedy}; "
        "flyte_nb.init(cache_dir=..., history=...) with other folders, for results and for the history of runs; "
        "FLYTE_NB_TRUST_SHARED=1, if you trust "
        "everybody who can write there with your account"
    )


def make_private(path: Path) -> None:
    """Make a file that only its user can read and write, or take the rights of others away.

    It is never opened here: with a descriptor of a file its locks go, those of SQLite's too, whoever of the process has them.
    """
    if not path.exists():
        file, made = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        os.close(file)
        try:
            try:
                os.link(made, path)
            except FileExistsError:
                pass  # another kernel was first
            except OSError:  # a file system without links
                os.replace(made, path)  # noqa: PTH105
        finally:
            Path(made).unlink(missing_ok=True)
    elif os.name == "posix" and path.stat().st_uid == os.getuid() and path.stat().st_mode & 0o077:
        path.chmod(0o600)
