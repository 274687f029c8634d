"""Enums given as text: by the name of a member, as Flyte reads it; else by its value."""

# mypy: disable-error-code="valid-type,misc"

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, Optional

import pydantic
import pytest

from flyte_nb.core.interface.interface import Interface
from flyte_nb.core.interface.json_schema import schema_of
from flyte_nb.errors import ArgumentError


class Swap(enum.Enum):
    A = "B"
    B = "A"


class Level(enum.StrEnum):
    LOW = "low"


class Number(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass
class Job:
    swap: Swap
    more: list[Swap] = dataclasses.field(default_factory=list)


class Pair(NamedTuple):
    swap: Swap
    n: int


class Model(pydantic.BaseModel):
    swap: Swap = Swap.B
    more: list[Swap] = []
    level: Level | None = None
    by_name: dict[str, Swap] = {}
    inner: Optional[Model] = None  # noqa: UP045
    named: Swap = pydantic.Field(default=Swap.B, alias="alias")


def bound(hint: Any, value: Any) -> Any:
    def f(x): ...

    f.__annotations__ = {"x": hint}
    return Interface.of(f, task="e.f").bind((value,), {})[0][0]


def returned(hint: Any, value: Any) -> Any:
    def f(): ...

    f.__annotations__ = {"return": hint}
    return Interface.of(f, task="e.f").check_outputs(value)


CASES = [
    (Swap, "A", Swap.A),
    (Swap, "B", Swap.B),
    (Swap, Swap.A, Swap.A),
    (Level, "LOW", Level.LOW),
    (Level, "low", Level.LOW),
    (Number, "ONE", Number.ONE),
    (Number, 1, Number.ONE),
    (list[Swap], ["A", Swap.A], [Swap.A, Swap.A]),
    (Sequence[Level], ["LOW", "low"], [Level.LOW, Level.LOW]),
    (Optional[Swap], "A", Swap.A),  # noqa: UP045
    (Swap | None, None, None),
    (Swap | int, "A", Swap.A),
    (Annotated[Swap, "note"], "A", Swap.A),
    (dict[Swap, Swap], {"A": "B"}, {Swap.A: Swap.B}),
    (dict[str, list[Swap]], {"k": ["A"]}, {"k": [Swap.A]}),
    (set[Swap], {"A"}, {Swap.A}),
    (frozenset[Swap], frozenset({"A"}), frozenset({Swap.A})),
    (tuple[Swap, int], ("A", 1), (Swap.A, 1)),
    (Job, {"swap": "A", "more": ["A"]}, Job(Swap.A, [Swap.A])),
    (list[Job], [{"swap": "A"}], [Job(Swap.A)]),
    (Pair, ("A", 1), Pair(Swap.A, 1)),
    (Model, {"swap": "A", "more": ["A"]}, Model(swap=Swap.A, more=[Swap.A])),
    (Model, {"level": "LOW"}, Model(level=Level.LOW)),
    (Model, {"level": "low"}, Model(level=Level.LOW)),
    (Model, {"by_name": {"k": "A"}}, Model(by_name={"k": Swap.A})),
    (Model, {"inner": {"swap": "A"}}, Model(inner=Model(swap=Swap.A))),
    (Model, {"alias": "A"}, Model(alias=Swap.A)),
    (Literal[Swap.A], Swap.A, Swap.A),
    (Literal[Swap.A], "A", Swap.A),
    (Literal[Swap.A, Swap.B], "B", Swap.B),
    (Literal[Level.LOW, "other"], "low", Level.LOW),
    (Literal[Level.LOW, "other"], "other", "other"),
    (list[Literal[Number.ONE]], [1], [Number.ONE]),
]


@pytest.mark.parametrize(("hint", "value", "expected"), CASES)
def test_a_text_means_the_member_of_that_name(hint: Any, value: Any, expected: Any) -> None:
    """As an argument and as a result."""
    for found in (bound(hint, value), returned(hint, value)):
        assert found == expected
        assert type(found) is type(expected)


@pytest.mark.parametrize(("hint", "value"), [(Swap, "C"), (Swap, 3), (Literal[Swap.A], Swap.B), (list[Swap], ["C"])])
def test_what_is_no_member_is_refused(hint: Any, value: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        bound(hint, value)
    if not isinstance(value, Swap):
        assert "A, B" in str(caught.value)


def test_the_schema_of_a_literal_of_members_is_json() -> None:
    assert {"enum": ["A", "x"]} == schema_of(Literal[Swap.A, "x"])
