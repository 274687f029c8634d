"""A run's page and file while it runs: live again after a reload, right whenever it is saved, and in words after a kill."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.e2e.harness import Browser, JupyterServer, Notebook

pytestmark = [pytest.mark.e2e, pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]

expect.set_options(timeout=30_000)

SETUP = """
%load_ext flyte_nb
import asyncio, os
import flyte_nb as flyte
flyte.init(history="HISTORY")
env = flyte.TaskEnvironment("shop")
print("pid", os.getpid())

@env.task
async def tick(x: int) -> int:
    print("tick", x)
    while x > 3 and not os.path.exists("GATE"):
        await asyncio.sleep(0.05)
    return x
"""
CELL = "[await tick(x) for x in range(3)] and await asyncio.gather(*(tick(x) for x in range(8)))"


def saved(server: JupyterServer, notebook: Notebook, cell: int) -> list[dict[str, Any]]:
    """A cell's outputs in the file, as it is saved now."""
    notebook.save()
    found: list[dict[str, Any]] = server.read(notebook.name)["cells"][cell]["outputs"]
    return found


def test_a_run_is_seen_whatever_happens_to_page_and_kernel(
    server: JupyterServer, browser: Browser, tmp_path: Path
) -> None:
    """Reloaded while it runs, saved while it runs, killed: live, static, and said so."""
    setup = SETUP.replace("HISTORY", str(tmp_path / "history")).replace("GATE", str(tmp_path / "gate"))
    server.write("outlives.ipynb", [setup, CELL, ""])
    notebook = browser.open(server, "outlives.ipynb")
    notebook.run(0).wait_idle(0)
    pid = int(re.findall(r"pid (\d+)", notebook.text(0))[0])
    notebook.run(1)
    view = notebook.cell(1).get_by_test_id("fnb")
    expect(view).to_contain_text("7 done")
    # The file is right from the moment that the view is there, and no output of it is a widget.
    expect(notebook.cell(1).locator(".flyte-nb-static > .fnb")).to_have_count(1)
    (output,) = saved(server, notebook, 1)
    assert {"text/html", "text/plain"} == set(output["data"])
    # It is renewed under a reader's hands: what is typed meanwhile is not disturbed.
    box = view.locator("input").first
    box.click()
    for letter in "tick(7":
        box.press_sequentially(letter)
        notebook.page.wait_for_timeout(1_000)
    expect(box).to_have_value("tick(7")
    assert box.evaluate("box => document.activeElement === box")
    box.fill("")
    view.get_by_test_id("fnb-menu").click()
    notebook.page.wait_for_timeout(6_000)
    expect(view.locator(".fnb-menuitem").first).to_be_visible()
    notebook.page.keyboard.press("Escape")
    expect(view.locator(".fnb-menuitem").first).to_be_hidden()
    page = "".join(saved(server, notebook, 1)[0]["data"]["text/html"])
    assert "7 done" in page
    assert re.search(r"Not ended at \d\d:\d\d:\d\d", page)
    assert "Running" not in page

    # Closed, and opened again in the same page: the view is of the notebook's new models, not what is left of the old ones.
    notebook.page.evaluate("() => flyteTest.panel().dispose()")
    notebook.page.wait_for_function("() => !document.querySelector('[data-testid=fnb]')")
    notebook.page.evaluate("path => { jupyterapp.commands.execute('docmanager:open', { path }); }", notebook.name)
    notebook.page.wait_for_function("() => flyteTest.panel()?.content.widgets.length === 3")
    expect(notebook.cell(1).get_by_test_id("fnb")).to_contain_text("7 done")
    notebook.cell(1).get_by_test_id("fnb-tree").get_by_text("tick(6)").first.click()
    expect(notebook.cell(1).get_by_test_id("fnb-detail")).to_contain_text("tick 6")

    notebook.reload()
    expect(notebook.cell(1).get_by_test_id("fnb")).to_contain_text("7 done")
    notebook.cell(1).get_by_test_id("fnb-tree").get_by_text("tick(7)").first.click()
    expect(notebook.cell(1).get_by_test_id("fnb-detail")).to_contain_text("tick 7")

    os.kill(pid, signal.SIGKILL)
    static = notebook.cell(1).locator(".flyte-nb-static")
    expect(static).to_contain_text("The kernel has gone")
    expect(static).to_contain_text("7 done")
    expect(notebook.cell(1).locator("button:visible")).to_have_count(0)
    notebook.save().reload()
    expect(notebook.cell(1).locator(".flyte-nb-static")).to_contain_text("7 done")
    assert 0 == notebook.page.get_by_text("Error displaying widget").count()

    notebook.run(0).wait_idle(0)
    assert "was cut off at" in notebook.text(0)
    notebook.set_source(2, "%flyte show k1.r1").run(2).wait_idle(2)
    expect(notebook.cell(2).get_by_test_id("fnb")).to_contain_text("cut off at")
    (tmp_path / "gate").write_text("")
    notebook.set_source(1, f"%%flyte recover\n{CELL}").run(1).wait_idle(1)
    assert "[0, 1, 2, 3, 4, 5, 6, 7]" in notebook.text(1)
    expect(notebook.cell(1).get_by_test_id("fnb")).to_contain_text("recovered")
    assert [] == [error for error in notebook.page_errors if "fnb" in error or "flyte" in error]
    notebook.close()
