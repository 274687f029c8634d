"""Runs outlive their kernel: killed, restarted, and found, recovered, retried and looked at by the next one."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flyte_nb.core.journal.format import LAYOUT
from flyte_nb.core.transport.process_folder import SHARED_MEMORY, prefix
from tests.kernel.kernelclient import Kernel, wait_gone

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
import asyncio, dataclasses, enum, os, time
import flyte_nb as flyte
flyte.init(n_workers=2, threads_per_worker=3, on_failure="raise")
env = flyte.TaskEnvironment("crash")
path, gate = os.path.abspath("executed"), os.path.abspath("gate")

@dataclasses.dataclass
class Point:
    x: int

class Kind(enum.Enum):
    A = "a"

def note(what):
    with open(path, "a") as file:
        file.write(what + "\\n")

async def wait_at_the_gate(x):
    while x >= 6 and not os.path.exists(gate):
        await asyncio.sleep(0.02)

@env.task
async def step(x: int) -> int:
    await wait_at_the_gate(x)
    note(f"step{x}")
    return x * 10

@env.task
async def large(x: int) -> bytes:
    note(f"large{x}")
    return b"x" * 300_000 + bytes([x])

@env.task
async def moved(p: Point, kinds: set, move=None) -> Point:
    note(f"moved{p.x}")
    return Point(move(p.x))

@env.task
async def bad(x: int) -> int:
    note(f"bad{x}")
    print("about to fail")
    raise ValueError(f"no {x}")

@env.task
async def picky(p: Point) -> bool:
    raise ValueError("not yet")

@env.task
async def parent(n: int) -> int:
    found = await asyncio.gather(*(step(i) for i in range(n)))
    await wait_at_the_gate(n)
    note(f"parent{n}")
    return sum(found)

@env.task
async def main(n: int, big: bytes) -> int:
    made = await large(n)
    return await parent(n) + len(big) + len(made) - 300_001
"""
CELL = """
# %% All of it
calls = [step(i) for i in range(4)] + [large(1), moved(Point(1), {"a", "b", Kind.A}, lambda x: x + SHIFT), parent(3), parent(8), step(50)]
found = await asyncio.gather(*calls)
mapped = list(flyte.map(step, range(4, 9)))
print(found[:4], len(found[4]), found[5] == Point(2), isinstance(found[5], Point), found[6:], mapped)
"""
RESULT = "[0, 10, 20, 30] 300001 True True [30, 280, 500] [40, 50, 60, 70, 80]\n"
NOTEBOOK = "/home/someone/analysis.ipynb"


@pytest.fixture(scope="module")
def nb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel whose runs are recorded."""
    folder, temporary = tmp_path_factory.mktemp("history"), tmp_path_factory.mktemp("temporary")
    env = {"FLYTE_NB_HISTORY": str(folder), "JPY_SESSION_NAME": NOTEBOOK, "TMPDIR": str(temporary)}
    with Kernel.start(env=env) as kernel:
        yield kernel


def executed(nb: Kernel) -> list[str]:
    """What bodies noted since the last look."""
    path = nb.home / "executed"
    found = path.read_text().split()
    path.write_text("")
    return sorted(found)


def reboot(nb: Kernel) -> None:
    """What a reboot leaves: no process, nothing in memory or in temporary folders; process numbers mean others."""
    processes, kernel = nb.processes(), nb.pid
    environ = processes[0].environ()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # the caretaker ends workers, as long as it lives
            process.kill()
    assert not wait_gone(processes, 20)
    shared = [each for process in processes for each in SHARED_MEMORY.glob(f"{prefix()}{process.pid}-*")]
    for each in (
        *shared,
        *Path(environ["TMPDIR"]).iterdir(),
    ):  # other sessions of the machine sweep after dead processes, too
        shutil.rmtree(each, ignore_errors=True) if each.is_dir() else each.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(Path(environ["FLYTE_NB_HISTORY"], LAYOUT.file_name))) as db, db:
        assert db.execute("UPDATE kernels SET pid = ? WHERE pid = ?", (os.getpid(), kernel)).rowcount == 1
    nb.restart()


def begin(nb: Kernel, shift: int = 1) -> str:
    """Load and define; returns what loading said."""
    said = nb.run("%load_ext flyte_nb").ok().stdout
    nb.run(DEFINE).ok()
    nb.run(f"SHIFT = {shift}").ok()
    return said


def test_after_a_reboot_only_what_had_not_ended_is_executed(nb: Kernel) -> None:
    """A gather with nested calls, large results and classes of the notebook, and a run of `flyte.run` beside it."""
    assert "" == begin(nb)
    nb.run("run = flyte.run(main, 7, b'b' * 100_000)").ok()
    nb.run(
        "failed = await asyncio.gather(step(1), bad(1), picky(Point(3)), return_exceptions=True)", cell_id="bad"
    ).ok()
    nb.begin(CELL, cell_id="all")
    log: Path = nb.home / "executed"
    nb.wait_for(lambda: len(log.read_text().split()) >= 25)
    time.sleep(0.7)  # what had ended half a second before is there
    reboot(nb)
    assert 25 == len(executed(nb))

    said = begin(nb)
    assert "k1.r3 of " in said
    assert "was cut off at" in said
    assert "(and 1 more: `%flyte runs`)" in said
    assert "%%flyte recover" in said
    (nb.home / "gate").write_text("")
    cell = nb.run("%%flyte recover" + CELL, cell_id="all").ok()
    assert RESULT in cell.stdout
    assert "Recovering k1.r3: 7 results of its calls can be reused." in cell.stdout
    assert ["parent8", "step4", "step5", "step50", "step6", "step6", "step7", "step7", "step8"] == executed(nb)


def test_a_run_of_a_killed_kernel_is_rerun_and_retried(nb: Kernel) -> None:
    """`flyte.rerun`, `%flyte retry`, `retry_failed`: with the arguments it had, large ones too, and what its actions gave."""
    assert "100280" in nb.run("print((await flyte.rerun('k1.r1', recover=True)) + 70)").ok().stdout
    assert ["parent7", "step6"] == executed(nb)
    assert "100210" in nb.run("print(await flyte.remote.Run.get('k1.r1').retry_failed())").ok().stdout
    assert ["parent7", "step6"] == executed(nb)

    for command in ("replay", "debug"):
        assert "('x', 1)" in nb.run(f"%flyte {command} k1.r2/a2", inputs=["p ('x', x)", "q"]).ok().stdout
    executed(nb)
    fixed = DEFINE.replace('raise ValueError(f"no {x}")', "return -x").replace(
        'raise ValueError("not yet")', "return type(p) is Point"
    )
    nb.run(fixed).ok()
    assert "Retrying 2 actions of k1.r2: a2 bad(1), a3 picky(Point(x=3))." in nb.run("%flyte retry k1.r2").ok().stdout
    assert "[10, -1, True]" in nb.run("print(await flyte.runs()['k1.r2'])").ok().stdout
    assert ["bad1"] == executed(nb)


def test_runs_of_earlier_kernels_are_looked_at_as_those_of_today(nb: Kernel) -> None:
    """Listed, shown, with logs and failures; found from code; of a kernel that is gone again, also what was retried."""
    listed = nb.run("%flyte runs").ok().stdout
    assert "k1.r3  cut off" in listed
    assert "k1.r2  succeeded" in listed
    shown = nb.run("%flyte show k1.r3").ok().views
    assert "All of it" in shown
    when = re.search(r"k1\.r3  cut off .*(cut off at [\d:]+)", listed)[1]  # type: ignore[index]
    assert when in shown  # also where the cluster started after it was read
    assert "about to fail" in nb.run("%flyte logs k1.r2/a2").ok().stdout
    code = """
names = [run.name for run in flyte.remote.Run.listall()]
run = flyte.remote.Run.get("k1.r3")
print(names[:3], run.phase, len(run.actions), run.results(return_exceptions=True)[5], flyte.remote.Action.get("k1.r3/a1").inputs())
"""
    assert "['k1.r1', 'k1.r2', 'k1.r3'] aborted" in nb.run(code).ok().stdout
    assert "There is no run k9.r9" in nb.run("%flyte show k9.r9").ok().stdout
    assert "There is no run k9.r9" in nb.run("flyte.remote.Run.get('k9.r9')").error.value
    assert "2 kernels" in nb.run("%flyte history").ok().stdout
    nb.run("run = flyte.with_runcontext(name='trial.1').run(step, 1)\nrun.wait()").ok()
    assert "trial.1  succeeded" in nb.run("%flyte runs").ok().stdout
    # Where only a variable tells the notebook, as in VS Code, it is looked at for each session and folder.
    nb.run(
        "__vsc_ipynb_file__ = '/vs/code.ipynb'\nfolder = os.environ['FLYTE_NB_HISTORY']\nflyte.init(history=folder)"
    ).ok()
    assert "k1.r3" not in nb.run("%flyte runs").ok().stdout
    # A notebook that was renamed has the same cells.
    renamed = nb.run("%%flyte recover\nprint(await step(1))", cell_id="bad").ok().stdout
    assert f"Recovering k1.r2 of {NOTEBOOK}: " in renamed
    nb.run("del __vsc_ipynb_file__\nflyte.init(history=folder)").ok()
    assert "k1.r3  cut off" in nb.run("%flyte runs").ok().stdout


def test_after_a_restart_changed_code_is_executed_again(nb: Kernel) -> None:
    """A restart that a person asks for cuts off, too; what a changed helper had a part in is not taken from the record."""
    (nb.home / "gate").unlink()
    nb.run("await asyncio.gather(step(1), large(2))", cell_id="short").ok()
    cell = nb.begin("await asyncio.gather(step(2), step(60), large(3))", cell_id="short")
    log = nb.home / "executed"
    nb.wait_for(lambda: "large3" in log.read_text() and "step2" in log.read_text())
    time.sleep(0.5)
    executed(nb)
    nb.restart()
    assert not cell.done

    # As after a container was killed, and begun again: nobody knows whether its kernel lives.
    path = Path(nb.processes()[0].environ()["FLYTE_NB_HISTORY"], LAYOUT.file_name)
    with contextlib.closing(sqlite3.connect(path)) as db:
        last = db.execute("SELECT id, place, seen, closed FROM kernels ORDER BY id DESC LIMIT 1").fetchone()
        with db:
            db.execute("UPDATE kernels SET place = 'c', seen = ?, closed = NULL WHERE id = ?", (time.time(), last[0]))
            db.execute(
                "UPDATE runs SET phase = 'running', ended = NULL WHERE kernel = ? AND phase = 'aborted'", last[:1]
            )
        assert "may still go on in another container" in begin(nb)
        waits = nb.run("%%flyte recover\nprint(await step(2))", cell_id="short")
        assert "may still go on in another container" in waits.stderr
        assert "error" == waits.status
        assert [] == executed(nb)
        with db:
            db.execute("UPDATE kernels SET place = ?, seen = ?, closed = ? WHERE id = ?", (*last[1:], last[0]))
    nb.run("from flyte_nb.kernel import past\npast._look_again.update(dict.fromkeys(past._look_again, 0.0))").ok()
    assert "was cut off at" in nb.run(DEFINE.replace("x >= 6", "x >= 600")).ok().stdout
    assert "cut off" not in nb.run("1").ok().stdout
    again = nb.run("%%flyte recover\nsizes = await asyncio.gather(step(2), step(60), large(3))", cell_id="short").ok()
    assert "The code of crash.step has changed since" in again.stdout
    assert ["step2", "step60"] == executed(nb)
    assert "Dropped" in nb.run("%flyte history clear").ok().stdout
    assert "the history was cleared" in nb.run("%flyte show k1.r3").ok().stdout
    off = nb.run("flyte.init(history=False)\nget_ipython().run_line_magic('flyte', 'history')").ok().stdout
    assert "Runs are not recorded." in off
