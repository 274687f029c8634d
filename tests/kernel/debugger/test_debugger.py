"""Debugging a remote failure in a real kernel: IPython's own ``%debug``, ours at any failed action, and replay."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.kernel.kernelclient import ROOT, Kernel, run_unattended

pytestmark = pytest.mark.kernel

#: A notebook's first cell: a task's function, its failure recorded as a worker records it, and a call that gets the error.
#: `asyncio.sleep` stands in for the awaiting of a child that runs elsewhere.
PREPARE = """
import asyncio, contextvars, sys
from flyte_nb.core.failures import capture as failure, rebuild as remote_traceback
from flyte_nb.core.failures.record import FailureRecord
from flyte_nb.kernel.debugger.post_mortem import post_mortem
from flyte_nb.kernel.debugger.replay import replay
from flyte_nb.kernel.error_display import ErrorDisplay
get_ipython().colors = "nocolor"
texts = ErrorDisplay(get_ipython(), lambda action: "a17"); texts.install()

LIMIT = 10

def inner(y):
    both = [y, y + 1]
    return both[y + LIMIT]

def square(x):
    y = x * 2
    return inner(y)

def record_of(function, *args):
    try:
        function(*args)
    except Exception as exc:
        exc = exc.with_traceback(exc.__traceback__.tb_next)
        made = failure.capture(exc, task="demo.square", action="x1", label="square(17)", attempt=0, worker="tcp://w:1")
        return FailureRecord.loads(made.dumps())

record = record_of(square, 17)

async def call():
    raise remote_traceback.to_exception(record)
"""


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """A kernel after the first cell."""
    with Kernel.start() as kernel:
        kernel.run(PREPARE).ok()
        yield kernel


def test_the_cells_error_is_short_and_names_the_action(kernel: Kernel) -> None:
    """The cell's line, the remote lines, the action, and what helps."""
    error = kernel.run("x = 1\nawait call()").error

    assert error is not None
    assert (error.name, error.value) == ("RuntimeUserError", "list index out of range")
    lines = error.traceback.splitlines()
    assert lines[1].startswith("IndexError")
    assert lines[-3:-1] == ["IndexError: list index out of range", "in action a17 square(17) on tcp://w:1"]
    assert "%flyte debug a17" in lines[-1]
    assert "--> in action a17 square(17) on tcp://w:1" in lines
    assert "----> 2 await call()" in error.traceback
    assert "return both[y + LIMIT]" in error.traceback
    assert any(line.startswith("Cell In[") and "line 2" in line for line in lines)
    assert "interactiveshell.py" not in error.traceback
    assert len(lines) < 40


def test_debug_opens_at_the_remote_frame_with_the_remote_locals(kernel: Kernel) -> None:
    """IPython's own magic: p, pp, where, list, up, down, interact."""
    kernel.run("await call()")

    cell = kernel.run(
        "%debug",
        inputs=[
            "p y, both",
            "where",
            "list",
            "up",
            "pp x, y",
            "down",
            "p LIMIT + len(both)",
            "interact",
            "print(y * 3)",
            "\x04",
            "q",
        ],
    ).ok()

    assert "inner()" in cell.stdout
    assert "(34, [34, 35])" in cell.stdout
    assert "square()" in cell.stdout
    assert "(17, 34)" in cell.stdout
    assert "\n12\n" in cell.stdout
    assert "\n102\n" in cell.stdout
    assert cell.stdout.count("return both[y + LIMIT]") >= 3
    assert "await call()" in cell.stdout  # ``where`` shows the local frames too.


def test_pdb_on_works_for_remote_failures(kernel: Kernel) -> None:
    """The prompt opens by itself."""
    kernel.run("%pdb on").ok()
    try:
        cell = kernel.run("await call()", inputs=["p both", "q"])
    finally:
        kernel.run("%pdb off").ok()

    assert "[34, 35]" in cell.stdout
    assert cell.error is not None


def test_any_failed_action_can_be_debugged_later(kernel: Kernel) -> None:
    """After other errors, with ``await`` at the prompt; and afterwards ``%debug`` opens it too."""
    kernel.run("1 / 0")

    cell = kernel.run(
        "post_mortem(record)",
        inputs=[
            "p both",
            "p await asyncio.sleep(0, y + 1)",
            "await asyncio.sleep(0, 'ready')",
            "await asyncio.nothing()",
            "up",
            "p x",
            "q",
        ],
    ).ok()
    again = kernel.run("%debug", inputs=["p both", "q"]).ok()

    assert "IndexError: list index out of range" in cell.stdout
    assert "in action a17 square(17) on tcp://w:1" in cell.stdout
    for shown in ("[34, 35]", "\n35\n", "\n'ready'\n", "*** AttributeError", "\n17\n"):
        assert shown in cell.stdout
    assert "[34, 35]" in again.stdout


def test_the_source_is_the_remote_one_after_the_cell_was_edited(kernel: Kernel) -> None:
    """The function was fixed and re-run since."""
    kernel.run("def bad(n):\n    m = n - 1\n    return 1 / m  # as it was\nold = record_of(bad, 1)").ok()
    kernel.run("def bad(n):\n    return 0  # fixed").ok()

    cell = kernel.run("post_mortem(old)", inputs=["list", "longlist", "p m", "q"]).ok()

    assert "return 1 / m  # as it was" in cell.stdout
    assert "fixed" not in cell.stdout
    assert "\n0\n" in cell.stdout


GROUP = """
async def main():
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(call())
await main()
"""


def test_an_exception_group_shows_its_exceptions_folded(kernel: Kernel) -> None:
    """And ``%debug`` opens the first."""
    error = kernel.run(GROUP).error
    opened = kernel.run("%debug", inputs=["p both", "q"]).ok()

    assert error is not None
    assert error.name == "ExceptionGroup"
    assert "3 x IndexError: list index out of range - first: a17 square(17)" in error.traceback
    assert error.traceback.count("return both[y + LIMIT]") == 1
    assert "taskgroups.py" not in error.traceback
    assert "[34, 35]" in opened.stdout


def test_a_group_without_failed_actions_is_left_to_ipython(kernel: Kernel) -> None:
    """Nothing of ours is in it."""
    ours = kernel.run("raise ExceptionGroup('local', [KeyError('a')])")
    kernel.run("texts.uninstall()").ok()
    theirs = kernel.run("raise ExceptionGroup('local', [KeyError('a')])")
    kernel.run("texts.install()").ok()

    assert "ExceptionGroup: local (1 sub-exception)" in ours.stderr
    assert ours.stderr.splitlines()[-4:] == theirs.stderr.splitlines()[-4:]
    assert (ours.error is None) == (theirs.error is None)


def test_ordinary_errors_look_as_before(kernel: Kernel) -> None:
    """IPython shows them."""
    error = kernel.run("1 / 0").error

    assert error is not None
    assert error.name == "ZeroDivisionError"
    assert "in action" not in error.traceback


def test_replay_stops_at_breakpoint_in_an_async_body(kernel: Kernel) -> None:
    """``next`` goes over an ``await`` to the next line; then the failure opens the debugger."""
    cell = kernel.run(
        "async def body(n):\n"
        "    await asyncio.sleep(0)\n"
        "    breakpoint()\n"
        "    m = n + 1\n"
        "    await asyncio.sleep(0.001)\n"
        "    return m / 0\n"
        "replay(body, (3,))",
        inputs=["p n", "n", "n", "p m", "await asyncio.sleep(0, m + 100)", "c", "p m * 1000", "q"],
    ).ok()

    assert "> " in cell.stdout
    for shown in ("\n3\n", "\n4\n", "\n104\n", "\n4000\n", "ZeroDivisionError: division by zero"):
        assert shown in cell.stdout
    assert "skipped" not in cell.stdout
    assert cell.result is not None
    assert "error=ZeroDivisionError" in cell.result


def test_replay_stops_at_breakpoint_in_a_sync_body(kernel: Kernel) -> None:
    """And goes on with ``continue``; the loop and later cells are unharmed."""
    cell = kernel.run(
        "def body(n, *, more):\n    breakpoint()\n    return n + more\nreplay(body, (3,), {'more': 4})",
        inputs=["p more", "c"],
    ).ok()
    after = kernel.run("await asyncio.sleep(0, 'fine')").ok()

    assert "\n4\n" in cell.stdout
    assert cell.result == "Replayed(value=7, error=None, quit=False)"
    assert after.result == "'fine'"


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_replay_can_stop_at_the_first_line(kernel: Kernel, kind: str) -> None:
    """``step=True``, sync or async; running off the end of the body is harmless."""
    cell = kernel.run(
        f"{kind} body(n):\n    m = n + 1\n    return m\nreplay(body, (3,), step=True)",
        inputs=["p n * 11", "n", "p m * 11", "c"],
    ).ok()

    assert "---> 2     m = n + 1" in cell.stdout.replace("----> 2", "---> 2")
    assert "\n33\n" in cell.stdout
    assert "\n44\n" in cell.stdout
    assert cell.result == "Replayed(value=4, error=None, quit=False)"


def test_quitting_the_debugger_ends_the_replay(kernel: Kernel) -> None:
    """Without an error, and without leaving a trace function or a hook behind."""
    cell = kernel.run(
        "hook = sys.breakpointhook\n"
        "async def body():\n    breakpoint()\n    await asyncio.sleep(60)\n"
        "replay(body), sys.gettrace(), sys.breakpointhook is hook",
        inputs=["q"],
    ).ok()

    assert cell.result == "(Replayed(value=None, error=None, quit=True), None, True)"


def test_replay_runs_in_the_given_context(kernel: Kernel) -> None:
    """So that the action's own context is there, sync and async."""
    cell = kernel.run(
        "variable = contextvars.ContextVar('variable')\n"
        "context = contextvars.copy_context(); context.run(variable.set, 'action')\n"
        "def plain(): return variable.get()\n"
        "async def awaiting():\n    await asyncio.sleep(0)\n    return variable.get()\n"
        "replay(plain, context=context).value, replay(awaiting, context=context).value"
    ).ok()

    assert cell.result == "('action', 'action')"


def test_replay_inside_an_async_cell_leaves_its_loop_alone(kernel: Kernel) -> None:
    """The cell's own tasks go on afterwards, and it still has its loop."""
    cell = kernel.run(
        "async def background():\n    await asyncio.sleep(0.01)\n    return 'done'\n"
        "task = asyncio.create_task(background()); loop = asyncio.get_running_loop()\n"
        "async def body():\n    await asyncio.sleep(0.001)\n    return asyncio.get_running_loop() is not loop\n"
        "(replay(body).value, asyncio.get_running_loop() is loop, asyncio.current_task() is not None, await task)"
    ).ok()

    assert cell.result == "(True, True, True, 'done')"


def test_the_stop_button_ends_a_replay(kernel: Kernel) -> None:
    """A body that waits, async."""
    kernel.run("%load_ext flyte_nb").ok()  # Python alone loses a stop that comes in a callback of its collector
    cell = kernel.begin("async def body():\n    print('waits')\n    await asyncio.sleep(600)\nreplay(body)")
    cell.wait_for(lambda: "waits" in cell.stdout)

    kernel.interrupt()

    cell.wait(20)
    assert cell.error is not None
    assert cell.error.name == "KeyboardInterrupt"
    assert kernel.run("await asyncio.sleep(0, 5)").ok().result == "5"


def test_a_kernels_prompt_is_refused_where_nobody_answers(tmp_path: Path) -> None:
    """nbclient, papermill: a sentence instead of a hang; replay shows the error, breakpoints are passed over."""
    cells = [
        PREPARE,
        "post_mortem(record, what='%flyte debug a17')",
        "replay(square, (17,), step=True)",
        "def body():\n    breakpoint()\n    return 7\nreplay(body)",
        "replay(square, (17,))",
    ]
    _, debugged, stepped, passed, failed = run_unattended(cells, tmp_path)

    for (refused,), command in ((debugged, "%flyte debug a17"), (stepped, "replay with step")):
        assert refused["ename"] == "PromptRefusedError"
        assert str(refused["evalue"]).startswith(f"{command} needs a prompt")
    assert "breakpoint() is passed over" in str(passed[0]["text"])
    assert "value=7" in str(passed[1]["data"])
    assert failed[-1]["ename"] == "IndexError"


def test_it_works_in_ipython_in_a_terminal() -> None:
    """``%debug`` and ours, without a kernel."""
    child = pexpect.spawn(
        sys.executable, ["-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor", "--HistoryManager.enabled=False"],
        cwd=str(ROOT), encoding="utf-8", timeout=60, dimensions=(60, 200),
    )  # fmt: skip
    try:
        child.expect(r"In \[1\]: ")
        source = PREPARE + "def cell():\n    raise remote_traceback.to_exception(record)\n"
        child.sendline(f"exec(compile({source!r}, '/far/session.py', 'exec'))")
        child.expect(r"In \[2\]: ")
        child.sendline("cell()")
        child.expect("in action a17 square")
        child.expect(r"In \[3\]: ")
        for opening in ("%debug", "post_mortem(record)"):
            child.sendline(opening)
            child.expect("ipdb> ")
            child.sendline("p both")
            child.expect_exact("[34, 35]")
            child.expect("ipdb> ")
            child.sendline("q")
            child.expect(r"In \[\d+\]: ")
    finally:
        child.close(force=True)
