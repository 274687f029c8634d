"""Describe any value in a line: type, size, shape; no user code runs beyond cheap attributes. Runs in: everywhere."""

from __future__ import annotations

import sys
import types
from typing import Any

from flyte_nb.core.values import redact

#: Longest text of one value in a summary, in characters: a line on the screen.
MAX_TEXT = 120
#: Attributes of an object shown by a summary. More are seldom looked at, and a model may have thousands.
MAX_ATTRIBUTES = 40
SIZED = (list, tuple, dict, set, frozenset, str, bytes, bytearray, range, memoryview)
ATOMS = (int, float, complex, bool, type(None))


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
    return sum(int(block.nbytes) for block in value._mgr.arrays)


def _tensor_bytes(value: Any) -> int:
    # A tensor on a device would have to be fetched first: never kept.
    return sys.maxsize if value.device.type != "cpu" else int(value.numel() * value.element_size())


_MEASURES = {
    ("numpy", "ndarray"): _nbytes,
    ("pandas", "DataFrame"): _frame_bytes,
    ("pandas", "Series"): _nbytes,
    ("pandas", "Index"): _nbytes,
    ("pandas", "ExtensionArray"): _nbytes,
    ("polars", "DataFrame"): lambda value: int(value.estimated_size()),
    ("polars", "Series"): lambda value: int(value.estimated_size()),
    ("pyarrow", "Table"): _nbytes,
    ("pyarrow", "RecordBatch"): _nbytes,
    ("pyarrow", "ChunkedArray"): _nbytes,
    ("pyarrow", "Array"): _nbytes,
    ("torch", "Tensor"): _tensor_bytes,
}


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
    if size is None:
        return name
    return _describe_array(name, value, size)


def _describe_array(name: str, value: Any, size: int) -> str:
    try:
        shape = "x".join(str(int(n)) for n in value.shape) if hasattr(value, "shape") else str(len(value))
        dtype = f" {value.dtype}" if hasattr(value, "dtype") else ""
    except Exception:
        return name
    amount = "" if size == sys.maxsize else f", {bytes_text(size)}"
    return f"{name} {shape}{dtype}{amount}"[:MAX_TEXT]


def array_attributes(value: Any) -> dict[str, Any]:
    """Shape, dtype and column names of an array or frame of a well-known package: what its summary still answers."""
    found: dict[str, Any] = {}
    try:
        if hasattr(value, "shape"):
            found["shape"] = tuple(int(n) for n in value.shape)
        if hasattr(value, "dtype"):
            found["dtype"] = str(value.dtype)
        if type(value).__name__ == "DataFrame":
            found["columns"] = [str(name)[:MAX_TEXT] for name in list(value.columns)[:MAX_ATTRIBUTES]]
    except Exception:
        return found  # What could be had; a summary is never worth an error.
    return found


def bytes_text(size: int) -> str:
    """A number of bytes for people: "40 MB"."""
    amount = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if amount >= 10 or unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{size} bytes"


def preview(value: object, limit: int = MAX_TEXT) -> str:
    """Bounded text of a value made of built-in types; `describe` for anything else.

    Args:
        value: Any value.
        limit: Longest text, in characters.
    """
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
    room = limit
    for item in value:
        if room <= 0 or len(items) >= 10:
            items.append(f"... {total} items")
            break
        text = _preview(item, room, depth - 1)
        if cls is dict:
            inner = value[item] if type(item) in (str, int) else None  # Another key's ``==`` would be foreign code.
            hidden = type(item) is str and redact.hides(item, inner)
            text += f": {'<redacted>' if hidden else _preview(inner, room, depth - 1)}"
        room -= len(text)
        items.append(text)
    joined = ", ".join(items)
    if cls is list:
        return f"[{joined}]"
    if cls is tuple:
        return f"({joined}{',' if total == 1 else ''})"
    return f"{{{joined}}}"
