"""What a task takes and gives back."""

# The older spellings of types are under test too; so are naive datetimes.
# ruff: noqa: UP006, UP007, UP035, UP045, DTZ001

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import decimal
import enum
import pickle
import types
import typing
from typing import Annotated, Any, Callable, Dict, List, Literal, NamedTuple, Optional, Tuple, TypedDict, Union

import numpy as np
import pydantic
import pytest

from flyte_nb.core.interface import type_check
from flyte_nb.core.interface.interface import EMPTY, Interface
from flyte_nb.errors import ArgumentError, RuntimeDataValidationError


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int


class Model(pydantic.BaseModel):
    n: int = 1


class Pair(NamedTuple):
    a: int
    b: str


class Options(TypedDict):
    depth: int


class Free:
    """A class that nothing is known about."""


UserId = typing.NewType("UserId", int)


# -- Interface ---------------------------------------------------------------------------------------------------------


def test_inputs_are_types_and_defaults_in_order() -> None:
    """Keyword-only parameters are inputs like the others."""

    def f(a: int, /, b: str = "x", *, c: Optional[float] = None) -> List[int]: ...  # type: ignore[empty-body]

    interface = Interface.of(f, task="e.f")

    assert {"a": (int, EMPTY), "b": (str, "x"), "c": (Optional[float], None)} == interface.inputs
    assert ["a", "b", "c"] == list(interface.inputs)
    assert {"o0": List[int]} == interface.outputs
    assert ["a"] == interface.required_inputs()
    assert repr(interface) == "(a: int, b: str = 'x', *, c: Optional[float] = None) -> (o0: List[int])"


@pytest.mark.parametrize(
    ("returns", "outputs"),
    [
        (None, {}),
        (int, {"o0": int}),
        (Tuple[int, str], {"o0": int, "o1": str}),
        (tuple[int, str], {"o0": int, "o1": str}),
        ((int, str), {"o0": int, "o1": str}),
        (Pair, {"a": int, "b": str}),
        (tuple, {"o0": tuple}),
        (Annotated[int, "x"], {"o0": int}),
        (typing.NoReturn, {}),
        (Any, {"o0": Any}),
    ],
)
def test_outputs_are_named_as_in_flyte(returns: Any, outputs: dict[str, Any]) -> None:
    """One result is o0, a tuple is o0, o1, ..., a NamedTuple gives its names."""

    def f() -> None: ...

    f.__annotations__ = {"return": returns}

    assert outputs == Interface.of(f).outputs


@pytest.mark.parametrize("returns", [Tuple[int], tuple[int, ...], (int,)], ids=repr)
def test_tuple_of_one_or_of_any_length_is_refused(returns: Any) -> None:
    """A task has a fixed number of results, and a single one is no tuple."""

    def f() -> None: ...

    f.__annotations__ = {"return": returns}

    with pytest.raises(TypeError, match=r"Task e\.f returns a tuple"):
        Interface.of(f, task="e.f")


def test_variable_parameters_are_refused() -> None:
    """``*args`` and ``**kwargs`` have no names."""

    def stars(*args: int) -> None: ...
    def double(**kwargs: int) -> None: ...

    with pytest.raises(ValueError, match=r"\*args: the inputs of a task must have names"):
        Interface.of(stars)
    with pytest.raises(ValueError, match=r"\*\*kwargs"):
        Interface.of(double)


def test_unresolvable_annotation_takes_anything_and_leaves_the_others() -> None:
    """One unknown name does not lose the rest, and does not raise."""

    def f(a: Unknown, b: int, c: list[Unknown]) -> Nowhere: ...  # type: ignore[name-defined]  # noqa: F821

    interface = Interface.of(f)

    assert Any is interface.inputs["a"][0]
    assert int is interface.inputs["b"][0]
    assert Any is interface.outputs["o0"]
    with pytest.raises(ArgumentError, match="'b'"):
        interface.bind((1, "x", []), {})


def test_class_defined_beside_a_nested_task_is_resolved() -> None:
    """String annotations find what the closure knows."""

    @dataclasses.dataclass
    class Inner:
        x: int

    def f(a: Inner) -> Inner:
        return Inner(a.x)

    assert Inner is Interface.of(f).inputs["a"][0]


def test_interface_survives_pickle() -> None:
    """A worker checks results as the kernel would."""

    def f(a: int, *, b: str = "x") -> tuple[int, str]: ...  # type: ignore[empty-body]

    interface = Interface.of(f, task="e.f")
    again: Interface = pickle.loads(pickle.dumps(interface))

    assert (repr(interface), interface.signature_text()) == (repr(again), again.signature_text())
    assert ((1,), {"b": "x"}) == again.bind((1,), {})
    with pytest.raises(RuntimeDataValidationError):
        again.check_outputs(3)


def test_signature_text_leaves_defaults_out() -> None:
    """A default may be any object, with an address in its text."""

    def f(a: int, b: Any = UserId) -> int: ...  # type: ignore[empty-body]

    assert Interface.of(f).signature_text() == "(a: int, b: Any) -> (o0: int)"


def test_json_schema_describes_the_inputs() -> None:
    """Types, defaults and what is required."""

    def f(a: int, b: Literal["x", "y"] = "x", c: Optional[list[Point]] = None, d: Dict[str, float] = {}) -> None: ...  # noqa: B006

    schema = Interface.of(f).json_schema()

    assert ["a"] == schema["required"]
    assert {"type": "integer"} == schema["properties"]["a"]
    assert {"enum": ["x", "y"], "default": "x"} == schema["properties"]["b"]
    point = {"type": "object", "properties": {"x": {"type": "integer"}}}
    assert [{"type": "array", "items": point}, {"type": "null"}] == schema["properties"]["c"]["anyOf"]
    assert {"type": "number"} == schema["properties"]["d"]["additionalProperties"]


# -- Binding -----------------------------------------------------------------------------------------------------------


def bound(args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
    def f(x: int, y: int = 2, *, z: str = "z") -> int: ...  # type: ignore[empty-body]

    return Interface.of(f, task="e.f").bind(args, kwargs or {})


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((1,), {}, ((1, 2), {"z": "z"})),
        ((), {"x": 1}, ((1, 2), {"z": "z"})),
        ((1,), {"y": 3, "z": "q"}, ((1, 3), {"z": "q"})),
        ((1, 5), {}, ((1, 5), {"z": "z"})),
    ],
)
def test_call_is_bound_with_defaults(args: tuple[Any, ...], kwargs: dict[str, Any], expected: Any) -> None:
    """Positional parameters are a tuple, keyword-only ones a dict, however they were given."""
    assert expected == bound(args, kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "missing a required argument: 'x'"),
        ((), {"y": 1}, "missing a required argument: 'x'"),
        ((1, 2, "a", 4), {}, "too many positional arguments"),
        ((1, 2, "a"), {"z": "b"}, "too many positional arguments"),
        ((1,), {"x": 2}, "multiple values for argument 'x'"),
        ((1,), {"q": 2}, "got an unexpected keyword argument 'q'"),
    ],
)
def test_call_that_does_not_fit_is_refused_in_pythons_words(
    args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    """With the task's name, as a TypeError and a ValueError."""
    with pytest.raises(TypeError, match=rf"e\.f\(\) {message}") as caught:
        bound(args, kwargs)
    assert isinstance(caught.value, ValueError)


def test_positional_only_parameter_cannot_be_given_by_name() -> None:
    """As in Python."""

    def f(x: int, /) -> int: ...  # type: ignore[empty-body]

    with pytest.raises(TypeError, match="'x'"):
        Interface.of(f).bind((), {"x": 1})


def test_plain_call_returns_the_very_arguments() -> None:
    """The commonest call copies nothing."""

    def f(x: int, y: Any) -> int: ...  # type: ignore[empty-body]

    args = (1, object())

    assert args is Interface.of(f).bind(args, {})[0]


def test_default_always_fits() -> None:
    """``x: int = None`` is common."""

    def f(x: int = None, *, y: str = None) -> int: ...  # type: ignore[assignment, empty-body]  # noqa: RUF013

    assert ((None,), {"y": None}) == Interface.of(f).bind((None,), {"y": None})


def test_named_gives_values_by_parameter() -> None:
    """What a run shows as its inputs."""

    def f(x: int, y: int = 2, *, z: str = "z") -> int: ...  # type: ignore[empty-body]

    assert {"x": 1, "y": 2, "z": "z"} == Interface.of(f).convert_to_kwargs(1)


# -- Types -------------------------------------------------------------------------------------------------------------

FITS: list[tuple[Any, Any]] = [
    (int, 1), (int, True), (int, np.int64(3)), (float, 1), (float, 1.5), (float, np.float32(1)), (float, np.int8(1)),
    (float, True), (complex, 1), (bool, True), (bool, np.bool_(1)), (str, "a"), (str, np.str_("a")), (bytes, b"a"),
    (bytes, bytearray(b"a")), (None, None), (type(None), None),
    (dt.datetime, dt.datetime(2020, 1, 1)), (dt.date, dt.datetime(2020, 1, 1)),
    (dt.timedelta, dt.timedelta(1)),
    (list, [1]), (list, (1,)), (list[int], range(5)), (List[int], [1, np.int64(2)]), (list[float], [1, 2]),
    (list[float], np.zeros(3)), (list[Any], [object()]), (list[Free], [1]), (collections.abc.Sequence[int], (1, 2)),
    (tuple[int, str], (1, "a")), (tuple[int, ...], (1, 2, 3)), (tuple[int, str], [1, "a"]), (tuple, (1,)),
    (dict, {}), (dict[str, int], {"a": 1}), (Dict[str, List[int]], {"a": [1]}), (typing.Mapping[str, int], {"a": 1}),
    (set[int], {1}), (frozenset[int], {1}),
    (Optional[int], None), (Optional[int], 3), (int | None, None), (Union[int, str], "a"), (int | list[str], ["a"]),
    (Literal["a", 1], "a"), (Literal["a", 1], 1), (Colour, Colour.RED),
    (Point, Point(1)), (Model, Model()), (Pair, Pair(1, "a")), (Options, {"depth": 1}),
    (UserId, 3), (Annotated[int, "meta"], 3), (Annotated[list[int], 1], [1]),
    (Callable[[int], int], len), (typing.Callable, len), (collections.abc.Callable[..., Any], Free), (type[int], int), (type, int),
    (Free, "anything"), (Any, object()), (object, 1), (typing.TypeVar("T"), 1), (decimal.Decimal, 1.5),
    (collections.abc.Iterator[int], iter([1])), (collections.abc.Iterable[int], "ab"),
    ("NotResolved", 1), (np.ndarray, [1]), (types.GenericAlias(list, ("NotResolved",)), [1]),
]  # fmt: skip

MISFITS: list[tuple[Any, Any]] = [
    (int, "a"), (int, 1.5), (int, None), (int, [1]), (float, "1.5"), (float, None), (bool, "yes"), (bool, 3), (str, 1),
    (str, None), (str, b"a"), (bytes, "a"), (None, 1), (dt.datetime, "2020"), (dt.datetime, dt.date(2020, 1, 1)),
    (dt.timedelta, 5),
    (list, "abc"), (list, 1), (list, {"a": 1}), (list[int], ["a"]), (list[int], [1, "a"]), (list[list[int]], [[1], ["a"]]),
    (Tuple[int, str], (1, 2)), (tuple[int, str], (1,)), (tuple[int, ...], (1, "a")), (dict, [1]), (dict[str, int], {"a": "b"}),
    (dict[str, int], {1: 1}), (set[int], [1]), (Optional[int], "a"), (int | None, "a"), (Union[int, str], 1.5),
    (Literal["a", 1], "b"), (Literal["a", 1], True), (Colour, "red"), (Colour, 1), (Point, {"x": 1}), (Point, 1),
    (Model, {"n": 1}), (Pair, (1,)), (Pair, (1, "a")), (Options, [1]), (UserId, "x"), (Annotated[int, "meta"], "x"), (Callable[[int], int], 3),
    (type[int], 3), (collections.abc.Sequence[int], 3), (list[Colour], ["blue"]), (list[Point], [3]),
]  # fmt: skip


def _fits(annotation: Any, value: Any) -> bool:
    check = type_check.compile_check(annotation)
    return check is None or check(value)


def test_what_python_means_by_an_annotation_fits() -> None:
    """Values pass that Python code would take."""
    assert [] == [(annotation, value) for annotation, value in FITS if not _fits(annotation, value)]


def test_obvious_misfits_are_refused() -> None:
    """The parent hears of them before anything is submitted."""
    assert [] == [(annotation, value) for annotation, value in MISFITS if _fits(annotation, value)]


def test_class_defined_again_is_the_same_class() -> None:
    """Re-running the cell of a dataclass does not make older values misfits."""
    old = dataclasses.make_dataclass("Config", ["x"])
    new = dataclasses.make_dataclass("Config", ["x"])
    check = type_check.compile_check(new)

    assert check is not None
    assert check(old(1))
    assert not check(Point(1))


def test_only_the_first_elements_are_looked_at() -> None:
    """A million elements cost no more than twenty."""
    check = type_check.compile_check(list[int])

    assert check is not None
    assert check([0] * type_check.MAX_ELEMENTS + ["late"])


def test_misfit_names_variable_type_and_value() -> None:
    """A sentence with the values in it."""

    def f(x: int, *, tags: list[str]) -> int: ...  # type: ignore[empty-body]

    interface = Interface.of(f, task="e.f")

    with pytest.raises(TypeError, match=r"Type conversion failed for variable 'x': expected int, got 'a' \(str\)"):
        interface.bind(("a",), {"tags": []})
    with pytest.raises(ValueError, match=r"variable 'tags': expected list\[str\], got \[1\] \(list\)"):
        interface.bind((1,), {"tags": [1]})


def test_two_parameters_of_one_type_are_told_apart() -> None:
    """The second misfit is reported under its own name."""

    def f(x: int, y: int) -> int: ...  # type: ignore[empty-body]

    with pytest.raises(ArgumentError, match="variable 'y'"):
        Interface.of(f).bind((1, "b"), {})


# -- Results -----------------------------------------------------------------------------------------------------------


def checked(returns: Any, value: Any) -> None:
    def f() -> None: ...

    f.__annotations__ = {} if returns is EMPTY else {"return": returns}
    Interface.of(f, task="e.f").check_outputs(value)


@pytest.mark.parametrize(
    ("returns", "value"),
    [(EMPTY, None), (EMPTY, 5), (EMPTY, (1,)), (None, None), (int, 3), (float, 3), (tuple[int, str], (1, "a")), (Pair, Pair(1, "a")), (Any, 3),
     (Optional[int], None), ((int, str), (1, "a")), (list[int], (1,)), (Free, 3)],
)  # fmt: skip
def test_result_fits(returns: Any, value: Any) -> None:
    """Nothing is raised."""
    assert checked(returns, value) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("returns", "value", "message"),
    [
        (None, 5, r"Expected no outputs but got \(5,\),did you miss a return type annotation\?"),
        (int, "a", r"expected int, got 'a' \(str\)"),
        (int, None, "expected int, got None"),
        (tuple[int, str], 3, r"Expected 2 outputs .* but got 1"),
        (tuple[int, str], (1, "a", 2), "but got 3"),
        (tuple[int, str], (1, 2), "expected"),
        (Pair, 3, "Expected 2 outputs"),
    ],
)
def test_result_that_does_not_fit_is_a_data_validation_error(returns: Any, value: Any, message: str) -> None:
    """Kind user, code DataValidationError, with the task's name."""
    with pytest.raises(RuntimeDataValidationError, match=message) as caught:
        checked(returns, value)
    assert ("DataValidationError", "user") == (caught.value.code, caught.value.kind)
    assert "e.f" in str(caught.value)
