"""What a newcomer writes first: no annotations, and `await` of a plain ``def`` task. Nothing is computed in vain."""

# Programs as users write them.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc,func-returns-value,unused-ignore,call-overload,arg-type"

from __future__ import annotations

import asyncio
import dataclasses
import pickle
from typing import Any

import pytest

import flyte_nb as flyte

env = flyte.TaskEnvironment("first")


@dataclasses.dataclass
class Point:
    x: int


@env.task
def double(x):
    return x * 2


@env.task
async def later(x, n=3, *, k: str = "a"):
    return [x, n, k]


@env.task
def half(x: int):
    return Point(x)


@env.task
def silent(x):
    print(x)


@env.task
def several(x) :  # fmt: skip
    return x, str(x)


@env.task
def maybe(x):
    if x:
        return x
    return None


class Shop:
    def __init__(self, factor):
        self.factor = factor

    def price(self, x):
        return x * self.factor


nameless = env.task(lambda x, y=1: x + y)
method = env.task(Shop(3).price)


@env.task
async def all_of_them(x):
    return [await double(x), await later(x), await asyncio.gather(*(double(i) for i in range(3))), [double(x), x]]


@pytest.mark.parametrize(
    ("task", "args", "value"),
    [
        (double, (2,), 4),
        (double, ("ab",), "abab"),
        (double, ([1],), [1, 1]),
        (later, (2,), [2, 3, "a"]),
        (half, (2,), Point(2)),
        (silent, (2,), None),
        (several, (2,), (2, "2")),
        (maybe, (0,), None),
        (maybe, (3,), 3),
        (nameless, (2,), 3),
        (method, (2,), 6),
        (all_of_them, (2,), [4, [2, 3, "a"], [0, 2, 4], [4, 2]]),
    ],
)
@pytest.mark.filterwarnings("ignore:the sync task")
def test_without_annotations_values_come_as_they_are(run, task: Any, args: tuple[Any, ...], value: object):
    assert value == run(task, *args)


@env.task
def wrong(x: int) -> str:
    return [x]  # type: ignore[return-value]


@env.task
def none(x: int) -> None:
    return Point(x)  # type: ignore[return-value]


@env.task
def large(x: int) -> None:
    return b"x" * 1_000_000  # type: ignore[return-value]


@pytest.mark.parametrize(("task", "value"), [(wrong, [5]), (none, Point(5)), (large, None)])
def test_a_wrong_annotation_is_an_error_that_keeps_the_value(run, task: Any, value: object):
    with pytest.raises(flyte.errors.RuntimeDataValidationError) as caught:
        run(task, 5)
    assert value == caught.value.value
    assert value == pickle.loads(pickle.dumps(caught.value)).value


@env.task
def square(x: int) -> int:
    return x * x


@env.task
async def awaits(form: str) -> Any:
    match form:
        case "await":
            return await square(3)
        case "named":
            call = square(3)
            return await call
        case "gather":
            return await asyncio.gather(square(1), square(2))
        case "generator":
            return await asyncio.gather(*(square(i) for i in range(3)))
        case "list":
            calls = [square(i) for i in range(3)]
            return await asyncio.gather(*calls)
        case "map":
            return await asyncio.gather(*map(square, range(3)))
        case "create_task":
            return await asyncio.create_task(square(3))
        case "wait_for":
            return await asyncio.wait_for(square(3), 30)
        case "group":
            async with asyncio.TaskGroup() as group:
                tasks: list[Any] = [group.create_task(square(i)) for i in range(3)]
            return [task.result() for task in tasks]
        case "override":
            return await square.override(retries=1)(3)
        case "error":
            return await asyncio.gather(square(1), square("a"), return_exceptions=True)  # type: ignore[arg-type]
    return None


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("await", 9), ("named", 9), ("gather", [1, 4]), ("generator", [0, 1, 4]), ("list", [0, 1, 4]), ("map", [0, 1, 4]),
        ("create_task", 9), ("wait_for", 9), ("group", [0, 1, 4]), ("override", 9),
    ],
)  # fmt: skip
def test_a_def_task_can_be_awaited_in_an_async_task(mode, form: str, value: object):
    """Each call is an action of its own, once."""
    run = flyte.with_runcontext(mode=mode).run(awaits, form)
    assert value == run.outputs()[0]
    assert len(run.actions) == 1 + (len(value) if isinstance(value, list) else 1)


@env.task
async def values() -> list[int]:
    one = square(2)
    return [one, square(1) + square(2), *[square(i) for i in range(2)], max(square(3), 4)]


@pytest.mark.filterwarnings("ignore:the sync task")
def test_a_def_task_called_for_its_value_gives_it(run):
    """As in Flyte."""
    assert [4, 5, 0, 1, 9] == run(values)


def test_outside_a_run_awaiting_calls_the_function():
    """In a script's own loop."""

    async def main():
        return await square(3), await asyncio.gather(*(square(i) for i in range(3))), square(4)

    assert (9, [0, 1, 4], 16) == asyncio.run(main())


@env.task
async def takes(x: Any) -> Any:
    return x


@env.task
async def ints(x: list[int]) -> int:
    return sum(x)


@env.task
async def forgets(form: str) -> str:
    made: list[Any] = []

    def call() -> Any:
        made.append(takes(1))
        return made[-1]

    forms: dict[str, Any] = {
        "argument": lambda: takes(call()),
        "keyword": lambda: takes(x=call()),
        "list": lambda: takes([call()]),
        "dict": lambda: takes({"a": call()}),
        "typed": lambda: ints(call()),
        "typed list": lambda: ints([call(), call()]),
        "aio": lambda: takes(square.aio(3)),
        "task": lambda: takes(asyncio.ensure_future(asyncio.sleep(0))),
        "generator": lambda: takes(_numbers()),
        "nested": lambda: takes({"a": [(call(),)]}),
        "dataclass": lambda: takes(Holds(call())),
    }
    try:
        await forms[form]()
    except Exception as error:
        return str(error)
    finally:
        for each in made:
            each.close()
    return "?"


@dataclasses.dataclass
class Holds:
    """Something."""

    what: Any


async def _numbers():
    yield 1


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("argument", "`await takes(...)`"), ("keyword", "`await takes(...)`"), ("list", "`await asyncio.gather(*...)`"),
        ("dict", "`await asyncio.gather(*...)`"), ("typed", "`await takes(...)`"),
        ("typed list", "`await asyncio.gather(*...)`"), ("aio", "`await square(...)`"), ("task", "write `await`"),
        ("generator", "[x async for x in ...]"), ("nested", "`await asyncio.gather(*...)`"),
        ("dataclass", "`await asyncio.gather(*...)`"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_forgotten_await_in_an_argument_is_told(run, form: str, words: str):
    assert words in run(forgets, form)


@pytest.mark.parametrize(
    "make",
    [
        lambda: flyte.map(len, ["a"]),  # type: ignore[call-overload]
        lambda: flyte.map.aio(len, ["a"]),  # type: ignore[call-overload]
        lambda: flyte.map(lambda x: x, [1]),  # type: ignore[call-overload]
        lambda: flyte.map(Point, [1]),  # type: ignore[call-overload]
        lambda: flyte.map(square, 3),  # type: ignore[call-overload]
        lambda: flyte.map.aio(square, 3),  # type: ignore[call-overload]
    ],
    ids=range(6),
)
def test_a_map_of_no_task_or_over_no_inputs_fails_at_the_call(make: Any):
    with pytest.raises(TypeError, match=r"flyte\.map takes"):
        make()


def test_time_limits_are_pythons_too():
    for name in ("TaskTimeoutError", "MaxRuntimeExceededError", "MaxQueuedTimeExceededError", "DeadlineExceededError"):
        error = pickle.loads(pickle.dumps(getattr(flyte.errors, name)("late")))
        assert isinstance(error, TimeoutError)
        assert isinstance(error, flyte.errors.RuntimeUserError)
        assert (str(error), error.code) == ("late", name)


@env.task(timeout=0.2)
async def slow() -> int:
    await asyncio.sleep(30)
    return 1


def test_a_task_that_is_too_slow_raises_a_timeout_error(run):
    with pytest.raises(TimeoutError):
        run(slow)
