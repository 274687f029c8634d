"""What runs out or never ends costs one action, and is told in a sentence; the next cell is right.

`bench/chaos/exhaustion.py` is the long form, with disks and shared memory that are full.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.kernelclient import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
%load_ext flyte_nb
import asyncio, itertools, os, resource, socket, sys
import numpy as np
import flyte_nb as flyte
env = flyte.TaskEnvironment("demo")

@env.task
async def ok(i: int) -> int:
    return i + 1

@env.task
def make(mb: int) -> np.ndarray:
    return np.ones(mb * 131_072)

@env.task
async def endless(kind: str) -> int:
    class Odd(Exception):
        def __str__(self):
            while kind == "str":
                pass
            raise SystemExit(3)
    raise Odd(1)

@env.task
async def wrong() -> int:
    class Odd:
        def __repr__(self):
            while True:
                pass
    return Odd()

@env.task
async def large() -> int:
    a = np.zeros(131_072 * 500)
    raise ValueError("with a large local")
"""


@pytest.fixture(autouse=True)
def _next_cell_is_right(nb: Kernel) -> Iterator[None]:
    yield
    assert "190" == nb.run("sum(await asyncio.gather(*(ok(i) for i in range(19))))").ok().result


def test_texts_that_never_end(nb: Kernel) -> None:
    """A `str` or `repr` that does not end, or exits, is given up; a local of 500 MB is not touched."""
    assert "<str() of this Odd did not end within 1 s>" in nb.run("await endless('str')").error.value
    assert "<str() of this Odd raised SystemExit>" in nb.run("await endless('exit')").error.value
    assert "Odd" in nb.run("await wrong()").error.value
    assert "with a large local" == nb.run("await large()").error.value


def test_an_endless_generator_is_mapped(nb: Kernel) -> None:
    """Without `concurrency=` too: what is in flight is bounded, and results come."""
    code = "import itertools\nn = 0\nfor v in flyte.map(ok, itertools.count()):\n    n += v\n    if v == 100: break\nn"

    assert "5050" == nb.run(code).ok().result
    code = "n = 0\nasync for v in flyte.map(ok, iter(range(10_000))):\n    n += 1\nn"
    assert "10000" == nb.run(code).ok().result


def test_few_descriptors(nb: Kernel) -> None:
    """Arrays that are kept hold a descriptor each as long as there are enough; then they are read."""
    nb.run("import psutil; limit = psutil.Process().num_fds() + 120").ok()
    nb.run(
        "before = resource.getrlimit(resource.RLIMIT_NOFILE); resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))"
    ).ok()
    kept = nb.run("v = await asyncio.gather(*(make.aio(9) for _ in range(60))); sum(x[-1] for x in v)").ok()
    free = nb.run("limit - psutil.Process().num_fds()").ok().result
    nb.run("v = None; resource.setrlimit(resource.RLIMIT_NOFILE, before)").ok()

    assert "60.0" in str(kept.result)
    assert int(str(free)) > 50
