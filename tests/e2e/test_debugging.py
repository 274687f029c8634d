"""From "3 of 12 failed" to fixed in JupyterLab and Notebook 7: input boxes, buttons, and what a reader sees."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.e2e.harness import Browser, Front, JupyterServer, Notebook

pytestmark = [pytest.mark.e2e, pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]

expect.set_options(timeout=30_000)

SETUP = """
%load_ext flyte_nb
import asyncio
import flyte_nb as flyte
env = flyte.TaskEnvironment("demo")
"""

TASKS = """
@env.task
async def work(x: int) -> int:
    doubled = x * 2
    if x in (3, 5, 7):
        raise ValueError(f"no {doubled}")
    return doubled

@env.task
async def main(n: int) -> int:
    return sum(await asyncio.gather(*(work(x) for x in range(n))))
"""

HALTING = """
@env.task
async def halting(x: int) -> int:
    y = x * 2
    breakpoint()
    return y + 1
"""

FIXED = TASKS.replace("raise ValueError", "return -1; raise ValueError")


def ask(notebook: Notebook, cell: int, source: str, *lines: str) -> str:
    """Run a cell that prompts, type lines into its input boxes, and return all it printed."""
    notebook.set_source(cell, source).run(cell)
    for line in lines:
        box = notebook.cell(cell).locator("input.jp-Stdin-input").last.element_handle(timeout=30_000)
        assert box is not None
        box.fill(line)
        box.press("Enter")
        box.wait_for_element_state("hidden", timeout=30_000)  # it has become text
    notebook.wait_idle(cell)
    return str(notebook.cell(cell).locator(".jp-OutputArea").first.inner_text())


def view(notebook: Notebook, cell: int) -> Locator:
    """The first live view under a cell."""
    return notebook.cell(cell).get_by_test_id("fnb").first


@pytest.mark.parametrize("front", ["lab", "notebook"])
def test_the_story(server: JupyterServer, browser: Browser, front: Front) -> None:
    """The error, `%debug` and `%flyte replay` in input boxes, the Retry button, a parked action resumed from its panel."""
    name = f"debugging-{front}.ipynb"
    server.write(name, [SETUP, TASKS, *[""] * 10])
    notebook = browser.open(server, name, front=front)
    notebook.run(0).wait_idle(0).run(1).wait_idle(1)
    assert "" == notebook.error(0) + notebook.error(1)

    notebook.set_source(2, "await asyncio.gather(*(work(x) for x in range(12)))").run(2).wait_idle(2)
    shown = notebook.cell(2).inner_text()
    assert " of 12 failed" in shown
    assert "the others: " in shown
    assert "%flyte retry r1" in shown
    assert "flyte_nb/core" not in shown
    notebook.screenshot(f"debugging-{front}", cell=2)

    view(notebook, 2).locator(".fnb-place").first.click()
    expect(notebook.page.locator(".cm-line.fnb-marked")).to_contain_text('raise ValueError(f"no {doubled}")')

    assert re.search(r"\n(6|10|14)\n", ask(notebook, 3, "%debug", "p doubled", "q"))  # whichever failed first
    replayed = ask(notebook, 4, "%flyte replay a4 --step", "n", "p doubled * 100", "q")
    assert "600" in replayed

    notebook.set_source(5, FIXED).run(5).wait_idle(5)
    view(notebook, 2).get_by_test_id("fnb-retry-failed").click()
    expect(view(notebook, 2).locator(".fnb-state").first).to_have_text(re.compile("succeeded", re.IGNORECASE))
    notebook.set_source(6, "await flyte.last_run()").run(6).wait_idle(6)
    assert "[0, 2, 4, -1, 8, -1, 12, -1, 16, 18, 20, 22]" in notebook.text(6).replace("\n", "")

    notebook.set_source(7, TASKS + "run = flyte.with_runcontext(on_failure='pause').run(main, 4)").run(7).wait_idle(7)
    parked = view(notebook, 7)
    parked.get_by_test_id("fnb-tree").get_by_text("work(3)").first.click()
    detail = parked.get_by_test_id("fnb-detail")
    detail.get_by_role("button", name="Resume").first.click()
    value = detail.get_by_test_id("fnb-resume")
    expect(value).to_be_visible()
    notebook.screenshot(f"parked-{front}", cell=7)
    value.fill("1000")
    value.press("Enter")
    notebook.set_source(8, "await run").run(8).wait_idle(8)
    assert "1006" == notebook.text(8)

    notebook.set_source(9, HALTING + "run = flyte.run(halting, 5)").run(9).wait_idle(9)
    standing = view(notebook, 9)
    expect(standing.get_by_test_id("fnb-tree")).to_contain_text("breakpoint at Cell In[")
    standing.get_by_test_id("fnb-tree").get_by_text("halting(5)").first.click()
    standing.get_by_test_id("fnb-detail").get_by_role("button", name="Stack").click()
    expect(standing.get_by_test_id("fnb-detail")).to_contain_text("return y + 1")
    notebook.screenshot(f"breakpoint-{front}", cell=9)
    standing.get_by_test_id("fnb-attach").click()
    standing.get_by_test_id("fnb-debug-line").fill("p y * 7")
    standing.get_by_test_id("fnb-debug-line").press("Enter")
    expect(standing.get_by_test_id("fnb-debug")).to_contain_text("70")
    attached = ask(notebook, 10, "%flyte attach", "p y * 10", "c")
    assert "100" in attached
    assert "a0 goes on." in attached
    notebook.set_source(11, "await run").run(11).wait_idle(11)
    assert "11" == notebook.text(11)

    for _ in range(2):
        notebook.set_source(10, "await asyncio.gather(work(20), work(21))").run(10).wait_idle(10)
    again = view(notebook, 10)
    again.get_by_test_id("fnb-before").click()
    expect(again.get_by_test_id("fnb-sheet")).to_contain_text("2 calls in both")

    standing.get_by_test_id("fnb-menu").click()
    standing.get_by_role("menuitem", name="Keep beside the notebook").click()
    beside = notebook.page.get_by_test_id("fnb-panel").get_by_test_id("fnb")
    expect(beside).to_contain_text("halting(5)")
    notebook.screenshot(f"beside-{front}")
    assert [] == [error for error in notebook.page_errors if "fnb" in error or "flyte" in error]
    notebook.save().close()
