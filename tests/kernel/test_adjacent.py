"""Conditions, reports, files and the alias, as a notebook uses them."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
%load_ext flyte_nb
import flyte_nb
flyte_nb.install_as_flyte()
import flyte, flyte.report
from flyte.io import File
env = flyte.TaskEnvironment("adjacent")

@env.task(report=True)
async def make(text: str) -> File:
    import flyte.report as r
    r.log(f"<p>{text}</p>")
    flyte.logger.info("made it")
    file = File.new_remote("out.txt")
    async with file.open("w") as f:
        await f.write(text)
    return file
"""


def test_a_file_made_by_a_task_is_read_in_the_notebook(nb):
    """The reference comes back, and the notebook opens it, in both forms."""
    done = nb.run(
        """
file = await make("hello")
async with file.open("r") as f:
    print(await f.read(), file.download_sync() == file.path)
"""
    ).ok()

    assert "hello True" in done.stdout


def test_a_report_of_a_cells_action_is_found(nb):
    """run.get_report() of the cell's run has what its actions reported."""
    nb.run('await make("shown")').ok()

    assert "<p>shown</p>" in nb.run("print(flyte.last_run().get_report())").ok().stdout


def test_a_condition_is_asked_in_one_cell_and_answered_in_another(nb):
    """new_condition in a cell, %flyte signal, then wait: each in a cell of its own."""
    nb.run('go = flyte.new_condition("go", prompt="Which rate?", data_type=float)').ok()
    listed = nb.run("%flyte signal").ok()
    refused = nb.run("%flyte signal go fast").ok()
    nb.run("%flyte signal go 0.5").ok()

    assert "Which rate?" in listed.stdout
    assert "takes a number" in refused.stdout
    assert "0.5" in nb.run("print(await go.wait.aio())").ok().stdout


def test_a_task_waits_for_the_notebooks_answer(nb):
    """A run started with flyte.run waits while cells go on; remote.Condition answers it."""
    nb.run(
        """
@env.task
async def asks() -> str:
    condition = await flyte.new_condition.aio("name", data_type=str)
    return await condition.wait.aio()

run = flyte.run(asks)
"""
    ).ok()
    nb.run(
        """
import asyncio
condition = None
while condition is None:
    condition = flyte.remote.Condition.get("name", run_name=run.name)
    await asyncio.sleep(0.01)
condition.signal("Ada")
"""
    ).ok()

    assert "'Ada'" in nb.run("print(run.outputs())").ok().stdout


def test_records_of_a_task_are_shown_with_it(nb):
    """flyte.logger's lines are the action's."""
    nb.run('await make("x")').ok()

    assert "made it" in nb.run("print(list(flyte.last_run().get_logs()))").ok().stdout
