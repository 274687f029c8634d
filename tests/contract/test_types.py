"""What goes in and comes out: values by copy, exactly as they are; models of plain data; what is refused."""

# Programs as users write them.
# ruff: noqa: DTZ001, UP045, UP007
# mypy: disable-error-code="list-item,dict-item,attr-defined,arg-type,return-value,unused-ignore"

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import typing
import uuid
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Optional, TypedDict, Union

import pydantic

import flyte_nb as flyte

env = flyte.TaskEnvironment("types")


class Color(enum.Enum):
    RED = "r"
    BLUE = "b"


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    A = "a"


@dataclasses.dataclass
class Config:
    a: int
    b: list[str] = dataclasses.field(default_factory=list)
    c: Config | None = None


class Stats(NamedTuple):
    total: int
    name: str


class Options(TypedDict):
    a: int
    b: NotRequired[str]


class Model(pydantic.BaseModel):
    x: int
    tags: dict[str, str] | None = None
    color: Color = Color.RED


class Plain:
    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return getattr(other, "value", None) == self.value

    __hash__ = None  # type: ignore[assignment]


VALUES: list[tuple[Any, Any]] = [
    (int, 5), (float, 1.5), (float, 3), (str, "é\u0000"), (bool, True), (bytes, b"\x00a"), (None, None), (complex, 1j),
    (dt.datetime, dt.datetime(2020, 1, 1)), (dt.datetime, dt.datetime(2020, 1, 1, tzinfo=dt.UTC)),
    (dt.date, dt.date(2020, 1, 2)), (dt.timedelta, dt.timedelta(1)), (dt.time, dt.time(1, 2)),
    (list[int], [1, 2]), (dict[str, int], {"a": 1}), (dict[int, list[str]], {1: ["a"]}), (set[int], {1}),
    (frozenset, frozenset({1})), (list[tuple[int, str]], [(1, "a")]), (list[int], (1, 2)), (list[int], range(3)),
    (Optional[int], None), (int | None, 3), (Union[int, str, list[int]], [1]), (Literal["a", "b"], "a"),
    (Color, Color.BLUE), (Number, Number.ONE), (Word, Word.A), (Config, Config(1, ["a"], Config(2))),
    (list[Config], [Config(1)]), (Model, Model(x=1)), (dict[str, Model], {"a": Model(x=1, color=Color.BLUE)}),
    (Options, {"a": 1}), (Options, {"a": 1, "b": "x"}), (Plain, Plain(3)), (object, 5), (Any, {1: (2, [3])}),
    (list, [1, "a", None, (1, 2)]), (dict, {"a": (1, 2)}), (decimal.Decimal, decimal.Decimal("1.1")),
    (uuid.UUID, uuid.UUID(int=1)), (pathlib.Path, pathlib.Path("/a")), (collections.deque, collections.deque([1])),
    (collections.Counter, collections.Counter("aab")), (typing.Callable, len), (Annotated[int, "x"], 3),
    (dict[str, list[str] | None] | None, {"k": ["v"], "n": None}), (bytearray, bytearray(b"a")),
    (collections.defaultdict, collections.defaultdict(list, a=[1])), (type[Plain], Plain),
]  # fmt: skip


def identity_of(hint: Any, number: int):
    async def identity(x):
        return x

    identity.__annotations__ = {"x": hint, "return": hint}
    identity.__name__ = identity.__qualname__ = f"identity{number}"
    return env.task(identity)


IDENTITIES = [identity_of(hint, number) for number, (hint, _) in enumerate(VALUES)]


@env.task
async def sends_all() -> list[str]:
    wrong = []
    for task, (hint, value) in zip(IDENTITIES, VALUES, strict=True):
        got = await task(value)
        if got != value or type(got) is not type(value):
            wrong.append(f"{hint}: {value!r} came back as {got!r}")
    return wrong


def test_values_cross_exactly(run):
    """Value and type are the same on both sides, whatever the annotation."""
    assert run(sends_all) == []


@env.task
async def describes(m: Model, c: Config, e: Color, s: Stats, many: list[Model], named: dict[str, Config] | None) -> str:
    return f"{m.x} {c.a} {e.name} {s.name} {many[0].x} {named and named['k'].a}"


@env.task
async def sends_plain_data() -> str:
    return await describes({"x": 1}, {"a": 2}, "b", (1, "s"), [{"x": 3}], {"k": {"a": 4}})  # type: ignore[arg-type]


def test_models_are_built_of_plain_data(run):
    """A caller needs none of the task's classes; from a task and from outside."""
    assert run(sends_plain_data) == "1 2 BLUE s 3 4"
    assert run(describes, {"x": 1}, {"a": 2}, "b", (1, "s"), [{"x": 3}], None) == "1 2 BLUE s 3 None"


@env.task
async def two() -> tuple[int, str]:
    return 1, "a"


@env.task
async def stats() -> Stats:
    return Stats(1, "a")


@env.task
async def nothing():
    pass


@env.task
async def unpacks() -> list:
    a, b = await two()
    s = await stats()
    return [a, b, s.total, type(s).__name__, await nothing()]


def test_several_results(run):
    """Tuples unpack, NamedTuples keep their class."""
    assert run(unpacks) == [1, "a", 1, "Stats", None]


def test_outputs_have_names(mode):
    """o0, o1, or the fields; one value also equals the outputs."""
    runner = flyte.with_runcontext(mode=mode)

    outputs = runner.run(two).outputs()
    assert isinstance(outputs, tuple)
    assert (outputs, outputs.o1, outputs.named_outputs) == ((1, "a"), "a", {"o0": 1, "o1": "a"})
    outputs = runner.run(stats).outputs()
    assert (outputs[0], outputs.name, outputs.named_outputs) == (1, "a", {"total": 1, "name": "a"})
    assert runner.run(nothing).outputs() == (None,)
    outputs = runner.run(IDENTITIES[0], 8).outputs()
    assert (outputs == (8,), outputs == 8, repr(outputs)) == (True, True, "ActionOutputs(o0=8)")


@env.task
async def wrong_type() -> int:
    return "a"  # type: ignore[return-value]


@env.task
async def nothing_at_all() -> None:
    return 5  # type: ignore[return-value]


@env.task
async def too_many() -> tuple[int, int]:
    return 1, 2, 3  # type: ignore[return-value]


@env.task
async def wrong_results() -> list[str]:
    codes = []
    for task in (wrong_type, nothing_at_all, too_many):
        try:
            await task()
        except flyte.errors.RuntimeDataValidationError as exc:
            codes.append(exc.code)
    return codes


def test_results_must_fit_their_annotation(run):
    """A value where none is announced is an error too."""
    assert run(wrong_results) == ["DataValidationError"] * 3


@env.task(max_inline_io_bytes=1000)
async def small(x: str) -> str:
    return x * 100


@env.task
async def too_large() -> list:
    seen: list = []
    for text in ("a" * 2000, "a" * 100):
        try:
            await small(text)
        except flyte.errors.InlineIOMaxBytesBreached as exc:
            seen.append(exc.code)
    return [*seen, len(await small.override(max_inline_io_bytes=10**6)("a" * 2000))]


def test_max_inline_io_bytes_bounds_inputs_and_outputs(run):
    """It can be overridden."""
    assert run(too_large) == ["InlineIOMaxBytesBreached", "InlineIOMaxBytesBreached", 200_000]


@env.task
async def changes(values: list[int]) -> list[int]:
    values.append(99)
    return values


@env.task
async def keeps() -> list:
    mine = [1, 2]
    theirs = await changes(mine)
    again = await changes(mine)
    theirs.append(0)
    return [mine, theirs, again]


def test_arguments_and_results_are_copies(run):
    """What a child does to its argument never shows in the parent, nor the other way round."""
    assert run(keeps) == [[1, 2], [1, 2, 99, 0], [1, 2, 99]]


@env.task
async def doubled(values: object) -> object:
    return values * 2  # type: ignore[operator]


@env.task
async def doubles_arrays() -> bool:
    import numpy as np

    values = np.arange(2_000_000, dtype="float64")
    got = await doubled(values)
    got[0] = 7  # type: ignore[index]
    return bool((values * 2 == await doubled(values)).all())


def test_large_arrays_cross_both_ways(run):
    """An array above any inline limit arrives as a writable copy, and so does the result."""
    assert run(doubles_arrays)
