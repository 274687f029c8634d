"""Values that pickle in ways of their own: those that contain themselves, exceptions, and what cannot be rebuilt."""

# mypy: disable-error-code="arg-type,func-returns-value,var-annotated,return-value,override,attr-defined,misc,unused-ignore"

from __future__ import annotations

import collections
import functools
from typing import Any

import pytest

import flyte_nb as flyte
from flyte_nb.core.transport.payload import RebuildError

env = flyte.TaskEnvironment("odd_values")


class Node:
    """Refers to its neighbours."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.others: list[Node] = []


def _list() -> Any:
    made: list[Any] = [1]
    made.append(made)
    return made, made[1] is made


def _dict() -> Any:
    made: dict[str, Any] = {"a": 1}
    made["self"] = made
    return made


def _deep() -> Any:
    made: dict[str, Any] = {"a": [{"b": ()}]}
    made["a"][0]["b"] = (made, [made])
    return made


def _nodes() -> Any:
    first, second = Node("a"), Node("b")
    first.others, second.others = [second, first], [first]
    return first


def _tree() -> Any:
    made = collections.defaultdict(dict)
    made["x"]["up"] = made
    return made


def _bound() -> Any:
    node = Node("a")
    node.method = functools.partial(print, node)  # type: ignore[attr-defined]
    return node


def _error() -> Any:
    made = ValueError("a")
    made.args = ("a", made)
    return made


#: By name: what makes a value that contains itself, and what must hold of it.
CYCLES: dict[str, tuple[Any, Any]] = {
    "list": (lambda: _list()[0], lambda v: v[1] is v),
    "dict": (_dict, lambda v: v["self"] is v),
    "deep": (_deep, lambda v: v["a"][0]["b"][0] is v and v["a"][0]["b"][1][0] is v),
    "nodes": (_nodes, lambda v: v.others[1] is v and v.others[0].others[0] is v),
    "defaultdict": (_tree, lambda v: v["x"]["up"] is v),
    "method": (_bound, lambda v: v.method.args[0] is v),
    "deque": (lambda: (d := collections.deque([1]), d.append(d))[0], lambda v: v[1] is v),
    "tuple in a list": (lambda: (x := [], x.append((x,)))[0], lambda v: v[0][0] is v),
    "set of nodes": (lambda: (n := Node("a"), setattr(n, "all", {n}))[0], lambda v: next(iter(v.all)) is v),
    "nested lists": (lambda: functools.reduce(lambda inner, _: [inner], range(300), []), lambda v: len(v) == 1),
}


@env.task
def same(x: Any) -> Any:
    """Gives it back."""
    return x


@env.task(cache="auto")
def kept(x: Any) -> Any:
    """Gives it back, and is looked up."""
    return x


@env.task
async def tour(name: str) -> list[bool]:
    make, holds = CYCLES[name]
    return [
        bool(holds(each)) for each in (await same.aio(make()), await kept.aio(make()), (await same.aio([make()]))[0])
    ]


@pytest.mark.parametrize("name", CYCLES)
def test_a_value_may_contain_itself(name, run):
    """Its label is bounded, whatever it contains."""
    make, holds = CYCLES[name]

    assert run(tour, name) == [True] * 3
    assert holds(run(same, make()))


class Refused(Exception):
    def __init__(self, what: str, *, why: str) -> None:
        super().__init__(f"{what}: {why}")
        self.what, self.why = what, why


class Slotted(Exception):
    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left


class Own(Exception):
    def __init__(self, a: int, b: int) -> None:
        self.pair = (a, b)

    def __reduce__(self) -> Any:
        return Own, self.pair


class NotFound(LookupError):
    def __init__(self, key: str, places: list[str]) -> None:
        self.key, self.places = key, places

    def __str__(self) -> str:
        return f"{self.key} is in none of {self.places}"


class Http(OSError):
    def __init__(self, status: int) -> None:
        super().__init__(status, "no", "file.txt")
        self.status = status


class Group(ExceptionGroup):
    def derive(self, excs: Any) -> Group:
        return Group(self.message, excs)


def _caused() -> Exception:
    made = Refused("a", why="b")
    made.__cause__ = NotFound("k", ["x"])
    made.add_note("noted")
    return made


def _circle() -> Exception:
    first, second = Refused("a", why="b"), Refused("c", why="d")
    first.__cause__, second.__cause__ = second, first
    return first


def _unpicklable_cause() -> Exception:
    made = Refused("a", why="b")
    made.__cause__ = ValueError(i for i in range(3))
    return made


#: By name: what makes an exception, and what must hold of it.
ERRORS: dict[str, tuple[Any, Any]] = {
    "keyword": (lambda: Refused("a", why="b"), lambda e: (e.what, e.why, str(e)) == ("a", "b", "a: b")),
    "slots": (lambda: Slotted(3), lambda e: e.left == 3),
    "its own way": (lambda: Own(1, 2), lambda e: e.pair == (1, 2)),
    "lookup": (lambda: NotFound("k", ["x"]), lambda e: str(e) == "k is in none of ['x']"),
    "oserror": (lambda: Http(404), lambda e: (e.status, e.errno, e.filename) == (404, 404, "file.txt")),
    "group": (
        lambda: Group("g", [Refused("a", why="b"), KeyError(1)]),
        lambda e: e.exceptions[0].why == "b" and len(e.exceptions) == 2,
    ),
    "caused": (_caused, lambda e: e.__cause__.key == "k" and e.__suppress_context__ and e.__notes__ == ["noted"]),
    "circle": (_circle, lambda e: e.__cause__.__cause__ is e),
    "unpicklable cause": (_unpicklable_cause, lambda e: e.why == "b" and e.__cause__ is None),
    "built in": (lambda: UnicodeDecodeError("utf8", b"a", 0, 1, "why"), lambda e: e.reason == "why"),
    "stop": (lambda: StopIteration(3), lambda e: e.value == 3),
    "library": (lambda: __import__("json").JSONDecodeError("m", "doc", 1), lambda e: e.pos == 1),
}


@env.task
async def errors_tour(name: str) -> list[bool]:
    make, holds = ERRORS[name]
    backs = [await same.aio(make()), (await same.aio({"a": [make()]}))["a"][0]]
    return [type(each) is type(make()) and bool(holds(each)) for each in backs]


@pytest.mark.parametrize("name", ERRORS)
def test_an_exception_is_a_value(name, run):
    """Whatever its constructor takes: with its attributes, notes and cause."""
    make, holds = ERRORS[name]

    assert run(errors_tour, name) == [True, True]
    assert holds(run(same, make()))


class Stubborn:
    """Pickles, and does not unpickle."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


@env.task
def stubborn() -> Any:
    return Stubborn()


def test_a_result_that_cannot_be_rebuilt_is_no_error_of_the_task(run):
    """The sentence says that the task succeeded, why its value is not here, and what to do."""
    with pytest.raises(RebuildError, match=r"odd_values.stubborn.* cannot be rebuilt here: ValueError: .*__reduce__"):
        run(stubborn)


def test_arguments_that_cannot_be_rebuilt_say_so(run):
    """The body was not started."""
    with pytest.raises(
        flyte.errors.RuntimeUserError, match=r"odd_values.same was not started: its arguments cannot be rebuilt here"
    ):
        run(same, Stubborn())


# -- partials and objects as tasks ---------------------------------------------------------------------------------------


def add(a: int, b: int, c: int = 0) -> int:
    """Adds."""
    return a + b + c


async def later(a: int, b: int) -> int:
    return a * b


class Scale:
    """Scales."""

    def __init__(self, by: int) -> None:
        self.by = by
        self.name, self.config = "mine", {"not": "the task's"}

    def __call__(self, x: int) -> int:
        return x * self.by


class AsyncScale(Scale):
    async def __call__(self, x: int) -> int:  # type: ignore[override]
        return x * self.by


class Methods:
    def __init__(self, by: int) -> None:
        self.by = by

    def times(self, x: int) -> int:
        return x * self.by


#: By name: a task, its arguments, its value.
CALLABLES: dict[str, tuple[Any, tuple[Any, ...], Any]] = {
    "partial": (env.task(functools.partial(add, 1)), (2,), 3),
    "keyword": (env.task(short_name="kw")(functools.partial(add, b=2)), (5,), 7),
    "keyword only": (env.task(functools.partial(add, 1, 2, c=3)), (), 6),
    "of a partial": (env.task(functools.partial(functools.partial(add, 1), 2)), (3,), 6),
    "async": (env.task(functools.partial(later, 4)), (5,), 20),
    "object": (env.task(Scale(3)), (4,), 12),
    "async object": (env.task(AsyncScale(3)), (5,), 15),
    "partial of an object": (env.task(functools.partial(Scale(3))), (6,), 18),
    "bound method": (env.task(Methods(2).times), (4,), 8),
    "cached partial": (env.task(cache="auto")(functools.partial(add, 10)), (5,), 15),
    "another": (env.task(cache="auto")(functools.partial(add, 20)), (5,), 25),
    "cached object": (env.task(cache="auto")(Scale(10)), (5,), 50),
    "another object": (env.task(cache="auto")(Scale(20)), (5,), 100),
}


@env.task
async def calls_all() -> list[Any]:
    return [await task.aio(*args) for task, args, _ in CALLABLES.values()]


def test_partials_and_objects_are_tasks(run):
    """What they hold counts: two partials of one function are two, for the cache too."""
    assert run(calls_all) == [expected for *_, expected in CALLABLES.values()]
    assert run(calls_all) == [expected for *_, expected in CALLABLES.values()]
    assert [run(task, *args) for task, args, _ in CALLABLES.values()] == [each for *_, each in CALLABLES.values()]


def test_what_such_a_task_is_called():
    """After its function or class; its own attributes are not the task's."""
    names = {name: task.name for name, (task, *_) in CALLABLES.items()}
    assert names["partial"] == names["of a partial"] == "odd_values.add"
    assert names["async object"] == "odd_values.AsyncScale"
    assert CALLABLES["object"][0].config.retries.count == 0
    assert CALLABLES["partial"][0].__doc__ == "Adds."


def test_what_is_no_task_is_refused():
    """With what to write instead."""
    with pytest.raises(TypeError, match=r"same.func"):
        env.task(functools.partial(same, 3))
    for bad in (3, Scale, None.__class__):
        with pytest.raises(TypeError, match="makes a task of a function"):
            env.task(bad)
