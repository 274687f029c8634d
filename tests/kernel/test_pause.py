"""on_failure="pause": a failed action waits for somebody to decide, and its siblings run on. A real kernel, a real cluster."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import pytest

from tests.kernel.kernelclient import Kernel, run_unattended

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
%load_ext flyte_nb
import asyncio, os, time
import flyte_nb as flyte
env = flyte.TaskEnvironment("demo")

def action(label, run=None):
    run = run or flyte.last_run()
    return next((a for a in run.actions if a.label == label), None)

async def until(condition):
    while not condition():
        await asyncio.sleep(0.02)
"""

TASKS = """
@env.task
async def work(x: int) -> int:
    if x % 4 == 2:
        raise ValueError(f"bad {x}")
    return x * 10

@env.task
async def main(n: int) -> list[int]:
    return list(await asyncio.gather(*(work(x) for x in range(n))))
"""

FIXED = TASKS.replace("raise ValueError", "return -x; raise ValueError")


START = """
run = flyte.with_runcontext(on_failure="pause").run(main, 4)
await until(lambda: action("work(2)") and action("work(2)").phase == "paused" and action("work(3)").phase == "succeeded")
"""


def test_a_failed_action_is_parked_and_retried_with_edited_code(nb: Kernel) -> None:
    """Its siblings end, its parent stays suspended, the prompt stays free; then the whole run ends with every result."""
    nb.run(TASKS).ok()
    nb.run(START).ok()
    state = nb.run("str(run.phase), str(run.action.phase), action('work(2)').note").ok().result
    nb.run(FIXED).ok()
    name = nb.run("print(action('work(2)').id)").ok().stdout.strip()
    said = nb.run(f"%flyte retry {name}").ok().stdout
    value = nb.run("await run").ok().result

    assert "('running', 'running', 'ValueError: bad 2')" == state
    assert "Retrying 1 action" in said
    assert "[0, 10, -2, 30]" == value


def test_a_parked_action_is_resumed_with_a_value(nb: Kernel) -> None:
    """`%flyte resume a17 expression`: the expression is the notebook's; a value of another type is refused."""
    nb.run(TASKS).ok()
    nb.run(START).ok()
    name = nb.run("print(action('work(2)').id)").ok().stdout.strip()
    nb.run("better = {'two words': 7}").ok()

    refused = nb.run(f"%flyte resume {name} 'text'").ok().stdout
    said = nb.run(f"%flyte resume {name} better['two words'] * 100").ok().stdout

    assert "int" in refused
    assert "succeeds with 700" in said
    assert "[0, 10, 700, 30]" == nb.run("await run").ok().result


def test_a_parked_action_may_raise_after_all(nb: Kernel) -> None:
    """`%flyte raise a17`: its parent gets its error, with the remote frames; and a second decision is refused."""
    nb.run(TASKS).ok()
    nb.run(START).ok()
    name = nb.run("print(action('work(2)').id)").ok().stdout.strip()

    assert "fails" in nb.run(f"%flyte raise {name}").ok().stdout
    error = nb.run("await run").error
    again = nb.run(f"%flyte resume {name} 1").ok().stdout

    assert "bad 2" in error.value
    assert "raise ValueError" in error.traceback
    assert "waits for no decision" in again


def test_a_retry_that_fails_again_parks_again(nb: Kernel) -> None:
    """Of a whole run, and inside a block; with another decision each time."""
    nb.run(TASKS).ok()
    nb.run(START).ok()
    for bad in (2, 3):  # as it was, and with other code that fails
        nb.run(TASKS.replace("bad", f"bad for the {bad}. time:")).ok()
        nb.run("%flyte retry").ok()
        nb.run(f"await until(lambda: action('work(2)').note == 'ValueError: bad for the {bad}. time: 2')").ok()
        assert "'paused'" == nb.run("str(action('work(2)').phase)").ok().result
    nb.run("action('work(2)').resume(5)").ok()
    assert "[0, 10, 5, 30]" == nb.run("await run").ok().result

    nb.run(TASKS).ok()
    nb.run(
        """async def block():
    with flyte.on_failure('pause'):
        return await asyncio.gather(work(1), work(2))

blocked = asyncio.create_task(block())
await until(lambda: action('work(2)', flyte.last_run()) and action('work(2)', flyte.last_run()).phase == 'paused')
before = len(action('work(2)', flyte.last_run()).earlier)
name = action('work(2)', flyte.last_run()).id"""
    ).ok()
    name = nb.run("print(name)").ok().stdout.strip()
    nb.run(f"%flyte retry {name}").ok()
    nb.run(
        "await until(lambda: len(action('work(2)', flyte.last_run()).earlier) > before\n"
        "    and action('work(2)', flyte.last_run()).phase == 'paused')"
    ).ok()
    nb.run(f"%flyte resume {name} 6").ok()
    assert "[10, 6]" == nb.run("await blocked").ok().result


def test_python_says_the_same(nb: Kernel) -> None:
    """`run.resume`, `run.fail`, `run.retry`, by action or by name; `run.retry_failed` retries what is parked."""
    nb.run(TASKS).ok()
    nb.run(START.replace("main, 4", "main, 12")).ok()
    nb.run("await until(lambda: sum(a.phase == 'paused' for a in run.actions) == 3)").ok()
    nb.run("action('work(2)').resume(222); run.resume(action('work(6)').id, 666)").ok()
    nb.run(FIXED).ok()
    nb.run("run.retry_failed()").ok()

    assert "[0, 10, 222, 30, 40, 50, 666, 70, 80, 90, -10, 110]" == nb.run("print(await run)").ok().stdout.strip()


def test_inside_a_block_the_cells_own_calls_park_and_a_button_decides(nb: Kernel) -> None:
    """`with flyte.on_failure("pause")`: the cell waits; the view's buttons reach it through the control channel."""
    nb.run(TASKS + "\nbetter = [70]").ok()
    cell = nb.begin(
        "with flyte.on_failure('pause'):\n    found = await asyncio.gather(*(work(x) for x in range(4)))\nfound"
    )

    def widgets() -> list[str]:
        shown = cell.of("display_data", "update_display_data")
        return re.findall(r'data-flyte-view="(\w+)"', " ".join(m.content["data"]["text/html"] for m in shown))

    cell.wait_for(widgets, 20)

    def press(op: str, **args: str) -> None:
        nb.control("flyte_ui", {"op": op, "args": args, "nonce": uuid.uuid4().hex, "comm_id": widgets()[-1]})

    def decided() -> bool:
        for number in range(1, 5):  # Refused for those that are not parked.
            press("resume", action=f"a{number}", value="better[0] + 7")
        return cell.done

    cell.wait_for(decided, 20)
    assert "[0, 10, 77, 30]" == cell.ok().result


def test_parked_actions_do_not_count_as_running(nb: Kernel) -> None:
    """With room for two actions at a time, two that are parked do not keep the others from running."""
    nb.run(TASKS).ok()
    nb.run(
        "run = flyte.with_runcontext(on_failure='pause', max_action_concurrency=2).run(main, 12)\n"
        "await until(lambda: sum(a.phase == 'succeeded' for a in run.actions) == 9)\n"
        "await until(lambda: sum(a.phase == 'paused' for a in run.actions) == 3)"
    ).ok()
    nb.run(FIXED).ok()

    assert "12" == nb.run("len(await run.retry_failed())").ok().result


def test_a_parked_run_can_be_cancelled(nb: Kernel) -> None:
    """Nothing is left behind."""
    nb.run(TASKS).ok()
    nb.run(START).ok()
    nb.run("%flyte cancel").ok()

    nb.run("await until(run.done)").ok()
    assert "'aborted'" in (nb.run("str(run.phase)").ok().result or "")


def test_a_parked_action_can_be_debugged(nb: Kernel) -> None:
    """Before anything is decided: the frame, the whole traceback, a replay."""
    nb.run(TASKS).ok()
    nb.run(START).ok()
    name = nb.run("print(action('work(2)').id)").ok().stdout.strip()

    assert "2000" in nb.run(f"%flyte debug {name}", inputs=["p x * 1000", "q"]).ok().stdout
    assert "raise ValueError" in nb.run(f"%flyte logs {name} --traceback").ok().stdout
    assert "raised ValueError: bad 2" in nb.run(f"%flyte replay {name}", inputs=["q"]).ok().stdout
    nb.run("run.abort(); await until(run.done)").ok()


def test_stop_ends_a_cell_that_waits_for_a_parked_action(nb: Kernel) -> None:
    """And nothing stays parked."""
    nb.run(TASKS).ok()
    cell = nb.begin("with flyte.on_failure('pause'):\n    print('begun')\n    await asyncio.gather(work(2), work(6))")
    cell.wait_for(lambda: "begun" in cell.stdout)
    nb.interrupt()
    cell.wait(20)

    assert "CancelledError" == cell.error.name
    nb.run("await until(lambda: flyte.last_run().phase == 'aborted')", timeout=20).ok()


def test_what_is_parked_survives_the_death_of_its_parents_worker(nb: Kernel) -> None:
    """The parent is executed again elsewhere, recalls what succeeded, and its failing child parks again."""
    nb.run(TASKS).ok()
    nb.run(START).ok()
    nb.run(
        "import signal; await until(lambda: run.action.attempt)\nfirst = run.action.attempt.pid; os.kill(first, signal.SIGKILL)\n"
        "await until(lambda: run.action.attempt.pid not in (0, first) and len(action('work(2)').earlier) > 0\n"
        "    and action('work(2)').phase == 'paused')"
    ).ok()
    nb.run(FIXED).ok()
    nb.run("%flyte retry").ok()

    assert "[0, 10, -2, 30]" == nb.run("await run").ok().result
    assert "[0, 0, 0]" == nb.run("[len(action(f'work({x})').earlier) for x in (0, 1, 3)]").ok().result


def test_init_makes_pausing_the_default(nb: Kernel) -> None:
    """`init(on_failure="pause")`, and back; an unknown word is refused."""
    nb.run(TASKS).ok()
    nb.run("flyte.init(on_failure='pause')").ok()
    try:
        nb.run("run = flyte.run(work, 2); await until(lambda: run.action and run.action.phase == 'paused')").ok()
        nb.run("run.resume('a0', 5)").ok()
        assert "5" == nb.run("await run").ok().result
    finally:
        nb.run("flyte.init(on_failure='raise')").ok()

    assert "on_failure must be" in nb.run("flyte.init(on_failure='stop')").error.value


def test_where_nobody_can_decide_nothing_parks(tmp_path: Path) -> None:
    """nbclient: the error is raised, a sentence says why; only ``interactive_mode=True`` parks."""
    cells = [
        DEFINE + TASKS,
        "with flyte.on_failure('pause'):\n    await work(2)",
        "run = flyte.with_runcontext(on_failure='pause').run(work, 2)\nawait run",
        """run = flyte.with_runcontext(on_failure='pause', interactive_mode=True).run(work, 2)
await until(lambda: run.action and run.action.phase == 'paused')
run.resume('a0', 9)
await run""",
    ]
    _, in_cell, run, interactive = run_unattended(cells, tmp_path)

    assert "error" in [output.output_type for output in in_cell]
    assert "error" in [output.output_type for output in run]
    assert "nobody can decide" in "".join(output.get("text", "") for output in in_cell)
    assert "9" == interactive[-1]["data"]["text/plain"]
