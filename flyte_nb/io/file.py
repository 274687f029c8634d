"""A file that tasks pass by reference: `File`. Runs in: everywhere."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from flyte_nb.io import places
from flyte_nb.io.hashing import HashMethod, hash_of_file

T = TypeVar("T")


class AsyncHandle:
    """An open file whose methods are awaited; each runs in a thread, so that the loop goes on meanwhile."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._file, name)
        if not callable(found):
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(found, *args, **kwargs)

        return call

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await asyncio.to_thread(self._file.close)

    def __aiter__(self) -> AsyncHandle:
        return self

    async def __anext__(self) -> Any:
        line = await asyncio.to_thread(self._file.readline)
        if not line:
            raise StopAsyncIteration
        return line


@dataclass(kw_only=True)
class Reference(Generic[T]):
    """What a `File` and a `flyte_nb.io.dir.Dir` have in common: an address with a name, and the forms to await."""

    path: str
    name: str = ""
    format: str = ""
    hash: str | None = None

    def __post_init__(self) -> None:
        self.path = os.fspath(self.path)
        if not self.name:
            self.name = Path(self.path).name

    def exists_sync(self) -> bool:
        """Whether it is there."""
        return places.exists(self.path)

    async def exists(self) -> bool:
        """Whether it is there, awaited."""
        return await asyncio.to_thread(self.exists_sync)

    def download_sync(self, local_path: str | os.PathLike[str] | None = None) -> str:
        """Bring it to this machine's disk, if it is elsewhere."""
        raise NotImplementedError

    async def download(self, local_path: str | os.PathLike[str] | None = None) -> str:
        """As `download_sync`, awaited."""
        return await asyncio.to_thread(self.download_sync, local_path)


@dataclass(kw_only=True)
class File(Reference[T]):
    """A reference to a file: its address crosses between tasks, its content does not.

    Inside a task, `from_local` copies the file to the run's ``raw_data_path``, so that it may go with the task's temporary
    folder; in a cell or script it refers to the file where it is, if the run's data is kept on the disk, too.

    Args:
        path: Its address: a path on a disk that all processes see, or anything fsspec reaches.
        name: Its name, the last part of the address by default.
        format: Word for what is in it; nothing here depends on it.
        hash: Hash of the content, for cache keys; None = the address stands for it.

    Example:
        >>> async def count(file: File) -> int:
        ...     async with file.open() as f:
        ...         return len(await f.read())
    """

    #: Given the content as it is written; not a field: it does not travel.
    hash_method: ClassVar[Any] = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "hash_method"}

    def _flyte_content_hash_(self) -> str:
        """What a cache key takes for it: its content where that is at hand, else its address."""
        if self.hash is None and not places.is_remote(self.path) and Path(places.on_disk(self.path)).is_file():
            return hash_of_file(places.on_disk(self.path))
        return self.hash or self.path

    # -- making one -----------------------------------------------------------------------------------------------

    @classmethod
    def new_remote(cls, file_name: str | None = None, hash_method: Any = None) -> File[Any]:
        """A reference to a file that is yet to be written, at a fresh address below the run's ``raw_data_path``.

        Args:
            file_name: Last part of the address; a random one by default.
            hash_method: A known hash (text), or a `HashMethod` that is given the content as it is written.
        """
        known, method = _hashes(hash_method)
        made = cls(path=places.random_place(file_name or ""), hash=known)
        if method is not None:
            made.__dict__["hash_method"] = method
        return made

    @classmethod
    def named_remote(cls, name: str) -> File[Any]:
        """A reference to a file of a fixed name below the run's folder: the same one in every attempt of an action.

        Args:
            name: Last part of the address.
        """
        from flyte_nb.core.steps.ctx import ctx

        below = ctx().output_path or places.raw_data_path()
        place = places.join(below, name)
        if not places.is_remote(place):
            places.make_parent(place)
        return cls(path=place, name=name)

    @classmethod
    def from_existing_remote(cls, remote_path: str, file_cache_key: str | None = None) -> File[Any]:
        """A reference to a file that exists.

        Args:
            remote_path: Its address.
            file_cache_key: Hash of the content, for cache keys.
        """
        return cls(path=remote_path, hash=file_cache_key)

    @classmethod
    def from_local_sync(
        cls, local_path: str | os.PathLike[str], remote_destination: str | None = None, hash_method: Any = None,
        **_tuning: Any,
    ) -> File[Any]:  # fmt: skip
        """Put a local file where all tasks reach it.

        Args:
            local_path: The file.
            remote_destination: Address to copy it to.
            hash_method: A known hash (text) or a `HashMethod`, for cache keys; None: the content is hashed where needed.

        Raises:
            ValueError: There is no such file.
        """
        local = places.on_disk(local_path)
        if not Path(local).is_file():
            raise ValueError(f"File not found: {local}. Relative paths start at {Path.cwd()}.")
        known, method = _hashes(hash_method)
        if method is not None:
            known = hash_of_file(local, method)
        if remote_destination is None and places.stays_put():
            return cls(path=str(Path(local).absolute()), hash=known)
        place = remote_destination or places.random_place(Path(local).name)
        if known is None and places.is_remote(place):  # later, its content would have to be fetched for that
            known = hash_of_file(local)
        path = places.put(local, place)
        return cls(path=path, name=Path(local).name, hash=known)

    @classmethod
    async def from_local(
        cls, local_path: str | os.PathLike[str], remote_destination: str | None = None, hash_method: Any = None,
        **tuning: Any,
    ) -> File[Any]:  # fmt: skip
        """As `from_local_sync`, awaited; the file is as it was at the call, whatever other actions write meanwhile."""
        with places.taken(local_path, remote_destination) as taken:
            if taken is None:
                return cls.from_local_sync(local_path, remote_destination, hash_method, **tuning)
            return await asyncio.to_thread(cls.from_local_sync, taken, remote_destination, hash_method, **tuning)

    # -- reading and writing --------------------------------------------------------------------------------------

    @contextmanager
    def open_sync(self, mode: str = "rb", **options: Any) -> Iterator[Any]:
        """Open it.

        Args:
            mode: "rb" (the default), "wb", "r", "w", "ab", ...
            **options: ``encoding compression block_size cache_type cache_options``, passed on to fsspec.

        Raises:
            FileNotFoundError: It is to be read, and is not there.
        """
        with _opened(self, mode, options) as file:
            yield file

    @asynccontextmanager
    async def open(self, mode: str = "rb", **options: Any) -> AsyncIterator[Any]:
        """Open it; methods of the handle are awaited: ``async with file.open() as f: data = await f.read()``.

        Args:
            mode: As of `open_sync`.
            **options: As of `open_sync`.
        """
        opened = _opened(self, mode, options)
        file = await asyncio.to_thread(opened.__enter__)
        try:
            yield AsyncHandle(file)
        except BaseException as exc:
            if not await asyncio.to_thread(opened.__exit__, type(exc), exc, exc.__traceback__):
                raise
        else:
            await asyncio.to_thread(opened.__exit__, None, None, None)

    def download_sync(self, local_path: str | os.PathLike[str] | None = None) -> str:
        """Bring it to this machine's disk, if it is elsewhere.

        Args:
            local_path: Where: a file, or a folder (one that exists, or written with a slash at its end). By default it stays
                where it is if that is a disk, else a temporary folder of the session.

        Returns:
            The path of the local file.

        Raises:
            FileNotFoundError: It is not there.
        """
        if local_path is None and not places.is_remote(self.path):
            return places.on_disk(self.path)
        target = Path(local_path).absolute() if local_path is not None else places.random_local(self.path)
        if local_path is not None and (str(local_path).endswith(("/", os.sep)) or target.is_dir()):
            target /= Path(self.path).name
        return places.get(self.path, target)


def _hashes(method: Any) -> tuple[str | None, Any]:
    """(known hash, method) of a ``hash_method`` argument."""
    if isinstance(method, str):
        return method, None
    return None, method if isinstance(method, HashMethod) else None


@contextmanager
def _opened(file: File[Any], mode: str, options: dict[str, Any]) -> Iterator[Any]:
    place = file.path
    if not places.is_remote(place):  # the disk has no read-ahead to tune
        options = {key: value for key, value in options.items() if key in _FOR_A_DISK}
    # A reader meanwhile gets the whole old file or the whole new one, as from an object store.
    at_once = not places.is_remote(place) and mode.startswith("w") and "+" not in mode
    if at_once:
        place = f"{places.on_disk(place)}.{uuid.uuid4().hex[:8]}.part"
    hashed = file.hash_method is not None and "r" not in mode
    try:
        with places.open_at(place, mode, **{k: v for k, v in options.items() if v is not None}) as handle:
            written = _Hashing(handle) if hashed else handle
            yield written
        if at_once:
            Path(place).replace(places.on_disk(file.path))
    except BaseException:
        if at_once:
            Path(place).unlink(missing_ok=True)
        raise
    if hashed:
        file.hash_method.update((b"" if "b" in mode else "").join(written.pieces))
        file.hash = file.hash_method.result()


#: Options of `open` that mean something on a disk.
_FOR_A_DISK = frozenset({"encoding", "compression", "newline", "errors"})


class _Hashing:
    """A file being written, whose content a hash is to be given as well."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.pieces: list[Any] = []

    def write(self, data: Any) -> Any:
        """Write, and remember."""
        self.pieces.append(data)
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
