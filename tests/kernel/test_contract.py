"""T33 of the contract: tasks defined in cells, awaited at top level, redefined between runs, in a real kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.kernelclient import Kernel

pytestmark = pytest.mark.kernel

SETUP = """
import asyncio, os, functools
from dataclasses import dataclass
import flyte_nb as flyte
env = flyte.TaskEnvironment("cells")
"""

DEFINITIONS = """
@dataclass
class Point:
    x: int

class CellError(Exception):
    pass

FACTOR = 2

def helper(x):
    return x * FACTOR

@env.task
async def scale(p: Point) -> Point:
    return Point(helper(p.x))

@env.task
def sync_scale(x: int) -> int:
    return helper(x)

@env.task
async def fails(x: int) -> int:
    raise CellError(f"no {x}")

@env.task
async def everything(n: int) -> list:
    a = await asyncio.gather(*(scale(Point(i)) for i in range(n)))
    b = await asyncio.gather(*(sync_scale.aio(i) for i in range(n)))
    c = [r async for r in flyte.map.aio(sync_scale, range(n), concurrency=2)]
    d = list(flyte.map(functools.partial(sync_scale), range(n)))
    try:
        await fails(1)
    except CellError as exc:
        e = (type(exc).__name__, exc.code)
    return [[p.x for p in a], b, c, d, e]
"""

EVERYTHING = "[[0, 2, 4], [0, 2, 4], [0, 2, 4], [0, 2, 4], ('RuntimeUserError', 'CellError')]"


@pytest.fixture(scope="module")
def notebook() -> Iterator[Kernel]:
    """A kernel with the extension loaded and an environment defined."""
    with Kernel.start() as kernel:
        kernel.run("%load_ext flyte_nb").ok()
        kernel.run(SETUP).ok()
        kernel.run(DEFINITIONS).ok()
        yield kernel


def test_t33_everything_works_from_cells(notebook: Kernel) -> None:
    """Classes, helpers and globals of cells travel; results have the cell's own classes."""
    assert notebook.run("await everything(3)").ok().result == EVERYTHING
    assert notebook.run("p = await scale(Point(5)); (p, isinstance(p, Point))").ok().result == "(Point(x=10), True)"
    assert notebook.run("await asyncio.gather(scale(Point(1)), sync_scale.aio(2))").ok().result == "[Point(x=2), 4]"
    assert notebook.run("[r async for r in flyte.map.aio(sync_scale, range(3))]").ok().result == "[0, 2, 4]"
    assert notebook.run("list(flyte.map(sync_scale, range(3)))").ok().result == "[0, 2, 4]"
    assert notebook.run("sync_scale(4)").ok().result == "8"
    assert notebook.run("flyte.run(everything, n=3).outputs()[0]").ok().result == EVERYTHING
    assert notebook.run("r = await flyte.run.aio(sync_scale, 3); (await r.outputs.aio())[0]").ok().result == "6"
    code = "try:\n    await fails(3)\nexcept CellError as exc:\n    print(exc.code, exc)"
    assert notebook.run(code).ok().stdout.strip() == "CellError no 3"


def test_t33_what_a_cell_redefines_is_used_from_then_on(notebook: Kernel) -> None:
    """A global, a helper, a task, a class."""
    notebook.run("FACTOR = 10").ok()
    assert notebook.run("await sync_scale.aio(1)").ok().result == "10"
    notebook.run("def helper(x):\n    return x + 1").ok()
    assert notebook.run("await sync_scale.aio(1)").ok().result == "2"
    notebook.run("@env.task\ndef sync_scale(x: int) -> str:\n    return f'new {x}'").ok()
    assert notebook.run("await sync_scale.aio(1)").ok().result == "'new 1'"
    notebook.run("@dataclass\nclass Point:\n    x: int\n    y: int = 7").ok()
    notebook.run("@env.task\nasync def scale(p: Point) -> Point:\n    return Point(p.x, p.y + 1)").ok()
    assert notebook.run("await scale(Point(1))").ok().result == "Point(x=1, y=8)"
    notebook.run(DEFINITIONS).ok()
    assert notebook.run("await everything(3)").ok().result == EVERYTHING


def test_t33_the_kernel_stays_responsive(notebook: Kernel) -> None:
    """An interrupt ends the awaiting cell, cancels its actions, and the next cell works."""
    notebook.run("@env.task\nasync def sleeps(s: float) -> int:\n    await asyncio.sleep(s)\n    return 1").ok()
    cell = notebook.begin(
        "tasks = [asyncio.ensure_future(sleeps(600)) for _ in range(3)]\n"
        "await asyncio.sleep(0)\n"
        "while sum(a.phase == 'running' for a in flyte.last_run().actions[1:]) < 3:\n"
        "    await asyncio.sleep(0.01)\n"
        "print('go', flush=True)\n"
        "await asyncio.gather(*tasks)"
    )
    cell.wait_for(lambda: "go" in cell.stdout)
    notebook.interrupt()
    cell.wait()

    assert cell.status == "error"
    assert notebook.run("await everything(3)").ok().result == EVERYTHING
    run = "list(flyte.runs().values())[-2]"
    assert (
        notebook.run(f"r = {run}; r.wait(); sorted({{a.phase.value for a in r.actions[1:]}})").ok().result
        == "['aborted']"
    )
