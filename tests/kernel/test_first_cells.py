"""A notebook's first hour: resets, magics, no annotations, awaited ``def`` tasks, stops of waits. A real kernel and cluster."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.kernel.kernelclient import Execution, Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

#: A usual first line, before the cluster has started.
DEFINE = """
%load_ext flyte_nb
%reset -f
"""

TASKS = """
import asyncio, os, time
import flyte_nb as flyte
env = flyte.TaskEnvironment("first")

@env.task
async def one(x: int = 1) -> int:
    return x

@env.task
def square(x: int) -> int:
    "The square of a number."
    return x * x

@env.task
async def long(seconds: float, gate: str = "") -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not (gate and os.path.exists(gate)):
        await asyncio.sleep(0.02)
    return 1
"""

BODIES = [
    ("return await asyncio.gather(*(square(i) for i in range(n)))", "[0, 1, 4]"),
    ("return await asyncio.gather(*[square(i) for i in range(n)])", "[0, 1, 4]"),
    ("return await asyncio.gather(*map(square, range(n)))", "[0, 1, 4]"),
    ("calls = []\n    for i in range(n):\n        calls.append(square(i))\n    return await asyncio.gather(*calls)", "[0, 1, 4]"),
    ("a, b = square(1), square(n)\n    return [await a, await b]", "[1, 9]"),
    ("a, b = square(1), square(n)\n    return [a + b]", "[10]"),
    ("return await asyncio.gather(*listed(n))", "[0, 1, 4]"),
    ("return await all_of([square(i) for i in range(n)])", "[0, 1, 4]"),
    ("return [await asyncio.wait_for(square(n), 30)]", "[9]"),
    ("return sorted([await c for c in asyncio.as_completed([square(i) for i in range(n)])])", "[0, 1, 4]"),
    ("async with asyncio.TaskGroup() as group:\n        t = group.create_task(square(n))\n    return [t.result()]", "[9]"),
    ("return [square(n) + 1]", "[10]"),
    ("import inspect\n    return [inspect.getsource(listed).count('square')]", "[1]"),
    ("import traceback\n    try: 1 / 0\n    except ZeroDivisionError: return [traceback.format_exc().count('try: 1 / 0')]", "[1]"),
]  # fmt: skip

HELPERS = """
def listed(n):
    return [square(i) for i in range(n)]

async def all_of(calls):
    return await asyncio.gather(*calls)
"""

EMPTY = "for name in list(globals()):\n    if name != 'get_ipython': del globals()[name]\ndel name"


@pytest.mark.parametrize(
    "code",
    [
        "%reset -f",
        "for name in list(globals()):\n    if not name.startswith('_'): del globals()[name]",
        "for name in list(globals()):\n    if not name.startswith('__'): del globals()[name]",
        EMPTY,
        "%reset -f in out dhist",
        "%reset_selective -f env",
        "%reset -f -s",
        "globals().clear()",
    ],
)
def test_a_notebook_that_is_emptied_goes_on(nb: Kernel, code: str) -> None:
    """Before the cluster has started, and after."""
    nb.run(code)
    assert "2" == nb.run("1 + 1").ok().result
    nb.run(TASKS).ok()
    assert "3" == nb.run("await one(3)").ok().result


def test_a_worker_starts_in_an_emptied_notebook(nb: Kernel) -> None:
    """Also where one replaces another."""
    nb.run("%reset -f")
    nb.run("%flyte cluster restart").ok()
    nb.run(TASKS).ok()
    assert "3" == nb.run("await one(3)").ok().result


@pytest.fixture
def tasks(nb: Kernel) -> Kernel:
    """With the tasks defined, at first."""
    nb.run("if 'square' not in globals():\n" + "\n".join("    " + line for line in TASKS.splitlines())).ok()
    return nb


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("await square(3)", "9"),
        ("x = await square(3)\nx + 1", "10"),
        ("await asyncio.gather(*(square(i) for i in range(3)))", "[0, 1, 4]"),
        ("await asyncio.gather(*[square(i) for i in range(3)])", "[0, 1, 4]"),
        ("await asyncio.gather(*map(square, range(3)))", "[0, 1, 4]"),
        ("await asyncio.gather(square(1), one(2))", "[1, 2]"),
        ("calls = [square(i) for i in range(3)]\nawait asyncio.gather(*calls)", "[0, 1, 4]"),
        ("async with asyncio.TaskGroup() as tg:\n    t = tg.create_task(square(3))\nt.result()", "9"),
        ("task = asyncio.create_task(square(3))\nawait task", "9"),
        ("await asyncio.wait_for(square(3), 30)", "9"),
        ("async def both():\n    return await square(1), await square(2)\nawait both()", "(1, 4)"),
        ("sum([await c for c in asyncio.as_completed([square(i) for i in range(3)])])", "5"),
        ("table = {i: square(i) for i in range(3)}\nawait table[1]", "1"),
        ("square(3)", "9"),
        ("[square(i) for i in range(3)]", "[0, 1, 4]"),
        ("square(1) + square(2)", "5"),
        ("await one(square(3))", "9"),
        ("print(square(3))", None),
    ],
)
def test_a_def_task_gives_what_the_cell_asks_for(tasks: Kernel, code: str, result: str | None) -> None:
    """An awaitable where it is awaited, its value elsewhere."""
    cell = tasks.run(code).ok()
    assert result == cell.result
    assert "never awaited" not in cell.stderr


@pytest.mark.parametrize(
    ("before", "code"),
    [
        ("values = [square(i) for i in range(3)]", "await asyncio.gather(*values)"),
        ("value = square(3)", "await value"),
        ("value = square(3)", "asyncio.create_task(value)"),
    ],
)
def test_where_values_are_awaited_the_remedy_is_told(tasks: Kernel, before: str, code: str) -> None:
    """The values are there: nothing was lost."""
    tasks.run(before).ok()
    cell = tasks.run(code).wait()
    assert cell.error.name == "TypeError"
    assert "`square.aio(...)`" in cell.stderr
    assert "`flyte.map(square, ...)`" in cell.stderr


@pytest.mark.parametrize(
    ("code", "result", "out"),
    [
        ("%time await one(9)", "9", "Wall time: "),
        ("%time x = await one(9)\nx", "9", "Wall time: "),
        ("y = 2\n%time z = [await one(i) for i in range(y)]\nz", "[0, 1]", "Wall time: "),
        ("%%time\nx = await one(9)\nx + 1", "10", "Wall time: "),
        ("%%time\nsquare(3)", "9", "Wall time: "),
        ("%time square(3)", "9", "Wall time: "),
        ("%%capture said\nprint('hi')\nx = await one(9)", None, ""),
        ("said.stdout + str(x)", r"'hi\n9'", ""),
        ("%%capture\nprint('hi')\nawait one(9)", None, ""),
        ("%%capture said --no-stdout\nprint('hi')\nx = await one(9)", None, "hi"),
        ("%%capture said\nprint('hi')\nx = square(3)", None, ""),
        ("%%time\n%%capture said\nprint('hi')\nx = await one(9)", None, "Wall time: "),
        ("%%capture said\n%pwd\nx = await one(9)", None, ""),
    ],
)
def test_magics_over_code_that_awaits(tasks: Kernel, code: str, result: str | None, out: str) -> None:
    """They work as over other code."""
    cell = tasks.run(code).ok()
    assert (result, True) == (cell.result, out in cell.stdout)
    assert out or not cell.stdout


@pytest.mark.parametrize("code", ["%timeit await one(1)", "%%timeit\nawait one(1)", "%prun await one(1)"])
def test_magics_that_cannot_await_say_what_can(tasks: Kernel, code: str) -> None:
    cell = tasks.run(code).wait()
    assert cell.error.name == "SyntaxError"
    assert "`%time await ...`" in cell.stderr


def test_programs_that_are_run(tasks: Kernel) -> None:
    """Plain calls work in them; a loop of their own gets the remedy."""
    script = f"{TASKS}\\nprint('nine', square(3))\\nrun = flyte.run(one, 7)\\nprint(run.outputs()[0])\\n"
    tasks.run(f"open('program.py', 'w').write('''{script}''')").ok()
    for code in ("%run program.py", "%run -i program.py"):
        assert "nine 9\n7\n" in tasks.run(code).ok().stdout
    tasks.run("open('looped.py', 'w').write('''import asyncio\\nasyncio.run(asyncio.sleep(0))\\n''')").ok()
    assert "Write `await main()`" in tasks.run("%run looped.py").wait().stderr
    assert "Write `await main()`" not in tasks.run("1 / 0").wait().stderr


def test_one_quiet_line_says_what_annotations_are_missing(tasks: Kernel) -> None:
    """Not in red, and once."""
    tasks.run("@env.task\ndef twice(x):\n    return x * 2\n@env.task\nasync def thrice(x):\n    return x * 3").ok()
    cell = tasks.run("await twice(2), await thrice('a'), twice(1.5)").ok()
    assert cell.result == "(4, 'aaa', 3.0)"
    assert cell.stdout.count("Flyte will want") == 1
    assert "`def twice(x: int) -> int:`" in cell.stdout
    assert not cell.stderr
    assert "Flyte will want" not in tasks.run("await thrice(2)").ok().stdout


def test_help_describes_the_function(tasks: Kernel) -> None:
    assert "square(x: int) -> int" in tasks.run("help(square)").ok().stdout
    shown = (tasks.run("square?").ok().reply or {})["payload"][0]["data"]["text/plain"]
    assert "The square of a number." in shown
    assert "(x: int) -> int" in shown


def stopped(kernel: Kernel, code: str, after: float = 0.5) -> Execution:
    """Run a cell that waits, and stop it once it does: nothing tells when."""
    cell = kernel.begin(code)
    time.sleep(after)
    kernel.interrupt()
    return cell.wait()


#: How cells wait for a run of an earlier one.
WAITS = [
    "run.wait()",
    "await run",
    "run.outputs()",
    "await run.wait.aio()",
    "await run.outputs.aio()",
    "for each in run.watch(): pass",
    "async for each in run.watch.aio(): pass",
    "print(run.outputs()[0])",
    "await asyncio.gather(run, run.wait.aio())",
    "await asyncio.wait_for(run, 120)",
    "try:\n    run.wait()\nfinally:\n    done = 1",
    "await asyncio.to_thread(run.wait)",
    "await asyncio.create_task(run.wait.aio())",
    "flyte.remote.Run.get(name=run.name).wait()",
    "async with asyncio.TaskGroup() as group:\n    group.create_task(run.wait.aio())",
    "await asyncio.shield(run.wait.aio())",
    "def helper():\n    return [r.outputs() for r in [run]]\nhelper()",
]
#: Says that the wait has begun.
TELL = """
def tell():
    import threading
    from flyte_nb.kernel.session import Session
    def look():
        while not any(Session.current.notebook.waits._waited.values()):
            time.sleep(0.005)
        print("waits", flush=True)
    threading.Thread(target=look, daemon=True).start()
"""


def test_a_run_is_shown_under_the_cell_that_started_it(tasks: Kernel) -> None:
    """Also where the next cell executes before it has opened, as in "run all"."""
    cells = [tasks.begin(code) for _ in range(5) for code in ("run = flyte.run(one, 2)", "run.wait()")]
    for cell in cells:
        cell.ok()
    for started in cells[::2]:
        started.wait_for(lambda: "succeeded" in started.views)  # noqa: B023
    assert [""] * 5 == [cell.views for cell in cells[1::2]]


def test_a_stopped_wait_leaves_a_run_of_an_earlier_cell_alive(tasks: Kernel, tmp_path: Path) -> None:
    """However it is waited for; and says how to end it."""
    gate = tmp_path / "gate"
    tasks.run(f"{TELL}\nrun = flyte.run(long, 600, {str(gate)!r})").ok()
    wrong = []
    for wait in WAITS:
        cell = tasks.begin(f"tell()\n{wait}")
        cell.wait_for(lambda: "waits" in cell.stdout or cell.done)  # noqa: B023
        tasks.interrupt()
        cell.wait()
        if (
            cell.error.name not in ("KeyboardInterrupt", "CancelledError")
            or "it goes on. `%flyte cancel r" not in cell.stdout
        ):
            wrong.append((wait, cell.error, cell.stdout))
    gate.touch()
    assert wrong == []
    assert "succeeded" in tasks.run("run.wait(); print(run.phase)").ok().stdout


@pytest.mark.parametrize("wait", ["run.wait()", "await run"])
def test_a_second_stop_cancels_it(tasks: Kernel, wait: str) -> None:
    """Within two seconds, and not a stop of another cell."""
    tasks.run("run = flyte.run(long, 30)").ok()
    stopped(tasks, wait)
    time.sleep(0.3)
    assert stopped(tasks, "time.sleep(20)").error.name == "KeyboardInterrupt"
    assert "aborted" not in tasks.run("time.sleep(0.3); print(run.phase)").ok().stdout

    stopped(tasks, wait)
    time.sleep(0.5)
    tasks.interrupt()
    assert "aborted" in tasks.run("run.wait(); print(run.phase)").ok().stdout


@pytest.mark.parametrize("wait", ["run.wait()", "await run"])
def test_a_run_of_the_stopped_cell_itself_ends(tasks: Kernel, wait: str) -> None:
    cell = stopped(tasks, f"run = flyte.run(long, 30)\n{wait}", after=1)
    assert "goes on" not in cell.stdout
    assert "aborted" in tasks.run("run.wait(); print(run.phase)").ok().stdout


def test_a_wait_that_is_too_long_for_its_time_limit_is_no_stop(tasks: Kernel) -> None:
    cell = tasks.run("run = flyte.run(long, 1)\nawait asyncio.wait_for(run, 0.2)").wait()
    assert cell.error.name == "TimeoutError"
    assert "succeeded" in tasks.run("run.wait(); print(run.phase)").ok().stdout


MOVING = """
import flyte_nb as flyte
from moving_helper import helped
env = flyte.TaskEnvironment("moving")
class Scale:
    by = {0}
    def of(self, x): return x * self.by
@env.task
async def task(x: int) -> int:
    return helped(Scale().of(x)) + {0}
"""
#: How a notebook has its modules imported again.
RELOADS = {
    "autoreload 2": ("%load_ext autoreload\n%autoreload 2\nfrom moving import task", "await task(1)"),
    "complete": ("%autoreload complete\nfrom moving import task", "await task(1)"),
    "of the module": ("%autoreload 2\nimport moving", "await moving.task(1)"),
    "under another name": ("%autoreload 2\nfrom moving import task as other", "await other(1)"),
    "in a helper": ("%autoreload 2\nfrom moving import task\nasync def call():\n    return await task(1)", "await call()"),
    "in a task": (
        "%autoreload 2\nfrom moving import task\n@env.task\nasync def calls() -> int:\n    return await task(1)", "await calls()"
    ),
    "with options": ("%autoreload 2\nfrom moving import task\ncopy = task.override(retries=2)", "await copy(1)"),
    "run": ("%autoreload 2\nfrom moving import task", "flyte.run(task, 1).outputs()[0]"),
    "map": ("%autoreload 2\nfrom moving import task", "list(flyte.map(task, [1]))[0]"),
    "aimport": ("%autoreload 1\n%aimport moving, moving_helper\nfrom moving import task", "await task(1)"),
    "by hand": ("%autoreload 0\nimport importlib, moving, moving_helper\nfrom moving import task",
                "_ = importlib.reload(moving_helper), importlib.reload(moving)\nawait task(1)"),
}  # fmt: skip


def test_edited_modules_run_as_they_are_now(tasks: Kernel) -> None:
    """Under ``%autoreload``: the task's module, a helper's, or both, edited between two calls."""

    def edit(number: int, add: int) -> None:
        for name, text in (
            ("moving", MOVING.format(number)), ("moving_helper", f"def helped(x): return x + {add}"),
        ):  # fmt: skip
            path = tasks.home / f"{name}.py"
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
                edited[0] += 10
                os.utime(path, (edited[0], edited[0]))  # as if time had passed: it is told by whole seconds in places

    edited, wrong = [time.time()], []
    for name, (begin, call) in RELOADS.items():
        edit(1, 10)
        tasks.run(begin).ok()
        seen = []
        for number, add in ((1, 10), (2, 10), (2, 20), (3, 30), (1, 10)):
            edit(number, add)
            seen.append(tasks.run(call).result)
        if seen != ["12", "14", "24", "36", "12"]:
            wrong.append((name, seen))
    tasks.run("%autoreload 0").ok()
    assert wrong == []


def test_bodies_know_the_source_of_their_cell(nb: Kernel) -> None:
    """On a worker, too: which calls of ``def`` tasks are awaited, tracebacks, and what `inspect` says."""
    nb.run(TASKS).ok()
    nb.run(HELPERS).ok()
    wrong = []
    for body, expected in BODIES:
        shown = nb.run(f"@env.task\nasync def body(n: int) -> list:\n    {body}\n\nawait body(3)").result
        if shown != expected:
            wrong.append((body, shown))
    assert wrong == []
