"""What code uses without saying so: patched libraries, pickles that name classes, context variables, results that follow state."""

# Programs as users write them.
# ruff: noqa: B007, PT008
# mypy: ignore-errors

from __future__ import annotations

import asyncio
import contextvars
import copyreg
import importlib
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest

import flyte_nb as flyte
from flyte_nb.testing import run_cell

pytestmark = pytest.mark.cluster

env = flyte.TaskEnvironment("what-code-uses")
variable = contextvars.ContextVar("what-code-uses", default="by default")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Two processes of two threads."""
    flyte.init(n_workers=2, threads_per_worker=2)
    yield
    flyte.shutdown()


@env.task
def root(x: float) -> float:
    return math.sqrt(x)


@env.task
async def helped(x: float) -> float:
    return await helper(x)


@env.task
async def late_root(x: float) -> float:
    await asyncio.sleep(0.05)
    return (await asyncio.gather(helper(x)))[0]


async def helper(x: float) -> float:
    return math.sqrt(x)


@env.task
async def soon_root(x: float) -> float:
    return math.sqrt(x)


@env.task
async def parent(x: float) -> list:
    with mock.patch("math.sqrt", lambda _: -2.0):
        inner = await late_root(x)
    return [math.sqrt(x), inner, await late_root(x)]


def test_what_is_patched_while_a_call_is_made_is_patched_for_it():
    """In a cell, a map and a parent task; calls that overlap with it, and workers' own code, see the library as it is."""

    async def cell():
        plain = [asyncio.ensure_future(late_root(4)) for _ in range(3)]
        await asyncio.sleep(0)
        with mock.patch("math.sqrt", lambda _: -1.0):
            patched = [asyncio.ensure_future(late_root(4)) for _ in range(3)]
            await asyncio.sleep(0)
            values = [*await asyncio.gather(*(root.aio(4) for _ in range(3))), await parent(4)]
            mapped = {each async for each in flyte.map.aio(root, range(300))}
            mapped |= {each async for each in flyte.map.aio(helped, range(300))}
            mapped |= {each async for each in flyte.map.aio(soon_root, range(300))}
        return await asyncio.gather(*plain), await asyncio.gather(*patched), values, mapped, await root.aio(4)

    plain, patched, values, mapped, after = run_cell(cell)
    assert (plain, patched) == ([2.0] * 3, [-1.0] * 3)
    assert values == [-1.0, -1.0, -1.0, [-1.0, -2.0, -1.0]]
    assert mapped == {-1.0}
    assert after == 2.0
    assert run_cell(lambda: parent(4)) == [2.0, -2.0, 2.0]


@env.task
def twice(x: float) -> tuple[float, float]:
    first = math.sqrt(x)
    end = time.monotonic() + 0.02
    while time.monotonic() < end:
        pass
    return first, math.sqrt(x)


def test_calls_that_compute_side_by_side_have_each_their_own_patches():
    """In the threads of a process; those without find the library as it is."""

    def answering(value: float):
        return lambda _: value

    async def cell():
        made = []
        for i in range(10):
            with mock.patch("math.sqrt", answering(float(i))):
                made.append(asyncio.ensure_future(twice(4)))
                await asyncio.sleep(0)
            made.append(asyncio.ensure_future(twice(100)))
            await asyncio.sleep(0)
        return await asyncio.gather(*made)

    assert run_cell(cell) == [each for i in range(10) for each in ((float(i),) * 2, (10.0, 10.0))]


@env.task
def by_way_of_a_module(x: float) -> list[float]:
    import root_of_a_module

    return [root_of_a_module.root(x), root_of_a_module.farther(x)]


def test_what_is_patched_is_patched_for_modules_that_only_a_body_imports(tmp_path, monkeypatch):
    """And for those that they import in turn, inside a function."""
    (tmp_path / "root_of_a_module.py").write_text(
        "import math\n\n\ndef root(x):\n    return math.sqrt(x)\n\n\n"
        "def farther(x):\n    import root_of_another\n\n    return root_of_another.floor(x)\n"
    )
    (tmp_path / "root_of_another.py").write_text("import math\n\n\ndef floor(x):\n    return math.floor(x)\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("root_of_a_module", "root_of_another"):
        importlib.import_module(name)

    async def cell():
        plain = await by_way_of_a_module.aio(4.5)
        with mock.patch("math.sqrt", lambda _: -1.0), mock.patch("math.floor", lambda _: -2):
            patched = await by_way_of_a_module.aio(4.5)
        return plain, patched, await by_way_of_a_module.aio(4.5)

    plain, patched, after = run_cell(cell)
    assert plain == after == [math.sqrt(4.5), 4]
    assert patched == [-1.0, -2]


@env.task
def waits(x: float) -> list[float]:
    first = math.sqrt(x)
    naps(x)
    return [first, math.sqrt(x)]


@env.task
def naps(x: float) -> float:
    time.sleep(0.1)
    return x


def test_who_waits_for_its_children_leaves_the_library_as_it_is():
    """To the others on its worker, however many run meanwhile."""

    async def cell():
        with mock.patch("math.sqrt", lambda _: -1.0):
            waiting = [asyncio.ensure_future(waits.aio(4)) for _ in range(4)]
            await asyncio.sleep(0)
        seen = set()
        while not all(each.done() for each in waiting):
            seen |= set(await asyncio.gather(*(root.aio(4) for _ in range(8))))
        return await asyncio.gather(*waiting), seen

    waited, seen = run_cell(cell)
    assert waited == [[-1.0, -1.0]] * 4
    assert seen == {2.0}
    assert run_cell(lambda: root.aio(4)) == 2.0


@env.task
async def rounded() -> str:
    return str(Fraction(1, 3).limit_denominator(2))


def test_a_method_of_an_installed_class_may_be_patched():
    """One that the code names."""

    async def cell():
        with mock.patch.object(Fraction, "limit_denominator", return_value="patched"):
            patched = await rounded()
        return patched, await rounded()

    assert run_cell(cell) == ("patched", "1/2")


@env.task
async def total(frame: pd.DataFrame) -> list:
    return [frame.sums.total(), frame["a"].twice()]


def test_what_extends_pandas_goes_along(monkeypatch):
    """An accessor, and a method that is set on a class, as by ``tqdm.pandas()``."""

    @pd.api.extensions.register_dataframe_accessor("sums")
    class Sums:
        def __init__(self, frame):
            self.frame = frame

        def total(self):
            return int(self.frame.sum().sum())

    monkeypatch.setattr(pd.Series, "twice", lambda self: (self * 2).tolist(), raising=False)
    try:
        assert run_cell(lambda: total(pd.DataFrame({"a": [1, 2]}))) == [3, [2, 4]]
    finally:
        del pd.DataFrame.sums
        pd.DataFrame._accessors.discard("sums")


class Kind:
    pass


@env.task
async def kinds() -> list:
    return sorted(cls.__name__ for cls in Kind.__subclasses__())


def test_subclasses_are_those_of_the_call():
    """Which nothing names: a registry that Python keeps."""

    async def cell():
        kept, seen = [], []
        for name in "ab":
            kept.append(type(name, (Kind,), {"__module__": __name__}))
            seen.append(await kinds())
        return seen

    assert run_cell(cell) == [["a"], ["a", "b"]]


@env.task
async def value_of() -> str:
    return variable.get()


@env.task
async def sets() -> list:
    before = variable.get()
    variable.set("by a task")
    return [before, await value_of()]


def test_context_variables_have_the_value_of_the_call():
    """Each call that of its own context."""

    async def with_value(value):
        variable.set(value)
        return await value_of()

    async def cell():
        return await asyncio.gather(with_value("a"), with_value("b")), await value_of(), await sets(), await value_of()

    assert run_cell(cell) == (["a", "b"], "by default", ["by default", "by a task"], "by default")


@env.task
def value_of_sync() -> str:
    return variable.get()


@env.task
async def in_all_ways() -> list:
    before = variable.get()
    variable.set("by a task")
    again = asyncio.gather(value_of(), value_of_sync.aio())
    return [before, *await again, variable.get()]


@pytest.mark.parametrize("value", [None, "set"])
def test_context_variables_hold_in_local_mode(value):
    """As they do on workers: those of the caller, and none of what a task sets."""

    def program():
        if value is not None:
            variable.set(value)
        local = flyte.with_runcontext("local")
        found = [local.run(task).outputs()[0] for task in (value_of, value_of_sync, in_all_ways)]
        return [*found, variable.get()]

    was = value or "by default"
    assert contextvars.copy_context().run(program) == [was, was, [was, *["by a task"] * 3], was]


@env.task
async def same(value: object) -> object:
    return value


def test_types_that_a_program_registers_come_back(monkeypatch):
    """By `copyreg`, for what pickle does not know."""
    monkeypatch.setitem(copyreg.dispatch_table, os.DirEntry, lambda entry: (Path, (entry.path,)))
    with os.scandir("/") as found:
        entry = next(found)

    assert run_cell(lambda: same(entry)) == Path(entry.path)


FACTOR, SETTINGS = 1, {"by": 1}


class Model:
    def apply(self, x: int) -> int:
        return x * FACTOR * SETTINGS["by"]


MODEL = Model()


@env.task(cache="auto")
async def kept(x: int) -> int:
    return MODEL.apply(x)


@env.task(cache="auto")
def kept_root(x: float) -> float:
    return math.sqrt(x)


@env.task
def roots() -> Iterator[float]:
    for x in (1, 4):
        yield math.sqrt(x)


class Scale:
    def __init__(self) -> None:
        self.by = 1

    async def __call__(self, x: int) -> int:
        return x * self.by


scale = Scale()
scaled = env.task(scale)


@env.task
async def sweep() -> list:
    global FACTOR
    seen = []
    for FACTOR in (1, 2):
        seen.append(await kept(7))
    return seen


def test_a_kept_result_is_that_of_the_state_of_the_call(tmp_path, monkeypatch):
    """A loop in one cell, or in a task, that changes what the code reads; a method of an object that is edited."""
    monkeypatch.setenv("FLYTE_NB_CACHE_DIR", str(tmp_path))

    async def cell():
        global FACTOR
        seen = []
        for FACTOR in (1, 2, 1):
            for SETTINGS["by"] in (1, 10):
                seen.append(await kept(7))
        FACTOR = SETTINGS["by"] = 1
        return seen, await sweep()

    assert run_cell(cell) == ([7, 70, 14, 140, 7, 70], [7, 14])
    monkeypatch.setattr(Model, "apply", lambda self, x: -x)
    assert run_cell(lambda: kept(7)) == -7

    async def others():
        seen = [await kept_root.aio(4), await scaled(3)]
        scale.by = 5
        with mock.patch("math.sqrt", lambda _: -1.0):
            seen += [await kept_root.aio(4), [each async for each in roots.aio()]]
        return [*seen, await scaled(3), await kept_root.aio(4)]

    assert run_cell(others) == [2.0, 3, -1.0, [-1.0, -1.0], 15, 2.0]


PICKLES = """
import dataclasses, pickle, sys
import flyte_nb as flyte
from beside_pickles import Point
from beside_registry import Model
env = flyte.TaskEnvironment("pickles")

@dataclasses.dataclass
class Own:
    x: int

def triple(x):
    return 3 * x

@env.task
def write(value: object) -> bytes:
    return pickle.dumps([value, Own(2), triple, Point(3)])

@env.task
def read(data: bytes) -> list:
    value, own, function, point = pickle.loads(data)
    return [value, isinstance(point, Point), function(own.x), own]

@env.task
async def twice(model: Model) -> Model:
    assert isinstance(model, Model)
    return Model(model.x * 2)

@env.task
async def four_times(model: Model) -> Model:
    return await twice(await twice(model))

if __name__ == "__main__":
    model = flyte.run(four_times, Model(3)).outputs()[0]
    data = flyte.run(write, Own(1)).outputs()[0]
    value, own, function, point = pickle.loads(data)
    there = flyte.run(read, data).outputs()[0]
    print(type(model) is Model, model.x, [value, own, function is triple, point], there, isinstance(there[0], Own))
"""


REGISTRY = """
import ctypes

class Model(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int)]
"""


def test_pickles_in_tasks_name_the_programs_classes(tmp_path):
    """As ``joblib.dump(model, path)`` does: written there and read here, and read there.

    A module whose classes are kept by their library, as SQLAlchemy's models, is imported from its file.
    """
    (tmp_path / "program.py").write_text(PICKLES)
    (tmp_path / "beside_pickles.py").write_text(
        "import dataclasses\n@dataclasses.dataclass\nclass Point:\n    x: int\n"
    )
    (tmp_path / "beside_registry.py").write_text(REGISTRY)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(flyte.__file__).parent.parent)},
    )  # fmt: skip
    expected = "True 12 [Own(x=1), Own(x=2), True, Point(x=3)] [Own(x=1), True, 6, Own(x=2)] True"
    assert done.stdout.strip().splitlines()[-1:] == [expected], done.stderr[-2000:]
