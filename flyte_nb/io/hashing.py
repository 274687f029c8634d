"""Hashes of content, for references whose address does not depend on it. Runs in: everywhere."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from flyte_nb.core.values.value_hash import HashFunction

#: Bytes read at a time.
CHUNK = 1024 * 1024
#: A file larger than this, in bytes, is identified by path, size and time: reading it would take over half a second.
MAX_HASHED = 256 * 1024 * 1024


@runtime_checkable
class HashMethod(Protocol):
    """Takes content piece by piece, and has its hash."""

    def update(self, data: Any) -> None:
        """Take a piece: bytes of a file, or a whole data frame."""

    def result(self) -> str:
        """The hash of what it was given."""


class PrecomputedValue:
    """A hash that is known already.

    Args:
        value: The hash.
    """

    def __init__(self, value: str) -> None:
        self._value = value

    def update(self, data: Any) -> None:
        """Ignore a piece."""

    def result(self) -> str:
        """The known hash."""
        return self._value


class HashlibAccumulator:
    """A hash of the standard library: ``HashlibAccumulator.from_hash_name("sha256")``.

    Args:
        h: What `hashlib.new` gives.
    """

    def __init__(self, h: Any) -> None:
        self._h = h

    @classmethod
    def from_hash_name(cls, name: str) -> HashlibAccumulator:
        """A hash by its name in `hashlib`."""
        return cls(hashlib.new(name))

    def update(self, data: Any) -> None:
        """Take a piece."""
        self._h.update(data)

    def result(self) -> str:
        """The hash of all pieces, in hexadecimal."""
        return str(self._h.hexdigest())


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
    if isinstance(method, HashFunction):  # it takes a value whole
        return method(Path(path).read_bytes())
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


__all__ = ["HashFunction", "HashMethod", "HashlibAccumulator", "PrecomputedValue", "hash_of_file", "hash_of_folder"]
