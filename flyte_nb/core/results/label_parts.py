"""Parts of a call's label, "fit(<DataFrame 569x30>, depth=6)": what it says of each argument. Runs in: the calling code.

Labels are bounded, made without the user's code, and there for runs of earlier kernels and for arguments that were not kept.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from flyte_nb.core.history.facts import Action
from flyte_nb.core.tasks.registry import REGISTRY

#: Longest label that is taken apart, in characters.
MAX_CHARS = 4_000
_OPENING, _CLOSING = "([{<", ")]}>"

#: An argument: its name (or place), and its text.
Part = tuple[str, str]


def told_inputs(action: Action) -> dict[str, Any]:
    """Arguments by name, as far as the label of a call tells them: numbers and short texts as they are, else what it says."""
    task = REGISTRY.latest(action.task)
    if task is not None and task.config.label:
        return {}  # its author's words
    given = _given(action.label, task.input_names if task is not None else ())
    return {f"arg{name[1:]}" if name[:1] == "#" else name: _value(text) for name, text in given or ()}


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def split(text: str) -> list[str]:
    """A text at its top-level commas: not those in brackets or quotes. One pass."""
    parts, depth, start, quote, at = [], 0, 0, "", 0
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char in _OPENING:
            depth += 1
        elif char in _CLOSING:
            depth = max(0, depth - 1)
        elif char == "," and not depth:
            parts.append(text[start:at].strip())
            start = at + 1
        at += 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


def parts_of(label: str, names: Sequence[str] = ()) -> list[Part] | None:
    """The arguments of a call by name, dictionaries and dataclasses one level deep; None if it is no call's label.

    Args:
        label: "fit([1, 2], {'depth': 6}, fold=2)".
        names: Of the task's parameters, for those that were given by position.
    """
    given = _given(label, names)
    return None if given is None else [part for name, text in given for part in _inside(text) or [(name, text)]]


def _given(label: str, names: Sequence[str]) -> list[Part] | None:
    """The arguments of a call by name, or by place; None if it is no call's label."""
    open_at = label.find("(")
    if open_at <= 0 or not label.endswith(")") or len(label) > MAX_CHARS:
        return None
    found: list[Part] = []
    for place, text in enumerate(split(label[open_at + 1 : -1])):
        name, given = _named(text)
        found.append((name, given) if name else (names[place] if place < len(names) else f"#{place}", text))
    return found


def _named(text: str) -> Part:
    """A keyword and its text; ("", "") if the text is none."""
    name, equals, given = text.partition("=")
    return (name, given) if equals and name.isidentifier() else ("", "")


def _inside(text: str) -> list[Part]:
    """The items of a dictionary with plain keys, or the fields of a dataclass; none of anything else."""
    if text.startswith("{") and text.endswith("}"):
        items = [item.partition(": ") for item in split(text[1:-1])]
        if items and all(colon and key[:1] in "'\"" and key[1:-1].isidentifier() for key, colon, _ in items):
            return [(key[1:-1], value) for key, _, value in items]
    open_at = text.find("(")
    if open_at > 0 and text.endswith(")") and text[:open_at].isidentifier():
        fields = [_named(item) for item in split(text[open_at + 1 : -1])]
        if fields and all(name for name, _ in fields):
            return fields
    return []
