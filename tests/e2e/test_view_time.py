"""In the view, over a real cluster: what a queued action waits for, the workers, where the time of a run went."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.harness import Browser, JupyterServer
from tests.e2e.test_view import AXE
from tests.e2e.test_view_access import OVERFLOW

pytestmark = [pytest.mark.e2e, pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]

expect.set_options(timeout=30_000)

SETUP = """
%load_ext flyte_nb
import asyncio, time
from pathlib import Path
import flyte_nb as flyte
flyte.init(n_workers=2, memory_limit="2 GB")
env = flyte.TaskEnvironment("shop")
@env.task
def fit(depth: int, mark: str) -> int:
    until = time.thread_time() + 0.3 * (depth == 1)
    while time.thread_time() < until or not Path(mark).exists():
        time.sleep(0.0 if time.thread_time() < until else 0.02)
    return depth
@env.task
async def sweep(mark: str) -> list[int]:
    return await asyncio.gather(*(fit.aio(depth, mark) for depth in range(1, 7)))
"""
AXE_RULES = """async () => (await axe.run("[data-testid^=fnb]",
     { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }))
   .violations.map(v => [v.id, v.nodes[0].html, v.nodes[0].failureSummary])"""


def test_what_waits_where_it_runs_and_what_took_the_time(
    server: JupyterServer, browser: Browser, tmp_path: Path
) -> None:
    """A queued action's reason, live; workers by name, with what runs there; then the chain that made the run last."""
    mark = tmp_path / "mark"
    server.write("time.ipynb", [SETUP, f"run = flyte.run(sweep, {str(mark)!r})", "%flyte cluster", "run.wait()"])
    notebook = browser.open(server, "time.ipynb", width=1200)
    page = notebook.page
    page.evaluate(AXE.read_text())
    notebook.run(0).wait_idle(0).run(1).wait_idle(1)
    view = page.locator("[data-testid=fnb]").first

    row = view.get_by_test_id("fnb-tree").get_by_text("depth=6")
    row.click()
    why = view.get_by_test_id("fnb-why")
    expect(why).to_have_text(re.compile(r"Waits: 2 of 2 slots busy, 3 before it"))
    detail = view.get_by_test_id("fnb-detail")
    expect(detail.locator(".fnb-times")).to_have_attribute("aria-label", re.compile("waited for a slot [1-9]"))

    view.get_by_test_id("fnb-menu").click()
    page.get_by_role("menuitem", name="Show the cluster").click()
    strip = view.get_by_test_id("fnb-cluster")
    expect(strip).to_contain_text("2 workers, 2 of 2 slots busy")
    expect(strip.locator(".fnb-load")).to_have_count(2)
    expect(strip).to_contain_text(re.compile(r"w0CPU \d+ %\d+ MB of 2.0 GB1/1 slota\d fit"))
    assert [] == page.evaluate(AXE_RULES)
    strip.get_by_role("button", name=re.compile("fit")).first.click()
    expect(detail.locator(".fnb-dhead")).to_contain_text("running")

    notebook.run(2).wait_idle(2)
    own = notebook.cell(2).get_by_test_id("fnb-cluster-view")
    expect(own).to_contain_text("2 of 2 slots busy")
    assert notebook.outputs(2)[0]["data"]["text/plain"].startswith("Embedded cluster")

    mark.touch()
    notebook.run(3).wait_idle(3)
    own.scroll_into_view_if_needed()
    expect(own).to_contain_text("0 of 2 slots busy")
    timing = view.get_by_test_id("fnb-timing")
    expect(timing).to_contain_text(re.compile(r"\d of 7 actions made \d+ % of the time"))
    expect(detail.locator(".fnb-times")).to_have_attribute("aria-label", re.compile("running"))
    expect(detail.locator(".fnb-attempt")).to_contain_text(re.compile("w[01].*process up to"))
    timing.get_by_role("button", name="Where the time went").click()
    expect(timing).to_contain_text("waited for a slot")
    assert [] == page.evaluate(AXE_RULES)
    for width in (740, 1300):  # about 300 pixels for the view, and 860
        page.set_viewport_size({"width": width, "height": 900})
        assert [] == view.evaluate(OVERFLOW)
        assert [] == own.evaluate(OVERFLOW)
    timing.get_by_role("button", name="actions made").click()
    expect(view.get_by_text(re.compile(r"^\d found$"))).to_be_visible()
    assert [] == [error for error in notebook.page_errors if "fnb" in error or "flyte" in error]
    notebook.close()
