"""Calls that nobody awaited and errors that nobody saw are told under the next cell. A real kernel, a real cluster."""

from __future__ import annotations

import pytest

from tests.kernel.kernelclient import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
%load_ext flyte_nb
import asyncio, gc
import flyte_nb as flyte
env = flyte.TaskEnvironment("demo")

@env.task
async def square(x: int) -> int:
    return x * x

@env.task
async def bad(x: int) -> int:
    raise ValueError(f"no {x}")
"""


@pytest.mark.parametrize("code", ["square(3)", "square(3); None", "x = 1\nfor n in range(1):\n    square(n)"])
def test_a_call_that_was_not_awaited_is_told_with_cell_and_line(nb: Kernel, code: str) -> None:
    """As the cell's result, and in the middle of it."""
    cell = nb.run("gc.collect()\n" + code + "\n").ok()

    line = 2 + code.count("\n")
    prompt = (cell.reply or {})["execution_count"]
    assert f"square(...), called at In [{prompt}]:{line}, was never awaited, so it did not run" in cell.stderr
    assert "`await square(...)`" in cell.stderr
    assert "never awaited" not in nb.run("1").ok().stderr


def test_what_is_kept_in_a_variable_may_be_awaited_later(nb: Kernel) -> None:
    """And is told when it was thrown away."""
    assert "never awaited" not in nb.run("a, b = square(3), square(4)").ok().stderr
    assert "9" == nb.run("await a").ok().result
    gone = nb.run("del b; gc.collect(); None").ok()

    assert 1 == gone.stderr.count("was never awaited, so it did not run")


def test_what_came_to_nothing_has_no_number(nb: Kernel) -> None:
    """The next run has the number that the call's would have had."""
    name = "flyte.run(square, 2).name"
    before = int((nb.run(name).ok().result or "").strip("'r"))
    nb.run("square(3); None").ok()
    assert nb.run(name).ok().result == f"'r{before + 1}'"


def test_a_cell_that_failed_owes_nothing(nb: Kernel) -> None:
    """Its calls were on their way."""
    assert "did not run" not in nb.run("waiting = [square(1), 1 / 0]").stderr


def test_awaited_calls_are_not_mentioned(nb: Kernel) -> None:
    """Whatever awaits them; failures that were seen included."""
    cell = nb.run(
        "await square(1); await asyncio.gather(*(square(x) for x in range(5)))\n"
        "await asyncio.gather(bad(1), bad(2), return_exceptions=True)\n"
        "task = asyncio.create_task(bad(3))\n"
        "try:\n    await task\nexcept ValueError:\n    pass\n"
        "async def seen():\n    try:\n        await bad(4)\n    except ValueError:\n        return 4\n"
        "await asyncio.create_task(seen())\n"
        "done, _ = await asyncio.wait([asyncio.create_task(bad(5))])\n[task.exception() for task in done]; None"
    ).ok()

    assert "flyte_nb:" not in cell.stderr
    assert "flyte_nb:" not in nb.run("gc.collect(); None").ok().stderr


def test_a_background_failure_is_told_under_the_next_cell(nb: Kernel) -> None:
    """Once, with the action, where it was started, and what opens it."""
    started = nb.run("import asyncio\ntask = asyncio.create_task(bad(7))\n").ok()
    nb.run("await asyncio.wait([task], timeout=20); None").ok()
    nb.run("1").ok()
    told = "".join(execution.stderr for execution in nb._executions.values())

    prompt = (started.reply or {})["execution_count"]
    line = next(line for line in told.splitlines() if "no 7" in line)
    assert f"bad(7), started at In [{prompt}]:2, failed in the background" in line
    assert "ValueError: no 7" in line
    assert "`%flyte debug a1`" in line
    assert 1 == told.count("no 7")
