"""Large buffers (arrays, data frames), outside of messages: written once, mapped by every process of the machine.

Theory of operation. A buffer becomes a file in shared memory (or on disk, where that is small), named by its content. A
process that is sent a reference maps the file privately: a writable copy whose untouched pages are shared. So one array for a
hundred calls is written once, and read where it lies. A process on another machine fetches the content once over its link
(`flyte_nb.engine`), into a file of its own.

Two kinds of reference travel. An argument stays the caller's: its file goes when no call and no memory of it is left there
(`Blob`). A result is a gift: whoever receives it takes it over, and its file is unlinked there and then (`Gift`, `Received`).

Runs in: everywhere.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import hashlib
import mmap
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import Any

#: From this size on a buffer is mapped; smaller ones are read, which costs no open file for as long as the value lives.
MAP_BYTES = 8 * 1024 * 1024
#: Buffers remembered, so that an array passed again is recognised without hashing it anew; and their bytes in all.
MAX_REMEMBERED = 64
MAX_REMEMBERED_BYTES = 2 * 1024**3
#: Bytes that stay free in shared memory; beyond, files go to the temporary directory.
SPARE_BYTES = 256 * 1024 * 1024
#: Where shared memory is a directory.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - ours is a private directory below it

_PREFIX = "flyte_nb"
#: Whether files of other processes are looked for; without, all content goes over links (``FLYTE_NB_SHARED_FILES=0``).
SHARED_FILES = os.environ.get("FLYTE_NB_SHARED_FILES", "1") != "0"


class BlobGoneError(KeyError):
    """A buffer is not where its reference says; its process has ended."""


class Blob:
    """A buffer in a file of this process. The file goes with the object."""

    __slots__ = ("__weakref__", "_finalizer", "holder", "name", "nbytes", "path")

    def __init__(self, name: str, nbytes: int, path: str, holder: str) -> None:
        #: Hash of its content.
        self.name = name
        self.nbytes = nbytes
        self.path = path
        #: The peer that keeps it.
        self.holder = holder
        self._finalizer = weakref.finalize(self, _unlink, path)

    def __reduce__(self) -> tuple[Any, ...]:
        return Borrowed, (self.name, self.nbytes, self.path, self.holder)

    def get(self) -> Any:
        """A writable buffer with its content, private to the caller."""
        return _read(self.path, self.nbytes)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name[:8]} {self.nbytes:,} bytes>"


class Borrowed:
    """A reference to another process's `Blob`: an argument."""

    __slots__ = ("holder", "name", "nbytes", "path")

    def __init__(self, name: str, nbytes: int, path: str, holder: str) -> None:
        self.name = name
        self.nbytes = nbytes
        self.path = path
        self.holder = holder

    def __reduce__(self) -> tuple[Any, ...]:
        return Borrowed, (self.name, self.nbytes, self.path, self.holder)

    @property
    def here(self) -> bool:
        """Whether this process can read its file (it is on the holder's machine)."""
        return SHARED_FILES and os.path.exists(self.path)  # noqa: PTH110 - once per call and buffer

    def get(self) -> Any:
        """A writable buffer with its content, private to the caller.

        Raises:
            BlobGoneError: Its file cannot be read here.
        """
        return _read(self.path, self.nbytes)


class Gift(Blob):
    """A buffer that belongs to whoever its reference is sent to: a result."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        self._finalizer.detach()  # the receiver unlinks it
        return receive, (self.name, self.nbytes, self.path, self.holder)


class Received:
    """A result's buffer, taken over from the process that made it."""

    __slots__ = ("_content", "_file", "holder", "name", "nbytes", "path")

    def __init__(self, name: str, nbytes: int, holder: str, file: int | None, content: Any, path: str = "") -> None:
        self.name = name
        self.nbytes = nbytes
        self.holder = holder
        #: Where it is on its holder's machine, until it is fetched.
        self.path = path
        self._file = file
        self._content = content

    @property
    def here(self) -> bool:
        """Whether its content is in this process; else it must be fetched from `holder`."""
        return self._file is not None or self._content is not None

    def fill(self, content: bytes) -> None:
        """Take the content that was fetched."""
        self._content = content

    def get(self) -> Any:
        """A writable buffer with its content, private to the caller."""
        if self._file is not None:
            return mmap.mmap(self._file, self.nbytes, access=mmap.ACCESS_COPY)
        if self._content is None:
            raise BlobGoneError(f"the {self.nbytes:,} bytes of a result were left behind on {self.holder}")
        return bytearray(self._content)

    def __reduce__(self) -> tuple[Any, ...]:
        # Sent on (a cached result, say): with its content, since no file of it is left.
        return _filled, (self.name, self.nbytes, bytes(self.get()))

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


def receive(name: str, nbytes: int, path: str, holder: str) -> Received:
    """Take a result's buffer over: its file is opened and unlinked. Elsewhere than on its machine it stays empty."""
    try:
        if not SHARED_FILES:
            raise FileNotFoundError(path)
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return Received(name, nbytes, holder, None, None, path)
    _unlink(path)
    if nbytes >= MAP_BYTES:
        return Received(name, nbytes, holder, file, None)
    try:
        return Received(name, nbytes, holder, None, _all_of(file, nbytes))
    finally:
        os.close(file)


def content_of(name: str, content: Any) -> Received:
    """A reference that carries its content."""
    return _filled(name, len(content), bytes(content))


def _filled(name: str, nbytes: int, content: bytes) -> Received:
    return Received(name, nbytes, "", None, content)


class Blobs:
    """The buffers that this process offers to others.

    Args:
        holder: This process's name as a peer.
    """

    def __init__(self, holder: str = "local") -> None:
        self.holder = holder
        self._lock = threading.Lock()
        self._by_name: weakref.WeakValueDictionary[str, Blob] = weakref.WeakValueDictionary()
        #: Latest last, by address and size in this process: the blob, and its content to compare with.
        self._remembered: OrderedDict[tuple[int, int], tuple[Blob, mmap.mmap]] = OrderedDict()
        self._bytes = 0
        self.results = Results(holder)

    def put(self, buffer: memoryview) -> Blob:
        """The blob of a buffer's content: the same one as long as that doesn't change.

        An address seen before is compared with what was there (64 MB: 4 ms), so an array that was written to meanwhile is a
        new blob; only new content is hashed (35 ms) and written (30 ms).
        """
        with _address(buffer) as address:
            key = (address, buffer.nbytes)
            with self._lock:
                known = self._remembered.get(key)
            if known is not None and _equal(address, known[1], buffer.nbytes):
                with self._lock:
                    if key in self._remembered:
                        self._remembered.move_to_end(key)
                return known[0]
            name = content_name(buffer)
            with self._lock:
                blob = self._by_name.get(name)
                if blob is None:
                    blob = self._by_name[name] = Blob(name, buffer.nbytes, write(buffer), self.holder)
                self._remember(key, blob)
            return blob

    def keep(self, name: str, content: bytes) -> Blob:
        """Keep content that was fetched from elsewhere."""
        with self._lock:
            blob = self._by_name.get(name)
            if blob is None:
                blob = self._by_name[name] = Blob(name, len(content), write(memoryview(content)), self.holder)
            self._remember((id(blob), 0), blob)
            return blob

    def find(self, name: str) -> Blob | None:
        """The blob of this content name, if it is still here."""
        return self._by_name.get(name)

    def _remember(self, key: tuple[int, int], blob: Blob) -> None:
        old = self._remembered.pop(key, None)
        if old is not None:
            self._bytes -= old[0].nbytes
        with open(blob.path, "rb") as file:  # noqa: PTH123 - a plain descriptor is all mmap wants
            self._remembered[key] = (blob, mmap.mmap(file.fileno(), blob.nbytes, access=mmap.ACCESS_READ))
        self._bytes += blob.nbytes
        while len(self._remembered) > MAX_REMEMBERED or (
            self._bytes > MAX_REMEMBERED_BYTES and len(self._remembered) > 1
        ):
            _, (evicted, _) = self._remembered.popitem(last=False)
            self._bytes -= evicted.nbytes

    def trim(self) -> None:
        """Forget what no call under way uses: a run has ended."""
        with self._lock:
            self._remembered.clear()
            self._bytes = 0


class Results:
    """Where results' buffers go: each is a gift to whoever awaits."""

    def __init__(self, holder: str) -> None:
        self._holder = holder

    def put(self, buffer: memoryview) -> Gift:
        """A gift with the buffer's content."""
        return Gift(content_name(buffer), buffer.nbytes, write(buffer), self._holder)


# -- files -------------------------------------------------------------------------------------------------------------


def write(buffer: memoryview) -> str:
    """Write a buffer to a new file; returns its path."""
    path = f"{_folder_for(buffer.nbytes)}/{secrets.token_hex(12)}"
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        done = 0
        while done < buffer.nbytes:  # one write takes 2 GiB at most
            done += os.write(file, buffer[done:])
    except BaseException:
        _unlink(path)
        raise
    finally:
        os.close(file)
    return path


def _read(path: str, nbytes: int) -> Any:
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as exc:
        raise BlobGoneError(f"{nbytes:,} bytes of a value are gone: {exc}") from exc
    try:
        if nbytes >= MAP_BYTES:
            return mmap.mmap(file, nbytes, access=mmap.ACCESS_COPY)
        return bytearray(_all_of(file, nbytes))
    finally:
        os.close(file)


def _all_of(file: int, nbytes: int) -> bytes:
    return os.read(file, nbytes)


def take(path: str, *, given: bool) -> bytes | None:
    """Content of a file of this process, for a peer on another machine; None if it is gone, or none of ours.

    Args:
        path: As its reference says.
        given: Whether the peer takes it over (a result): then the file goes.
    """
    if os.path.dirname(path) not in _folders(os.getpid()):  # noqa: PTH120 - no ".." is resolved
        return None
    try:
        content = Path(path).read_bytes()
    except OSError:
        return None
    if given:
        _unlink(path)
    return content


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108 - at interpreter exit too


def _folder_for(nbytes: int) -> str:
    folders = _folders(os.getpid())
    if len(folders) > 1:
        stat = os.statvfs(folders[0])
        if stat.f_bavail * stat.f_frsize < nbytes + SPARE_BYTES:
            return folders[1]
    return folders[0]


@functools.cache
def _folders(pid: int) -> tuple[str, ...]:
    """This process's private folders, fastest first; made on first use, removed at its end."""
    roots = [Path(tempfile.gettempdir())]
    if SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK):
        roots.insert(0, SHARED_MEMORY)
    made = []
    for root in roots:
        sweep(root)
        made.append(tempfile.mkdtemp(prefix=f"{_PREFIX}-{_world()}-{pid}-", dir=root))
    atexit.register(_remove, made, pid)
    return tuple(made)


def _remove(folders: list[str], pid: int) -> None:
    if os.getpid() == pid:  # not in a fork
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path | None = None) -> None:
    """Remove folders of processes of this user that have ended without doing so (killed ones)."""
    if os.name != "posix":  # no user ids, and `os.kill` kills
        return
    for parent in [root] if root else [SHARED_MEMORY, Path(tempfile.gettempdir())]:
        for folder in parent.glob(f"{_PREFIX}-{_world()}-*-*") if parent.is_dir() else ():
            pid = folder.name.split("-")[2]
            with contextlib.suppress(OSError):
                if pid.isdigit() and folder.stat().st_uid == os.getuid() and not _alive(int(pid)):
                    shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def _world() -> str:
    """Where process numbers mean what they mean here: a machine, and on Linux a container of it that may share its memory."""
    place = socket.gethostname()
    with contextlib.suppress(OSError):
        place += str(os.stat("/proc/self/ns/pid").st_ino)  # noqa: PTH116
    return hashlib.sha1(place.encode(), usedforsecurity=False).hexdigest()[:8]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


# -- memory ------------------------------------------------------------------------------------------------------------


def content_name(data: Any) -> str:
    """Name of a buffer: a hash of its content (SHA-1 is the fastest one that processors help with; no secret rests on it)."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


class _PyBuffer(ctypes.Structure):
    """CPython's ``Py_buffer`` (stable since 3.11)."""

    _fields_ = (
        ("buf", ctypes.c_void_p), ("obj", ctypes.py_object), ("len", ctypes.c_ssize_t), ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int), ("ndim", ctypes.c_int), ("format", ctypes.c_char_p), ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p), ("suboffsets", ctypes.c_void_p), ("internal", ctypes.c_void_p),
    )  # fmt: skip


@contextlib.contextmanager
def _address(buffer: Any) -> Any:
    """The address of a buffer, read-only ones included, which stays where it is meanwhile."""
    view = _PyBuffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(buffer), ctypes.byref(view), 0)
    try:
        yield view.buf
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(view))


_memcmp = (ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)).memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def _equal(address: int, other: Any, nbytes: int) -> bool:
    with _address(other) as second:
        return bool(_memcmp(address, second, nbytes) == 0)
