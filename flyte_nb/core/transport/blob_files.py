"""Files of large buffers, in private folders of this process: write, read or map, hand out, unlink. Runs in: everywhere."""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import secrets
from pathlib import Path
from typing import Any

from flyte_nb.core.transport.process_folder import make_folder, roots

#: From this size on a buffer is mapped; smaller ones are read, which costs no open file for as long as the value lives.
MAP_BYTES = 8 * 1024 * 1024
#: Bytes that stay free in shared memory; beyond, files go to the temporary directory.
SPARE_BYTES = 256 * 1024 * 1024
#: Whether files of other processes are looked for; without, all content goes over links (``FLYTE_NB_SHARED_FILES=0``).
SHARED_FILES = os.environ.get("FLYTE_NB_SHARED_FILES", "1") != "0"


class BlobGoneError(KeyError):
    """A buffer is not where its reference says; its process has ended."""


def write(buffer: memoryview) -> str:
    """Write a buffer to a new file; returns its path."""
    path = f"{_folder_for(buffer.nbytes)}/{secrets.token_hex(12)}"
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        done = 0
        while done < buffer.nbytes:  # one write takes 2 GiB at most
            done += os.write(file, buffer[done:])
    except BaseException:
        unlink(path)
        raise
    finally:
        os.close(file)
    return path


def read(path: str, nbytes: int) -> Any:
    """A writable buffer with a file's content, private to the caller.

    Raises:
        BlobGoneError: The file cannot be read here.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as exc:
        raise BlobGoneError(f"{nbytes:,} bytes of a value are gone: {exc}") from exc
    try:
        if nbytes >= MAP_BYTES:
            return mmap.mmap(file, nbytes, access=mmap.ACCESS_COPY)
        return bytearray(os.read(file, nbytes))
    finally:
        os.close(file)


def take(path: str, *, given: bool) -> bytes | None:
    """Content of a file of this process, for a peer on another machine; None if it is gone, or none of ours.

    Args:
        path: As its reference says.
        given: Whether the peer takes it over (a result): then the file goes.
    """
    if os.path.dirname(path) not in folders(os.getpid()):  # noqa: PTH120 - no ".." is resolved
        return None
    try:
        content = Path(path).read_bytes()
    except OSError:
        return None
    if given:
        unlink(path)
    return content


def unlink(path: str) -> None:
    """Delete a file, if it is there."""
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108 - at interpreter exit too


def _folder_for(nbytes: int) -> str:
    own = folders(os.getpid())
    if len(own) > 1:
        stat = os.statvfs(own[0])
        if stat.f_bavail * stat.f_frsize < nbytes + SPARE_BYTES:
            return own[1]
    return own[0]


@functools.cache
def folders(_pid: int) -> tuple[str, ...]:
    """Folders of this process for such files, fastest first; made on first use. Per `os.getpid()`: a fork has others."""
    return tuple(map(make_folder, roots()))


def remove_folders() -> None:
    """Remove these folders, if any was made: nobody refers to a file in them any more."""
    import shutil  # 5 ms to import

    if folders.cache_info().currsize:
        for folder in folders(os.getpid()):
            shutil.rmtree(folder, ignore_errors=True)
        folders.cache_clear()
