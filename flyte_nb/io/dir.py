"""A folder that tasks pass by reference: `Dir`. Runs in: everywhere."""

from __future__ import annotations

import asyncio
import fnmatch
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyte_nb.io import places
from flyte_nb.io.file import File, Reference, T
from flyte_nb.io.hashing import hash_of_folder

#: Address of the folder that holds nothing.
_EMPTY = "flyte://empty-dir"


@dataclass(kw_only=True)
class Dir(Reference[T]):
    """A reference to a folder: its address crosses between tasks, its files do not.

    Args:
        path: Its address: a path on a disk that all processes see, or anything fsspec reaches.
        name: Its name, the last part of the address by default.
        format: Word for what is in it; nothing here depends on it.
        hash: Hash of the content, for cache keys; None = the address stands for it.
    """

    def _flyte_content_hash_(self) -> str:
        """What a cache key takes for it: its content where that is at hand, else its address."""
        if self.hash is None and not places.is_remote(self.path) and Path(places.on_disk(self.path)).is_dir():
            return hash_of_folder(places.on_disk(self.path))
        return self.hash or self.path

    # -- making one -----------------------------------------------------------------------------------------------

    @classmethod
    def empty(cls) -> EmptyDir:
        """A folder that holds nothing and is nowhere."""
        return EmptyDir()

    @property
    def is_empty(self) -> bool:
        """Whether it is the one that `empty` gives."""
        return self.path == _EMPTY

    @classmethod
    def new_remote(cls, dir_name: str | None = None, hash: str | None = None) -> Dir[Any]:  # noqa: A002 - Flyte's name
        """A reference to a folder that is yet to be filled, at a fresh address below the run's ``raw_data_path``.

        Args:
            dir_name: Last part of the address; a random one by default.
            hash: Hash of the content, for cache keys.
        """
        path = places.random_place(dir_name or "")
        if not places.is_remote(path):
            Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(path=path, name=dir_name or "", hash=hash)

    @classmethod
    def from_existing_remote(cls, remote_path: str, dir_cache_key: str | None = None) -> Dir[Any]:
        """A reference to a folder that exists.

        Args:
            remote_path: Its address.
            dir_cache_key: Hash of the content, for cache keys.
        """
        return cls(path=remote_path, hash=dir_cache_key)

    @classmethod
    def from_local_sync(
        cls, local_path: str | os.PathLike[str], remote_destination: str | None = None,
        dir_cache_key: str | None = None, **_tuning: Any,
    ) -> Dir[Any]:  # fmt: skip
        """Put a local folder where all tasks reach it: copied inside a task, referred to where it is outside one.

        Args:
            local_path: The folder.
            remote_destination: Address to copy it to.
            dir_cache_key: Hash of the content, for cache keys; None: the content is hashed where needed.

        Raises:
            ValueError: There is no such folder.
        """
        local = Path(places.on_disk(local_path)).absolute()
        if not local.is_dir():
            raise ValueError(f"Directory not found: {local_path}. Relative paths start at {Path.cwd()}.")
        if remote_destination is None and places.stays_put():
            return cls(path=str(local), hash=dir_cache_key)
        place = remote_destination or places.random_place(local.name)
        if dir_cache_key is None and places.is_remote(place):  # later, its content would have to be fetched for that
            dir_cache_key = hash_of_folder(local)
        return cls(path=places.put(local, place), name=local.name, hash=dir_cache_key)

    @classmethod
    async def from_local(
        cls, local_path: str | os.PathLike[str], remote_destination: str | None = None,
        dir_cache_key: str | None = None, **tuning: Any,
    ) -> Dir[Any]:  # fmt: skip
        """As `from_local_sync`, awaited; the folder is as it was at the call, whatever other actions write meanwhile."""
        with places.taken(local_path, remote_destination) as taken:
            if taken is None:
                return cls.from_local_sync(local_path, remote_destination, dir_cache_key, **tuning)
            return await asyncio.to_thread(cls.from_local_sync, taken, remote_destination, dir_cache_key, **tuning)

    # -- looking into it ------------------------------------------------------------------------------------------

    def walk_sync(
        self, recursive: bool = True, file_pattern: str = "*", max_depth: int | None = None
    ) -> Iterator[File[Any]]:
        """Its files, folder by folder, each in order of name.

        Args:
            recursive: Whether folders in it are walked, too.
            file_pattern: Names to give, as ``*.csv``.
            max_depth: Levels of folders to walk, itself included; None = all.

        Raises:
            FileNotFoundError: It is not there.
        """
        if self.is_empty:
            return
        if not places.exists(self.path):
            raise places.not_found(self.path)
        root = self.path if places.is_remote(self.path) else places.on_disk(self.path)
        fs = places.filesystem(self.path)
        for parent, _, files in fs.walk(root, maxdepth=max_depth if recursive else 1):
            for name in sorted(files):
                if fnmatch.fnmatch(name, file_pattern):
                    where = places.join(parent, name)
                    yield File(path=fs.unstrip_protocol(where) if places.is_remote(self.path) else where)

    async def walk(
        self, recursive: bool = True, max_depth: int | None = None, file_pattern: str = "*"
    ) -> AsyncIterator[File[Any]]:
        """As `walk_sync`, awaited file by file."""
        found = self.walk_sync(recursive, file_pattern, max_depth)
        end = object()
        while (file := await asyncio.to_thread(next, found, end)) is not end:
            yield file  # type: ignore[misc]

    def list_files_sync(self) -> list[File[Any]]:
        """The files directly in it."""
        return list(self.walk_sync(recursive=False))

    async def list_files(self) -> list[File[Any]]:
        """The files directly in it, awaited."""
        return await asyncio.to_thread(self.list_files_sync)

    def get_file_sync(self, file_name: str) -> File[Any] | None:
        """A file in it; None if there is none.

        Args:
            file_name: Its path below the folder.
        """
        place = places.join(self.path, file_name)
        return File(path=place) if not self.is_empty and places.exists(place) else None

    async def get_file(self, file_name: str) -> File[Any] | None:
        """As `get_file_sync`, awaited."""
        return await asyncio.to_thread(self.get_file_sync, file_name)

    def exists_sync(self) -> bool:
        """Whether it is there."""
        return not self.is_empty and places.exists(self.path)

    def download_sync(self, local_path: str | os.PathLike[str] | None = None) -> str:
        """Bring it to this machine's disk, if it is elsewhere.

        Args:
            local_path: Where. By default it stays where it is if that is a disk, else a temporary folder of the session.

        Returns:
            The path of the local folder.

        Raises:
            FileNotFoundError: It is not there.
        """
        if self.is_empty:
            target = Path(local_path) if local_path is not None else places.random_local("empty")
            target.mkdir(parents=True, exist_ok=True)
            return str(target)
        if local_path is None and not places.is_remote(self.path):
            return places.on_disk(self.path)
        return places.get(self.path, Path(local_path) if local_path is not None else places.random_local(self.path))


class EmptyDir(Dir[Any]):
    """A folder that holds nothing and is nowhere."""

    def __init__(self, **_facts: Any) -> None:
        super().__init__(path=_EMPTY, name="")
