"""Code that a value brings along: locks and the like that belong to its class, names of types, functions of all kinds."""

# Programs as users write them.
# ruff: noqa: B019, RUF012, UP044
# mypy: ignore-errors

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import queue
import threading
import typing
import weakref

import pytest

import flyte_nb as flyte

env = flyte.TaskEnvironment("code-of-values")

LOCK = threading.Lock()
VARIABLE = contextvars.ContextVar("of-values", default=1)


class OwnLock:
    lock, waiting, local = threading.RLock(), queue.Queue(), threading.local()
    known = weakref.WeakSet()
    by_name = weakref.WeakValueDictionary()

    def __init__(self, x: int) -> None:
        self.x = x
        self.known.add(self)

    def get(self) -> int:
        with self.lock:
            return self.x


class GlobalLock(OwnLock):
    def get(self) -> int:
        with LOCK:
            return self.x * VARIABLE.get()


def enclosing():
    lock = threading.Lock()

    class Enclosed(OwnLock):
        def get(self) -> int:
            with lock:
                return self.x

        def same(self) -> bool:
            return lock.acquire() and not lock.acquire(blocking=False)

    return Enclosed


Enclosed = enclosing()


class Dispatching(OwnLock):
    @functools.singledispatchmethod
    def of(self, value: object) -> str:
        return "object"

    @of.register
    def _(self, value: int) -> str:
        return "int"

    def get(self) -> int:
        return self.x if self.of(1) == "int" and self.of("") == "object" else 0


class Caching(OwnLock):
    @functools.lru_cache
    def get(self) -> int:
        return self.x


class Conditions(OwnLock):
    condition, semaphore, event = threading.Condition(), threading.BoundedSemaphore(2), threading.Event()

    def get(self) -> int:
        with self.condition, self.semaphore:
            return 0 if self.event.is_set() else self.x


class Pooled(OwnLock):
    pool = concurrent.futures.ThreadPoolExecutor(1)

    def get(self) -> int:
        return self.pool.submit(lambda: self.x).result()


def locked(function: typing.Callable) -> typing.Callable:
    lock = threading.RLock()

    @functools.wraps(function)
    def call(self: OwnLock) -> int:
        with lock:
            return function(self)

    return call


class Decorated(OwnLock):
    get = locked(OwnLock.get)


class OfLoop(OwnLock):
    turn, done = asyncio.Lock(), asyncio.Event()

    def get(self) -> int:
        return 0 if self.turn.locked() or self.done.is_set() else self.x


Number = typing.NewType("Number", int)
P, T = typing.ParamSpec("P"), typing.TypeVar("T")
Ts = typing.TypeVarTuple("Ts")


class Row(typing.TypedDict):
    x: int


class OfParameters(OwnLock, typing.Generic[P, T]): ...


class OfMany(OwnLock, typing.Generic[typing.Unpack[Ts]]): ...


class OfRow(OwnLock):
    row: Row
    numbers: list[Number]

    def get(self) -> int:
        return Row(x=self.x)["x"] * Number(1)


@functools.singledispatch
def kind_of(value: object) -> str:
    return "object"


@kind_of.register
def _(value: int) -> str:
    return "int"


def guarded(value: int) -> str:
    with LOCK:
        return str(value)


CLASSES = [
    OwnLock,
    GlobalLock,
    Enclosed,
    Dispatching,
    Caching,
    OfParameters,
    OfMany,
    OfRow,
    Conditions,
    Pooled,
    Decorated,
    OfLoop,
]
BY_NAME = {cls.__name__: cls for cls in CLASSES}


@env.task
async def get(value: OwnLock) -> int:
    return value.get()


@env.task
def make(name: str, x: int) -> OwnLock:
    return BY_NAME[name](x)


@env.task
async def there_and_back(name: str) -> bool:
    made = await make.aio(name, 3)
    return type(made) is BY_NAME[name] and await get(made) == 3


@pytest.mark.parametrize("cls", CLASSES)
def test_locks_of_a_class_are_no_part_of_its_instances(run, cls):
    """Where the instance arrives there is a new one."""
    assert run(get, cls(2)) == 2
    back = run(make, cls.__name__, 4)
    assert (type(back), back.get()) == (cls, 4)
    assert run(there_and_back, cls.__name__)


@env.task
async def call(function: typing.Callable, value: object) -> str:
    return function(value)


@env.task
async def of_globals() -> list:
    return [kind_of(1), kind_of(""), Number(3), guarded(4), Enclosed(1).same()]


@env.task
async def typed(row: Row, number: Number, numbers: list[Number]) -> Number:
    return Number(row["x"] + number + sum(numbers))


def test_functions_bring_their_code_along(run):
    assert [run(call, kind_of, 1), run(call, kind_of, ""), run(call, guarded, 5)] == ["int", "object", "5"]
    assert run(of_globals) == ["int", "object", 3, "4", True]
    assert run(typed, {"x": 1}, 2, [3]) == 6


@pytest.mark.cluster
def test_a_lock_itself_is_no_argument(cluster):
    """A copy would lock nothing."""
    with pytest.raises(flyte.errors.SerializationError, match="lock"):
        flyte.run(call, guarded, LOCK)
