"""Streams, progress and results in a real kernel: cells that iterate, their end, tables under cells, a run that shows itself."""

from __future__ import annotations

import pytest

from tests.kernel.kernelclient import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
%load_ext flyte_nb
import asyncio, pathlib, tempfile, time
from collections.abc import AsyncIterator
import flyte_nb as flyte
env = flyte.TaskEnvironment("streaming")
folder = pathlib.Path(tempfile.mkdtemp())

@env.task(buffer=5)
async def ticks(name: str) -> AsyncIterator[int]:
    at = 0
    try:
        while True:
            yield at
            at += 1
    finally:
        (folder / name).write_text(str(at))

@env.task
async def fit(lr: float, scale: float = 1.0) -> dict:
    if lr > 5:
        raise ValueError("diverged")
    return {"loss": lr * scale}

@env.task
def steps(n: int):
    import sys
    for i in range(n):
        sys.stderr.write(f"\\rstep:  {100 * i // n}%|####      | {i}/{n} [00:01<00:02, 25.0it/s]")
        time.sleep(0.02)
    sys.stderr.write("\\n")

@env.task
def drawn_bar(n: int):
    from rich.progress import track
    for i in track(range(n), description="Fit"):
        time.sleep(0.02)

@env.task
def line_by_line(n: int):
    for i in range(n):
        print(f"{i}/{n} [====>.....] - loss: 0.5")
        time.sleep(0.02)

@env.task
async def sweep(limit: float) -> int:
    return len(await asyncio.gather(*(fit(lr, 2.0) for lr in (0.1, 0.2, limit)), return_exceptions=True))

@env.task
async def cut(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i
    if not (folder / "mended").exists():
        raise OSError("connection lost")

async def there(name):
    while not (folder / name).exists():
        await asyncio.sleep(0.01)
    return int((folder / name).read_text())
"""


def test_a_cell_iterates_leaves_goes_on_and_is_stopped(nb: Kernel) -> None:
    """A stream that a variable names goes on in a later cell; a stop ends the producer, and its clean-up runs."""
    cell = nb.run("async for i in ticks('left'):\n    if i == 20: break\nprint(i, await there('left') >= 20)").ok()
    assert cell.stdout.splitlines()[0] == "20 True"
    nb.run("stream = ticks('kept')\nfirst = [await anext(stream) for _ in range(3)]").ok()
    cell = nb.run(
        "print(first, [next(stream) for _ in range(20)])\nawait stream.aclose()\nprint(await there('kept') > 0)"
    ).ok()
    assert cell.stdout.splitlines()[0] == f"{[0, 1, 2]} {list(range(3, 23))}"
    assert "True" in cell.stdout

    begun = nb.begin(
        "async for i in ticks('stopped'):\n    if i == 3: print('three', flush=True)\n    await asyncio.sleep(0.05)"
    )
    begun.wait_for(lambda: "three" in begun.stdout)
    nb.interrupt()
    assert begun.wait().error is not None
    assert nb.run("print(await asyncio.wait_for(there('stopped'), 20))").ok().stdout


def test_a_stream_that_failed_is_retried_by_hand(nb: Kernel) -> None:
    """Nobody iterates then: its result is the list of its items."""
    cell = nb.run("got = []\nasync for i in cut(3): got.append(i)")
    assert "connection lost" in cell.error.value
    nb.run("(folder / 'mended').touch()\n%flyte retry").ok()
    assert nb.run("print(got, await flyte.last_run())").ok().stdout.strip() == "[0, 1, 2] [[0, 1, 2]]"


def test_a_bar_is_in_the_row_and_one_line_of_it_in_the_log(nb: Kernel) -> None:
    """Not in red, though it is printed to stderr."""
    cell = nb.begin("from flyte_nb.views.words import note_of\nseen = set()\ncall = asyncio.ensure_future(steps.aio(60))\n"
                    "while not call.done():\n    await asyncio.sleep(0.05)\n"
                    "    seen |= {note_of(a.facts) for run in flyte.runs().values() for a in run.actions if a.task == 'streaming.steps'}\n"
                    "print(sorted(seen))").wait().ok()  # fmt: skip
    assert "/ 60" in cell.stdout
    assert "▰" in cell.stdout
    log = nb.run("from flyte_nb.kernel.session import Session\n"
                 "record = list(Session.current.store.runs.values())[-1]\n"
                 "print([(line.stream, line.text[:5]) for _, line in record.logs.merged()])").ok().stdout  # fmt: skip
    assert log.strip() == "[('stdout', 'step:')]"


def test_bars_that_are_drawn_or_printed_line_by_line_are_in_the_row(nb: Kernel) -> None:
    """rich prints nothing before its end where it has no terminal."""
    cell = nb.begin("from flyte_nb.views.words import note_of\nseen = {}\n"
                    "call = asyncio.gather(drawn_bar.aio(60), line_by_line.aio(60))\n"
                    "while not call.done():\n    await asyncio.sleep(0.05)\n"
                    "    seen |= {a.task: note for run in flyte.runs().values() for a in run.actions if (note := note_of(a.facts))}\n"
                    "print(seen)").wait().ok()  # fmt: skip
    assert "'streaming.drawn_bar': '▰" in cell.stdout
    assert "/ 60 · " in cell.stdout
    assert "Fit'" in cell.stdout
    assert "loss: 0.5'" in cell.stdout


def test_a_figure_is_shown_where_its_value_is(nb: Kernel) -> None:
    """Not all that tasks return again under the cell, though they were made with pyplot."""
    nb.run("@env.task\ndef drawn(n: int):\n    import matplotlib\n    matplotlib.use('agg')\n"
           "    import matplotlib.pyplot as plt\n    figure, axis = plt.subplots()\n    axis.plot(range(n))\n    return figure").ok()  # fmt: skip
    cell = nb.run("figures = await asyncio.gather(*(drawn.aio(n) for n in (3, 4, 5)))").ok()
    assert not [m for m in cell.of("display_data") if "image/png" in m.content["data"]]
    shown = nb.run("figures[1]").ok()
    assert [bool(m.content["data"].get("image/png")) for m in shown.of("execute_result")] == [True]
    assert (
        nb.run(
            "import matplotlib.pyplot as plt\nprint(plt.get_fignums(), len(figures[2].axes[0].lines[0].get_xdata()))"
        )
        .ok()
        .stdout
        == "[] 5\n"
    )


def test_results_are_tables_and_a_run_shows_itself(nb: Kernel) -> None:
    """``%flyte results`` and ``%flyte compare``; a run as the last expression of a later cell is its view."""
    nb.run("old = flyte.run(sweep, 1.0)\nnew = flyte.run(sweep, 9.0)\nold.wait(); new.wait()").ok()
    table = nb.run("%flyte results --task fit").ok()
    tables = [m.content["data"] for m in table.of("display_data") if "<table" in m.content["data"].get("text/html", "")]
    [shown] = [data for data in tables if "loss" in data["text/plain"]]
    assert "diverged" in shown["text/html"]
    names = nb.run("print(old.name, new.name)").ok().stdout.strip()
    compared = nb.run(f"%flyte compare {names}").ok()
    assert "calls in both" in compared.stdout
    [drawn] = [data for m in compared.of("display_data") if "png" in (data := m.content["data"])["text/html"]]
    assert "calls that ran in both took" in drawn["text/plain"]
    assert "Name two runs" in nb.run("%flyte compare r1").ok().stdout
    assert "no run or action" in nb.run("%flyte results r99").ok().stdout
    assert "sweep" in nb.run("old").ok().views
    line = nb.run("run = flyte.run(fit, 0.1)\nrun.wait()\nrun").ok()
    assert "<Run " not in line.stdout  # its view is there
    assert "fit" in line.views
