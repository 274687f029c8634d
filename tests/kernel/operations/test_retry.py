"""From "3 of 20 failed" to a complete list: retry with the code of now, in a real kernel on a real cluster."""

from __future__ import annotations

import pytest

from tests.kernel.kernelclient import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
%load_ext flyte_nb
import asyncio, os
from pathlib import Path
import flyte_nb as flyte
env = flyte.TaskEnvironment("demo")
counts = Path("counts"); counts.mkdir(exist_ok=True)

def mark(name):
    with open(counts / name, "a") as file:
        file.write("x")

def computed(name):
    return {path.name: len(path.read_text()) for path in sorted(counts.glob(name + "*"))}
counts = counts.absolute()
"""

BROKEN = """
@env.task
async def work(x: int) -> int:
    mark(f"work{x:02}")
    if x % 7 == 3:
        raise ValueError(f"bad {x}")
    return x * 10
"""

FIXED = BROKEN.replace("raise ValueError", "return -x; raise ValueError")


def test_retry_runs_the_failed_ones_with_new_code_and_the_list_is_complete(nb: Kernel) -> None:
    """`%flyte retry` computes 3 of 20 again; `await run` gives 20 results in call order; nothing else was computed twice."""
    nb.run(BROKEN).ok()
    failed = nb.run("await asyncio.gather(*(work(x) for x in range(20)), return_exceptions=False)").wait()
    assert "bad" in failed.error.value
    nb.run(FIXED).ok()

    retried = nb.run("%flyte retry").ok()
    results = nb.run("print(await flyte.last_run())").ok().stdout.strip()

    assert "Retrying 3 actions of r1" in retried.stdout
    assert str([-x if x % 7 == 3 else x * 10 for x in range(20)]) == results
    assert (
        str({f"work{x:02}": 2 if x % 7 == 3 else 1 for x in range(20)})
        == nb.run("print(computed('work'))").ok().stdout.strip()
    )
    retried.wait_for(lambda: "succeeded" in retried.views)
    assert "succeeded" in nb.run("%flyte runs").ok().stdout


def test_there_is_nothing_to_retry_when_nothing_failed(nb: Kernel) -> None:
    """A sentence, not a traceback."""
    nb.run(FIXED).ok()
    nb.run("await work(1)").ok()

    assert "nothing to retry" in nb.run("%flyte retry").ok().stdout
    assert "no run or action r99" in nb.run("%flyte retry r99").ok().stdout


NESTED = """
@env.task
async def leaf(x: int) -> int:
    mark(f"leaf{x}")
    if x == 2 and BROKEN:
        raise RuntimeError("leaf 2 is broken")
    return x

@env.task
async def tree(n: int) -> int:
    mark("tree")
    found = await asyncio.gather(*(leaf(x) for x in range(n)), return_exceptions=True)
    for value in found:
        if isinstance(value, Exception):
            raise value
    return sum(found)
"""


def test_children_that_succeeded_are_recalled_though_their_task_was_redefined(nb: Kernel) -> None:
    """Only the parent's body and the failed child run again, in a cell's run and in a run of its own."""
    for start, number in (("await tree(4)", 1), ("run = flyte.run(tree, 4); run.wait()", 2)):
        nb.run("import shutil; [path.unlink() for path in counts.iterdir()]").ok()
        nb.run("BROKEN = True" + NESTED).ok()
        nb.run(start).wait()
        nb.run("BROKEN = False" + NESTED.replace("return x\n", "return x + 100\n")).ok()

        again = nb.run("run = flyte.last_run(); value = await run.retry_failed(); value").ok().result

        assert ("[106]" if number == 1 else "106") == again  # 0 + 1 + 102 + 3
        counted = nb.run("print(computed('leaf'), computed('tree'))").ok().stdout.strip()
        assert "{'leaf0': 1, 'leaf1': 1, 'leaf2': 2, 'leaf3': 1} {'tree': 2}" == counted


def test_large_arguments_and_results_are_kept_while_the_run_lives(nb: Kernel) -> None:
    """A megabyte each way: the retry gets its argument, the complete list its results."""
    nb.run(
        "@env.task\nasync def big(data: bytes, x: int) -> bytes:\n    if x == 1 and GOOD == 0:\n        raise ValueError('big')\n"
        "    return data + bytes([x])\nGOOD = 0"
    ).ok()
    nb.run("await asyncio.gather(*(big(os.urandom(1_000_000), x) for x in range(3)))").wait()
    nb.run("GOOD = 1").ok()

    lengths = nb.run("[(len(v), v[-1]) for v in await flyte.last_run().retry_failed()]").ok().result

    assert "[(1000001, 0), (1000001, 1), (1000001, 2)]" == lengths


def test_one_action_can_be_retried_and_may_fail_again(nb: Kernel) -> None:
    """`%flyte retry a3`: its neighbours that failed stay as they are, and `results` says how many are missing."""
    nb.run(BROKEN).ok()
    nb.run("await asyncio.gather(*(work(x) for x in (1, 3, 10)))").wait()
    nb.run(FIXED).ok()

    name = nb.run("run = flyte.last_run(); next(a.id for a in run.actions if a.label == 'work(10)')").ok().result
    nb.run(f"%flyte retry {name}").ok()
    missing = nb.run("await run.results.aio()").error
    assert (
        "([], 1)"
        == nb.run(
            "await run.results.aio(task='other'), len(await run.results.aio(task='work', return_exceptions=True)) - 2"
        )
        .ok()
        .result
    )
    mixed = nb.run(
        "[v if isinstance(v, int) else type(v).__name__ for v in await run.results.aio(return_exceptions=True)]"
    )

    assert "bad 3" in missing.value
    assert "1 of 3 calls" in missing.traceback
    assert "[10, 'RuntimeUserError', -10]" == mixed.ok().result


def test_the_retry_button_does_the_same(nb: Kernel) -> None:
    """`retry_failed` and `retry_action` as the view sends them."""
    nb.run(BROKEN).ok()
    nb.run("await asyncio.gather(*(work(x) for x in (1, 3, 10)))").wait()
    nb.run(FIXED).ok()
    press = "session = flyte.kernel.session.Session.current; run = flyte.last_run(); session.gateway.ask(session.command, run.name, {op!r}, {args})"

    first = nb.run(
        press.format(op="retry_action", args="{'action': [a.name for a in run.actions if a.label == 'work(3)'][0]}")
    )
    nb.run("run.wait()").ok()
    second = nb.run(press.format(op="retry_failed", args={}))
    done = nb.run("await run").ok().result
    third = nb.run(press.format(op="retry_failed", args={}))

    assert "{'ok': True}" == first.ok().result
    assert "{'ok': True}" == second.ok().result
    assert "[10, -3, -10]" == done
    assert "nothing to retry" in (third.ok().result or "")


def test_siblings_that_a_task_group_cancelled_are_retried_too(nb: Kernel) -> None:
    """The first failure cancels the others: the complete list needs them."""
    nb.run(
        "@env.task\nasync def slow(x: int) -> int:\n    if x == 0 and FAILS:\n        raise KeyError('first')\n"
        "    if FAILS:\n        await asyncio.sleep(60)\n    return x\nFAILS = True"
    ).ok()
    nb.run("async with asyncio.TaskGroup() as g:\n    for x in range(3):\n        g.create_task(slow(x))").wait()
    nb.run("FAILS = False").ok()

    assert "[0, 1, 2]" == nb.run("await flyte.last_run().retry_failed()").ok().result


def test_a_cell_cannot_wait_for_its_own_run(nb: Kernel) -> None:
    """A sentence instead of a cell that hangs."""
    nb.run(FIXED).ok()

    for wait in ("await flyte.last_run()", "flyte.last_run().wait()", "flyte.last_run().outputs()"):
        assert "this very cell" in nb.run(f"await work(1); {wait}").error.value


def test_what_a_cell_left_running_can_be_aborted_from_the_next(nb: Kernel) -> None:
    """`abort` of the run of a cell does what its Cancel button does."""
    nb.run("@env.task\nasync def forever() -> None:\n    await asyncio.sleep(60)").ok()
    nb.run(
        "before = flyte.last_run(); left = asyncio.create_task(forever())\n"
        "while flyte.last_run() is before: await asyncio.sleep(0.01)"
    ).ok()
    ended = nb.run(
        "flyte.last_run().abort('enough'); await asyncio.wait([left], timeout=20); repr(left.exception())"
    ).ok()

    assert "ActionAbortedError" in (ended.result or "")
    assert "enough" in (ended.result or "")


def test_runs_of_a_closed_cluster_are_not_retried(nb: Kernel) -> None:
    """A sentence instead of a wait for an engine that is gone; the new cluster begins anew."""
    nb.run(BROKEN).ok()
    nb.run("await asyncio.gather(work(3), return_exceptions=True); old = flyte.last_run()").ok()
    nb.run("%flyte cluster restart").ok()

    assert "was closed since" in nb.run("old.retry_failed()").error.value
    assert "No runs yet" in nb.run("%flyte retry").ok().stdout
    nb.run(FIXED).ok()
    assert "-3" == nb.run("await work(3)").ok().result
