"""State of the moment: what a task's code refers to is, in every call, what it was when the call was made."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import flyte_nb as flyte
from flyte_nb.core.transport import blob_files
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell

pytestmark = pytest.mark.cluster

PROGRAM = """
import array, asyncio, collections, dataclasses, enum, functools, types
import numpy as np, pandas as pd
import flyte_nb as flyte
{uses}
env = flyte.TaskEnvironment("state")

{setup}

@env.task
async def read(i: int) -> list:
    {reading}
    return [{expression}]

@env.task
def read_sync(i: int) -> list:
    {reading}
    return [{expression}]

def change(e):
    {globals}
    {change}

async def one_after_another():
    seen = []
    for e in range(3):
        seen.append(await read(e))
        change(e)
    return seen

async def overlapping():
    waiting = []
    for e in range(3):
        waiting.append(asyncio.ensure_future(read(e)))
        await asyncio.sleep(0)
        change(e)
    return await asyncio.gather(*waiting)

def inputs():
    for e in range(3):
        yield e
        change(e)

async def mapped():
    return [each async for each in flyte.map.aio(read_sync, inputs())]

FRESH = 0

@env.task
async def parent(how: str) -> list:
    assert FRESH  # a version of its own for each test, without what another's left behind
    return await globals_of_module[how]()

globals_of_module = {{"one_after_another": one_after_another, "overlapping": overlapping, "mapped": mapped}}
"""

#: What is set up, what a task reads of it, how it is changed between two calls.
KINDS: dict[str, dict[str, str]] = {
    "an item of a list": {"setup": "v = [0]", "expression": "v[0]", "change": "v[0] += 1"},
    "a longer list": {"setup": "v = []", "expression": "len(v)", "change": "v.append(e)"},
    "a nested dict": {"setup": "v = {'a': {'b': [0]}}", "expression": "v['a']['b'][0]", "change": "v['a']['b'][0] += 1"},
    "a mapping behind a proxy": {
        "setup": "d = {'a': 0}\nv = types.MappingProxyType(d)", "expression": "v['a']", "change": "d['a'] += 1",
    },
    "an attribute of an enum's member": {
        "setup": "class E(enum.Enum):\n    A = 1\nE.A.n = 0", "expression": "E.A.n", "change": "E.A.n += 1",
    },
    "a list of an enum's member": {
        "setup": "class E(enum.Enum):\n    A = 1\n    def __init__(self, _):\n        self.n = []", "expression": "len(E.A.n)",
        "change": "E.A.n.append(e)",
    },
    "a set": {"setup": "v = {1}", "expression": "sorted(v)", "change": "v.add(e + 5)"},
    "a bytearray": {"setup": "v = bytearray(3)", "expression": "v[0]", "change": "v[0] += 1"},
    "an array.array": {"setup": "v = array.array('d', [0.0])", "expression": "v[0]", "change": "v[0] += 1"},
    "a small array": {"setup": "v = np.zeros(3)", "expression": "float(v[0])", "change": "v[0] += 1"},
    "a large array": {"setup": "v = np.zeros(300_000)", "expression": "float(v[-1])", "change": "v[-1] += 1"},
    "a strided array": {"setup": "v = np.zeros(90_000)[::3]", "expression": "float(v[1])", "change": "v[1] += 1"},
    "a data frame": {"setup": "v = pd.DataFrame({'a': [0]})", "expression": "int(v['a'][0])", "change": "v.loc[0, 'a'] += 1"},
    "a frame's column of text": {
        "setup": "v = pd.DataFrame({'a': ['']})", "expression": "v['a'][0]", "change": "v.loc[0, 'a'] += 'x'",
    },
    "a deque": {"setup": "v = collections.deque([0])", "expression": "list(v)", "change": "v.append(e)"},
    "a counter": {"setup": "v = collections.Counter()", "expression": "v['a']", "change": "v['a'] += 1"},
    "a tuple with a list": {"setup": "v = (1, [0])", "expression": "v[1][0]", "change": "v[1][0] += 1"},
    "a namespace": {"setup": "v = types.SimpleNamespace(a=0)", "expression": "v.a", "change": "v.a += 1"},
    "an instance": {"setup": "class C: pass\nv = C()\nv.a = 0", "expression": "v.a", "change": "v.a += 1"},
    "an instance with slots": {
        "setup": "class C:\n    __slots__ = ('a',)\n    def __init__(self): self.a = 0\nv = C()", "expression": "v.a",
        "change": "v.a += 1",
    },
    "a dataclass": {
        "setup": "@dataclasses.dataclass\nclass C:\n    a: list\nv = C([0])", "expression": "v.a[0]", "change": "v.a[0] += 1",
    },
    "a class attribute": {"setup": "class C:\n    a = 0", "expression": "C.a", "change": "C.a += 1"},
    "a class attribute's content": {"setup": "class C:\n    a = [0]", "expression": "C.a[0]", "change": "C.a[0] += 1"},
    "an inherited class attribute": {
        "setup": "class B:\n    a = 0\nclass C(B): pass", "expression": "C.a", "change": "B.a += 1",
    },
    "a class attribute that a method reads": {
        "setup": "class C:\n    a = 0\n    def get(self): return self.a\ndef helper(): return C().get()",
        "expression": "helper()", "change": "C.a += 1",
    },
    "a new class attribute": {"setup": "class C: pass", "expression": "len(vars(C))", "change": "setattr(C, f'x{e}', 1)"},
    "a method that is replaced": {
        "setup": "class C:\n    def get(self): return -1", "expression": "C().get()",
        "change": "C.get = (lambda value: lambda self: value)(e)",
    },
    "a global number": {"setup": "v = 0", "globals": "global v", "expression": "v", "change": "v += 1"},
    "a helper's global": {
        "setup": "v = 0\ndef helper(): return v", "globals": "global v", "expression": "helper()", "change": "v += 1",
    },
    "a helper's helper's list": {
        "setup": "v = [0]\ndef inner(): return v[0]\ndef helper(): return inner()", "expression": "helper()",
        "change": "v[0] += 1",
    },
    "a closure cell": {
        "setup": "def make():\n    n = 0\n    def get(): return n\n    def add():\n        nonlocal n\n        n += 1\n"
        "    return get, add\nget, add = make()",
        "expression": "get()", "change": "add()",
    },
    "a closure's list": {
        "setup": "def make():\n    n = [0]\n    return (lambda: n[0]), n\nget, cell = make()", "expression": "get()",
        "change": "cell[0] += 1",
    },
    "a default": {"setup": "def helper(v=[0]): return v[0]", "expression": "helper()", "change": "helper.__defaults__[0][0] += 1"},
    "a replaced default": {
        "setup": "def helper(v=0): return v", "expression": "helper()", "change": "helper.__defaults__ = (e + 1,)",
    },
    "an attribute of a function": {
        "setup": "def helper(): return getattr(helper, 'n', 0)", "expression": "helper()", "change": "helper.n = e + 1",
    },
    "a partial": {
        "setup": "w = [0]\nv = functools.partial(lambda w: w[0], w)", "expression": "v()", "change": "w[0] += 1",
    },
    "a bound method": {
        "setup": "class C:\n    def __init__(self): self.a = 0\n    def get(self): return self.a\nc = C()\nv = c.get",
        "expression": "v()", "change": "c.a += 1",
    },
    "functions in a dict": {
        "setup": "v = {'f': lambda: -1}", "expression": "v['f']()", "change": "v['f'] = (lambda n: lambda: n)(e)",
    },
    "a random generator": {
        "setup": "v = np.random.default_rng(1)", "expression": "v.bit_generator.state['state']['state']", "change": "v.random()",
    },
    "a module's global": {"uses": "import {beside}", "expression": "{beside}.V", "change": "{beside}.V += 1"},
    "a module's list": {"uses": "import {beside} as m", "expression": "m.LIST[0]", "change": "m.LIST[0] += 1"},
    "a module's list, by its function": {
        "uses": "import {beside} as m", "expression": "m.first()", "change": "m.LIST[0] += 1",
    },
    "a module's global, by its function": {
        "uses": "import {beside} as m\nfrom {beside} import get", "expression": "get()", "change": "m.V += 1",
    },
    "a module's class": {"uses": "import {beside} as m", "expression": "m.Settings.level", "change": "m.Settings.level += 1"},
    "a queue": {"setup": "import queue\nv = queue.Queue()", "expression": "v.qsize()", "change": "v.put(e)"},
    "an event": {"setup": "import threading\nv = threading.Event()", "expression": "v.is_set()", "change": "v.set()"},
    "a list of a name of two underscores": {
        "setup": "class C:\n    __known__ = []", "expression": "len(C.__known__)", "change": "C.__known__.append(e)",
    },
    "a registered class": {
        "setup": "import abc\nclass A(abc.ABC): pass\nclass C: pass", "expression": "isinstance(C(), A)", "change": "A.register(C)",
    },
    "a weak dict": {
        "setup": "import weakref\nclass C: pass\nc = C()\nv = weakref.WeakKeyDictionary()", "expression": "v.get(c)",
        "change": "v[c] = e",
    },
    "a name in a query": {
        "setup": "K = 0\nv = pd.DataFrame({'a': [0, 1, 2]})", "globals": "global K", "expression": "len(v.query('a > @K'))",
        "change": "K += 1",
    },
    "a name in a text": {
        "setup": "K = 0", "globals": "global K", "expression": "eval('K + 1') + globals()['K']", "change": "K += 1",
    },
    "a module that is imported late": {
        "uses": "import {beside} as m", "reading": "import {beside}", "expression": "{beside}.V", "change": "m.V += 1",
    },
    "a name that a module gives late": {
        "uses": "import {beside} as m", "reading": "from {beside} import LIST", "expression": "LIST[0]",
        "change": "m.LIST[0] += 1",
    },
    "a function of a late module": {
        "uses": "import {beside} as m", "reading": "from {beside} import first", "expression": "first()",
        "change": "m.LIST[0] += 1",
    },
}  # fmt: skip
BESIDE = """
V = 0
LIST = [0]
class Settings:
    level = 0
def first():
    return LIST[0]
def get():
    return V
"""


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Two processes."""
    flyte.init(n_workers=2)
    yield
    flyte.shutdown()


numbers = itertools.count(1)


@pytest.fixture
def program(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A program of its own, with a module beside it."""
    number = next(numbers)
    parts = {"uses": "", "setup": "", "globals": "pass", "reading": "pass", **KINDS[request.param]}
    parts = {key: text.replace("{beside}", f"state_beside_{number}") for key, text in parts.items()}
    parts["reading"] = textwrap.indent(parts["reading"], "    ").strip()
    (tmp_path / f"state_beside_{number}.py").write_text(BESIDE)
    (tmp_path / f"state_program_{number}.py").write_text(PROGRAM.format(**parts))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield importlib.import_module(f"state_program_{number}")
    for name in [name for name in sys.modules if name.startswith("state_")]:
        del sys.modules[name]


def expected(program: Any) -> list[Any]:
    """What plain functions give, in a fresh copy of the program."""
    seen = []
    for e in range(3):
        seen.append(program.read_sync.func(e))
        program.change(e)
    return seen


@pytest.mark.parametrize("program", KINDS, indirect=True)
def test_each_call_sees_the_state_of_its_moment(program: Any) -> None:
    """One after another, side by side, over a generator; called in a cell and in a task."""
    differences = {}
    want: list[Any] = []

    def fresh() -> Any:
        for name in [name for name in list(sys.modules) if name.startswith("state_beside")]:
            importlib.reload(sys.modules[name])
        return importlib.reload(program)

    want = expected(fresh())
    assert want[0] != want[2]
    for how in ("one_after_another", "overlapping", "mapped"):
        if (got := run_cell(getattr(fresh(), how))) != want:
            differences[how] = got
    for how in ("one_after_another", "overlapping", "mapped"):
        again = fresh()
        again.FRESH = next(numbers)

        async def cell(again: Any = again, how: str = how) -> Any:
            return await again.parent(how)

        if (got := run_cell(cell)) != want:
            differences[f"{how} in a task"] = got

    assert {} == differences, want


env = flyte.TaskEnvironment("large-global")
large = np.zeros(1_200_000)


@env.task
async def look(at: int) -> float:
    """One element of a global."""
    return float(large[at])


def test_a_large_global_is_written_once_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all calls together; nothing of it travels in messages; the files of old versions go."""
    assert Session.current is not None
    links = Session.current.engine.network.links
    written: list[int] = []
    plain = blob_files.write

    def write(buffer: memoryview) -> str:
        written.append(buffer.nbytes)
        return plain(buffer)

    def own_files() -> int:
        return sum(len(list(Path(folder).iterdir())) for folder in blob_files.folders(os.getpid()))

    async def cell() -> list[float]:
        seen: list[float] = []
        for n in range(8):
            large[0] = n
            seen += set(await asyncio.gather(*(look(0) for _ in range(20))))
        return seen

    monkeypatch.setattr(blob_files, "write", write)
    before = own_files()
    sent = sum(link.sent for link in links.values())

    assert [float(n) for n in range(8)] == run_cell(cell)
    assert [large.nbytes] * 8 == written
    assert sum(link.sent for link in links.values()) - sent < 1_000_000
    assert own_files() - before <= 4
