"""Label of a call: its task's name and arguments, or ``@env.task(label="{depth}/{fold}")``, filled. Runs in: everywhere.

Nothing of the user's is called for it: of an argument, items of dicts, lists and tuples, fields of dataclasses and the like are
reached (``{params[depth]}``, ``{config.depth}``), and format specifications apply to numbers and texts.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import string
from collections.abc import Mapping
from typing import Any, NamedTuple

from flyte_nb.core.settings.validate import MAX_NAME, nearest
from flyte_nb.core.values import redact
from flyte_nb.core.values.describe import LABEL_CHARS, brief, label_of, plain, repr_with_type
from flyte_nb.core.values.user_code import attribute

#: Longest text of one argument, in characters.
PART_CHARS = 80
_FIELD = re.compile(r"([^\W\d]\w*)((?:\.[^\W\d]\w*|\[[^\[\]]+\])*)")
_TOO_WIDE = re.compile(r"\d{4}")
_STEP = re.compile(r"\.(\w+)|\[([^\[\]]+)\]")


class _Part(NamedTuple):
    """Text that stands as it is, and the argument after it, if there is one."""

    text: str
    name: str = ""
    #: What of the argument: keys, fields, indexes.
    steps: tuple[str, ...] = ()
    spec: str = ""
    #: As its repr, with quotes.
    quoted: bool = False


def label_of_call(task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """What views call a call of a task: its own ``label=``, filled, else as `label_of`."""
    text = ""
    if own := task.config.label:
        defaults = {name: default for name, (_, default) in task.interface.inputs.items()}
        text = _filled(own, {**defaults, **dict(zip(task.input_names, args, strict=False)), **kwargs})
    return text or label_of(task.short_name, (args, dict(kwargs)), task.input_names)


def check_label(label: object, task: str, names: tuple[str, ...]) -> None:
    """Refuse a ``label=`` that cannot be filled, where the task is defined.

    Args:
        label: What was given.
        task: Name of the task, for the message.
        names: Of its inputs.

    Raises:
        TypeError: It is no text.
        ValueError: It is too long, names what is no input, or its braces do not match.
    """
    takes = f"Task {task!r} takes {', '.join(names) or 'no inputs'}."
    if not isinstance(label, str):
        raise TypeError(
            f'The label of a task must be a text with names of its inputs in braces, "{{depth}}/{{fold}}", not '
            f"{repr_with_type(label)}. {takes}"
        )
    if len(label) > MAX_NAME:
        raise ValueError(
            f"The label {label[:40]!r}... has {len(label):,} characters: it is shown in every row, and may have {MAX_NAME}."
        )
    try:
        parts = _parts(label)
    except ValueError as exc:
        raise ValueError(
            f"The label {label!r} cannot be read: {exc}. {takes} A brace itself is written twice."
        ) from None
    for name in (part.name for part in parts if part.name and part.name not in names):
        close = nearest(name, names)
        meant = f"Did you mean {{{close}}}? " if close else ""
        raise ValueError(f"The label {label!r} names {{{name}}}, which is no input. {meant}{takes}")


@functools.lru_cache(256)
def _parts(label: str) -> tuple[_Part, ...]:
    out = []
    for text, field, spec, conversion in string.Formatter().parse(label):
        if field is None:
            out.append(_Part(text))
            continue
        found = _FIELD.fullmatch(field)
        if found is None or "{" in (spec or ""):
            raise ValueError(f"{{{field}{':' * bool(spec)}{spec}}} is no name of an input")
        if _TOO_WIDE.search(spec or ""):
            raise ValueError(f"{{{field}:{spec}}} is wider than any row")
        steps = tuple(by_name or by_key for by_name, by_key in _STEP.findall(found[2]))
        out.append(_Part(text, found[1], steps, spec or "", conversion == "r"))
    return tuple(out)


def _filled(label: str, values: Mapping[str, Any]) -> str:
    text = "".join(part.text + (_said(part, values) if part.name else "") for part in _parts(label))
    return " ".join(plain(redact.scrub_code(text, ())).split())[:LABEL_CHARS]


def _said(part: _Part, values: Mapping[str, Any]) -> str:
    value, name = values.get(part.name, inspect.Parameter.empty), part.name
    for step in part.steps:
        value, name = _inside(value, step), step
    if value is inspect.Parameter.empty:
        return "?"
    if redact.hides(name, value) or redact.hides(part.name, value):
        return redact.MASK
    if type(value) in (int, float, bool, str, complex) and part.spec:
        with contextlib.suppress(ValueError, OverflowError):  # it is for another type, or for smaller numbers
            return format(redact.scrub_start(value, PART_CHARS) if type(value) is str else value, part.spec)[
                :PART_CHARS
            ]
    text = brief(value, PART_CHARS)
    return text[1:-1] if type(value) is str and not part.quoted else text


def _inside(value: Any, step: str) -> Any:
    """An item or a field of a value, without calling anything of the user's; `inspect.Parameter.empty` if there is none."""
    if type(value) is dict:
        number = int(step) if step.isdigit() else None
        return value.get(step, value.get(number, inspect.Parameter.empty))
    kind = tuple if isinstance(value, tuple) else list if isinstance(value, list) else None
    if kind is not None:
        fields: Any = vars(type(value)).get("_fields", ())
        at = fields.index(step) if step in fields else int(step) if step.isdigit() else kind.__len__(value)
        return kind.__getitem__(value, at) if at < kind.__len__(value) else inspect.Parameter.empty
    stored = attribute(value, "__dict__")
    return stored.get(step, inspect.Parameter.empty) if type(stored) is dict else inspect.Parameter.empty
