"""Files of the journal's large values: written whole or not at all. Runs in: the journal's thread; readers."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flyte_nb.core.journal.format import VALUES, plain
from flyte_nb.core.journal.kernels import here
from flyte_nb.core.transport import trust
from flyte_nb.core.transport.blobs import content_of
from flyte_nb.core.transport.payload import Packed, Payload, nbytes, opened

logger: logging.Logger = logging.getLogger("flyte")

#: Largest value kept: one must not push out everything else.
MAX_VALUE_BYTES = 512 * 1024**2
_DIGEST = 16


def path_of(folder: Path, run: int, action: str, what: str) -> Path:
    """The file of a value of an action: its "result" or its "inputs"."""
    return folder / VALUES / str(run) / f"{action}.{what}"


def write(path: Path, payload: Payload) -> int:
    """Write a value; a crash leaves the whole of it, or nothing of this name. Returns its bytes."""
    stream, buffers = opened(payload)
    names = [blob.name for blob in payload.blobs] if type(payload) is Packed else []
    # The stream itself may be one of the large buffers: the last.
    stream_name = names.pop() if type(payload) is Packed and not payload.data else ""
    parts = [memoryview(part).cast("B") for part in (stream, *buffers)]
    head = pickle.dumps((stream_name, names, [part.nbytes for part in parts], nbytes(payload)), 5)
    for each in (path.parent.parent, path.parent):  # the rights are those of the last folder that is made, only
        each.mkdir(exist_ok=True, mode=0o700)
    unfinished = path.with_suffix(path.suffix + ".part")
    digest = hashlib.blake2b(digest_size=_DIGEST)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + bytes(_DIGEST))
        for part in (memoryview(head), *parts):
            digest.update(part)
            file.write(part)
        file.seek(8)
        file.write(digest.digest())
    unfinished.replace(path)
    return nbytes(payload)


def write_at(place: tuple[str, str] | None, payload: Payload) -> None:
    """Write a value that is at a worker, in a thread of its own; nothing where the home is another machine, or records nothing.

    Args:
        place: Machine and path, from `Journal.place`.
        payload: The value.
    """
    if place is not None and place[0] == here():
        _writers.submit(_write_quietly, Path(place[1]), payload)


def _write_quietly(path: Path, payload: Payload) -> None:
    try:
        write(path, payload)
    except Exception:  # the disk is full, or its parent had it and it is gone: then nobody needs it
        logger.debug("a result could not be recorded", exc_info=True)


#: Makes its thread when it is needed.
_writers = ThreadPoolExecutor(1, "flyte-values")


def read(path: Path) -> Payload | None:
    """A value that was written; None if there is none, or it is damaged."""
    try:
        trust.check(path.parent)
        trust.check(path)
        data = memoryview(path.read_bytes())
    except (OSError, trust.UntrustedError):
        return None
    size, body = int.from_bytes(data[:8], "little"), data[8 + _DIGEST :]
    if len(body) < size or hashlib.blake2b(body, digest_size=_DIGEST).digest() != bytes(data[8 : 8 + _DIGEST]):
        return None
    stream_name, names, sizes, total = plain(bytes(body[:size]))
    parts, at = [], size
    for each in sizes:
        parts.append(body[at : at + each])
        at += each
    stream, *buffers = parts
    blobs = [content_of(name, part) for name, part in zip(names, buffers, strict=True)]
    if stream_name:
        return Packed(b"", (*blobs, content_of(stream_name, stream)), total)
    return Packed(bytes(stream), tuple(blobs), total) if blobs else bytes(stream)
