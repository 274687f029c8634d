"""A call is told whether its value is awaited where it stands: `flyte_nb.core.tasks.awaited`."""

from __future__ import annotations

import ast
import asyncio
import functools
import linecache
import sys
import textwrap
from types import CodeType
from typing import Any

import pytest

from flyte_nb.core.tasks import awaited, parsed_source

SETUP = """
import asyncio
import functools
from asyncio import gather, create_task

def later(i):
    return f(i)

def many(n):
    for i in range(n):
        yield f(i)

def all_of(n):
    found = []
    for i in range(n):
        found.append(f(i))
    return found

async def limited(semaphore, call):
    async with semaphore:
        return await call

async def collect(*calls, limit=3):
    gate = asyncio.Semaphore(limit)
    async def one(call):
        async with gate:
            return await call
    return await asyncio.gather(*(one(c) for c in calls))

async def add(x, y):
    return x + y

async def total(*values):
    return sum(values)

def gather_values(*values):
    return list(values)

class Box:
    async def take(self, call):
        return await call
"""

#: Bodies whose calls are awaited, and what they give.
AWAITED = [
    ("return await f(3)", 9),
    ("x = await f(3)\nreturn x + 1", 10),
    ("return await f(*[3])", 9),
    ("return await f(**{'i': 3})", 9),
    ("args = [3]\nreturn await f(*args)", 9),
    ("return await later(*[3])", 9),
    ("return await functools.partial(f)(*[3])", 9),
    ("g = functools.partial(f)\nreturn await g(*[3])", 9),
    ("return (await f(2)) + (await f(3))", 13),
    ("return [await f(i) for i in range(3)]", [0, 1, 4]),
    ("return await asyncio.gather(f(1), f(2))", [1, 4]),
    ("return await gather(f(1), f(2))", [1, 4]),
    ("return await asyncio.gather(*(f(i) for i in range(3)))", [0, 1, 4]),
    ("return await asyncio.gather(*[f(i) for i in range(3)])", [0, 1, 4]),
    ("return await asyncio.gather(*map(f, range(3)))", [0, 1, 4]),
    ("return await asyncio.gather(*list(map(f, range(3))))", [0, 1, 4]),
    ("return await asyncio.gather(*[f(i) for i in range(3)], f(5), return_exceptions=True)", [0, 1, 4, 25]),
    ("return await asyncio.gather(*map(lambda i: f(i), range(3)))", [0, 1, 4]),
    ("return await asyncio.gather(\n    *(\n        f(i)\n        for i in range(3)\n    ),\n)", [0, 1, 4]),
    ("return await asyncio.create_task(f(3))", 9),
    ("return await create_task(f(3), name='one')", 9),
    ("return await asyncio.ensure_future(f(3))", 9),
    ("return await asyncio.wait_for(f(3), 3)", 9),
    ("return await asyncio.wait_for(f(3), timeout=3)", 9),
    ("return await asyncio.shield(f(3))", 9),
    ("return await asyncio.get_running_loop().create_task(f(3))", 9),
    ("async with asyncio.TaskGroup() as tg:\n    t = tg.create_task(f(3))\nreturn t.result()", 9),
    ("async with asyncio.TaskGroup() as tg:\n    ts = [tg.create_task(f(i)) for i in range(3)]\nreturn [t.result() for t in ts]", [0, 1, 4]),
    ("return sorted([await t for t in asyncio.as_completed([f(i) for i in range(3)])])", [0, 1, 4]),
    ("return sorted([await t for t in asyncio.as_completed(map(f, range(3)))])", [0, 1, 4]),
    ("calls = [f(i) for i in range(3)]\nreturn await asyncio.gather(*calls)", [0, 1, 4]),
    ("calls = []\nfor i in range(3):\n    calls.append(f(i))\nassert len(calls) == 3\nreturn await asyncio.gather(*calls)", [0, 1, 4]),
    ("calls = [f(i) for i in range(3)]\nreturn [await c for c in calls]", [0, 1, 4]),
    ("calls = [f(i) for i in range(3)]\nasync with asyncio.TaskGroup() as tg:\n    ts = [tg.create_task(c) for c in calls]\nreturn [t.result() for t in ts]", [0, 1, 4]),
    ("call = f(3)\nreturn await call", 9),
    ("d = {i: f(i) for i in range(3)}\nreturn dict(zip(d, await asyncio.gather(*d.values())))", {0: 0, 1: 1, 2: 4}),
    ("d = {i: f(i) for i in range(3)}\nreturn {k: await d[k] for k in d}", {0: 0, 1: 1, 2: 4}),
    ("d = {i: f(i) for i in range(3)}\nreturn {k: await v for k, v in d.items()}", {0: 0, 1: 1, 2: 4}),
    ("d = {'a': f(1), 'b': f(2)}\nout = []\nfor k, v in d.items():\n    out.append(await v)\nreturn out", [1, 4]),
    ("d = {}\nfor i in range(3):\n    d[i] = f(i)\nreturn await asyncio.gather(*d.values())", [0, 1, 4]),
    ("calls = [f(1), f(2)]\nreturn await calls[0], await calls[1]", (1, 4)),
    ("return await (f(3) if f else f(4))", 9),
    ("return await functools.partial(f, 3)()", 9),
    ("return await later(3)", 9),
    ("return await asyncio.gather(*(later(i) for i in range(3)))", [0, 1, 4]),
    ("return await asyncio.gather(*many(3))", [0, 1, 4]),
    ("return await asyncio.gather(*all_of(3))", [0, 1, 4]),
    ("return [await c for c in many(3)]", [0, 1, 4]),
    ("gate = asyncio.Semaphore(1)\nreturn await asyncio.gather(*(limited(gate, f(i)) for i in range(3)))", [0, 1, 4]),
    ("return await collect(*(f(i) for i in range(3)), limit=2)", [0, 1, 4]),
    ("return await collect(f(1), f(2))", [1, 4]),
    ("return await Box().take(f(3))", 9),
    ("return await asyncio.gather(*map(asyncio.ensure_future, [f(1), f(2)]))", [1, 4]),
    ("return [await t for t in list(map(asyncio.create_task, [f(1), f(2)]))]", [1, 4]),
    ("box = Box()\nreturn await box.take(f(3))", 9),
]  # fmt: skip

#: Bodies whose calls give values.
VALUES = [
    ("return f(3)", 9),
    ("x = f(3)\nreturn x", 9),
    ("return f(1) + f(2)", 5),
    ("return [f(i) for i in range(3)]", [0, 1, 4]),
    ("return list(map(f, range(3)))", [0, 1, 4]),
    ("return sum(f(i) for i in range(3))", 5),
    ("return {i: f(i) for i in range(3)}", {0: 0, 1: 1, 2: 4}),
    ("print(f(3))\nreturn 1", 1),
    ("return f'{f(3)}'", "9"),
    ("return await add(f(1), f(2))", 5),
    ("return await add(x=f(1), y=f(2))", 5),
    ("return await total(*(f(i) for i in range(3)))", 5),
    ("return gather_values(f(1), f(2))", [1, 4]),
    ("return await asyncio.gather(add(f(1), 1), add(f(2), 1))", [2, 5]),
    ("return await asyncio.gather(*(add(f(i), 1) for i in range(3)))", [1, 2, 5]),
    ("x = f(3)\ny = x + 1\nreturn await add(x, y)", 19),
    ("return later(3)", 9),
    ("return later(3) + 1", 10),
    ("return all_of(3)", [0, 1, 4]),
    ("return sorted(many(3))", [0, 1, 4]),
    ("return await asyncio.sleep(0, f(3))", 9),
    ("return await asyncio.wait_for(add(f(1), 1), f(3))", 2),
    ("if f(3) > 1:\n    return 1", 1),
    ("for x in [f(1), f(2)]:\n    last = x\nreturn last", 4),
    ("a, b = f(1), f(2)\nreturn a + b", 5),
    ("d = {i: f(i) for i in range(3)}\nreturn sum(d.values())", 5),
    ("d = {i: f(i) for i in range(3)}\nreturn {k: v + 1 for k, v in d.items()}", {0: 1, 1: 2, 2: 5}),
    ("d = {f(i): i for i in range(3)}\nreturn list(d)", [0, 1, 4]),
    ("d = {}\nd['a'] = f(3)\nreturn d", {"a": 9}),
    ("d = {'a': f(3)}\nreturn d['a'] + 1", 10),
    ("x = [0, 0]\nx[0] = f(3)\nreturn sum(x)", 9),
    ("d = {i: f(i) for i in range(2)}\nreturn await add(*d.values())", 1),
    ("return await total(*map(f, range(3)))", 5),
    ("values = map(f, range(3))\nreturn await total(*values)", 5),
    ("return await total(*map(later, range(3)))", 5),
    ("return await total(*map(lambda i: f(i), range(3)))", 5),
    ("return await total(*list(map(f, range(3))))", 5),
    ("return await total(*many(3))", 5),
    ("return await total(*all_of(3))", 5),
    ("return await asyncio.gather(*[add(i, 0) for i in sorted([3, -1], key=f)])", [-1, 3]),
    ("return await asyncio.gather(*map(add, map(f, [1, 2]), [0, 0]))", [1, 4]),
    ("return await asyncio.gather(*map(add, [f(1), f(2)], [0, 0]))", [1, 4]),
    ("return await add(functools.reduce(lambda x, y: x + f(y), [1, 2], 0), 0)", 5),
    ("x = f(3)\ndef g(x):\n    return x\nreturn 1", 1),
    ("x = f(3)\ndef g():\n    return x\nreturn g()", 9),
    ("return (lambda: f(3))()", 9),
    ("x = f(3)\nreturn (lambda x: x)(x)", 9),
    ("return await add(*[f(i) for i in (1, 2)])", 5),
    ("calls = [f(i) for i in range(3)]\nif calls[0] == 0:\n    return calls", [0, 1, 4]),
    ("return max(f(1), f(2))", 4),
    ("return list((f(i) for i in range(3)))", [0, 1, 4]),
    ("async def g(v):\n    return v + 1\nreturn await g(f(3))", 10),
    (
        "async def g(v):\n    await asyncio.sleep(0)\n    return v + 1\nreturn await asyncio.gather(*(g(f(i)) for i in range(3)))",
        [1, 2, 5],
    ),
]


class Square:
    """As a task: gives a coroutine where it is awaited, else its value."""

    def __init__(self) -> None:
        self.answers: list[bool] = []

    def __call__(self, i: int) -> Any:
        self.answers.append(awaited.is_awaited(sys._getframe(1), self))
        return self.later(i) if self.answers[-1] else i * i

    async def later(self, i: int) -> int:
        await asyncio.sleep(0)
        return i * i


def run(body: str, source: bool = True) -> tuple[Any, list[bool]]:
    text = SETUP + "\nasync def main():\n" + textwrap.indent(body, "    ")
    name = f"<body {abs(hash(body))}>"
    if source:
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    f = Square()
    names: dict[str, Any] = {"f": f, "__name__": "bodies"}
    exec(compile(text, name, "exec"), names)
    return asyncio.run(names["main"]()), f.answers


@pytest.mark.parametrize(
    ("body", "result", "answer"), [*((*case, True) for case in AWAITED), *((*case, False) for case in VALUES)]
)
def test_every_call_of_a_body_is_told(body: str, result: object, answer: bool) -> None:
    found, answers = run(body)
    assert found == result
    assert {answer} == set(answers)


def test_a_cell_of_top_level_code() -> None:
    """Code of a cell has no function around it."""
    text = "calls = [f(i) for i in range(3)]\nfound = await asyncio.gather(*calls)\none = await f(3)\nplain = f(4)\n"
    linecache.cache["<cell>"] = (len(text), None, text.splitlines(keepends=True), "<cell>")
    code: CodeType = compile(text, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names: dict[str, Any] = {"f": Square(), "asyncio": asyncio}
    asyncio.run(eval(code, names))
    assert (names["found"], names["one"], names["plain"]) == ([0, 1, 4], 9, 16)


def test_without_source_a_plain_await_is_seen_all_the_same() -> None:
    assert run("return await f(3)  # no source", source=False) == (9, [True])
    assert run("return await later(3)  # no source", source=False) == (9, [True])
    assert run("return f(3)  # no source", source=False) == (9, [False])


def test_decisions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaited, "MAX_DECISIONS", 3)
    monkeypatch.setattr(parsed_source, "MAX_TREES", 2)
    for i in range(6):
        run(f"x = await f({i})\nreturn f({i})")
    assert len(awaited._decisions) <= 3
    assert len(parsed_source._trees) <= 2


def test_a_partial_made_once_is_a_call_like_any_other() -> None:
    assert run("g = functools.partial(f, 2)\nreturn await asyncio.gather(g(), g())") == ([4, 4], [True, True])
    assert functools.partial(Square(), 2)() == 4


@pytest.mark.parametrize(
    "edited",
    [
        "\nasync def main():\n    return f(3)\n",
        "async def main():\n    x = f(3); return x\n    await x",
        "async def other():\n    x = f(3)\n    return await x\n",
        "async def main():\n    x = g(3)\n    return await x\n",
        "async def main():\n",
        "",
    ],
)
def test_source_that_is_not_what_runs_decides_nothing(edited: str) -> None:
    """A file may be edited after its import."""
    name = f"<edited {abs(hash(edited))}>"
    code = compile("async def main():\n    x = f(3)\n    return x\n", name, "exec")
    linecache.cache[name] = (len(edited), None, edited.splitlines(keepends=True), name)
    names: dict[str, Any] = {"f": Square()}
    exec(code, names)
    assert asyncio.run(names["main"]()) == 9
