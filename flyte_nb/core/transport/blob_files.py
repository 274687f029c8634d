"""Files of large buffers, in private folders of this process: write, read or map, hand out, unlink. Runs in: everywhere."""

from __future__ import annotations

import _thread
import contextlib
import functools
import mmap
import os
import secrets
import time
from pathlib import Path
from typing import Any

from flyte_nb.core.transport.process_folder import make_folder, roots

#: From this size on a buffer is mapped; smaller ones are read, which costs no open file for as long as the value lives.
MAP_BYTES = 8 * 1024 * 1024
#: Bytes that stay free in shared memory; beyond, files go to the temporary directory.
SPARE_BYTES = 256 * 1024 * 1024
#: Bytes of one read.
READ_BYTES = 16 * 1024 * 1024
#: From this size on a thread frees a file's pages: 70 ms a gigabyte, which a loop does not have.
SLOW_BYTES = 64 * 1024 * 1024
#: Descriptors that stay free for everything else: from there on large buffers are read, not mapped.
SPARE_FILES = 96
#: Whether files of other processes are looked for; without, all content goes over links (``FLYTE_NB_SHARED_FILES=0``).
SHARED_FILES = os.environ.get("FLYTE_NB_SHARED_FILES", "1") != "0"


class BlobGoneError(KeyError):
    """A buffer is not where its reference says; its process has ended."""


def write(buffer: memoryview) -> str:
    """Write a buffer to a new file; returns its path.

    Raises:
        OSError: There is no room in any folder; the message names them.
    """
    tried = _folders_for(buffer.nbytes)
    for folder in tried:
        try:
            return _write_in(folder, buffer)
        except OSError as exc:
            if folder == tried[-1]:
                where = " nor in ".join(str(Path(each).parent) for each in tried)
                raise OSError(
                    exc.errno, f"{buffer.nbytes:,} bytes of a value cannot be stored in {where}: {exc.strerror}"
                ) from exc
    raise AssertionError


def _write_in(folder: str, buffer: memoryview) -> str:
    path = f"{folder}/{secrets.token_hex(12)}"
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
        return content(file, nbytes)
    finally:
        os.close(file)


def content(file: int, nbytes: int) -> Any:
    """A writable buffer with an open file's content: mapped if it is large, and read where descriptors run out."""
    if nbytes >= MAP_BYTES and not is_scarce(file):
        try:
            return mmap.mmap(file, nbytes, access=mmap.ACCESS_COPY)
        except OSError:  # too many mappings, or no descriptor for it
            pass
    found, done = bytearray(nbytes), 0
    view = memoryview(found)
    while done < nbytes:
        part = os.pread(file, min(nbytes - done, READ_BYTES), done)
        if not part:
            raise BlobGoneError(f"{nbytes:,} bytes of a value are gone: their file is shorter")
        view[done : done + len(part)] = part
        done += len(part)
    return found


def is_scarce(file: int) -> bool:
    """Whether few descriptors are free: each mapping holds one, and the system gives the lowest number that is free."""
    return file >= _max_files() - SPARE_FILES


def _max_files() -> float:
    try:
        import resource
    except ImportError:  # not on Windows, which has no such limit
        return float("inf")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return float("inf") if limit == resource.RLIM_INFINITY else limit


def piece(path: str, at: int, nbytes: int) -> Any:
    """A part of a file of this process, for a peer on another machine, mapped; None if the file is gone, or none of ours."""
    if os.path.dirname(path) not in folders(os.getpid()):  # noqa: PTH120 - no ".." is resolved
        return None
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        before = at % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(file, nbytes + before, access=mmap.ACCESS_READ, offset=at - before)
        return memoryview(mapped)[before:]
    except (OSError, ValueError):
        return None
    finally:
        os.close(file)


class Arriving:
    """A file that is written piece by piece.

    Raises:
        OSError: There is no room for it.
    """

    def __init__(self, nbytes: int) -> None:
        self.path = f"{_folders_for(nbytes)[0]}/{secrets.token_hex(12)}"
        self._file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        os.truncate(self._file, nbytes)

    def put(self, at: int, part: Any) -> None:
        """Write a piece."""
        view = memoryview(part)
        while view:
            done = os.pwrite(self._file, view, at)
            at, view = at + done, view[done:]

    def keep(self) -> str:
        """All is there: the path of the file."""
        os.close(self._file)
        return self.path

    def open(self) -> int:
        """All is there: a descriptor; the file goes with it."""
        unlink(self.path)
        return self._file

    def drop(self) -> None:
        """It will not be complete."""
        nbytes = os.fstat(self._file).st_size
        close(self.open(), nbytes)


def unlink(path: str, mapped_s: float = 0.0) -> None:
    """Delete a file, if it is there.

    Args:
        path: The file.
        mapped_s: Seconds for which parts of it may still be mapped: whoever lets go of it last has its pages to free.
    """
    held = None
    with contextlib.suppress(OSError):
        if os.stat(path).st_size >= SLOW_BYTES:  # noqa: PTH116 - at interpreter exit too
            held = os.open(path, os.O_RDONLY)
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108
    if held is not None:
        close(held, SLOW_BYTES, mapped_s)


def close(file: int, nbytes: int, mapped_s: float = 0.0) -> None:
    """Close the descriptor of a file of so many bytes whose name may have gone: its pages go with it."""
    if nbytes >= SLOW_BYTES:
        try:  # plainly: finalizers come here, in the middle of anything, where no lock of `threading` may be taken
            _thread.start_new_thread(_close_after, (mapped_s, file))
        except RuntimeError:  # no thread can be had, as at interpreter exit
            pass
        else:
            return
    os.close(file)


def _close_after(seconds: float, file: int) -> None:
    time.sleep(seconds)
    os.close(file)


def _folders_for(nbytes: int) -> tuple[str, ...]:
    own = folders(os.getpid())
    if len(own) > 1:
        stat = os.statvfs(own[0])
        if stat.f_bavail * stat.f_frsize < nbytes + SPARE_BYTES:
            return own[1:]
    return own


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
