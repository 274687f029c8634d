"""Functions without annotations: what Flyte will want, by what was seen; and the refusal of them, where that is asked for."""

# Programs as users write them.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import flyte_nb as flyte
from flyte_nb.core.interface import missing_annotations
from flyte_nb.core.interface.missing_annotations import are_missing, configure, seen, type_text

env = flyte.TaskEnvironment("bare")


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that are said; as in a session in which none was."""
    lines: list[str] = []
    monkeypatch.setattr(missing_annotations, "_settings", missing_annotations._Settings())
    configure(say=lines.append)
    return lines


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "int"), (True, "bool"), (1.5, "float"), ("a", "str"), (b"a", "bytes"), (None, "None"),
        ([1, 2], "list[int]"), ([1, 2.5], "list[float]"), ([], "list"), ([1, "a", None], "list[int | str | None]"),
        ([1, "a", b"", 2.5], "list"), ((1, "a"), "tuple[int, str]"), ({"a": 1}, "dict[str, int]"), ({}, "dict"),
        ({1, 2}, "set[int]"), ({"a": [1]}, "dict[str, list[int]]"), ([[[[1]]]], "list[list[list[list]]]"),
        (np.float64(1), "float"), (np.int32(1), "int"), (np.bool_(True), "bool"), (np.zeros(2), "np.ndarray"),
        (pd.DataFrame(), "pd.DataFrame"), (pd.Series([1]), "pd.Series"), (dt.date(2020, 1, 1), "dt.date"),
        (Color.RED, "Color"), (Point(1), "Point"), (collections.Counter("a"), "collections.Counter"), (len, "Callable"),
    ],
)  # fmt: skip
def test_the_annotation_of_a_value(value: object, text: str) -> None:
    """As code with these imports writes it."""
    assert text == type_text(value, globals())


def one(x):
    return x


def half(x: int, y="a", *, z=None) -> list[int]:
    return [x]


async def later(x, /, y: float = 0.5):
    return x


def nothing(x: int):
    print(x)


def several(x):
    return x, str(x)


@pytest.mark.parametrize(
    ("func", "arguments", "result", "line"),
    [
        (one, {"x": 1}, 2, "def one(x: int) -> int:"),
        (one, {"x": [1.5]}, {"a": 1}, "def one(x: list[float]) -> dict[str, int]:"),
        (one, {"x": None}, None, "def one(x: None) -> None:"),
        (one, {"x": 1}, (1,), "def one(x: int) -> list[int]:"),
        (
            half,
            {"x": 1, "y": "b", "z": 3},
            [1],
            "def half(x: int, y: str = 'a', *, z: int | None = None) -> list[int]:",
        ),
        (later, {"x": Point(1), "y": 1.0}, Point(2), "async def later(x: Point, /, y: float = 0.5) -> Point:"),
        (several, {"x": 1}, (1, "1"), "def several(x: int) -> tuple[int, str]:"),
        (several, {"x": 1}, tuple(range(20)), "def several(x: int) -> list[int]:"),
        (lambda x: x, {"x": pd.DataFrame()}, 1, "def task(x: pd.DataFrame) -> int:"),
    ],
)
def test_one_line_a_session_can_be_pasted(
    said: list[str], func: Callable[..., Any], arguments: dict[str, Any], result: object, line: str
) -> None:
    """With what is annotated as it is."""
    seen(func, "bare.f", arguments, result)
    seen(one, "bare.one", {"x": 1}, 2)
    assert len(said) == 1
    assert f"`{line}`" in said[0]
    assert "flyte_nb.init(strict=True)" in said[0]


@pytest.mark.parametrize(
    ("func", "missing"), [(one, True), (half, True), (later, True), (nothing, False), (several, True), (len, True)]
)
def test_what_is_missing(func: Callable[..., Any], missing: bool) -> None:
    """No result is missing of a function that returns nothing."""
    assert missing is are_missing(func, "bare.f", inspect.signature(func))


@pytest.mark.parametrize(
    ("func", "words"),
    [
        (one, ["bare.one", "its parameter x and its result", "def one(x: ...) -> ...:"]),
        (half, ["its parameters y and z,", "def half(x: int, y: str = 'a', *, z"]),
        (later, ["parameter x and its result", "async def later(x: ..., /, y: float = 0.5) -> ...:"]),
    ],
)
def test_strict_refuses_at_definition(said: list[str], func: Callable[..., Any], words: list[str]) -> None:
    """The error names the function and what to add."""
    flyte.init(strict=True)
    with pytest.raises(TypeError) as caught:
        env.task(func)
    assert all(word in str(caught.value) for word in words), str(caught.value)

    flyte.init(strict=False)
    assert env.task(func).unannotated
    assert not said


def test_annotated_functions_are_left_in_peace(said: list[str]) -> None:
    flyte.init(strict=True)

    def fine(x: int, y: str = "a") -> list[int]:
        return [x]

    assert not env.task(fine).unannotated
    assert not env.task(nothing).unannotated
    flyte.init(strict=False)
