"""Checkpoints: what an attempt saves for the next one, should it fail. Runs in: the task's thread.

One blob per attempt, overwritten by every save, at an address that follows from run, action and attempt: so it is found
again even if the worker died with the attempt that wrote it. A folder becomes a tar archive, which Flyte's SDK reads as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import shutil
import tarfile
import tempfile
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flyte_nb.core.steps.ctx import CheckpointPaths
from flyte_nb.core.tasks.context import Context
from flyte_nb.core.transport.process_folder import session_folder
from flyte_nb.io import places

#: What a checkpoint that was no folder is called once it is loaded.
PAYLOAD = "payload"


def latest_checkpoint(
    root: Path | str, glob_pattern: str = "**/last.ckpt", *, key: Callable[[Path], Any] | None = None
) -> Path | None:
    """The newest file of a pattern in a folder; None if there is none.

    Args:
        root: The folder, as `Checkpoint.load` gave it.
        glob_pattern: Which files; the default is Lightning's.
        key: What makes a file newer; its time of modification by default.
    """
    found = list(Path(root).glob(glob_pattern))
    return max(found, key=key or (lambda path: path.stat().st_mtime)) if found else None


class BaseCheckpoint(ABC):
    """What every checkpoint helper can do."""

    @property
    @abstractmethod
    def path(self) -> Path:
        """A local folder to work in."""

    @abstractmethod
    def prev_exists(self) -> bool:
        """Whether an earlier attempt saved one."""

    @abstractmethod
    async def load(self) -> Path | None:
        """Fetch the earlier attempt's checkpoint."""

    @abstractmethod
    async def save(self, data: Path | str | bytes) -> None:
        """Save for the next attempt."""

    @abstractmethod
    def load_sync(self) -> Path | None:
        """Fetch the earlier attempt's checkpoint."""

    @abstractmethod
    def save_sync(self, data: Path | str | bytes) -> None:
        """Save for the next attempt."""


class Checkpoint(BaseCheckpoint):
    """The checkpoint of the running attempt: ``flyte.ctx().checkpoint``.

    Args:
        checkpoint_dest: Address to save to.
        checkpoint_src: Address that the attempt before saved to; None if it saved none.

    Example:
        >>> checkpoint = flyte.ctx().checkpoint
        >>> previous = await checkpoint.load()
        >>> done = int(previous.read_bytes()) if previous else 0
        >>> await checkpoint.save(b"17")
    """

    def __init__(self, checkpoint_dest: str, checkpoint_src: str | None = None) -> None:
        self._destination = checkpoint_dest
        self._source = checkpoint_src or None
        self._folder: Path | None = None
        self._loaded: Path | None = None

    @property
    def remote_destination(self) -> str:
        """Address that `save` writes to."""
        return self._destination

    @property
    def remote_source(self) -> str | None:
        """Address that `load` reads from; None if no earlier attempt saved one."""
        return self._source

    @property
    def path(self) -> Path:
        """A local folder to work in; what was loaded is in it."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="checkpoint-", dir=session_folder()))
            _latest.append(self)  # what was loaded outlives `Checkpoint(b, a).load_sync()`
        return self._folder

    def prev_exists(self) -> bool:
        """Whether an earlier attempt saved one."""
        return self._source is not None

    def load_sync(self) -> Path | None:
        """Fetch the earlier attempt's checkpoint.

        Returns:
            The file (``path.read_bytes()``), or the folder if one was saved; None if no earlier attempt saved anything.
        """
        if self._source is None or self._loaded is not None:
            return self._loaded
        blob = self.path / PAYLOAD
        with contextlib.suppress(FileNotFoundError):
            places.get(self._source, blob)
            self._loaded = self._unpacked(blob) if _is_archive(blob) else blob
        return self._loaded

    def _unpacked(self, blob: Path) -> Path:
        """The folder that an archive was, at `path`."""
        archive = blob.rename(self.path / ".archive")
        with tarfile.open(archive) as tar:
            tar.extractall(self.path, filter="data")
        archive.unlink()
        return self.path

    async def load(self) -> Path | None:
        """As `load_sync`, awaited."""
        return await asyncio.to_thread(self.load_sync)

    def save_sync(self, data: Path | str | bytes) -> None:
        """Save for the next attempt, in place of what was saved before.

        Args:
            data: Bytes, or the path of a file or folder.

        Raises:
            FileNotFoundError: There is no such file or folder.
        """
        if isinstance(data, (bytes, bytearray, memoryview)):
            with places.open_at(self._destination + _NEW, "wb") as file:
                file.write(bytes(data))
            self._replace()
            return
        source = Path(data)
        if not source.exists():
            raise FileNotFoundError(f"Checkpoint source path does not exist: {source}")
        if source.is_dir():
            with tempfile.TemporaryDirectory(dir=session_folder()) as folder:
                archive = Path(folder) / "archive"
                children = sorted(source.iterdir())
                # Of an empty archive nothing but zeros is written; compressed it can be told from a file of zeros.
                with tarfile.open(archive, "w" if children else "w:gz") as tar:
                    for child in children:
                        tar.add(child, child.name)
                places.put(archive, self._destination + _NEW)
        else:
            places.put(source, self._destination + _NEW)
        self._replace()

    async def save(self, data: Path | str | bytes) -> None:
        """As `save_sync`, awaited."""
        await asyncio.to_thread(self.save_sync, data)

    def _replace(self) -> None:
        """Put what was written in the checkpoint's place, in one step where it is a disk: a crash leaves the old one."""
        fresh = self._destination + _NEW
        if places.is_remote(fresh):
            places.filesystem(fresh).mv(fresh, self._destination)
        else:
            Path(places.on_disk(fresh)).replace(places.on_disk(self._destination))

    def __del__(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


#: Checkpoints whose folders are kept, used or not.
_latest: deque[Checkpoint] = deque(maxlen=16)

#: Ending of the address of a save under way.
_NEW = ".new"


def _is_archive(file: Path) -> bool:
    """Whether a file is an archive: a folder was saved, by us or by Flyte's SDK, which compresses it."""
    try:
        with tarfile.open(file) as tar:
            # A file of zeros would be an empty archive.
            return tar.next() is not None or not isinstance(tar.fileobj, io.BufferedReader)
    except (tarfile.TarError, OSError, EOFError):
        return False


def _address(context: Context, attempt: int) -> str:
    return places.join(context.run.base_dir, "checkpoints", context.action, str(attempt))


def paths_of(context: Context) -> CheckpointPaths:
    """Where an attempt keeps its checkpoint, and where the latest one before it that saved any did."""
    before = None
    for attempt in reversed(range(context.attempt)):
        base = _address(context, attempt)
        if places.exists(base):
            before = base
            break
    return CheckpointPaths(_address(context, context.attempt), before)


def of(context: Context) -> Checkpoint:
    """The checkpoint of an attempt: the same object each time."""
    attachments = context.scope.attachments
    if "checkpoint" not in attachments:
        attachments["checkpoint"] = Checkpoint(*paths_of(context))
    return attachments["checkpoint"]  # type: ignore[no-any-return]
