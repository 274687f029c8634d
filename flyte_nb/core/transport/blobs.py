"""Large buffers (arrays, data frames), outside of messages: written once, mapped by every process of the machine.

Theory of operation. A buffer becomes a file in shared memory (or on disk, where that is small), named by its content. A
process that is sent a reference maps the file privately: a writable copy whose untouched pages are shared. So one array for a
hundred calls is written once, and read where it lies. A process on another machine fetches the content once over its link
(`flyte_nb.engine`), into a file of its own.

Two kinds of reference travel. An argument stays the caller's: its file goes when no call and no memory of it is left there
(`Blob`). A result is a gift: its receiver takes it over and unlinks its file at once (`Gift`, `Received`).

Runs in: everywhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import mmap
import os
import sys
import threading
import weakref
import zlib
from collections import OrderedDict
from typing import Any

from flyte_nb.core.transport import blob_files
from flyte_nb.core.transport.blob_files import BlobGoneError
from flyte_nb.core.transport.bursts import Burst

#: Buffers remembered, so that an array passed again is recognised without hashing it anew; and their bytes in all.
MAX_REMEMBERED = 64
MAX_REMEMBERED_BYTES = 2 * 1024**3


class _Stored:
    """A buffer in a file, as its owner and its borrowers know it."""

    __slots__ = ("holder", "name", "nbytes", "path")

    def __init__(self, name: str, nbytes: int, path: str, holder: str) -> None:
        #: Of an argument, a hash of its content.
        self.name: str = name
        self.nbytes: int = nbytes
        self.path: str = path
        #: The peer that keeps it.
        self.holder: str = holder

    def __reduce__(self) -> tuple[Any, ...]:
        return Borrowed, (self.name, self.nbytes, self.path, self.holder)

    def get(self) -> Any:
        """A writable buffer with its content, private to the caller.

        Raises:
            BlobGoneError: Its file cannot be read here.
        """
        return blob_files.read(self.path, self.nbytes)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name[:8]} {self.nbytes:,} bytes>"


class Blob(_Stored):
    """A buffer in a file of this process. The file goes with the object."""

    __slots__ = ("__weakref__", "_finalizer")

    def __init__(self, name: str, nbytes: int, path: str, holder: str) -> None:
        super().__init__(name, nbytes, path, holder)
        self._finalizer = weakref.finalize(self, blob_files.unlink, path)


class Borrowed(_Stored):
    """A reference to another process's `Blob`: an argument."""

    __slots__ = ()

    @property
    def here(self) -> bool:
        """Whether this process can read its file (it is on the holder's machine)."""
        return blob_files.SHARED_FILES and os.path.exists(self.path)  # noqa: PTH110 - once per call and buffer


class Gift(Blob):
    """A buffer that belongs to the receiver of its reference: a result."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        self._finalizer.detach()  # the receiver unlinks it
        return receive, (self.name, self.nbytes, self.path, self.holder)


class Received:
    """A result's buffer, taken over from the process that made it."""

    __slots__ = ("_content", "_file", "holder", "name", "nbytes", "path")

    def __init__(self, name: str, nbytes: int, holder: str, file: int | None, content: Any, path: str = "") -> None:
        self.name: str = name
        self.nbytes: int = nbytes
        self.holder: str = holder
        #: Where it is on its holder's machine, until it is fetched.
        self.path: str = path
        self._file = file
        self._content = content

    @property
    def here(self) -> bool:
        """Whether its content is in this process, or lost; else it must be fetched from `holder`."""
        return self._file is not None or self._content is not None or not self.path

    def fill(self, file: int | None) -> None:
        """Take the content that was fetched, in a file that goes with its descriptor; None: it could not be."""
        self._file, self.path = file, ""
        if file is not None and (self.nbytes < blob_files.MAP_BYTES or blob_files.is_scarce(file)):
            self._content, self._file = blob_files.content(file, self.nbytes), None
            os.close(file)

    def get(self) -> Any:
        """A writable buffer with its content, private to the caller."""
        if self._file is not None:
            return blob_files.content(self._file, self.nbytes)
        if self._content is None:
            raise BlobGoneError(f"the {self.nbytes:,} bytes of a result were left behind on {self.holder}")
        return bytearray(self._content)

    def __reduce__(self) -> tuple[Any, ...]:
        # Sent on (as a cached result is): with its content, since no file of it is left.
        return _filled, (self.name, self.nbytes, bytes(self.get()))

    def __del__(self) -> None:
        if self._file is not None:
            blob_files.close(self._file, self.nbytes)


def receive(name: str, nbytes: int, path: str, holder: str) -> Received:
    """Take a result's buffer over: its file is opened and unlinked. Elsewhere than on its machine it stays empty."""
    try:
        if not blob_files.SHARED_FILES:
            raise FileNotFoundError(path)
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return Received(name, nbytes, holder, None, None, path)
    blob_files.unlink(path)
    if nbytes >= blob_files.MAP_BYTES and not blob_files.is_scarce(file):
        return Received(name, nbytes, holder, file, None)
    try:
        return Received(name, nbytes, holder, None, blob_files.content(file, nbytes))
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
        self._burst = Burst()
        self.results: Results = Results(holder)

    def __repr__(self) -> str:
        return f"<Blobs of {self.holder} [{len(self._by_name)} offered, {len(self._remembered)} remembered]>"

    def put(self, buffer: memoryview) -> Blob:
        """The blob of a buffer's content: the same one as long as that doesn't change.

        An address seen before is compared with what was there (64 MB: 4 ms), so an array that was written to meanwhile is a
        new blob; once for all calls of a gather. Only new content is hashed (35 ms) and written (30 ms).
        """
        with _address(buffer) as address:
            key = (address, buffer.nbytes)
            with self._lock:
                known = self._remembered.get(key)
            if known is not None and (self._burst.has(key, buffer) or _equal(address, known[1], buffer.nbytes)):
                self._burst.found(key, buffer)
                with self._lock:
                    if key in self._remembered:
                        self._remembered.move_to_end(key)
                return known[0]
            name = _content_name(buffer)
            with self._lock:
                blob = self._by_name.get(name)
                if blob is None:
                    blob = self._by_name[name] = Blob(name, buffer.nbytes, blob_files.write(buffer), self.holder)
                self._remember(key, blob)
            self._burst.found(key, buffer)
            return blob

    def keep(self, name: str, nbytes: int, path: str) -> Blob:
        """Keep a file that was fetched from elsewhere."""
        with self._lock:
            blob = self._by_name.get(name)
            if blob is None:
                blob = self._by_name[name] = Blob(name, nbytes, path, self.holder)
            else:
                blob_files.unlink(path)
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
        """Evict the remembered buffers; those that calls in flight use stay with them. Called at the end of a run."""
        with self._lock:
            self._remembered.clear()
            self._bytes = 0


class Results:
    """Makes blobs of results' buffers: each is a gift to the awaiting process."""

    def __init__(self, holder: str) -> None:
        self._holder = holder

    def put(self, buffer: memoryview) -> Gift:
        """A gift with the buffer's content."""
        path = blob_files.write(buffer)
        return Gift(self._name(buffer, path), buffer.nbytes, path, self._holder)

    def _name(self, _buffer: memoryview, path: str) -> str:
        # Nobody looks for a result by its content, whose hash takes as long as to write it.
        return path.rpartition("/")[2]

    def of_items(self) -> Items:
        """The same for items of a stream."""
        return Items(self._holder)


class Items(Results):
    """Makes blobs of the buffers of a stream's items, which nothing but a repetition of the stream is compared with."""

    def _name(self, buffer: memoryview, _path: str) -> str:
        return f"{zlib.adler32(buffer):08x}{buffer.nbytes:x}"  # a tenth of the time of a hash


def _content_name(data: Any) -> str:
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
