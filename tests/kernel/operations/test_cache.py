"""The result cache in real kernels: shared between them, with the notebook's own classes; ``%flyte cache``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.kernelclient import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
import asyncio, os, pathlib
from dataclasses import dataclass
import flyte_nb as flyte
env = flyte.TaskEnvironment("caching")

@dataclass
class Point:
    x: int

def executed():
    with open(os.environ["EXECUTED"], "a") as file:
        file.write("x")

@env.task(cache="auto")
async def point(x: int) -> Point:
    executed()
    return Point(x)

@env.task(cache="auto")
async def moved(p: Point, by: int) -> Point:
    executed()
    return Point(p.x + by)

@env.task
async def both(x: int) -> Point:
    return await moved(await point(x), 1)
"""


@pytest.fixture
def executed(tmp_path: Path) -> Path:
    """A file with a letter for each execution."""
    return tmp_path / "executed"


def kernel(tmp_path: Path) -> Kernel:
    started = Kernel.start(env={"FLYTE_NB_CACHE_DIR": str(tmp_path / "cache"), "EXECUTED": str(tmp_path / "executed")})
    started.run("%load_ext flyte_nb").ok()
    started.run(DEFINE).ok()
    return started


def test_another_kernel_finds_the_results(tmp_path, executed):
    """Of equal code in another notebook, the class of the result being that notebook's own."""
    with kernel(tmp_path) as nb:
        assert "Point(x=3)" == nb.run("await moved(await point(1), 2)").ok().result
        assert "Point(x=2)" == nb.run("await both(1)").ok().result
        nb.run(DEFINE).ok()
        assert "Point(x=2)" == nb.run("await both(1)").ok().result
        assert 3 == len(executed.read_text())
    with kernel(tmp_path) as nb:
        assert (
            "(True, True)"
            == nb.run("p = await point(1); (type(p) is Point, isinstance(await moved(p, 2), Point))").ok().result
        )
        assert "True" == nb.run("p = await both(1); type(p) is Point and p == Point(2)").ok().result
        assert 3 == len(executed.read_text())
        nb.run("def executed():\n    pass").ok()
        assert "Point(x=1)" == nb.run("await point(1)").ok().result
        assert "[False]" == nb.run("[a.cached for a in flyte.last_run().actions if a.kind == 'task']").ok().result


def test_the_magic_shows_and_clears(tmp_path):
    """As flyte_nb.cache does."""
    with kernel(tmp_path) as nb:
        assert "No results are kept" in nb.run("%flyte cache").stdout
        nb.run("await asyncio.gather(*(point(i) for i in range(3))); await point(0)").ok()
        nb.run("await point(0)").ok()

        shown = nb.run("%flyte cache").stdout
        assert "3 results in" in shown
        assert ["caching.point", "3"] == shown.splitlines()[2].split()[:2]
        assert (
            "('caching.point', 3, 2)" == nb.run("e, = flyte.cache.entries(); (e.task, e.entries, e.hits)").ok().result
        )
        assert "Nothing is kept of moved" in nb.run("%flyte cache clear moved").stdout
        assert "3 results dropped of point" in nb.run("%flyte cache clear point").stdout
        assert "0" == nb.run("flyte.cache.clear()").ok().result
        assert "shows what is kept" in nb.run("%flyte cache purge").stdout
