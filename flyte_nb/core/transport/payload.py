"""Serialize arguments and results: payloads, and their way back. Runs in: everywhere.

Values cross by copy, always: pickled by value with cloudpickle (functions defined in a notebook included), or by the C pickler
alone where every part is a plain built-in, which is ten times cheaper. Buffers of `BLOB_BYTES` or more (arrays, data frames)
leave the pickle stream (protocol 5) and become *blobs* (`flyte_nb.core.transport.blobs`), so that equal data is moved once; and
so does the stream itself (of a long list, a forest of small arrays): messages stay small whatever crosses.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import cloudpickle

from flyte_nb.core.transport.blob_files import BlobGoneError
from flyte_nb.core.transport.blobs import Blob, Blobs, Borrowed, Received, Results, content_of
from flyte_nb.core.values import pickler
from flyte_nb.core.values.by_value import modules
from flyte_nb.core.values.by_value.classes import loading_code
from flyte_nb.core.values.describe import UNSENDABLE, unsendable
from flyte_nb.core.values.user_code import is_user_code
from flyte_nb.errors import SerializationError

_T = TypeVar("_T")

#: A buffer of this many bytes or more travels apart from its pickle, once per worker.
BLOB_BYTES = 256 * 1024
#: A payload of at most this many bytes is kept with its action and travels in its events; a larger one stays where it was made.
SMALL_BYTES = 64 * 1024
#: Types that the C pickler copies exactly, with nothing of the notebook inside.
PLAIN = frozenset({int, float, str, bytes, bool, type(None), complex})
#: Those whose pickles name no class.
ATOMS = PLAIN - {complex}


class Packed(NamedTuple):
    """A pickled value whose large buffers are elsewhere."""

    data: bytes
    #: The buffers, in order. Where `data` is empty the last one is the pickle itself.
    blobs: tuple[Blob | Borrowed | Received, ...]
    #: Bytes in all, buffers included.
    nbytes: int


#: A serialized value: bytes, or a `Packed` where it holds large buffers.
Payload = bytes | Packed


class UnpicklableError(SerializationError, TypeError):
    """A value cannot be sent to another process."""


class RebuildError(SerializationError):
    """A value arrived, and cannot be made there of what was sent: its package is missing, or its own code refuses."""


def is_plain(value: object, depth: int = 3) -> bool:
    """Whether the C pickler alone may serialize it: plain values, in a few short containers at most."""
    kind = type(value)
    if kind in PLAIN:
        return True
    if not depth or (kind is not tuple and kind is not list and kind is not dict) or len(value) > 32:  # type: ignore[arg-type]
        return False
    for part in value:  # type: ignore[attr-defined]
        if type(part) not in PLAIN and not is_plain(part, depth - 1):
            return False
    return kind is not dict or is_plain(list(value.values()), depth)  # type: ignore[attr-defined]


def dumps_call(bound: tuple[tuple[Any, ...], dict[str, Any]], blobs: Blobs | Results | None = None) -> Payload:
    """As `dumps`, for a call's arguments; quick for the commonest ones, a few plain values."""
    if not bound[1]:
        for value in bound[0]:
            if type(value) not in PLAIN:
                break
        else:
            return _apart(pickle.dumps(bound, 5), blobs)
    return dumps(bound, blobs, of_call=True)


def dumps(value: object, blobs: Blobs | Results | None = None, *, of_call: bool = False) -> Payload:
    """Serialize by value.

    Args:
        value: Anything that cloudpickle can pickle.
        blobs: Where buffers of `BLOB_BYTES` or more go; None keeps everything in one piece.
        of_call: Whether it is the arguments of a call.

    Raises:
        UnpicklableError: It cannot be pickled; the message names the culprit and a remedy.
    """
    if is_plain(value):
        return _apart(pickle.dumps(value, 5), blobs)

    if UNSENDABLE and (why := unsendable(value)):
        raise UnpicklableError(why)

    met: set[str] = set()

    def make(*args: Any, **kwargs: Any) -> pickler.Pickler:
        made = pickler.Pickler(*args, **kwargs)
        made.of_call, made.met = of_call, met
        return made

    try:
        return or_by_file(lambda: pack(make, value, blobs), lambda: met)
    except Exception as exc:
        what = f"{describe_culprit(value)} cannot be pickled"
        raise UnpicklableError(f"{what}: {type(exc).__name__}: {exc}") from exc


def or_by_file(attempt: Callable[[], _T], met: Callable[[], set[str]]) -> _T:
    """Pickle something; modules of the user's with classes that no pickler takes are left to their files, if that helps.

    Args:
        attempt: Pickles it.
        met: Names of modules whose classes were met in doing so.

    Raises:
        Exception: What `attempt` raises.
    """
    try:
        return attempt()
    except Exception:
        names = met() & cloudpickle.list_registry_pickle_by_value()
        stay = [name for name in names if _keeps_registries(sys.modules[name])]
        if not stay:
            raise
        modules.leave_to_files(stay)
        try:
            return attempt()
        except Exception:
            modules.take_by_value(stay)
            raise


def _keeps_registries(module: ModuleType) -> bool:
    """Whether a module has classes whose library keeps what it knows of them beside them: in C, or in weak references."""
    own = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__]
    return any(type(cls) is not type and not is_user_code(type(cls)) and not can_pickle(cls, fresh=True) for cls in own)


def pack(make_pickler: Callable[..., pickle.Pickler], value: object, blobs: Blobs | Results | None = None) -> Payload:
    """Serialize with a pickler of some class; large buffers go to `blobs`, and so does the pickle itself if it is large.

    Args:
        make_pickler: Called as `pickle.Pickler` is.
        value: What to serialize.
        blobs: As in `dumps`.

    Raises:
        Exception: What the pickler raises.
    """
    refs: list[Blob] = []

    def take(buffer: pickle.PickleBuffer) -> bool:
        if blobs is None or is_small(buffer):
            return True
        refs.append(blobs.put(buffer.raw()))
        return False

    with io.BytesIO() as file:
        make_pickler(file, protocol=5, buffer_callback=take).dump(value)
        if blobs is not None and file.tell() >= BLOB_BYTES:
            with file.getbuffer() as stream:
                refs.append(blobs.put(stream))
            data = b""
        else:
            data = file.getvalue()
    return Packed(data, tuple(refs), len(data) + sum(ref.nbytes for ref in refs)) if refs else data


def _apart(data: bytes, blobs: Blobs | Results | None) -> Payload:
    if blobs is None or len(data) < BLOB_BYTES:
        return data
    return Packed(b"", (blobs.put(memoryview(data)),), len(data))


def loads(payload: Payload) -> Any:
    """The value of a payload: a copy that shares nothing with the original.

    Raises:
        BlobGoneError: A large buffer of it is gone with the process that kept it.
    """
    if type(payload) is not Packed:
        return pickle.loads(payload)  # type: ignore[arg-type]
    data, buffers = opened(payload)
    if len(data) < BLOB_BYTES:
        return pickle.loads(data, buffers=buffers)
    return pickle.Unpickler(_Pieces(data), buffers=buffers).load()  # type: ignore[arg-type]  # any buffer will do


class _Pieces:
    """A large pickle as a file that is read piece by piece, 128 kB at a time: in between, the thread can be interrupted."""

    def __init__(self, data: Any) -> None:
        self._data = memoryview(data)
        self._at = 0

    def peek(self, n: int) -> memoryview:
        """The next `n` bytes."""
        return self._data[self._at : self._at + n]

    def read(self, n: int) -> memoryview:
        """Take the next `n` bytes."""
        self._at += n
        return self._data[self._at - n : self._at]

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def readline(self) -> bytes:
        """Take a line: numbers of old protocols are in text."""
        line: bytes = io.BytesIO(self._data[self._at :]).readline()
        self._at += len(line)
        return line


def rebuilt(payload: Payload, what: str, name: str = "") -> Any:
    """As `loads`, with an error that says what happened.

    Args:
        payload: What arrived.
        what: What it is, as the sentence begins: "the task {} succeeded, but its result".
        name: What stands in it for the braces.

    Raises:
        RebuildError: It cannot be made here.
        BlobGoneError: As of `loads`.
    """
    try:
        return loads(payload)
    except BlobGoneError:
        raise
    except Exception as exc:
        remedy = (
            f"Install {exc.name} in this process's environment, or hand over what the value is made from."
            if isinstance(exc, ImportError) and exc.name
            else "It pickles but does not unpickle: give its class a __reduce__ that fits its constructor, or hand over what "
            "the value is made from."
        )
        raise RebuildError(
            f"{what.format(name)} cannot be rebuilt here: {type(exc).__name__}: {exc}. {remedy}"
        ) from exc


def loads_code(payload: Payload) -> Any:
    """As `loads`, for a task: it gets classes of its own (`flyte_nb.core.values.by_value.classes`)."""
    with loading_code():
        return loads(payload)


def opened(payload: Payload) -> tuple[Any, list[Any]]:
    """The pickle of a payload, and its buffers.

    Raises:
        BlobGoneError: One is gone with the process that kept it.
    """
    if type(payload) is not Packed:
        return payload, []
    buffers = [blob.get() for blob in payload.blobs]
    return payload.data or buffers.pop(), buffers


def replaced(payload: Payload, data: bytes) -> Payload:
    """The payload with another pickle around the same buffers."""
    if type(payload) is not Packed:
        return data
    blobs = payload.blobs if payload.data else payload.blobs[:-1]
    return Packed(data, blobs, len(data) + sum(blob.nbytes for blob in blobs)) if blobs else data


def inline_size(value: object) -> int:
    """What `inline_bytes` of a value's payload would be."""
    with io.BytesIO() as file:
        pickler.Pickler(file, protocol=5, buffer_callback=is_small).dump(value)
        return file.tell()


def is_small(buffer: pickle.PickleBuffer) -> bool:
    """Whether a buffer stays in its pickle."""
    try:
        return buffer.raw().nbytes < BLOB_BYTES
    except BufferError:
        return True


def inline_bytes(payload: Payload) -> int:
    """Size of a payload in bytes, without the buffers of arrays and frames in it."""
    if type(payload) is not Packed:
        return len(payload)
    return len(payload.data) or payload.blobs[-1].nbytes


def is_here(payload: Packed) -> bool:
    """Whether nothing of a result has still to be fetched from another machine."""
    return all(blob.here for blob in payload.blobs if isinstance(blob, Received))


def carried(payload: Payload) -> Payload:
    """A payload that needs no file of any process: its buffers travel, and are stored, with it."""
    if type(payload) is not Packed:
        return payload
    return payload._replace(blobs=tuple(content_of(blob.name, blob.get()) for blob in payload.blobs))


def nbytes(payload: Payload) -> int:
    """Size of a payload in bytes, blobs included."""
    return payload.nbytes if type(payload) is Packed else len(payload)


def is_one_piece(payload: Payload) -> bool:
    """Whether it is a pickle without further buffers."""
    return type(payload) is not Packed or (not payload.data and len(payload.blobs) == 1)


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


def can_pickle(value: object, *, fresh: bool = False) -> bool:
    """Whether cloudpickle can pickle it; `fresh`: as part of a task's code, whose locks and the like are made anew."""
    try:
        pickler.dumps(value, fresh=fresh)
    except Exception:
        return False
    return True
