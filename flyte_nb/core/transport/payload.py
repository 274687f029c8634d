"""Serialize arguments and results: payloads, and their way back. Runs in: everywhere.

Values cross by copy, always: pickled by value with cloudpickle (functions defined in a notebook included), or by the C pickler
alone where every part is a plain built-in, which is ten times cheaper. Buffers of `BLOB_BYTES` or more (arrays, data frames)
leave the pickle stream (protocol 5) and become *blobs* (`flyte_nb.core.transport.blobs`), so that equal data is moved once.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

from flyte_nb.core.transport.blobs import Blob, Blobs, Borrowed, Received, Results, content_of
from flyte_nb.core.values import pickler
from flyte_nb.errors import SerializationError

#: A buffer of this many bytes or more travels apart from its pickle, once per worker.
BLOB_BYTES = 256 * 1024
#: A payload of at most this many bytes is kept with its action and travels in its events; a larger one stays where it was made.
SMALL_BYTES = 64 * 1024
#: Types that the C pickler copies exactly, with nothing of the notebook inside.
_PLAIN = frozenset({int, float, str, bytes, bool, type(None), complex})


class Packed(NamedTuple):
    """A pickled value whose large buffers are elsewhere."""

    data: bytes
    #: The buffers, in order.
    blobs: tuple[Blob | Borrowed | Received, ...]
    #: Bytes in all, buffers included.
    nbytes: int


#: A serialized value: bytes, or a `Packed` where it holds large buffers.
Payload = bytes | Packed


class UnpicklableError(SerializationError, TypeError):
    """A value cannot be sent to another process."""


def is_plain(value: object, depth: int = 3) -> bool:
    """Whether the C pickler alone may serialize it: plain values, in a few short containers at most."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if not depth or (kind is not tuple and kind is not list and kind is not dict) or len(value) > 32:  # type: ignore[arg-type]
        return False
    for part in value:  # type: ignore[attr-defined]
        if type(part) not in _PLAIN and not is_plain(part, depth - 1):
            return False
    return kind is not dict or is_plain(list(value.values()), depth)  # type: ignore[attr-defined]


def dumps_call(bound: tuple[tuple[Any, ...], dict[str, Any]], blobs: Blobs | Results | None = None) -> Payload:
    """As `dumps`, for a call's arguments; quick for the commonest ones, a few plain values."""
    if not bound[1]:
        for value in bound[0]:
            if type(value) not in _PLAIN:
                break
        else:
            return pickle.dumps(bound, 5)
    return dumps(bound, blobs)


def dumps(value: object, blobs: Blobs | Results | None = None) -> Payload:
    """Serialize by value.

    Args:
        value: Anything that cloudpickle can pickle.
        blobs: Where buffers of `BLOB_BYTES` or more go; None keeps everything in one piece.

    Raises:
        UnpicklableError: It cannot be pickled; the message names the culprit and a remedy.
    """
    if is_plain(value):
        return pickle.dumps(value, 5)
    try:
        return pack(pickler.Pickler, value, blobs)
    except Exception as exc:
        what = f"{describe_culprit(value)} cannot be pickled"
        raise UnpicklableError(f"{what}: {type(exc).__name__}: {exc}") from exc


def pack(make_pickler: Callable[..., pickle.Pickler], value: object, blobs: Blobs | Results | None = None) -> Payload:
    """Serialize with a pickler of some class, made as `pickle.Pickler` is; large buffers go to `blobs`.

    Raises:
        Exception: What the pickler raises.
    """
    refs: list[Blob] = []
    sizes: list[int] = []

    def take(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous: stays in the stream
            return True
        if blobs is None or raw.nbytes < BLOB_BYTES:
            return True
        refs.append(blobs.put(raw))
        sizes.append(raw.nbytes)
        return False

    with io.BytesIO() as file:
        make_pickler(file, protocol=5, buffer_callback=take).dump(value)
        data = file.getvalue()
    return Packed(data, tuple(refs), len(data) + sum(sizes)) if refs else data


def loads(payload: Payload) -> Any:
    """The value of a payload: a copy that shares nothing with the original.

    Raises:
        BlobGoneError: A large buffer of it is gone with the process that kept it.
    """
    if type(payload) is not Packed:
        return pickle.loads(payload)  # type: ignore[arg-type]
    return pickle.loads(payload.data, buffers=[blob.get() for blob in payload.blobs])


def carried(payload: Payload) -> Payload:
    """A payload that needs no file of any process: its buffers travel, and are stored, with it."""
    if type(payload) is not Packed:
        return payload
    return payload._replace(blobs=tuple(content_of(blob.name, blob.get()) for blob in payload.blobs))


def nbytes(payload: Payload) -> int:
    """Size of a payload in bytes, blobs included."""
    return payload.nbytes if type(payload) is Packed else len(payload)


def small(payload: Payload | None) -> bytes | None:
    """The payload, if it is small enough to be kept with its action; else None."""
    return payload if type(payload) is bytes and len(payload) <= SMALL_BYTES else None


def key_bytes(payload: Payload) -> bytes:
    """What identifies the payload's content, for names and cache keys."""
    if isinstance(payload, Packed):
        return payload.data + "".join(blob.name for blob in payload.blobs).encode()
    return payload


def describe_culprit(value: object, depth: int = 3) -> str:
    """Name the smallest part of a container that cannot be pickled ("item [1] of list (a _thread.lock)")."""
    parts: list[tuple[str, object]] = []
    if isinstance(value, dict):
        parts = [(f"[{k!r}]", v) for k, v in list(value.items())[:1000]]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = [(f"[{i}]", v) for i, v in enumerate(list(value)[:1000])]
    elif hasattr(value, "__dict__") and not isinstance(value, (type, ModuleType)) and not callable(value):
        parts = [(f".{k}", v) for k, v in list(vars(value).items())[:1000]]
    for name, part in parts:
        if depth and not can_pickle(part):
            inner = describe_culprit(part, depth - 1)
            return f"{name} of {type(value).__qualname__}: {inner}" if inner else name
    return f"a value of type {type(value).__module__}.{type(value).__qualname__}"


def can_pickle(value: object) -> bool:
    """Whether cloudpickle can pickle it."""
    try:
        pickler.dumps(value)
    except Exception:
        return False
    return True
