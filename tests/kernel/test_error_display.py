"""What a cell shows when actions fail, or when it is stopped. A real kernel, a real cluster."""

from __future__ import annotations

import re

import pytest

from flyte_nb.kernel.operations.nest import REMEDY
from tests.kernel.kernelclient import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
get_ipython().colors = "nocolor"
%load_ext flyte_nb
import asyncio, time
import flyte_nb as flyte
env = flyte.TaskEnvironment("demo")

@env.task
async def work(x: int, late: float = 0.0) -> int:
    if x in (3, 10):
        raise ValueError("bad")
    if x == 7:
        raise KeyError(x)
    await asyncio.sleep(late)
    return x

@env.task
def block(seconds: float) -> float:
    time.sleep(seconds)
    return seconds

@env.task
async def parent(n: int) -> int:
    return sum(await asyncio.gather(*(work(x) for x in range(n))))
"""

#: Frames of ours, of asyncio or IPython, as any traceback would name them.
MACHINERY = re.compile(
    r"(gateway|mailbox|task|prepare|calls|map|run|start|sigint|interrupts|loop|taskgroups|tasks|interactiveshell|threading)\.py"
)


@pytest.fixture(scope="module")
def nb(nb: Kernel) -> Kernel:
    """The kernel after a first action: its cluster has started."""
    nb.run("await work(1)").ok()
    return nb


def test_an_error_of_a_gather_says_how_many_failed_where_the_others_stand_and_what_helps(nb: Kernel) -> None:
    """Equal errors are folded; the user's frames only; the three commands."""
    cell = nb.run(
        "found = await asyncio.gather(*(work(x) for x in range(20)), return_exceptions=True)\n"
        "raise next(each for each in found if isinstance(each, Exception))"
    )
    lines = cell.error.traceback.splitlines()
    text = cell.error.traceback

    assert "ValueError: bad" in lines
    at = lines.index("3 of 20 failed:")
    assert re.fullmatch(r"  2 x ValueError: bad - first: a\d+ work\(3(, 0\.0)?\)", lines[at + 1])
    assert re.fullmatch(r"  KeyError: 7 - a\d+ work\(7(, 0\.0)?\)", lines[at + 2])
    assert "the others: 17 succeeded" == lines[at + 3]
    assert all(f"%flyte {command}" in lines[-1] for command in ("debug a", "replay a", "retry r")), lines[-1]
    assert lines[-1].startswith("%debug opens the frame that failed")
    assert not MACHINERY.search(text), text
    assert len(lines) < 35


def test_siblings_that_still_run_are_counted_as_such(nb: Kernel) -> None:
    """The first failure ends the cell while the others go on."""
    cell = nb.run("await asyncio.gather(work(3), *(work(x, 30.0) for x in (20, 21)))")

    assert "1 of 3 failed: ValueError: bad" in cell.error.traceback
    others = next(line for line in cell.error.traceback.splitlines() if line.startswith("the others: "))
    assert 2 == sum(map(int, re.findall(r"\d+", others)))
    nb.run("%flyte cancel").ok()


def test_a_nested_failure_counts_the_siblings_of_what_the_cell_awaited(nb: Kernel) -> None:
    """One call of the cell's: nothing to count, and the way through the actions is told."""
    text = nb.run("await parent(5)").error.traceback

    assert "awaited by" in text
    assert " of " not in text.partition("awaited by")[2].partition("%debug")[0]


def test_a_task_group_shows_its_children_and_the_cancelled_ones(nb: Kernel) -> None:
    """Folded, each with its place; the others were cancelled."""
    cell = nb.run(
        "async with asyncio.TaskGroup() as group:\n"
        "    for x in (3, 10, 30, 31):\n        group.create_task(work(x, 30.0))"
    )

    assert "ExceptionGroup" == cell.error.name
    assert "ValueError: bad" in cell.error.traceback
    assert "raise ValueError" in cell.error.traceback
    assert " of 4 failed" in cell.error.traceback
    assert re.search(r"the others: .*cancelled", cell.error.traceback)
    assert not MACHINERY.search(cell.error.traceback)


def test_rows_name_the_cell_and_not_ipykernels_file(nb: Kernel) -> None:
    """`ErrorNote.where` is "In [1]:10 in work", of the action and of its attempt."""
    nb.run("await asyncio.gather(work(3), return_exceptions=True)").ok()

    where = nb.run("a = flyte.last_run().actions[1]; a.error.where, a.attempt.error.where").ok().result
    assert re.fullmatch(r"\('In \[\d+\]:10 in work', 'In \[\d+\]:10 in work'\)", where or ""), where
    assert "'w" == (nb.run("(await asyncio.gather(work(3), return_exceptions=True))[0].worker").ok().result or "")[:2]


def test_pdb_on_opens_the_remote_frame(nb: Kernel) -> None:
    """As for a local failure, with the remote locals; `%debug` afterwards does so too."""
    nb.run("%pdb on").ok()
    try:
        cell = nb.run("await work(3)", inputs=["p x * 1000", "q"])
    finally:
        nb.run("%pdb off").ok()
    again = nb.run("%debug", inputs=["p x * 100", "q"]).ok()

    assert "3000" in cell.stdout
    assert "300" in again.stdout
    assert "ValueError" in cell.error.traceback


@pytest.mark.parametrize(
    "code",
    [
        "await work(1, 60.0)",
        "await asyncio.gather(*(work(x, 60.0) for x in (1, 2)))",
        "block(60.0)",
        "list(flyte.map(block, [60.0, 61.0]))",
        "async with asyncio.TaskGroup() as g:\n    g.create_task(work(1, 60.0))",
        "flyte.run(block, 60.0).wait()",
        "await flyte.run(work, 1, 60.0)",
        "await asyncio.sleep(0); time.sleep(60)",
    ],
)
def test_a_stopped_cell_shows_the_users_frames_only(nb: Kernel, code: str) -> None:
    """Whatever it was waiting for."""
    cell = nb.begin(f"print('begun')\n{code}")
    cell.wait_for(lambda: "begun" in cell.stdout)
    nb.interrupt()
    cell.wait()

    assert cell.error.name in ("KeyboardInterrupt", "CancelledError")
    assert cell.error.name == "KeyboardInterrupt" or "the cell was stopped" in cell.error.traceback
    assert code.splitlines()[0] in cell.error.traceback
    assert not MACHINERY.search(cell.error.traceback), cell.error.traceback
    assert "skipping hidden" not in cell.error.traceback


def test_asyncio_run_in_a_cell_is_answered_with_the_remedy(nb: Kernel) -> None:
    """The advisor comes with the extension."""
    assert 1 == nb.run("asyncio.run(work(1))").stderr.count(REMEDY)


def test_stop_while_the_cluster_starts_ends_the_cell_and_not_the_cluster() -> None:
    """The button's SIGINT reaches the whole process group, workers that are just starting included."""
    with Kernel.start() as kernel:
        kernel.run(DEFINE).ok()
        cell = kernel.begin("print('begun')\nawait work(1)")
        cell.wait_for(lambda: "begun" in cell.stdout)
        kernel.interrupt()
        cell.wait()

        assert "4" == kernel.run("await work(4)").ok().result
