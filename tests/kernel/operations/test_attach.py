"""``breakpoint()`` in a remote action: it stops, is attached to from a cell, and goes on. A real kernel, a real cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.kernelclient import WORKERS, Kernel, run_unattended

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
%load_ext flyte_nb
get_ipython().colors = "nocolor"
import asyncio, os
import flyte_nb as flyte
env = flyte.TaskEnvironment("demo")

async def until(condition):
    while not condition():
        await asyncio.sleep(0.02)

def at_breakpoint(run):
    return [a for a in run.actions if a.phase == "paused" and a.note.startswith("breakpoint")]

@env.task
async def halting(x: int) -> int:
    y = x * 2
    breakpoint()
    await asyncio.sleep(0.01)
    z = y + 1
    return z

@env.task
def sync_halting(x: int) -> int:
    for step in range(2):
        breakpoint()
    return x + step

@env.task
async def square(x: int) -> int:
    return x * x

@env.task
async def both(x: int) -> int:
    waiting = asyncio.create_task(halting(x))
    return await square(x) + await waiting

flyte.init(n_workers=1)
"""


def test_the_live_frame_is_looked_at_and_changed_and_the_action_goes_on(nb: Kernel) -> None:
    """p, n over an await, list, up to the end; the slot is free meanwhile: a sibling runs on the only worker."""
    nb.run("run = flyte.run(both, 21); await until(lambda: at_breakpoint(run))").ok()
    nb.run("await until(lambda: any(a.label == 'square(21)' and a.phase == 'succeeded' for a in run.actions))").ok()
    note = nb.run("at_breakpoint(run)[0].note").ok().result

    typed = ["p x, y", "n", "y = 100", "where", "n", "p z", "list", "n", "where", "n", "c"]
    cell = nb.run("%flyte attach", inputs=typed).ok()

    assert note is not None
    assert ".py:4" in note or "In [" in note or ":1" in note
    assert "(21, 42)" in cell.stdout
    assert "\n101\n" in cell.stdout
    assert "z = y + 1" in cell.stdout
    assert "goes on" in cell.stdout
    assert "542" == nb.run("await run").ok().result  # 21 * 21 + 101


def test_a_sync_action_stops_again_and_quit_lets_it_go_on(nb: Kernel) -> None:
    """`q` does not end the action; the second round of its loop stops anew."""
    nb.run("run = flyte.run(sync_halting, 5); await until(lambda: at_breakpoint(run))").ok()
    assert "(breakpoint at In [" in nb.run("%flyte resume a0 7").ok().stdout
    first = nb.run("%flyte attach a0", inputs=["p step", "q"]).ok()
    nb.run("await until(lambda: at_breakpoint(run))").ok()
    second = nb.run("%flyte attach a0", inputs=["p step * 50", "c"]).ok()

    assert "\n0\n" in "\n" + first.stdout
    assert "50\n" in second.stdout
    assert "6" == nb.run("await run").ok().result


def test_stop_at_the_prompt_detaches(nb: Kernel) -> None:
    """The stop button lets the action go on; the next cell works."""
    nb.run("run = flyte.run(halting, 5); await until(lambda: at_breakpoint(run))").ok()
    cell = nb.begin("%flyte attach", inputs=["import time; time.sleep(5)"])
    cell.wait_for(lambda: cell.prompts and not cell.inputs)
    nb.interrupt()
    cell.wait(20)

    assert "Detached" in cell.stdout
    assert "11" == nb.run("await run", timeout=20).ok().result


def test_nobody_attaches(nb: Kernel) -> None:
    """After ``breakpoint_wait`` seconds it goes on, and says so in its log."""
    nb.run("run = flyte.with_runcontext(breakpoint_wait=0.3).run(halting, 5)").ok()

    assert "11" == nb.run("await run", timeout=20).ok().result
    assert "nobody attached within 0.3 s; it goes on" in nb.run("%flyte logs a0").ok().stdout
    assert "No action stands at a breakpoint" in nb.run("%flyte attach").ok().stdout
    assert "stands at no breakpoint" in nb.run("%flyte attach a0").ok().stdout


def test_off_lets_everything_of_a_run_go_on(nb: Kernel) -> None:
    """For a gather in which every action stops."""
    nb.run(
        "@env.task\nasync def many() -> int:\n    return sum(await asyncio.gather(*(halting(x) for x in range(4))))\n"
        "run = flyte.run(many); await until(lambda: at_breakpoint(run))"
    ).ok()
    nb.run("%flyte attach off").ok()

    assert "16" == nb.run("await run", timeout=20).ok().result


def test_a_stopped_action_can_be_cancelled(nb: Kernel) -> None:
    """And its worker lives on."""
    nb.run("run = flyte.run(sync_halting, 5); await until(lambda: at_breakpoint(run))").ok()
    before = nb.run(WORKERS).ok().result
    nb.run("%flyte cancel").ok()
    nb.run("await until(run.done)", timeout=20).ok()

    assert before == nb.run(WORKERS).ok().result
    assert "'aborted'" == nb.run("str(run.phase)").ok().result


def test_without_anybody_breakpoints_are_passed_over(tmp_path: Path) -> None:
    """nbclient: the action runs through and its log says why."""
    _, halted, logs = run_unattended([DEFINE, "await halting(4)", "%flyte logs a1"], tmp_path)

    assert "9" == halted[-1]["data"]["text/plain"]
    assert "passed over: nobody can attach" in logs[0]["text"]
