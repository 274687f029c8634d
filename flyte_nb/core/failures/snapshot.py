"""Snapshot of any value: pickled within bounds of bytes and time, without secrets; and its way back. Runs in: everywhere.

`keep` is for the locals of a failed task and for the exception itself. It pickles, with every object looked at first:

* values of built-in types and of well-known packages are kept; an array is measured before it is touched;
* an instance of the user's class is kept if pickling it runs none of the user's code. If its class defines pickling hooks
  (``__reduce__``, ``__getstate__``, ``__getattr__``...), its attributes are kept in a `Summary`: a hook may sleep, and a
  call that sleeps cannot be interrupted;
* whatever cannot be pickled (a lock, a generator, a client) becomes a `Summary` where it stands, so that a dictionary
  which holds a lock still shows its other values;
* what goes by a secret name, or contains a secret, becomes `Redacted` where it stands.

No ``repr`` of a foreign class is ever called. `restore` is lazy and defensive: what does not unpickle shows its summary.
"""

from __future__ import annotations

import importlib
import io
import itertools
import pickle
import sys
import time
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from flyte_nb.core.failures import class_pickle, pickle_policy
from flyte_nb.core.failures.stand_ins import Redacted, Summary, lost_class
from flyte_nb.core.values import redact
from flyte_nb.core.values.bounded import BoundedBytes, FullError
from flyte_nb.core.values.describe import MAX_ATTRIBUTES, array_attributes, describe, known_size, preview

#: Largest pickled size of one value, in bytes. A thousand records of a few values each must fit into 200 MB.
MAX_VALUE = 32_000
#: Longest text kept, in characters; a longer one is cut to a preview.
MAX_STRING = 16_000
#: Items of one container; more would not fit into `MAX_VALUE` anyway, and this is known without a visit to each.
MAX_ITEMS = 16_000
#: Shortest text that is hidden everywhere because it went by a secret name once, in characters: "secret" is a word too.
MIN_NOTED = 8
#: Objects visited for one value: some milliseconds.
MAX_OBJECTS = 10_000
#: Items of a container that is kept item by item.
MAX_PARTS = 100
#: Objects inside one another, of those that become a `Summary` with attributes.
MAX_OUTLINE_DEPTH = 3

#: The C pickler hands over frames of 64 kB: one of them may be in excess of a limit, in bytes.
FRAME_BYTES = 70_000

#: Why a value is redacted that goes by such a name.
_HIDDEN_BY_NAME = "its name looks like a secret's"
#: Name under which an item of a container is kept: it isn't opened further.
_PART = "[item]"
_ATOMS = frozenset({int, float, complex, bool, type(None)})


class Kept(NamedTuple):
    """A pickled value, and what to show if it cannot be unpickled."""

    data: bytes
    text: str


class Parts(NamedTuple):
    """A container that was too much as a whole, kept item by item."""

    cls: type
    #: Keys of a dictionary; empty for a list or tuple.
    keys: tuple[object, ...]
    items: tuple[object, ...]


class SizeBudget:
    """Bytes and seconds that a failure record may still use, shared by all of its values; and the secrets found so far.

    Args:
        size: Bytes.
        seconds: From now.
    """

    def __init__(self, size: int, seconds: float) -> None:
        self.size = size
        self.deadline: float = time.monotonic() + seconds
        self.secrets: tuple[str, ...] = redact.secret_values()

    def note(self, name: str, value: object) -> bool:
        """Whether a value must be hidden because of its name. If it is a text, it is hidden everywhere from now on."""
        if not redact.hides(name, value):
            return False
        if type(value) is str and len(value) >= MIN_NOTED and value not in self.secrets:
            self.secrets = (value, *self.secrets)
        return True

    @property
    def late(self) -> bool:
        """Whether the time is used up."""
        return time.monotonic() > self.deadline


def keep(name: str, value: object, budget: SizeBudget) -> object:
    """A copy of a value that is safe to ship.

    Args:
        name: What the value goes by; a secret name hides it.
        value: Anything.
        budget: Of the record; what is kept is taken from its ``size``.

    Returns:
        The value itself if it is a small atom or text, else a `Kept`, a `Summary` or a `Redacted`.
    """
    if budget.note(name, value):
        return Redacted(_HIDDEN_BY_NAME)
    cls = type(value)
    if cls in _ATOMS and (cls is not int or value.bit_length() < 1000):  # type: ignore[attr-defined]
        return value
    if cls is str and len(value) <= 1000:  # type: ignore[arg-type]
        budget.size -= len(value)  # type: ignore[arg-type]
        return redact.scrub(value, budget.secrets)  # type: ignore[arg-type]
    if budget.size <= 0 or budget.late:
        return Summary(describe(value), "the record is full" if budget.size <= 0 else "no time left")
    try:
        data = dump(value, budget, min(MAX_VALUE, budget.size))
    except FullError:
        return _in_parts(name, value, budget) or _outline(value, budget, "too large to keep")
    except Exception as exc:  # Pickling runs foreign code in the end; a failure record must not fail.
        return _in_parts(name, value, budget) or _outline(value, budget, f"not picklable: {type(exc).__name__}")
    budget.size -= len(data)
    return Kept(data, describe(value))


def _in_parts(name: str, value: Any, budget: SizeBudget) -> Parts | None:
    """A short container, item by item; None if it isn't one, or is an item itself (those are not opened further)."""
    cls = type(value)
    if cls not in (list, tuple, dict) or len(value) > MAX_PARTS or name == _PART:
        return None
    if cls is dict:
        pairs = list(value.items())
        if not all(type(key) in (str, int) for key, _ in pairs):
            return None
        hidden = Redacted(_HIDDEN_BY_NAME)
        items = [hidden if type(k) is str and budget.note(k, v) else keep(_PART, v, budget) for k, v in pairs]
        return Parts(dict, tuple(key for key, _ in pairs), tuple(items))
    return Parts(cls, (), tuple(keep(_PART, item, budget) for item in value))


def restore(kept: object, classes: dict[str, bytes] | None = None) -> Any:
    """The value that `keep` kept, or what stands for it. Never raises.

    Args:
        kept: From `keep`.
        classes: Pickled classes of the record, by key.
    """
    if isinstance(kept, Parts):
        items = [restore(item, classes) for item in kept.items]
        return dict(zip(kept.keys, items, strict=True)) if kept.cls is dict else kept.cls(items)
    if not isinstance(kept, Kept):
        return kept
    try:
        return load(kept.data, classes, strict=False)
    except Exception as exc:  # Unpickling imports modules and runs the user's code.
        return Summary(kept.text, f"does not unpickle here: {type(exc).__name__}: {exc}"[:200])


def size_of(kept: object) -> int:
    """Bytes that something kept takes, roughly."""
    if isinstance(kept, Parts):
        return sum(map(size_of, kept.items))
    return len(kept.data) if isinstance(kept, Kept) else len(kept) if isinstance(kept, str) else 8


def dump(value: object, budget: SizeBudget, limit: int, classes: dict[str, bytes] | None = None) -> bytes:
    """Pickle a value with the rules above.

    Args:
        value: Anything.
        budget: Gives the deadline and the secrets.
        limit: Bytes.
        classes: If given, the user's classes are shipped by value, and their pickles are put here. Otherwise they are
            looked up by name in the process that unpickles.

    Raises:
        FullError: It does not fit.
        Exception: It cannot be pickled.
    """
    stream = BoundedBytes(limit + FRAME_BYTES)
    _Pickler(stream, budget, classes).dump(value)
    data = stream.getvalue()
    if len(data) > limit:
        raise FullError
    return data


def load(data: bytes, classes: dict[str, bytes] | None = None, *, strict: bool = True) -> Any:
    """Unpickle what `dump` wrote.

    Args:
        data: From `dump`.
        classes: Pickled classes, by key.
        strict: False: objects whose class is missing here become `flyte_nb.core.failures.stand_ins.Lost`, the rest arrives.

    Raises:
        Exception: Something it takes is missing here.
    """
    return _Unpickler(io.BytesIO(data), classes or {}, strict).load()


class _Pickler(pickle.Pickler):
    """Looks at every object before it is pickled: ``persistent_id`` is asked first, for built-in types too."""

    def __init__(self, stream: io.BytesIO, budget: SizeBudget, classes: dict[str, bytes] | None) -> None:
        super().__init__(stream, protocol=5)
        self._budget = budget
        self._classes = classes
        self._left = MAX_OBJECTS
        #: id of a value that goes by a secret name -> that name.
        self._hidden: dict[int, str] = {}
        self._open: set[int] = set()

    def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
        cls = type(obj)
        self._left -= 1
        if self._left < 0 or (not self._left & 511 and self._budget.late):
            raise FullError
        if self._hidden and id(obj) in self._hidden:
            return ("redacted", _HIDDEN_BY_NAME)
        if cls in _ATOMS:
            return None
        if cls is str:
            return self._text(obj)
        return self._judge(obj, pickle_policy.verdict(cls))

    def _text(self, text: str) -> tuple[Any, ...] | None:
        if len(text) > MAX_STRING:
            start = preview(redact.scrub(text[:200], self._budget.secrets), 80)
            return ("summary", f"str of length {len(text)}: {start}", "cut", None)
        if len(text) < redact.MIN_SECRET:
            return None
        clean = redact.scrub(text, self._budget.secrets)
        return None if clean is text or clean == text else ("text", clean)

    def _judge(self, obj: Any, verdict: pickle_policy.Verdict) -> tuple[Any, ...] | None:
        match verdict:
            case pickle_policy.Verdict.SIZED:
                if len(obj) > (MAX_VALUE if type(obj) in (bytes, bytearray) else MAX_ITEMS):
                    start = redact.scrub(preview(obj, 80), self._budget.secrets)
                    return ("summary", f"{describe(obj)}: {start}", "cut", None)
                if type(obj) is dict:
                    self._hide(obj.items())
            case pickle_policy.Verdict.ARRAY:
                if (known_size(obj) or 0) > MAX_VALUE:
                    return ("summary", describe(obj), "too large to keep", array_attributes(obj))
            case pickle_policy.Verdict.FIELDS:
                self._hide(zip(type(obj)._fields, obj, strict=False))
            case pickle_policy.Verdict.SLOTS:
                self._hide(_attributes(obj))
            case pickle_policy.Verdict.CLASS:
                return self._class(obj)
            case pickle_policy.Verdict.FUNCTION:
                if not class_pickle.is_importable(obj):
                    return ("summary", describe(obj), "", None)
            case pickle_policy.Verdict.MODULE:
                return ("module", obj.__name__)
            case pickle_policy.Verdict.OPAQUE:
                return ("summary", describe(obj), "not picklable", None)
            case pickle_policy.Verdict.OUTLINE:
                return self._outline(obj)
        return None

    def _hide(self, pairs: Any) -> None:
        for name, value in pairs:
            if type(name) is str and self._budget.note(name, value):
                self._hidden[id(value)] = name

    def _class(self, cls: type) -> tuple[Any, ...] | None:
        if class_pickle.is_importable(cls):
            return None
        if self._classes is not None:
            shipped = class_pickle.pack_class(cls)
            if shipped is not None:
                self._classes[shipped.key] = shipped.data
                return ("class", shipped.key, cls.__module__, cls.__qualname__)
        return ("class", "", cls.__module__, cls.__qualname__)

    def _outline(self, obj: Any) -> tuple[Any, ...]:
        if id(obj) in self._open or len(self._open) >= MAX_OUTLINE_DEPTH:
            return ("summary", describe(obj), "", None)
        self._open.add(id(obj))
        # The id stays open: each object is outlined once per value, which bounds a graph that refers to itself.
        found = dict(_attributes(obj))
        self._hide(found.items())
        return ("summary", describe(obj), "", found)

    def reducer_override(self, obj: Any) -> Any:
        return class_pickle.reduce_exception(obj) if issubclass(type(obj), BaseException) else NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, classes: dict[str, bytes], strict: bool) -> None:
        super().__init__(stream)
        self._classes = classes
        self._strict = strict

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            if self._strict:
                raise
            return lost_class(name)

    def persistent_load(self, pid: Any) -> Any:
        kind, *rest = pid
        match kind:
            case "summary":
                return Summary(*rest)
            case "redacted":
                return Redacted(*rest)
            case "text":
                return rest[0]
            case "module":
                return sys.modules.get(rest[0]) or importlib.import_module(rest[0])
            case "class":
                key, module, qualname = rest
                try:
                    return class_pickle.find_class(key, self._classes.get(key), module, qualname)
                except LookupError:
                    if self._strict:
                        raise
                    return lost_class(qualname)
        raise pickle.UnpicklingError(f"unknown reference {pid!r} in a failure record")


def _attributes(obj: object) -> Iterator[tuple[str, Any]]:
    """Attributes of an object, past every method of its class: from its ``__dict__`` and its slots."""
    try:
        own = object.__getattribute__(obj, "__dict__")
        found = list(own.items()) if type(own) is dict else []
    except Exception:
        found = []
    for base in type(obj).__mro__:
        for name, slot in list(vars(base).items()):
            if type(slot) is types.MemberDescriptorType and type(base) is type and base.__module__ != "builtins":
                try:
                    found.append((name, slot.__get__(obj)))
                except AttributeError:
                    continue  # an unset slot
    named = ((k, v) for k, v in found if type(k) is str and not (k.startswith("__") and k.endswith("__")))
    yield from itertools.islice(named, MAX_ATTRIBUTES)


def _outline(value: object, budget: SizeBudget, reason: str) -> Summary:
    """A summary with small attributes only, for a value that was too much as a whole."""
    cls = type(value)
    if known_size(value) is not None:
        return Summary(describe(value), reason, array_attributes(value))
    attributes: dict[str, Any] = {}
    for name, inner in _attributes(value):
        if budget.note(name, inner):
            attributes[name] = Redacted(_HIDDEN_BY_NAME)
        elif type(inner) in _ATOMS or (type(inner) is str and len(inner) <= 200):
            attributes[name] = redact.scrub(inner, budget.secrets) if type(inner) is str else inner
        else:
            attributes[name] = Summary(describe(inner))
    text = describe(value)
    if cls in (list, tuple, dict, set, frozenset, str, bytes):
        text = f"{text}: {redact.scrub(preview(value, 80), budget.secrets)}"
    return Summary(text, reason, attributes)
