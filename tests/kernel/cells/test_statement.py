"""Titles of runs: the statement of the cell that makes the first call, unless the cell's author has named it."""

from __future__ import annotations

import re

import pytest

from tests.kernel.kernelclient import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
%load_ext flyte_nb
import asyncio, contextlib
import flyte_nb as flyte
flyte.init(n_workers=1)
env = flyte.TaskEnvironment("titles")
@env.task
async def f(x: int) -> int:
    return x
@env.task
def g(x: int) -> int:
    return x
def helper(n):
    return [g(i) for i in range(n)]
async def both(n):
    return await asyncio.gather(*(f(i) for i in range(n)))
"""

CELLS = [
    ("try:\n    y = await f(1)\nexcept OSError:\n    pass", "y = await f(1)"),
    ("n = 2\ny = await asyncio.gather(\n    *(f(i) for i in range(n)),\n)", "y = await asyncio.gather("),
    ("x = 1\nfor i in range(2):\n    helper(i + 1)", "helper(i + 1)"),
    ("with flyte.group('x'):\n    # both\n    await asyncio.gather(f(1), f(2))", "await asyncio.gather(f(1), f(2))"),
    ("t = asyncio.create_task(both(2))\nq = 1\nawait t", "await t"),
    ("x = 1; total = sum(flyte.map(g, range(3)))", "x = 1; total = sum(flyte.map(g, range(3)))"),
    ("# %% My fit\nx = 1\nawait f(1)", "My fit"),
    ("# plain words\nx = 1\nawait f(1)", "plain words"),
    ("key = 'x'\nawait f(int(len('sk-abcdefghijklmnopqrstuvwx1234')))", "await f("),
    ("async def inner():\n    return await f(9)\nawait inner()", "await inner()"),
    ("async with asyncio.TaskGroup() as group:\n    group.create_task(f(1))", "group.create_task(f(1))"),
]


def test_a_run_is_called_by_the_statement_that_makes_its_first_call() -> None:
    """In a body, a helper, a comprehension, a task of the loop's own; a comment in the first line wins."""
    with Kernel.start() as nb:
        nb.run(DEFINE).ok()
        for number, (cell, _) in enumerate(CELLS):
            nb.run(cell, cell_id=f"c{number}").ok()
        lines = nb.run("%flyte runs").ok().stdout.splitlines()
    titles = [re.split(r" actions? +In \[\d+\] +", line, maxsplit=1)[1] for line in lines if line]
    assert len(titles) == len(CELLS)
    for title, (_, expected) in zip(titles, CELLS, strict=True):
        assert title.startswith(expected) if expected.endswith("(") else title == expected
    assert not any("sk-abc" in title for title in titles)
