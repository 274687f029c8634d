"""``%%flyte recover`` in a real kernel: a cell runs again, and what succeeded before is not executed again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flyte_nb.kernel.cells.shell_hooks import one_line_magic
from tests.kernel.kernelclient import Execution, Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
import asyncio, os, pathlib
import flyte_nb as flyte
flyte.init(on_failure="raise")
env = flyte.TaskEnvironment("recovering")
path = os.path.abspath("executed")

@env.task
async def step(x: int) -> int:
    with open(path, "a") as file:
        file.write(f"step{x} ")
    return x * 10

@env.task
async def total(xs: list[int]) -> int:
    return BODY

@env.task
async def nested(n: int) -> int:
    found = await asyncio.gather(*(step(100 + i) for i in range(n)))
    return BODY
"""
CELL = "xs = await asyncio.gather(*(step(i) for i in range(3)))\n(await total(xs), await nested(2))"
EXECUTED = "print(pathlib.Path(path).read_text())"


@pytest.fixture(scope="module")
def nb() -> Iterator[Kernel]:
    """A kernel with the extension loaded."""
    with Kernel.start() as kernel:
        kernel.run("%load_ext flyte_nb").ok()
        yield kernel


def run(nb: Kernel, code: str, cell_id: str | None = None) -> Execution:
    return nb.begin(code, cell_id=cell_id).wait()


@pytest.mark.parametrize("cell_id", ["cell-1", None], ids=["id", "no id"])
def test_recover_executes_only_what_did_not_succeed(nb, cell_id):
    """After a fix the rest runs; the cell is still a cell, with await and a value."""
    nb.run(DEFINE.replace("BODY", "undefined")).ok()
    nb.run("pathlib.Path(path).write_text('')").ok()
    assert "'undefined' is not defined" in run(nb, CELL, cell_id).error.value
    nb.run(DEFINE.replace("BODY", "sum(xs if 'xs' in locals() else found)")).ok()

    cell = run(nb, f"%%flyte recover\n{CELL}", cell_id).ok()

    assert "(30, 2010)" == cell.result
    assert "Recovering r" in cell.stdout
    assert nb.run("%flyte runs").stdout.strip().endswith("xs = await asyncio.gather(*(step(i) for i in range(3)))")
    assert ["step0", "step1", "step2", "step100", "step101"] == sorted(
        nb.run(EXECUTED).stdout.split(), key=lambda s: (len(s), s)
    )
    assert "recovered" in nb.run("print([a.phase.value for a in flyte.last_run().actions])").stdout


def test_recover_of_nested_children(nb):
    """Children of a parent whose code was mended are reused too."""
    nb.run(DEFINE.replace("BODY", "undefined")).ok()
    nb.run("pathlib.Path(path).write_text('')").ok()
    run(nb, "await nested(3)", "cell-2")
    nb.run(DEFINE.replace("BODY", "sum(found)")).ok()

    assert "3030" == run(nb, "%%flyte recover\nawait nested(3)", "cell-2").ok().result
    assert 3 == len(nb.run(EXECUTED).stdout.split())


HELPERS = """
class Helper:
    def go(self, x):
        return x * FACTOR
helper = Helper()
@env.task
async def helped(x: int) -> int:
    return helper.go(x)
@env.task
async def alone(x: int) -> int:
    with open(path, "a") as file:
        file.write("alone ")
    return x
"""


def test_what_an_edited_helper_has_computed_is_computed_again(nb):
    """Also in the kernel that computed it, and where the helper is a method of an object; what does not use it is kept."""
    nb.run(DEFINE.replace("BODY", "0")).ok()
    nb.run(HELPERS.replace("FACTOR", "2")).ok()
    nb.run("pathlib.Path(path).write_text('')").ok()
    cell = "print([await helped(3), await alone(4)])"
    assert "[6, 4]" in run(nb, cell, "cell-helped").ok().stdout
    nb.run(HELPERS.replace("FACTOR", "5")).ok()

    again = run(nb, f"%%flyte recover\n{cell}", "cell-helped").ok().stdout
    assert "[15, 4]" in again
    assert "The code of recovering.helped has changed since" in again
    last = run(nb, f"%%flyte recover\n{cell}", "cell-helped").ok().stdout
    assert "[15, 4]" in last
    assert "has changed" not in last
    assert nb.run(EXECUTED).ok().stdout.split() == ["alone"]


def test_without_a_previous_run_the_cell_runs_in_full(nb):
    """And says so; an unknown run likewise."""
    cell = run(nb, "%%flyte recover\nawait step(7)", "cell-new").ok()

    assert "70" == cell.result
    assert "no previous run" in cell.stdout
    assert "no run or action r99999" in run(nb, "%%flyte recover r99999\nawait step(8)", "cell-new-2").ok().stdout


def test_traced_calls_of_a_cell_are_reused(nb):
    """Plain functions too, if they are traced."""
    nb.run("@flyte.trace\ndef traced(x):\n    print('executed')\n    return x + 1").ok()
    assert "executed" in run(nb, "traced(1)\n1 / 0", "cell-traced").stdout

    cell = run(nb, "%%flyte recover\ntraced(1)", "cell-traced").ok()

    assert "2" == cell.result
    assert "executed" not in cell.stdout


def test_too_late_in_a_cell(nb):
    """Once the cell has called a task, its run has begun."""
    run(nb, "await step(9)", "cell-late").ok()

    assert "has called tasks already" in run(nb, "await step(9)\n%flyte recover", "cell-late").ok().stdout


def test_only_the_first_line_is_read_so():
    """Other cells are left alone."""
    assert ["%flyte recover\n", "x\n"] == one_line_magic(["%%flyte recover\n", "x\n"])
    for lines in ([], ["%%time\n", "x\n"], ["x\n", "%%flyte recover\n"], ["%%flyter\n"]):
        assert lines == one_line_magic(lines)
