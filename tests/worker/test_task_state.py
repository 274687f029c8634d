"""Each attempt begins with the globals of its task as they were sent."""

from __future__ import annotations

import collections
import enum
import random
import threading
import types
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest

import flyte_nb as flyte
from flyte_nb.core.values import pickler
from flyte_nb.worker.process import task_state
from flyte_nb.worker.process.task_state import Copy, TaskState, fingerprint


class Slotted:
    """A class of the program's."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items = [1]


class Plain:
    """Another."""

    def __init__(self) -> None:
        self.items = {"a": Slotted()}


class Planet(enum.Enum):
    """With what its members hold."""

    EARTH = 1

    def __init__(self, number: int) -> None:
        self.moons = [number]


def _swap(array: np.ndarray) -> None:
    array[[0, -1]] = array[[-1, 0]]


def _local() -> threading.local:
    made = threading.local()
    made.items = [1]
    return made


#: A value, and what a body does to it.
CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "list": (lambda: [1], lambda v: v.append(2)),
    "dict": (lambda: {"a": 1}, lambda v: v.update(a=2)),
    "nested": (lambda: {"a": [{"b": [1]}]}, lambda v: v["a"][0]["b"].append(2)),
    "set": (lambda: {1}, lambda v: v.add(2)),
    "deque": (lambda: collections.deque([1], 5), lambda v: v.append(2)),
    "counter": (lambda: collections.Counter("ab"), lambda v: v.update("a")),
    "defaultdict": (lambda: collections.defaultdict(list), lambda v: v["x"]),
    "bytearray": (lambda: bytearray(b"ab"), lambda v: v.extend(b"c")),
    "slots": (Slotted, lambda v: v.items.append(2)),
    "object": (Plain, lambda v: v.items["a"].items.append(2)),
    "namespace": (lambda: types.SimpleNamespace(a=1), lambda v: setattr(v, "b", 2)),
    "array": (lambda: np.zeros(10), lambda v: v.__setitem__(3, 1)),
    "large array": (lambda: np.zeros(300_000), lambda v: v.__setitem__(200_001, 1)),
    "large array swapped": (lambda: np.arange(300_000.0), _swap),
    "strided array": (lambda: np.zeros((20, 20)).T[::2], lambda v: v.__setitem__((0, 0), 1)),
    "frame": (lambda: pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), lambda v: v.__setitem__("c", 3)),
    "frame in place": (lambda: pd.DataFrame({"a": [1, 2]}), lambda v: v.loc.__setitem__((0, "a"), 9)),
    "generator": (lambda: np.random.default_rng(0), lambda v: v.random()),
    "python's random": (lambda: random.Random(0), lambda v: v.random()),
    "member of an enum": (lambda: Planet.EARTH, lambda v: setattr(v, "n", 1)),
    "member's list": (lambda: Planet.EARTH, lambda v: v.moons.append(2)),
    "of a thread": (threading.local, lambda v: setattr(v, "a", 1)),
    "of a thread, in place": (_local, lambda v: v.items.append(2)),
    "with functions": (lambda: {"f": len, "g": lambda: 1, "l": [threading.Lock()]}, lambda v: v["l"].append(1)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_changes_are_seen(what: str) -> None:
    """And a value that is only read is the same."""
    make, change = CHANGES[what]
    value = make()
    before = fingerprint(value)

    repr(value)
    assert before == fingerprint(value)
    change(value)
    assert before != fingerprint(value)


def module(source: str, **settings: Any) -> TaskState:
    """The state of the task ``f`` of a program, as a worker has it."""
    space: dict[str, Any] = {"__name__": "__main__", "flyte": flyte, "env": flyte.TaskEnvironment("state", **settings)}
    exec(source, space)
    # (cloudpickle writes over classes in the process where they were made: as good as new ones.)
    blob = cloudpickle.dumps(space["f"]) if "class C" in source else pickler.dumps(space["f"], fresh=True)
    return TaskState(lambda: Copy(cloudpickle.loads(blob)), len(blob))


def once(state: TaskState, *args: Any) -> Any:
    """One attempt."""
    copy = state.take()
    try:
        return copy.task.func(*args)
    finally:
        state.give_back(copy, lambda _seed: None)


#: Programs whose task returns how often it was executed, as far as it can tell.
COUNTERS = {
    "global list": "seen = []\n@env.task\ndef f() -> int:\n    seen.append(1)\n    return len(seen)",
    "rebound": "n = 0\n@env.task\ndef f() -> int:\n    global n\n    n += 1\n    return n",
    "default": "@env.task\ndef f(seen: list = []) -> int:\n    seen.append(1)\n    return len(seen)",
    "of a helper": "seen = []\ndef add():\n    seen.append(1)\n    return len(seen)\n@env.task\ndef f() -> int:\n    return add()",
    "class attribute": "class C:\n    n = 0\n@env.task\ndef f() -> int:\n    C.n += 1\n    return C.n",
    "list of a class": "class C:\n    l = []\n@env.task\ndef f() -> int:\n    C.l.append(1)\n    return len(C.l)",
    "list of a metaclass": (
        "class M(type):\n    l = []\nclass C(metaclass=M):\n    pass\n"
        "@env.task\ndef f() -> int:\n    C.l.append(1)\n    return len(C.l)"
    ),
    "object": (
        "class C:\n    def __init__(self):\n        self.n = 0\nc = C()\n"
        "@env.task\ndef f() -> int:\n    c.n += 1\n    return c.n"
    ),
    "closure": (
        "def make():\n    n = 0\n    def count():\n        nonlocal n\n        n += 1\n        return n\n    return count\n"
        "count = make()\n@env.task\ndef f() -> int:\n    return count()"
    ),
    "attribute of a function": (
        "def helper():\n    helper.n = getattr(helper, 'n', 0) + 1\n    return helper.n\n"
        "@env.task\ndef f() -> int:\n    return helper()"
    ),
    "module": (
        "import types\nm = types.ModuleType('m_of_test')\nm.seen = []\n"
        "@env.task\ndef f() -> int:\n    m.seen.append(1)\n    return len(m.seen)"
    ),
    "array": "import numpy as np\na = np.zeros(3)\n@env.task\ndef f() -> int:\n    a[0] += 1\n    return int(a[0])",
    "partial": "import functools\np = functools.partial(list.append, [])\n@env.task\ndef f() -> int:\n    p(1)\n    return len(p.args[0])",
    "event": (
        "import threading\ne = threading.Event()\n"
        "@env.task\ndef f() -> int:\n    n = 2 if e.is_set() else 1\n    e.set()\n    return n"
    ),
    "queue": "import asyncio\nq = asyncio.Queue()\n@env.task\ndef f() -> int:\n    q.put_nowait(1)\n    return q.qsize()",
    "queue of threads": "import queue\nq = queue.LifoQueue()\n@env.task\ndef f() -> int:\n    q.put(1)\n    return q.qsize()",
    "simple queue": "import queue\nq = queue.SimpleQueue()\n@env.task\ndef f() -> int:\n    q.put(1)\n    return q.qsize()",
    "a name of two underscores": (
        "class C:\n    __known__ = []\n    def add(self):\n        self.__known__.append(1)\n        return len(self.__known__)\n"
        "@env.task\ndef f() -> int:\n    return C().add()"
    ),
    "in a tuple": "t = ([],)\n@env.task\ndef f() -> int:\n    t[0].append(1)\n    return len(t[0])",
}


@pytest.mark.parametrize("what", COUNTERS)
def test_every_attempt_finds_what_was_sent(what: str) -> None:
    """Whatever the one before has changed."""
    state = module(COUNTERS[what])

    assert [1, 1, 1] == [once(state) for _ in range(3)]


def test_those_that_overlap_have_copies() -> None:
    """One does not see what another has appended meanwhile; copies that were not changed serve again."""
    state = module(COUNTERS["global list"] + "\n@env.task\ndef g() -> int:\n    return 0")
    one, other = state.take(), state.take()

    assert one.task is not other.task
    assert (1, 1) == (one.task.func(), other.task.func())
    fresh = state.take()
    state.give_back(fresh, lambda _seed: None)
    assert state.take() is fresh


def test_a_task_without_state_is_shared() -> None:
    """By those that overlap, too."""
    state = module(
        "K = 3\nimport math\ndef h(x):\n    return math.sqrt(x) * K\n@env.task\ndef f() -> float:\n    return h(4.0)"
    )

    assert state.take() is state.take()
    assert 6.0 == once(state)


def test_a_warm_environment_keeps_its_globals() -> None:
    """That is how state is shared on purpose."""
    state = module(COUNTERS["global list"], reusable=flyte.ReusePolicy(replicas=1))

    assert [1, 2, 3] == [once(state) for _ in range(3)]


def test_large_state_is_shared_by_those_that_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies would fill the memory; it is fresh for the next one after a change."""
    monkeypatch.setattr(task_state, "SHARED_FROM", 100)
    state = module(COUNTERS["array"])

    assert state.take() is state.take()
    assert [1, 1] == [once(state) for _ in range(2)]


def test_more_attempts_than_copies_share_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory is bounded; a copy serves again when none of them uses it any more."""
    monkeypatch.setattr(task_state, "MAX_USED", 2)
    state = module(COUNTERS["global list"])
    one, two, three = state.take(), state.take(), state.take()

    assert one is not two
    assert two is three
    state.give_back(two, lambda _seed: None)
    assert state.take() is two
    state.give_back(two, lambda _seed: None)
    state.give_back(three, lambda _seed: None)
    state.give_back(one, lambda _seed: None)
    assert {one, two} == {state.take(), state.take()}


def test_a_generator_that_was_drawn_from_is_named() -> None:
    """By the state that it began with: the same for every attempt."""
    state = module(
        "import numpy as np\nrng = np.random.default_rng(0)\n@env.task\ndef f() -> float:\n    return rng.random()"
    )
    drew: list[bytes] = []
    for _ in range(2):
        copy = state.take()
        copy.task.func()
        state.give_back(copy, drew.append)

    assert 2 == len(drew)
    assert drew[0] == drew[1]
