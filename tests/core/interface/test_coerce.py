"""Plain data given where an annotation names a class."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, NamedTuple

import pydantic
import pytest

from flyte_nb.core.interface.interface import Interface
from flyte_nb.errors import ArgumentError


class Colour(enum.Enum):
    """An enum."""

    RED = "r"


class Model(pydantic.BaseModel):
    """A model with a default."""

    n: int
    tags: dict[str, str] | None = None


@dataclasses.dataclass
class Point:
    """A dataclass that holds further classes."""

    x: int
    colour: Colour = Colour.RED
    inner: Point | None = None


class Pair(NamedTuple):
    """A named tuple."""

    first: int
    second: str


@pytest.mark.parametrize(
    ("hint", "given", "made"),
    [
        (Model, {"n": 1}, Model(n=1)),
        (Model | None, {"n": 1, "tags": {"a": "b"}}, Model(n=1, tags={"a": "b"})),
        (list[Model], [{"n": 1}, Model(n=2)], [Model(n=1), Model(n=2)]),
        (dict[str, Point], {"a": {"x": 1}}, {"a": Point(1)}),
        (Point, {"x": 1, "colour": "r", "inner": {"x": 2}}, Point(1, Colour.RED, Point(2))),
        (Colour, "r", Colour.RED),
        (Pair, (1, "a"), Pair(1, "a")),
        (tuple[Colour, Point], ("r", {"x": 1}), (Colour.RED, Point(1))),
        (Point | Model, {"n": 1}, Model(n=1)),
    ],
)
def test_classes_are_built_of_plain_data(hint: Any, given: Any, made: Any) -> None:
    """Dicts become models, values members of an enum, tuples named ones, as arguments and as results."""

    def f(value: Any, *, named: Any) -> Any: ...

    f.__annotations__ = {"value": hint, "named": hint, "return": hint}
    interface = Interface.of(f, task="e.f")
    (first,), named = interface.bind((given,), {"named": given})

    assert [made, made] == [first, named["named"]]
    assert type(made) is type(first)
    if hint is not Pair and "tuple" not in str(hint):
        assert made == interface.check_outputs(given)


@pytest.mark.parametrize(("hint", "given"), [(Model, {"n": "x"}), (Point, {"y": 1}), (Colour, "blue"), (Pair, (1,))])
def test_what_cannot_be_built_is_refused(hint: Any, given: Any) -> None:
    """The message says why, and names the parameter."""

    def f(value: Any) -> None: ...

    f.__annotations__ = {"value": hint}
    with pytest.raises(ArgumentError, match="'value'"):
        Interface.of(f, task="e.f").bind((given,), {})


def test_a_value_that_fits_is_the_same_object() -> None:
    """Nothing is copied or changed without need."""

    def f(values: list[Point], number: float) -> None: ...

    points = [Point(1)]
    (values, number), _ = Interface.of(f, task="e.f").bind((points, 3), {})

    assert values is points
    assert type(number) is int
