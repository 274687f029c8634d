"""Addresses: which file system they are on, and copying between it and this machine's disk. Runs in: everywhere.

A plain path, absolute or relative, and ``file://`` are the disk; anything else is left to fsspec by its scheme (``s3://``,
``gs://``, ``memory://``). fsspec is imported when an address is first used.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flyte_nb.core.settings.notices import notice_once
from flyte_nb.core.tasks.context import current
from flyte_nb.core.transport.process_folder import session_folder

_MEMORY = (
    "memory:// is the memory of one process: what one worker writes there, another and the notebook do not see. "
    "Use a folder that all of them reach, such as the default raw_data_path."
)


def scheme_of(path: str) -> str:
    """The scheme of an address, "file" for plain paths."""
    scheme, found, _ = str(path).partition("://")
    return scheme if found and len(scheme) > 1 else "file"


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether an address is elsewhere than on this machine's disk."""
    return scheme_of(str(path)) not in {"file", "local"}


def on_disk(path: str | os.PathLike[str]) -> str:
    """A path on the disk, without its scheme."""
    text = os.fspath(path)
    return text.partition("://")[2] if scheme_of(text) in {"file", "local"} and "://" in text else text


def filesystem(path: str = "", protocol: str | None = None, **options: Any) -> Any:
    """The fsspec file system of an address.

    Args:
        path: The address.
        protocol: Its scheme, where that is known without the address.
        **options: For fsspec, as credentials.

    Raises:
        ImportError: The scheme needs a package that is not installed; fsspec names it.
    """
    import fsspec

    scheme = protocol or scheme_of(path)
    if scheme == "memory" and _on_worker():
        notice_once("memory://", _MEMORY)
    return fsspec.filesystem(scheme, **options)


def _on_worker() -> bool:
    context = current()
    return context is not None and context.in_task and context.run.mode == "remote"


def not_found(path: str) -> FileNotFoundError:
    """The error for an address where nothing is; with what may be the reason."""
    context = current()
    hint = ""
    if scheme_of(path) == "memory":
        hint = f" {_MEMORY}"
    elif not is_remote(path) and context is not None and context.run.mode == "remote":
        hint = (
            " If it was written on another machine: give the run a place that all machines reach, "
            "with_runcontext(raw_data_path='s3://...')."
        )
    return FileNotFoundError(errno.ENOENT, f"There is nothing at this address.{hint}", path)


def raw_data_path() -> str:
    """Where the running code puts large data: its run's place, or the session's folder."""
    context = current()
    return context.run.raw_data_path if context is not None else session_folder()


def stays_put() -> bool:
    """Whether what a local path names is referred to where it is, instead of being copied to the `raw_data_path`."""
    context = current()
    return not (context is not None and context.in_task) and not is_remote(raw_data_path())


@contextlib.contextmanager
def taken(local: str | os.PathLike[str], destination: str | None) -> Iterator[str | None]:
    """Hold on to what a local path names, until it has been copied elsewhere: other actions may write there meanwhile.

    Args:
        local: A file or a folder.
        destination: Where it goes; None = the `raw_data_path`.

    Yields:
        The path of a copy, which is deleted afterwards; None where none is needed: what goes to a disk is copied at once.
    """
    source = Path(on_disk(local)).absolute()
    if not is_remote(destination or raw_data_path()) or not source.exists():
        yield None
        return
    copy = random_local(source.name)
    _copy(str(source), str(copy))
    try:
        yield str(copy)
    finally:
        shutil.rmtree(copy.parent, ignore_errors=True)


def join(*parts: str) -> str:
    """Parts of an address, joined."""
    first, *rest = (str(part) for part in parts if str(part))
    return "/".join([first.rstrip("/") if len(first) > 1 else first, *(part.strip("/") for part in rest)])


def random_place(name: str = "", below: str = "") -> str:
    """A fresh address.

    Args:
        name: Last part of the address; a random one by default.
        below: Folder that holds it; the running code's `raw_data_path` by default.
    """
    parent = join(below or raw_data_path(), uuid.uuid4().hex)
    place = join(parent, name) if name else parent
    if not is_remote(place):
        make_parent(place)
    return place


def random_local(name: str = "") -> Path:
    """A fresh path on this machine's disk, in the session's folder."""
    return Path(random_place(Path(name).name if name else "", str(Path(session_folder()) / "downloads")))


def make_parent(path: str) -> None:
    """Make the folder that holds a path on the disk; private to the user, where there was none."""
    Path(on_disk(path)).parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def exists(path: str) -> bool:
    """Whether there is anything at an address."""
    if not is_remote(path):
        return Path(on_disk(path)).exists()
    return bool(filesystem(path).exists(path))


def open_at(path: str, mode: str = "rb", **options: Any) -> Any:
    """Open a file at an address.

    Args:
        path: The address.
        mode: As of `open`. Writing makes the folders on the way.
        **options: ``encoding``, ``compression``, and fsspec's own.

    Raises:
        FileNotFoundError: There is none, and it is to be read.
    """
    writing = any(letter in mode for letter in "wax+")
    if writing and not is_remote(path):
        make_parent(path)
    try:
        return filesystem(path).open(on_disk(path) if not is_remote(path) else path, mode, **options)
    except FileNotFoundError:
        raise not_found(path) from None


def put(local: str | os.PathLike[str], place: str) -> str:
    """Copy a file, or a folder with all that is in it, from the disk to an address; returns the address."""
    source = os.fspath(local)
    if not is_remote(place):
        target = on_disk(place)
        make_parent(target)
        _copy(source, target)
        return os.path.abspath(target)  # noqa: PTH100 - resolve() would follow links
    fs = filesystem(place)
    if Path(source).is_dir():
        fs.makedirs(place, exist_ok=True)
        for file in sorted(Path(source).rglob("*")):
            if file.is_file():
                there = join(place, file.relative_to(source).as_posix())
                fs.makedirs(there.rpartition("/")[0], exist_ok=True)
                fs.put_file(str(file), there)
    else:
        fs.makedirs(place.rpartition("/")[0], exist_ok=True)
        fs.put_file(source, place)
    return place


def get(place: str, local: str | os.PathLike[str]) -> str:
    """Copy a file or a folder from an address to the disk; returns the path.

    Raises:
        FileNotFoundError: There is nothing at the address.
    """
    target = os.fspath(local)
    make_parent(target)
    if not is_remote(place):
        source = on_disk(place)
        if not Path(source).exists():
            raise not_found(place)
        _copy(source, target)
        return target
    fs = filesystem(place)
    try:
        if fs.isdir(place):
            root = fs._strip_protocol(place).rstrip("/")  # noqa: SLF001 - part of what fsspec offers to file systems
            for found in fs.find(place):
                file = Path(target) / found[len(root) :].lstrip("/")
                file.parent.mkdir(parents=True, exist_ok=True)
                fs.get_file(found, str(file))
        else:
            fs.get_file(place, target)
    except FileNotFoundError:
        raise not_found(place) from None
    return target


def _copy(source: str, target: str) -> None:
    if Path(source).is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    elif Path(source).absolute() != Path(target).absolute():
        shutil.copy2(source, target)
