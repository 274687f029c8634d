"""Hash values by content: equal values hash alike in every process and kernel. Runs in: the thread of the calling code.

A pickle will not do: its bytes depend on which equal strings are the same object, and on the order of a set, which differs
from process to process. Here every value is taken apart, as pickle would, and its parts are hashed with their types.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import gc
import hashlib
import inspect
import marshal
import pickle
import secrets
import types
from collections.abc import Callable, Iterable
from typing import Any

import cloudpickle

from flyte_nb.core.values import code_hash
from flyte_nb.core.values.by_value import identity
from flyte_nb.core.values.user_code import attribute, content_of, found_by_name, is_task, is_user_code

#: Types that `marshal` writes canonically in its version 0, which shares no references.
_ATOMS = frozenset({int, float, str, bytes, bool, type(None)})

#: Values nested deeper than this are hashed as one pickle.
MAX_NESTING = 200


class HashFunction:
    """Distinguishes inputs by a function: ``df: Annotated[pd.DataFrame, HashFunction.from_fn(f)]``, where ``f(df)`` is text.

    Args:
        fn: Called with the value; returns what stands for it in cache keys.
    """

    def __init__(self, fn: Callable[[Any], str]) -> None:
        self._fn = fn
        self._value = ""

    @classmethod
    def from_fn(cls, fn: Callable[[Any], str]) -> HashFunction:
        """A hash method that is a function."""
        return cls(fn)

    def update(self, data: Any) -> None:
        """Hash a value; `result` has the hash."""
        self._value = self._fn(data)

    def result(self) -> str:
        """The hash of the latest `update`."""
        return self._value

    def reset(self) -> None:
        """Forget the latest hash."""
        self._value = ""

    def __call__(self, data: Any) -> str:
        """The hash of a value."""
        return str(self._fn(data))


def content_hash(value: object) -> bytes:
    """Hash, 16 bytes, of anything that can be pickled.

    An object may define what stands for it: ``_flyte_content_hash_()``, which returns text (a file's, its address or digest).

    Raises:
        Exception: Whatever pickling it raises.
    """
    return _Feeder().digest(value)


def state_hash(func: Callable[..., Any], patches: Iterable[tuple[Any, str, Any]] = ()) -> bytes:
    """Hash of what a function and its helpers read now, beside code: what cannot be hashed (a lock) is left out.

    Args:
        func: The function.
        patches: What the program has put into libraries that it uses.
    """
    found = {name.encode() + _hash_or_token(value) for _, name, value in patches}
    for name, value in code_hash.values_read(func, of_classes=True):
        with contextlib.suppress(Exception):
            found.add(name.encode() + content_hash(value))
    return hashlib.blake2b(b"".join(sorted(found)), digest_size=16).digest()


def _hash_or_token(value: object) -> bytes:
    try:
        return content_hash(value)
    except Exception:  # like no other, now or later: an address would be another's before long
        return secrets.token_bytes(16)


class _Feeder:
    """Feeds one value into one hash."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        #: Containers and objects that are being taken apart: their depth, by id. Ends cycles.
        self._path: dict[int, int] = {}

    def digest(self, value: object) -> bytes:
        """The hash of a value."""
        self._feed(value)
        return self._hash.digest()

    def _tag(self, tag: bytes, number: int = 0) -> None:
        self._hash.update(b"%b%d;" % (tag, number))

    def _feed(self, value: Any) -> None:
        kind = type(value)
        if kind in _ATOMS:
            self._hash.update(marshal.dumps(value, 0))
        elif kind is tuple or kind is list:
            if _ATOMS.issuperset(map(type, value)):
                self._hash.update(marshal.dumps(value, 0))
            else:
                self._inside(value, self._items)
        elif kind is dict:
            self._inside(value, self._pairs)
        elif kind is set or kind is frozenset:
            self._tag(b"set" if kind is set else b"frozenset", len(value))
            for each in sorted(content_hash(item) for item in value):
                self._hash.update(each)
        else:
            self._inside(value, self._other)

    def _inside(self, value: Any, feed: Callable[[Any], None]) -> None:
        depth = self._path.get(id(value))
        if depth is not None:
            self._tag(b"cycle", len(self._path) - depth)
        elif len(self._path) >= MAX_NESTING:
            self._bytes(b"deep", cloudpickle.dumps(value, protocol=5))
        else:
            self._path[id(value)] = len(self._path)
            try:
                feed(value)
            finally:
                del self._path[id(value)]

    def _items(self, value: list[Any] | tuple[Any, ...]) -> None:
        self._tag(b"list" if type(value) is list else b"tuple", len(value))
        for item in value:
            self._feed(item)

    def _pairs(self, value: dict[Any, Any]) -> None:
        # In their order, which the program can see.
        self._tag(b"dict", len(value))
        for key, item in value.items():
            self._feed(key)
            self._feed(item)

    def _bytes(self, tag: bytes, data: Any) -> None:
        view = memoryview(data)
        self._tag(tag, view.nbytes)
        self._hash.update(view)

    def _text(self, tag: bytes, text: str) -> None:
        self._bytes(tag, text.encode("utf-8", "surrogatepass"))

    def _other(self, value: Any) -> None:
        own = getattr(type(value), "_flyte_content_hash_", None)
        if own is not None:
            self._text(b"own", f"{type(value).__qualname__}:{own(value)}")
        elif isinstance(value, type):
            self._text(b"class", _class_text(value))
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.ModuleType):
            self._text(b"module", value.__name__)
        elif isinstance(value, enum.Enum):
            self._text(b"enum", f"{_class_text(type(value))}.{value.name}")
        elif type(value) is object:  # a sentinel, which is told by its name
            self._text(b"lone", identity.Names().reduce(value)[1][0])
        elif isinstance(value, bytearray):
            self._bytes(b"bytearray", value)
        elif isinstance(value, pickle.PickleBuffer):
            self._bytes(b"buffer", value.raw())
        elif is_task(value):
            self._text(b"task", f"{value.name}:{value.code_version()}")
        elif isinstance(value, functools.partial):
            self._tag(b"partial")
            self._feed((value.func, value.args, value.keywords))
        else:
            self._reduced(value)

    def _function(self, func: types.FunctionType) -> None:
        own = is_user_code(func)
        self._text(b"function", code_hash.code_version(func) if own else f"{func.__module__}.{func.__qualname__}")
        if not own and found_by_name(func.__module__, func.__qualname__) is func and func is inspect.unwrap(func):
            return
        self._feed((func.__defaults__, func.__kwdefaults__))
        with contextlib.suppress(Exception):
            self._hash.update(content_hash(vars(func)))
        for cell in func.__closure__ or ():
            content = content_of(cell)
            if own:
                self._feed(content)
            else:  # what a library's wrapper keeps
                with contextlib.suppress(Exception):
                    self._hash.update(content_hash(content))

    def _reduced(self, value: Any) -> None:
        """Take an object apart as pickle does."""
        try:
            parts = value.__reduce_ex__(5)
        except TypeError:
            self._bytes(b"pickle", cloudpickle.dumps(value, protocol=5))  # what only cloudpickle knows about
            return
        if isinstance(parts, str):
            self._text(b"global", f"{attribute(value, '__module__') or type(value).__module__}.{parts}")
            self._feed(attribute(value, "__wrapped__"))  # of `functools.lru_cache`
            return
        maker, args, *more = parts
        state, items, pairs = (*more, None, None, None)[:3]
        self._tag(b"object")
        self._feed(maker)
        self._feed(args)
        self._feed(state)
        if items is not None:
            self._feed(list(items))
        if pairs is not None:
            self._feed(list(pairs))


def _class_text(cls: type) -> str:
    name = f"{cls.__module__}.{cls.__qualname__}"
    return f"{name}:{code_hash.class_version(cls)}" if is_user_code(cls) else name


#: In which there is nothing more to be found.
_LEAVES: tuple[type, ...] = (
    int,
    float,
    str,
    bytes,
    bool,
    type(None),
    complex,
    types.BuiltinFunctionType,
    types.ModuleType,
)
_CODE = (type, types.FunctionType)
#: Values that are looked into.
MAX_LOOKED_INTO = 200_000


def pickles_alike(value: object) -> bool:
    """Whether a value's pickle is the same in every process: it has neither sets nor code of the user's in it.

    That is told by what the collector sees of it, in a fraction of the time that hashing takes: what libraries keep out of its
    sight is not seen. False also for what has too many parts to be looked into.
    """
    seen: set[int] = set()
    level: list[Any] = [value]
    while level:
        found = _parts(level)
        kinds = set(map(type, found))
        if any(issubclass(kind, set | frozenset) or is_user_code(kind) for kind in kinds):
            return False
        inner = {kind for kind in kinds if not issubclass(kind, _LEAVES)}
        level = [each for each in found if type(each) in inner and id(each) not in seen] if inner else []
        if any(isinstance(each, _CODE) and is_user_code(each) for each in level):
            return False
        seen.update(map(id, level))
        level = [each for each in level if not isinstance(each, _CODE)]
        if len(seen) > MAX_LOOKED_INTO:
            return False
    return True


def _parts(level: list[Any]) -> list[Any]:
    """What some values refer to; of long lists, tuples and dicts of simple values one of each type."""
    arrays = [each.ravel().tolist() for each in level if type(each).__name__ == "ndarray" and each.dtype.hasobject]
    found: list[Any] = []
    rest = [*level, *arrays]
    if len(rest) <= 32:
        sequences = [each for each in rest if type(each) in (list, tuple)]
        for each in rest:
            sequences += [each.keys(), each.values()] if type(each) is dict else []
        for each in sequences:
            kinds = dict(zip(map(type, each), each, strict=True))
            found += kinds.values() if all(issubclass(kind, _LEAVES) for kind in kinds) else each
        rest = [each for each in rest if type(each) not in (list, tuple, dict)]
    return found + gc.get_referents(*rest)
