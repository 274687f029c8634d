"""``flyte.storage``: copying to and from any address that fsspec reaches. Runs in: everywhere."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from flyte_nb.io import places
from flyte_nb.io.places import filesystem, is_remote, join


@dataclass(frozen=True)
class Storage:
    """Settings of a storage. Accepted without effect: fsspec reads each provider's own environment variables and files."""

    retries: int = 3
    backoff: dt.timedelta = dt.timedelta(seconds=5)
    enable_debug: bool = False
    attach_execution_metadata: bool = True

    #: Environment variables that `auto` reads, by field.
    _VARIABLES: ClassVar[dict[str, str]] = {
        "enable_debug": "FLYTE_STORAGE_DEBUG", "retries": "FLYTE_STORAGE_RETRIES",
        "backoff": "FLYTE_STORAGE_BACKOFF_SECONDS",
    }  # fmt: skip

    @classmethod
    def auto(cls) -> Self:
        """As the environment has it, each value as the text that it is there."""
        return cls(**_from_environment(cls))


@dataclass(frozen=True)
class S3(Storage):
    """Settings of S3. Accepted without effect, as `Storage`."""

    endpoint: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    region: str | None = None
    addressing_style: str | None = None

    _VARIABLES: ClassVar[dict[str, str]] = {
        "endpoint": "FLYTE_AWS_ENDPOINT", "access_key_id": "FLYTE_AWS_ACCESS_KEY_ID",
        "secret_access_key": "FLYTE_AWS_SECRET_ACCESS_KEY", "addressing_style": "FLYTE_AWS_S3_ADDRESSING_STYLE",
    }  # fmt: skip

    @classmethod
    def auto(cls, region: str | None = None) -> Self:
        """As the environment has it."""
        return cls(**_from_environment(cls), region=region)

    @classmethod
    def for_sandbox(cls) -> Self:
        """Flyte's sandbox."""
        return cls(endpoint="http://localhost:4566", access_key_id="minio", secret_access_key="miniostorage")  # noqa: S106


@dataclass(frozen=True)
class GCS(Storage):
    """Settings of Google's storage. Accepted without effect, as `Storage`."""


@dataclass(frozen=True)
class ABFS(Storage):
    """Settings of Azure's storage. Accepted without effect, as `Storage`."""

    account_name: str | None = None
    account_key: str | None = None
    tenant_id: str | None = None
    client_id: str | None = None
    client_secret: str | None = None

    _VARIABLES: ClassVar[dict[str, str]] = {
        "account_name": "AZURE_STORAGE_ACCOUNT_NAME", "account_key": "AZURE_STORAGE_ACCOUNT_KEY",
        "tenant_id": "AZURE_TENANT_ID", "client_id": "AZURE_CLIENT_ID", "client_secret": "AZURE_CLIENT_SECRET",
    }  # fmt: skip


def _from_environment(cls: type[Storage]) -> dict[str, Any]:
    names = {**Storage._VARIABLES, **cls._VARIABLES}  # noqa: SLF001 - of this module
    return {field: os.environ[name] for field, name in names.items() if os.environ.get(name)}


def get_underlying_filesystem(
    protocol: str | None = None, anonymous: bool = False, path: str | None = None, **options: Any
) -> Any:
    """The fsspec file system of an address or scheme.

    Args:
        protocol: Its scheme.
        anonymous: Whether no credentials are used, where fsspec has that choice.
        path: The address.
        **options: For fsspec.
    """
    return filesystem(path or "", protocol, **({"anon": True} if anonymous else {}), **options)


def get_random_local_path(file_path_or_file_name: str | os.PathLike[str] | None = None) -> Path:
    """A fresh path on this machine's disk, in the session's temporary folder."""
    return places.random_local(os.fspath(file_path_or_file_name) if file_path_or_file_name else "")


def get_random_local_directory() -> Path:
    """A fresh folder on this machine's disk, made."""
    folder = places.random_local("")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def exists_sync(path: str, **_options: Any) -> bool:
    """Whether there is anything at an address."""
    return places.exists(path)


async def exists(path: str, **_options: Any) -> bool:
    """Whether there is anything at an address, awaited."""
    return await asyncio.to_thread(places.exists, path)


async def put(from_path: str, to_path: str | None = None, **_tuning: Any) -> str:
    """Copy a file or folder from the disk to an address; returns the address.

    Args:
        from_path: The file or folder.
        to_path: The address; a fresh one below the run's ``raw_data_path`` by default.
    """
    place = to_path or places.random_place(Path(from_path).name)
    return await asyncio.to_thread(places.put, from_path, place)


async def get(from_path: str, to_path: str | os.PathLike[str] | None = None, **_tuning: Any) -> str:
    """Copy a file or folder from an address to the disk; returns the path.

    Args:
        from_path: The address.
        to_path: Where; a fresh path in the session's temporary folder by default.
    """
    return await asyncio.to_thread(places.get, from_path, to_path or places.random_local(from_path))


async def put_stream(
    data_iterable: Any, *, name: str | None = None, to_path: str | None = None, **_options: Any
) -> str:
    """Write bytes, or what an iterable of bytes gives, to an address; returns the address."""
    place = to_path or places.random_place(name or "")
    pieces = [data_iterable] if isinstance(data_iterable, bytes) else data_iterable
    with places.open_at(place, "wb") as file:
        if hasattr(pieces, "__aiter__"):
            async for piece in pieces:
                await asyncio.to_thread(file.write, piece)
        else:
            for piece in pieces:
                await asyncio.to_thread(file.write, piece)
    return place


async def get_stream(path: str, chunk_size: int = 1024 * 1024, **_options: Any) -> AsyncIterator[bytes]:
    """The bytes at an address, piece by piece."""
    with places.open_at(path, "rb") as file:
        while piece := await asyncio.to_thread(file.read, chunk_size):
            yield piece


async def open(path: str, mode: str = "rb", **options: Any) -> Any:  # noqa: A001 - Flyte's name
    """A file at an address, with methods to await; close it with ``await handle.close()``."""
    from flyte_nb.io.file import AsyncHandle

    return AsyncHandle(await asyncio.to_thread(places.open_at, path, mode, **options))


__all__ = [
    "ABFS", "GCS", "S3", "Storage", "exists", "exists_sync", "get", "get_random_local_directory", "get_random_local_path",
    "get_stream", "get_underlying_filesystem", "is_remote", "join", "open", "put", "put_stream",
]  # fmt: skip
