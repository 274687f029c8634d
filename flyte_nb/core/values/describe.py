"""Short texts about any value, for labels, messages and summaries, and about numbers of bytes. Runs in: everywhere.

Four texts, by what they may do: `brief` is a label ("[1, 2]", "<DataFrame 3x4>"), `describe` names type and size only,
`preview` shows built-in values and masks secrets, `repr_with_type` asks a value for its ``repr``. The others run no code of the
user's.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import itertools
import re
import reprlib
import sys
import types
from typing import Any

from flyte_nb.core.values import redact
from flyte_nb.core.values.bounded import TooLongError, call_within
from flyte_nb.core.values.user_code import attribute

#: Longest text of one argument in a label, in characters.
MAX_BRIEF = 40
#: Longest label of a call, in characters: one row of a view.
LABEL_CHARS = 240
#: Longest text of an argument with named parts (a dictionary, a dataclass): they are what differs between the calls of a sweep.
PARTS_CHARS = 120
#: Longest text that is looked through for secrets as a whole, so that its end can be shown.
WHOLE_CHARS = 2_000
#: Containers in containers that a label shows.
MAX_DEPTH = 4
#: Longest text of one value in a summary, in characters: a line on the screen.
MAX_SUMMARY = 120
#: Attributes of an object shown by a summary. More are seldom looked at, and a model may have thousands.
MAX_ATTRIBUTES = 40
#: Elements of a container in which a coroutine is looked for.
MAX_SEARCHED = 100
#: Seconds that a ``repr`` or ``str`` of the user's may take.
REPR_SECONDS = 1.0
SIZED = (list, tuple, dict, set, frozenset, str, bytes, bytearray, range, memoryview)
ATOMS = (int, float, complex, bool, type(None))

#: Integers of more bits are told by their size: Python refuses to write out those of more than 4,300 digits.
LARGE_BITS = 4_096

#: ``repr`` of any value, bounded: 120 characters of a text, six items of a container.
SHORT_REPR = reprlib.Repr()
SHORT_REPR.maxstring = SHORT_REPR.maxother = 120
SHORT_REPR.maxlist = SHORT_REPR.maxtuple = SHORT_REPR.maxdict = SHORT_REPR.maxset = 6
#: Characters which a float is shorter by without its last digits, where those are noise: 0.30000000000000004.
NOISE = 6

#: Escape sequences of terminals, in 7 bits (ESC [) and in 8 (U+009B): CSI; strings (OSC, DCS, SOS, PM, APC) with or without
#: their end; character sets; two characters. Linear, see `flyte_nb.core.values.redact`.
_ANSI = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*+(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]++[0-~]|\x1b[0-Z\\`-~]"
)
_ESCAPES = re.compile(r"[\x1b\x90-\x9f]")
#: Controls but tab and line feed, C1 included; what changes the direction of text (a line may then read as another one); lines'
#: and paragraphs' separators; halves of characters, which no stream takes.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff]++"
)
#: Carriage returns at the end of a line, which hide nothing; and what others hide.
_AT_END = re.compile(r"(?<!\r)\r++(?=\n|\Z)")
_HIDDEN = re.compile(r"^[^\n]*\r", re.MULTILINE)


#: An address or path and nothing else: no user; a query of short values only ("?page=12"), which are hidden by their names.
_PATH = re.compile(
    r"(?:\w++:/)?(?:/[\w.~+%:-]*+)++(?:\?(?P<query>[\w.-]{1,24}=[\w.-]{0,8}(?:&[\w.-]{1,24}=[\w.-]{0,8})*+))?"
)


def brief(value: object, limit: int = MAX_BRIEF, depth: int = MAX_DEPTH) -> str:
    """A short text of a value: its repr for plain values, else type and size; never calls a user's repr."""
    kind = type(value)
    if kind is int or kind is float or kind is bool or value is None or kind is complex:
        if kind is int and value.bit_length() > LARGE_BITS:  # type: ignore[attr-defined]
            return f"<int of {value.bit_length():,} bits>"  # type: ignore[attr-defined]
        text = repr(value)
        if kind is float and len(text) > len(short := f"{value:.12g}") + NOISE:
            text = short
        return text if len(text) <= limit else text[: limit - 3] + "..."
    if kind is str:
        if limit < len(value) <= WHOLE_CHARS and _is_path(value):  # type: ignore[arg-type]
            # Its end is what differs between the pages of a site. (In other texts it may be a secret, without what tells.)
            text = repr(redact.scrub_start(value, WHOLE_CHARS))  # type: ignore[arg-type]
            head = (limit - 3) // 2
            return text if len(text) <= limit else f"{text[:head]}...{text[head + 3 - limit :]}"
        text = repr(redact.scrub_start(value, limit)[: limit + 1])  # type: ignore[arg-type]
        return text if len(text) <= limit else text[: limit - 4] + "...'"
    if kind is bytes or kind is bytearray:
        return f"<{len(value):,} bytes>"  # type: ignore[arg-type]
    if kind in _BRACKETS:
        return _brief_items(value, limit, depth)
    if callable(value):
        return str(attribute(value, "short_name") or attribute(value, "__name__") or kind.__name__)[:limit]
    shape = attribute(value, "shape")
    if type(shape) is tuple and all(type(n) is int for n in shape):
        return f"<{kind.__name__} {'x'.join(map(str, shape))}>"
    return (_brief_fields(value, kind, limit) if depth == MAX_DEPTH else "") or f"<{kind.__name__}>"


def _is_path(text: str) -> bool:
    """Whether nothing that ends a text can be a secret without what tells: an address or a path."""
    found = _PATH.fullmatch(text)
    if found is None:
        return False
    given = (each.split("=", 1) for each in (found["query"] or "").split("&") if each)
    return not any(redact.hides(name, value) for name, value in given)


def _brief_fields(value: Any, kind: type, limit: int) -> str:
    """A dataclass or named tuple by its fields, "Point(x=1, y=2)"; "" for anything else. Calls nothing of the user's."""
    names = vars(kind).get("__dataclass_fields__") or vars(kind).get("_fields")
    if not names or not all(type(name) is str for name in names):
        return ""
    limit, parts, used = max(limit, PARTS_CHARS), [], len(kind.__name__)
    stored = attribute(value, "__dict__")
    for place, name in enumerate(names):
        if isinstance(value, tuple):
            part = tuple.__getitem__(value, place)
        elif type(stored) is dict and name in stored:
            part = stored[name]
        else:
            return ""  # in slots, or computed
        text = f"{name}={redact.MASK if redact.hides(name, part) else brief(part, 20, 1)}"
        used += len(text) + 2
        if used > limit - 8:
            parts.append(f"...{len(names) - place} more")
            break
        parts.append(text)
    return f"{kind.__name__}({', '.join(parts)})"


_BRACKETS: dict[type, str] = {list: "[]", tuple: "()", dict: "{}", set: "{}", frozenset: "{}"}


def _brief_items(value: Any, limit: int, depth: int) -> str:
    brackets = _BRACKETS[type(value)]
    if not depth:  # it may contain itself
        return "...".join(brackets)
    parts, used = [], 0
    items = value.items() if type(value) is dict else value
    part = 12
    if type(value) is dict and depth == MAX_DEPTH:
        limit, part = max(limit, PARTS_CHARS), 20
    for count, item in enumerate(items):
        if type(value) is dict:
            hidden = type(item[0]) is str and redact.hides(*item)
            text = f"{brief(item[0], part, depth - 1)}: {redact.MASK if hidden else brief(item[1], part, depth - 1)}"
        else:
            text = brief(item, 16, depth - 1)
        used += len(text) + 2
        if used > limit - 8:
            parts.append(f"...{len(value) - count} more")
            break
        parts.append(text)
    return brackets[0] + ", ".join(parts) + brackets[1]


def label_of(name: str, bound: tuple[tuple[Any, ...], dict[str, Any]], names: tuple[str, ...] = ()) -> str:
    """A bounded label such as ``process_chunk(3, 'data4')``; never calls user code.

    `names` are those of positional arguments: what goes by a secret's name is masked, since labels are kept in notebooks.
    """
    args, kwargs = bound
    if len(args) == 1 and not kwargs and type(args[0]) is int and args[0].bit_length() <= LARGE_BITS:
        return f"{name}({args[0]})"  # the commonest call, a map over numbers
    parts = [_shown(names[i] if i < len(names) else "", value) for i, value in enumerate(args[:6])]
    parts += [f"{key}={_shown(key, value)}" for key, value in list(kwargs.items())[: 6 - len(parts)]]
    if len(args) + len(kwargs) > 6:
        parts.append("...")
    text = ", ".join(parts)
    if "'" in text or '"' in text:  # else nothing in it is a text
        text = redact.scrub_code(text, ())
    if len(text) > LABEL_CHARS:
        text = text[: LABEL_CHARS - 3] + "..."
    return f"{name}({text if text.isprintable() else plain(text)})"


def _shown(name: str, value: object) -> str:
    return redact.MASK if name and redact.hides(name, value) else brief(value)


def type_name(value: object) -> str:
    """Name of the value's class, with its module unless that is obvious: "int", "numpy.ndarray", "Config"."""
    cls = type(value)
    module: Any = cls.__module__
    name = cls.__qualname__
    if not isinstance(module, str):
        return name  # a class may set anything as its ``__module__``
    return name if module in ("builtins", "__main__") else f"{module.partition('.')[0]}.{name}"


def known_size(value: object) -> int | None:
    """Bytes of the data in an array, frame or tensor of a well-known package; None if it isn't one."""
    for base in type(value).__mro__:
        module: Any = base.__module__  # A class may set anything.
        package = module.partition(".")[0] if isinstance(module, str) else ""
        measure = _MEASURES.get((package, base.__name__))
        if measure is not None:
            try:
                return measure(value)
            except Exception:
                return sys.maxsize  # Unknown counts as too large.
    return None


def _nbytes(value: Any) -> int:
    return int(value.nbytes)


def _frame_bytes(value: Any) -> int:
    # Not ``memory_usage``: it visits each column. Columns of objects are bounded by the writer.
    return sum(int(block.nbytes) for block in value._mgr.arrays)  # noqa: SLF001 - pandas' own name for its data


def _tensor_bytes(value: Any) -> int:
    # A tensor on a device would have to be fetched first: never kept.
    return sys.maxsize if value.device.type != "cpu" else int(value.numel() * value.element_size())


_MEASURES = {
    ("numpy", "ndarray"): _nbytes, ("pandas", "DataFrame"): _frame_bytes, ("pandas", "Series"): _nbytes,
    ("pandas", "Index"): _nbytes, ("pandas", "ExtensionArray"): _nbytes,
    ("polars", "DataFrame"): lambda value: int(value.estimated_size()),
    ("polars", "Series"): lambda value: int(value.estimated_size()),
    ("pyarrow", "Table"): _nbytes, ("pyarrow", "RecordBatch"): _nbytes, ("pyarrow", "ChunkedArray"): _nbytes,
    ("pyarrow", "Array"): _nbytes, ("torch", "Tensor"): _tensor_bytes,
}  # fmt: skip


def describe(value: object) -> str:
    """Type, and shape, dtype or length, of any value, in one short line and without running foreign code."""
    name = type_name(value)
    if type(value) in SIZED:
        return f"{name} of length {len(value)}"  # type: ignore[arg-type]
    # By exact type throughout: ``isinstance`` asks an instance for its ``__class__``, which may be a property.
    if issubclass(type(value), type):
        return f"class {type.__getattribute__(value, '__qualname__')}"
    if type(value) is types.FunctionType:
        code = value.__code__
        return f"function {code.co_name} at {code.co_filename}:{code.co_firstlineno}"
    if type(value) is types.MethodType:
        return f"method {getattr(value.__func__, '__qualname__', '')}".rstrip()
    size = known_size(value)
    return name if size is None else _describe_array(name, value, size)


def _describe_array(name: str, value: Any, size: int) -> str:
    try:
        shape = "x".join(str(int(n)) for n in value.shape) if hasattr(value, "shape") else str(len(value))
        dtype = f" {value.dtype}" if hasattr(value, "dtype") else ""
    except Exception:
        return name
    amount = "" if size == sys.maxsize else f", {bytes_text(size)}"
    return f"{name} {shape}{dtype}{amount}"[:MAX_SUMMARY]


def array_attributes(value: Any) -> dict[str, Any]:
    """Shape, dtype and column names of an array or frame of a well-known package: what its summary still answers."""
    found: dict[str, Any] = {}
    try:
        if hasattr(value, "shape"):
            found["shape"] = tuple(int(n) for n in value.shape)
        if hasattr(value, "dtype"):
            found["dtype"] = str(value.dtype)
        if type(value).__name__ == "DataFrame":
            found["columns"] = [str(name)[:MAX_SUMMARY] for name in list(value.columns)[:MAX_ATTRIBUTES]]
    except Exception:
        return found  # What could be had; a summary is never worth an error.
    return found


def repr_with_type(value: object) -> str:
    """A value and its type, bounded: ``'a' (str)``. Calls the value's ``repr``, and gives it up after `REPR_SECONDS`."""
    try:
        plain_type = type(value) in ATOMS or type(value) is str
        text = SHORT_REPR.repr(value) if plain_type else call_within(REPR_SECONDS, SHORT_REPR.repr, value)
    except (Exception, TooLongError):
        text = "a value"
    return f"{text} ({type(value).__name__})"


def forgotten_await(value: object) -> str:
    """What to write where a call's coroutine is given for its value, as a sentence; "" if a value is none, and holds none."""
    if type(value) in UNSENDABLE:
        return UNSENDABLE[type(value)]
    if inspect.iscoroutine(value):
        task = value.cr_frame.f_locals.get("self") if value.cr_frame is not None else None
        name = getattr(task, "short_name", "") or value.__name__
        return f"It is the coroutine of {name}(...), which was not awaited: write `await {name}(...)`."
    if isinstance(value, asyncio.Future):
        return "It is a task of asyncio's, which was not awaited: write `await` before it."
    if inspect.isasyncgen(value):
        return "It is an async generator: collect it first, `[x async for x in ...]`."
    if _holds_coroutine(value, depth=4):
        return "It holds coroutines that were not awaited: `await asyncio.gather(*...)` gives their values."
    return unsendable(value)


#: Types whose values mean nothing elsewhere though they can be pickled, and what to write in their place, as a sentence.
UNSENDABLE: dict[type, str] = {}


#: Values that are looked at for such: in each call with more than plain arguments.
MAX_LOOKED_AT = 50


def unsendable(value: object) -> str:
    """What to write where a value of `UNSENDABLE` is given, or a container of such; "" if none is found."""
    left: list[Any] = [value]
    for _ in range(MAX_LOOKED_AT):
        if not left:
            return ""
        each = left.pop()
        if (kind := type(each)) in UNSENDABLE:
            return UNSENDABLE[kind]
        if kind is list or kind is tuple or kind is set or kind is frozenset:
            left.extend(itertools.islice(each, MAX_LOOKED_AT))
        elif kind is dict:
            left.extend(itertools.islice(each.values(), MAX_LOOKED_AT))
    return ""


def _holds_coroutine(value: object, depth: int) -> bool:
    parts: Any = value if type(value) in (list, tuple, set, frozenset) else ()
    if isinstance(value, dict):
        parts = value.values()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = list(getattr(value, "__dict__", {}).values())
    return any(
        inspect.iscoroutine(each)
        or isinstance(each, asyncio.Future)
        or (depth > 0 and _holds_coroutine(each, depth - 1))
        for each in itertools.islice(parts, MAX_SEARCHED)
    )


def bytes_text(size: float, *, tenths: bool = False) -> str:
    """A number of bytes for people: "40 MB".

    Args:
        size: Bytes.
        tenths: Whether amounts of 10 or more have a decimal too: "40.0 MB".
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.1f} {unit}" if unit != "bytes" and (tenths or size < 10) else f"{size:.0f} {unit}"


def strip_ansi(text: str) -> str:
    """The text without colours and other terminal sequences."""
    return _ANSI.sub("", text) if _ESCAPES.search(text) is not None else text


def plain(text: str) -> str:
    """Lines without terminal sequences, control characters and changes of direction: what may be printed of somebody else's.

    Of a line with carriage returns it keeps what a terminal would show, what follows the last one.
    """
    if text.isascii() and text.isprintable():
        return text
    if "\r" in text:
        text = _HIDDEN.sub("", _AT_END.sub("", text))
    return _CONTROL.sub("", strip_ansi(text))


def preview(value: object, limit: int = MAX_SUMMARY) -> str:
    """Text of at most `limit` characters of a value made of built-in types; `describe` for anything else."""
    text = _preview(value, limit, 3)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _preview(value: Any, limit: int, depth: int) -> str:
    cls = type(value)
    if cls is int:
        bits = value.bit_length()
        return repr(value) if bits < 400 else f"<int of {bits} bits>"  # Python refuses to print a long one
    if cls in ATOMS:
        return repr(value)
    if cls in (str, bytes):
        return repr(value) if len(value) <= limit else repr(value[:limit]) + "..."
    if cls not in (list, tuple, dict, set, frozenset) or not depth:
        return f"<{describe(value)}>"
    items: list[str] = []
    total = len(value)
    left = limit
    for item in value:
        if left <= 0 or len(items) >= 10:
            items.append(f"... {total} items")
            break
        text = _preview(item, left, depth - 1)
        if cls is dict:
            inner = value[item] if type(item) in (str, int) else None  # Another key's ``==`` would be foreign code.
            hidden = type(item) is str and redact.hides(item, inner)
            text += f": {'<redacted>' if hidden else _preview(inner, left, depth - 1)}"
        left -= len(text)
        items.append(text)
    joined = ", ".join(items)
    if cls is list:
        return f"[{joined}]"
    if cls is tuple:
        return f"({joined}{',' if total == 1 else ''})"
    return f"{{{joined}}}"
