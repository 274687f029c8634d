"""Globals of a program that no pickler takes, in the code of a task and as arguments."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import queue
import threading
import types
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flyte_nb.core.transport.payload import UnpicklableError, dumps, loads
from flyte_nb.core.values import pickler

#: A module whose functions travel by value, as those of ``__main__`` do.
SOURCE = """
import contextvars, functools

variable = contextvars.ContextVar("modulestate-test", default=5)

@functools.lru_cache(maxsize=7)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

class Thing:
    @functools.cached_property
    def value(self):
        return Thing.__name__

    @functools.lru_cache
    def doubled(self, x):
        return 2 * x

@functools.singledispatch
def kind(value):
    return "any"

@kind.register
def _(value: int):
    return "int"

def uses():
    return fib(10), fib.cache_info().maxsize, variable.get(), Thing().value, Thing().doubled(2), kind(1), kind("a")
"""


@pytest.fixture
def program() -> Any:
    """The module, as a script's namespace."""
    module = types.ModuleType("__main__")
    exec(SOURCE, module.__dict__)
    return module


def test_what_a_tasks_code_refers_to_travels(program: Any) -> None:
    """Caches that refer to themselves, cached properties, context variables, dispatching functions."""
    assert loads(pickler.dumps(program.uses, fresh=True))() == (55, 7, 5, "Thing", 4, "int", "any")


@pytest.mark.parametrize(
    "made",
    [
        threading.Lock(), threading.RLock(), threading.Event(), threading.Condition(), threading.Semaphore(3), threading.local(),
        threading.BoundedSemaphore(2), queue.Queue(5), queue.SimpleQueue(), ThreadPoolExecutor(2), weakref.WeakSet(),
        weakref.WeakKeyDictionary(), weakref.WeakValueDictionary(), asyncio.Lock(), asyncio.Semaphore(2), asyncio.Event(),
        asyncio.BoundedSemaphore(2), asyncio.Condition(), asyncio.Queue(3),
    ],
    ids=lambda made: f"{type(made).__module__}.{type(made).__name__}",
)  # fmt: skip
def test_locks_arrive_anew_in_code_and_not_as_data(made: Any) -> None:
    """As an argument a copy of a lock would lock nothing: refused as ever."""
    again = loads(pickler.dumps(made, fresh=True))

    assert type(again) is type(made)
    assert again is not made
    if type(made) is type(threading.Lock()):
        with pytest.raises(UnpicklableError, match="lock"):
            dumps(made)


def _put(made: Any) -> Any:
    made.put(1)
    return made


@pytest.mark.parametrize("kind", [queue.Queue, queue.LifoQueue, queue.PriorityQueue])
def test_queues_arrive_in_code_with_what_they_hold(kind: Any) -> None:
    """A list of work that a cell has filled. They are usable: their conditions share one lock."""
    again = loads(pickler.dumps(_put(kind()), fresh=True))

    again.put(2)
    assert sorted(again.get() for _ in range(2)) == [1, 2]


class Key:
    """Held by whoever refers to it weakly."""


KEY = Key()


def test_other_state_arrives_in_code() -> None:
    """Events that are set, a condition's own lock, a pool's initializer, weak collections."""
    event, lock, pool = threading.Event(), threading.Lock(), ThreadPoolExecutor(1, initializer=print, initargs=("a",))
    event.set()
    weak = [weakref.WeakSet([KEY]), weakref.WeakKeyDictionary({KEY: 5}), weakref.WeakValueDictionary({"a": KEY})]
    turns: Any = asyncio.PriorityQueue()
    turns.put_nowait(3)
    state = [event, lock, threading.Condition(lock), pool, KEY, weak, turns]
    event, lock, condition, pool, key, weak, turns = loads(pickler.dumps(state, fresh=True))

    assert event.is_set()
    with lock:
        condition.notify()
    assert (pool._initializer, pool._initargs) == (print, ("a",))
    assert (list(weak[0]), weak[1][key], weak[2]["a"]) == ([key], 5, key)
    assert turns.get_nowait() == 3


def test_a_context_variable_is_the_same_for_all_that_name_it() -> None:
    """One per name and process; without a default it has none."""
    bare: contextvars.ContextVar[int] = contextvars.ContextVar("modulestate-bare")
    first, second = loads(pickler.dumps(bare)), loads(pickler.dumps(bare))

    assert first is second
    with pytest.raises(LookupError):
        contextvars.Context().run(first.get)


def test_a_cache_of_an_installed_module_goes_by_name() -> None:
    """It stays that module's own; one that the program made around such a function travels."""
    import re
    import tokenize

    escape = functools.lru_cache(re.escape)
    assert loads(pickler.dumps(escape))("a.b") == r"a\.b"
    installed = tokenize._compile  # type: ignore[attr-defined]
    assert loads(pickler.dumps(installed)) is installed
