"""Hashes of content, for references whose address says nothing about it. Runs in: everywhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")

#: Bytes read at a time.
CHUNK = 1024 * 1024
#: A file larger than this, in bytes, is told from others by path, size and time: reading it would take over half a second.
MAX_HASHED = 256 * 1024 * 1024


@runtime_checkable
class HashMethod(Protocol):
    """Takes content piece by piece, and tells its hash."""

    def update(self, data: Any) -> None:
        """Take a piece: bytes of a file, or a whole data frame."""

    def result(self) -> str:
        """The hash of what it was given."""


class HashFunction(Generic[T]):
    """A hash made by a function: ``Annotated[pd.DataFrame, HashFunction.from_fn(digest)]``.

    Args:
        function: Takes a value (or all bytes of a file) and returns its hash.
    """

    def __init__(self, function: Callable[[Any], str]) -> None:
        self._function = function
        self._data: Any = None

    @classmethod
    def from_fn(cls, fn: Callable[[Any], str]) -> HashFunction[T]:
        """A hash made by a function.

        Args:
            fn: Takes a value and returns its hash.
        """
        return cls(fn)

    def update(self, data: Any) -> None:
        """Take a piece; bytes are collected, another value replaces the one before."""
        if isinstance(data, bytes) and isinstance(self._data, bytes):
            self._data += data
        else:
            self._data = data

    def result(self) -> str:
        """The function's answer."""
        return str(self._function(self._data))

    def __call__(self, value: Any) -> str:
        """The hash of a value."""
        return str(self._function(value))


def hash_of_file(path: str | os.PathLike[str], method: Any = None) -> str:
    """The hash of a file on the disk.

    Args:
        path: The file.
        method: A `HashMethod`; None takes SHA-256, of path, size and time alone for a file larger than `MAX_HASHED`.
    """
    about = Path(path).stat()
    if method is None and about.st_size > MAX_HASHED:
        text = f"{Path(path).absolute()}\0{about.st_size}\0{about.st_mtime_ns}"
        return hashlib.sha256(text.encode()).hexdigest()
    sha = hashlib.sha256() if method is None else None
    with Path(path).open("rb") as file:
        while chunk := file.read(CHUNK):
            (sha or method).update(chunk)
    return sha.hexdigest() if sha is not None else str(method.result())


def hash_of_folder(path: str | os.PathLike[str]) -> str:
    """The hash of a folder on the disk: names and contents of all files in it."""
    whole = hashlib.sha256()
    for file in sorted(Path(path).rglob("*")):
        if file.is_file():
            whole.update(f"{file.relative_to(path).as_posix()}\0{hash_of_file(file)}\0".encode())
    return whole.hexdigest()
