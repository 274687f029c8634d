"""Short text of a value, for labels and previews; no user code runs. Runs in: everywhere."""

from __future__ import annotations

from typing import Any

#: Longest text of one argument in a label.
VALUE_CHARS = 40


def brief(value: object, limit: int = VALUE_CHARS) -> str:
    """A short text of a value: its repr for plain values, else type and size; never calls a user's repr."""
    kind = type(value)
    if kind is int or kind is float or kind is bool or value is None or kind is complex:
        text = repr(value)
        return text if len(text) <= limit else text[: limit - 3] + "..."
    if kind is str:
        text = repr(value[: limit + 1])  # type: ignore[index]
        return text if len(text) <= limit else text[: limit - 4] + "...'"
    if kind is bytes or kind is bytearray:
        return f"<{len(value):,} bytes>"  # type: ignore[arg-type]
    if kind in _BRACKETS:
        return _brief_items(value, limit)
    if callable(value):
        return str(getattr(value, "short_name", None) or getattr(value, "__name__", kind.__name__))[:limit]
    shape = getattr(value, "shape", None)
    if type(shape) is tuple and all(type(n) is int for n in shape):
        return f"<{kind.__name__} {'x'.join(map(str, shape))}>"
    return f"<{kind.__name__}>"


_BRACKETS: dict[type, str] = {list: "[]", tuple: "()", dict: "{}", set: "{}", frozenset: "{}"}


def _brief_items(value: Any, limit: int) -> str:
    brackets = _BRACKETS[type(value)]
    parts, used = [], 0
    items = value.items() if type(value) is dict else value
    for count, item in enumerate(items):
        text = f"{brief(item[0], 12)}: {brief(item[1], 12)}" if type(value) is dict else brief(item, 16)
        used += len(text) + 2
        if used > limit - 8:
            parts.append(f"...{len(value) - count} more")
            break
        parts.append(text)
    return brackets[0] + ", ".join(parts) + brackets[1]
