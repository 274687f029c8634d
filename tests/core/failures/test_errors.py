"""Errors of the tree, and exceptions that cross an action boundary."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import threading
from collections.abc import Callable
from typing import Any, Self

import cloudpickle
import pytest

from flyte_nb import errors
from flyte_nb.core.failures import reraise
from flyte_nb.core.failures.reraise import raise_as
from flyte_nb.core.values import dual_class
from flyte_nb.core.values.by_value import exception_pickle
from flyte_nb.core.values.dual_class import dual
from flyte_nb.errors import RetriesExhaustedError, RuntimeUserError


class Odd(Exception):
    """Its constructor takes something else than it hands on, and it has a slot."""

    __slots__ = ("ticket",)

    def __init__(self, ticket: int, *, reason: str) -> None:
        super().__init__(f"odd: {reason}")
        self.ticket = ticket
        self.reason = reason


class Coded(Exception):
    """Has a read-only attribute under one of our names."""

    @property
    def code(self) -> int:
        return 404


class Holder(Exception):
    """Holds something that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("held")
        self.lock = threading.Lock()
        self.row = 7


class Group(ExceptionGroup[Exception]):
    """A group with a constructor of its own."""

    place: str

    def __new__(cls, exceptions: list[Exception], place: str) -> Self:
        self = super().__new__(cls, "several", exceptions)
        self.place = place
        return self

    def __init__(self, *args: object) -> None: ...


class Picky(type):
    """A metaclass that wants a keyword."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, object], *, colour: str) -> type:
        return super().__new__(mcs, name, bases, namespace)

    def __init__(cls, *args: object, colour: str) -> None: ...


class Metal(Exception, metaclass=Picky, colour="red"):
    """Cannot be derived from without a keyword."""


EXCEPTIONS: list[Callable[[], BaseException]] = [
    lambda: ValueError("no rows"),
    lambda: KeyError("k"),
    lambda: FileNotFoundError(2, "No such file", "a.txt"),
    lambda: UnicodeDecodeError("utf8", b"\xff", 0, 1, "bad byte"),
    lambda: AttributeError("a", name="n", obj=3),
    lambda: ImportError("i", name="n"),
    lambda: SyntaxError("bad", ("f.py", 1, 2, "x =")),
    lambda: json.JSONDecodeError("m", "doc", 1),
    lambda: Odd(1, reason="b"),
    lambda: Coded("gone"),
    Holder,
    lambda: ExceptionGroup("g", [ValueError("a"), Odd(2, reason="c")]),
    lambda: Group([Odd(3, reason="d")], "here"),
]


def cross(exception: BaseException) -> errors.BaseRuntimeError:
    """What the parent gets, after one trip through bytes."""
    packed = exception_pickle.pack(exception)
    assert packed is not None
    error = raise_as(
        exception_pickle.unpack(packed), code=reraise.code_of(exception), message=str(exception), notes=["action a3"]
    )
    again: errors.BaseRuntimeError = pickle.loads(cloudpickle.dumps(error))
    return again


@pytest.mark.parametrize("make", EXCEPTIONS, ids=lambda make: type(make()).__name__)
def test_crossed_exception_is_both_types_with_text_code_cause_and_note(make: Callable[[], BaseException]) -> None:
    """What the parent gets is caught as Flyte's error and as the task's own, and says the same."""
    original = make()
    error = cross(original)

    assert isinstance(error, RuntimeUserError)
    assert isinstance(error, type(original))
    assert str(original) == str(error)
    assert (type(original).__name__, "user") == (reraise.code_of(error), reraise.kind_of(error))
    assert error.code == getattr(original, "code", type(original).__name__)
    assert type(original) is type(error.__cause__)
    assert error.__notes__ == ["action a3"]
    assert type(error).__name__ == "RuntimeUserError"


def test_attributes_and_arguments_of_the_original_are_there() -> None:
    """Whatever holds an attribute (a dict, a slot, C), its value crosses."""
    os_error, key_error, odd = (
        cross(FileNotFoundError(2, "No", "a.txt")),
        cross(KeyError("k")),
        cross(Odd(1, reason="b")),
    )

    assert (2, "No", "a.txt") == (os_error.errno, os_error.strerror, os_error.filename)  # type: ignore[attr-defined]
    assert ("k",) == key_error.args
    assert (1, "b") == (odd.ticket, odd.reason)  # type: ignore[attr-defined]
    assert cross(Holder()).row == 7  # type: ignore[attr-defined]
    assert not hasattr(cross(Holder()), "lock")


class Refused(Exception):
    """Has names that Flyte's errors have, too."""

    worker = "mine"

    def __init__(self, code: int) -> None:
        self.code = code

    @property
    def kind(self) -> int:
        return self.code + 1


def test_attributes_of_ones_own_are_kept_under_names_of_flytes() -> None:
    """``error.code == 404`` holds where the error is caught; over two levels, and copied."""
    for error in (
        cross(Refused(404)),
        raise_as(cross(Refused(404)), code="", message=""),
        copy.copy(cross(Refused(404))),
    ):
        assert (error.code, error.kind, error.worker) == (404, 405, "mine")  # type: ignore[comparison-overlap]
        assert reraise.code_of(error) == "Refused"
        assert reraise.kind_of(error) == "user"


def test_group_keeps_its_exceptions_and_splits() -> None:
    """``except*`` works on what crossed."""
    error = cross(ExceptionGroup("g", [ValueError("a"), Odd(2, reason="c")]))
    seen = []
    try:
        raise error
    except* ValueError as part:
        seen.append([str(e) for e in part.exceptions])
    except* Odd as part:
        seen.append([str(e) for e in part.exceptions])

    assert [["a"], ["odd: c"]] == seen


@pytest.mark.parametrize(
    "original", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(1), asyncio.CancelledError()]
)
def test_what_would_end_a_loop_arrives_as_a_plain_user_error(original: BaseException) -> None:
    """The parent of a task that called ``sys.exit()`` goes on."""
    error = raise_as(original, code=reraise.code_of(original), message=str(original))

    assert type(error) is RuntimeUserError
    assert (type(original).__name__, str(original)) == (error.code, str(error))


def test_exception_that_is_no_exception_subclass_crosses() -> None:
    """A class of the user's that derives from BaseException is a base like any other."""

    class Halt(BaseException):
        pass

    error = raise_as(Halt("now"), code="Halt", message="now")

    assert [True, True] == [isinstance(error, cls) for cls in (Halt, RuntimeUserError)]


def test_class_that_refuses_to_be_derived_from_arrives_as_a_plain_user_error() -> None:
    """A metaclass of the user's with demands of its own is not argued with."""
    error = raise_as(Metal("hard"), code="Metal", message="hard")

    assert type(error) is RuntimeUserError
    assert ("Metal", "hard") == (error.code, str(error))
    assert isinstance(error.__cause__, Metal)


def test_conflicting_layouts_give_the_error_class_itself() -> None:
    """Two C layouts cannot be combined: Flyte's class stays."""

    class FlyteOS(RuntimeUserError, OSError):
        pass

    assert FlyteOS is dual(FlyteOS, SyntaxError)


def test_flyte_errors_keep_class_kind_and_code() -> None:
    """A NonRecoverableError of the child is one in the parent."""
    error = raise_as(errors.NonRecoverableError("stop", code="Poison"), code="x", message="stop")
    system = raise_as(errors.RuntimeSystemError("Net", "down", worker="w1"), code="x", message="down")

    assert type(error) is errors.NonRecoverableError
    assert ("Poison", "user", "stop") == (error.code, error.kind, str(error))
    assert (errors.RuntimeSystemError, "Net", "system", "w1") == (type(system), system.code, system.kind, system.worker)


def test_second_level_keeps_type_code_and_root_cause() -> None:
    """Through a parent that lets it pass, the error still looks like the origin's."""
    first = cross(ValueError("deep"))
    second = raise_as(first, code="ignored", message=str(first), cls=RetriesExhaustedError)

    assert isinstance(second, RetriesExhaustedError)
    assert isinstance(second, ValueError)
    assert ("ValueError", "deep") == (second.code, str(second))
    assert type(second.__cause__) is ValueError


def test_without_original_the_named_base_still_catches() -> None:
    """If the class cannot be had here, its nearest builtin base is."""

    class Local(LookupError):
        pass

    error = raise_as(None, code="Local", message="gone", fallback=reraise.nearest_builtin(Local))

    assert isinstance(error, LookupError)
    assert ("Local", "gone") == (error.code, str(error))
    assert type(raise_as(None, code="OOMError", message="m")) is errors.OOMError
    assert type(raise_as(None, code="Whatever", message="m")) is RuntimeUserError


def test_unpicklable_exception_packs_to_none() -> None:
    """An exception of a class that cannot travel has no bytes."""

    class Stuck(Exception):
        def __reduce__(self) -> str:
            raise TypeError("no")

        rest = (number for number in range(3))

    assert exception_pickle.pack(Stuck()) is None
    assert exception_pickle.unpack(b"nonsense") is None


def test_dual_class_is_made_once() -> None:
    """Two failures of one kind are of one class."""
    assert dual(RuntimeUserError, ValueError) is dual(RuntimeUserError, ValueError)
    assert RuntimeUserError is dual(RuntimeUserError, RuntimeError)
    assert dual_class.original_of(dual(RuntimeUserError, ValueError)) is ValueError


OPERATIONS: list[Callable[[Any], object]] = [
    lambda e: e + 1, lambda e: 1 + e, lambda e: e - 1, lambda e: 1 - e, lambda e: e * 2, lambda e: 2 * e,
    lambda e: e / 2, lambda e: 2 / e, lambda e: e // 2, lambda e: 2 // e, lambda e: sum([1, e]),
]  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS, ids=range(len(OPERATIONS)))
def test_arithmetic_on_an_error_raises_it(operation: Callable[[Any], object]) -> None:
    """``sum(flyte.map(...))`` surfaces the failure of an item."""
    error = cross(ValueError("item 3"))

    with pytest.raises(ValueError, match="item 3") as caught:
        operation(error)
    assert id(error) == id(caught.value)


def _samples() -> list[errors.BaseRuntimeError]:
    made: list[errors.BaseRuntimeError] = []
    for name in errors.__all__:
        cls = getattr(errors, name)
        if not isinstance(cls, type) or not issubclass(cls, errors.BaseRuntimeError):
            continue
        shapes: list[tuple[Any, ...]] = [("m",), ("C", "m"), ("C", "user", "m")]
        for args in shapes:
            try:
                made.append(cls(*args))
            except TypeError:
                continue
            break
    return made


@pytest.mark.parametrize("error", _samples(), ids=lambda e: type(e).__name__)
def test_every_error_of_the_tree_survives_pickle_and_copy(error: errors.BaseRuntimeError) -> None:
    """Constructors differ; copies do not."""
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(error), str(error), error.code, error.kind) == (type(again), str(again), again.code, again.kind)
    assert error.code
    assert error.kind in ("user", "system", "unknown")


def test_users_subclass_with_a_constructor_of_its_own_survives_pickle() -> None:
    """Deriving from an error of Flyte needs no care."""

    class Mine(RuntimeUserError):
        def __init__(self, row: int) -> None:
            super().__init__("Mine", f"row {row}")
            self.row = row

    again = pickle.loads(cloudpickle.dumps(Mine(4)))

    assert ("Mine", "row 4", 4) == (again.code, str(again), again.row)


def test_codes_and_hierarchy_are_flytes() -> None:
    """Names, parents and codes that programs rely on."""
    for cls in (errors.MaxRuntimeExceededError, errors.MaxQueuedTimeExceededError, errors.DeadlineExceededError):
        assert issubclass(cls, errors.TaskTimeoutError)
        assert cls("late").code == cls.__name__
    assert errors.InlineIOMaxBytesBreached("big").code == "InlineIOMaxBytesBreached"
    assert errors.RuntimeDataValidationError("o0", "bad").code == "DataValidationError"
    assert errors.NonRecoverableError("x").code == "NonRecoverableError"
    assert errors.CustomError.from_exception(KeyError("k")).code == "KeyError"
    assert not issubclass(errors.ActionNotFoundError, errors.BaseRuntimeError)
    assert isinstance(errors.OutOfScopeError("x"), NotImplementedError)


def test_argument_error_is_a_type_error_and_a_value_error() -> None:
    """Flyte raises one or the other; programs catch either."""
    error = errors.ArgumentError("f() missing a required argument: 'x'")

    assert isinstance(error, TypeError)
    assert isinstance(error, ValueError)
    assert reraise.code_of(error) == "TypeError"
