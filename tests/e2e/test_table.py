"""The table of a real run in JupyterLab: what a person reads, sorts, filters, copies and plots of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from tests.e2e.harness import Browser, JupyterServer, Notebook
from tests.e2e.test_view import axe
from tests.e2e.test_view_access import OVERFLOW

pytestmark = [pytest.mark.e2e, pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]

expect.set_options(timeout=30_000)

#: Whether a chart's tool tip begins over the chart.
INSIDE = """chart => {
    const [frame, tip] = [chart, chart.querySelector(".fnb-tip")].map((one) => one.getBoundingClientRect());
    return tip.top > frame.top && tip.top < frame.bottom && tip.left > frame.left && tip.left < frame.right;
}"""

SETUP = """
%load_ext flyte_nb
import asyncio, time
import flyte_nb as flyte
env = flyte.TaskEnvironment("sweeps")

@env.task
def fit(lr: float, depth: int, kind: str, password: str = "hunter2") -> dict:
    if lr > 5:
        raise ValueError("diverged")
    return {"loss": (lr - 0.05) ** 2 * depth + 0.01, "kind": kind.upper()}

@env.task
async def square(x: int) -> int:
    return x * x

@env.task
def epochs(n: int, upto: float) -> int:
    for step in flyte.track(range(n)):
        time.sleep(0.03)
    return n

async def sweep():
    grid = [(10.0 ** -p, depth, kind) for p in range(5) for depth in range(1, 7) for kind in ("adam", "sgd")]
    return await asyncio.gather(*(fit(*each) for each in [*grid, (9.0, 1, "adam")]), return_exceptions=True)
"""


@pytest.fixture(scope="module")
def notebook(server: JupyterServer, browser: Browser) -> Iterator[Notebook]:
    server.write("table.ipynb", [SETUP, *[""] * 5])
    notebook = browser.open(server, "table.ipynb", width=1600)
    notebook.page.context.grant_permissions(["clipboard-read", "clipboard-write", "notifications"])
    notebook.run(0).wait_idle(0)
    assert "" == notebook.error(0)
    notebook.page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")
    yield notebook
    assert [] == [error for error in notebook.page_errors if "fnb" in error or "flyte" in error]
    notebook.close()


@pytest.fixture(autouse=True)
def _end_kernels() -> None:
    """The tests of this module share a kernel."""


def shown(notebook: Notebook, cell: int, source: str) -> Locator:
    """Run a cell to its end; its view."""
    notebook.set_source(cell, source).run(cell).wait_idle(cell)
    return notebook.cell(cell).get_by_test_id("fnb").first


def cells(view: Locator, row: int = 1) -> list[str]:
    """Texts of a row; 0: the headings."""
    return view.get_by_test_id("fnb-table").locator("[role=row]").nth(row).locator("> *").all_inner_texts()


def test_a_sweep_is_a_table(notebook: Notebook) -> None:
    """Arguments and results as columns, no secret; sorted, filtered, a row opens its action, copied as a table."""
    view = shown(notebook, 1, "found = await sweep()")
    view.get_by_test_id("fnb-tab-table").click()
    said = view.locator(".fnb-tabsaid")
    expect(said).to_have_text("61 rows")
    expect(view.get_by_role("columnheader", name="error")).to_be_visible()
    heads = cells(view, 0)
    assert ["id", "lr", "depth", "kind", "loss", "result.kind"] == heads[:6]
    assert {"running", "phase", "error"} <= set(heads)
    assert "hunter2" not in view.inner_text()
    assert ["1", "1", "adam", "0.9125", "ADAM"] == cells(view)[1:6]
    view.get_by_role("button", name="loss").click()
    expect(view.get_by_role("columnheader", name="loss")).to_have_attribute("aria-sort", "ascending")
    expect(view.get_by_test_id("fnb-table").locator("[role=row]").nth(1)).to_contain_text("0.0116")
    view.get_by_test_id("fnb-tablesearch").fill("kind=sgd depth<3 loss<0.02")
    expect(said).to_have_text("8 of 61 rows")
    view.get_by_test_id("fnb-copytable").click()
    view.get_by_text("Copy for a spreadsheet (TSV)").click()
    expect(view.locator(".fnb-notice")).to_have_text("Copied 8 rows as TSV")
    pasted = notebook.page.evaluate("() => navigator.clipboard.readText()").splitlines()
    assert (9, "id\tlr\tdepth\tkind\tloss") == (len(pasted), pasted[0][:21])
    view.get_by_test_id("fnb-tablesearch").fill("diverged")
    expect(said).to_have_text("1 of 61 rows")
    view.get_by_test_id("fnb-table").locator("[role=row]").nth(1).click()
    expect(view.get_by_test_id("fnb-detail")).to_contain_text("ValueError")
    notebook.screenshot("table-open", cell=1)
    notebook.page.keyboard.press("Escape")
    view.get_by_test_id("fnb-tablesearch").fill("")
    view.get_by_test_id("fnb-columns").click()
    view.locator(".fnb-choice", has_text="phase").locator("input").uncheck()
    notebook.page.keyboard.press("Escape")
    expect(view.get_by_role("columnheader", name="phase")).to_have_count(0)


@pytest.mark.parametrize("width", [1600, 700, 300])
def test_a_sweep_is_plotted(notebook: Notebook, width: int) -> None:
    """Two clicks from the tree; a point opens its action; nothing overflows; light and dark, for everyone."""
    view = notebook.cell(1).get_by_test_id("fnb").first
    notebook.page.set_viewport_size({"width": width, "height": 900})
    view.get_by_test_id("fnb-tab-table").focus()
    if width == 1600:
        view.get_by_test_id("fnb-plot").click()
    pane = view.get_by_test_id("fnb-plotpane")
    expect(pane.locator("figcaption")).to_contain_text("loss against lr")
    expect(pane.locator("figcaption")).to_contain_text("60 values: least 0.01")
    assert [] == view.evaluate(OVERFLOW)
    notebook.screenshot(f"table-{width}", cell=1)
    for kind, caption in (("histogram", "Distribution of loss"), ("parallel", "loss by its arguments")):
        pane.get_by_test_id("fnb-plotkind").select_option(kind)
        expect(pane.locator("figcaption").first).to_contain_text(caption)
        notebook.screenshot(f"table-{width}-{kind}", cell=1)
    pane.get_by_test_id("fnb-plotkind").select_option("points")
    expect(pane.locator("figcaption")).to_contain_text("loss against lr")
    assert [] == axe(notebook)
    notebook.dark()
    assert [] == axe(notebook)
    notebook.screenshot(f"table-{width}-dark", cell=1)
    notebook.dark(on=False)


def test_the_table_of_a_group_has_its_histograms(notebook: Notebook) -> None:
    """From the mark beside the group's name; a bar filters; 100,000 rows are scrolled through, only those on screen exist."""
    notebook.page.set_viewport_size({"width": 1600, "height": 900})
    view = shown(notebook, 2, "squares = [x async for x in flyte.map.aio(square, range(100_000))]")
    view.get_by_role("button", name="Table of these calls").click()
    expect(view.locator(".fnb-tabsaid")).to_have_text("100,000 rows", timeout=60_000)
    expect(view.get_by_test_id("fnb-plotpane").locator("figcaption strong")).to_have_text(
        ["Distribution of result", "Distribution of running"]
    )
    notebook.screenshot("table-100k", cell=2)
    table = view.get_by_test_id("fnb-table")
    table.focus()
    table.press("End")
    expect(table.get_by_text("9999800001")).to_be_visible()
    assert table.locator("[role=row]").count() < 60
    view.get_by_role("button", name="x", exact=True).click(click_count=2)
    chart = view.locator(".fnb-chartframe").first
    chart.hover(position={"x": 70, "y": 160})
    expect(chart.locator(".fnb-tip")).to_have_text(re.compile(r".+ to .+: [\d,]+"))
    expect(chart.locator(".fnb-tip")).to_be_visible()
    assert chart.evaluate(INSIDE)
    chart.click(position={"x": 70, "y": 160})
    expect(view.locator(".fnb-tabsaid")).to_have_text(re.compile(r"[\d,]+ of 100,000 rows"))


def test_progress_of_a_group_is_summed_up(notebook: Notebook) -> None:
    """What each tells adds up in the group's row, while it goes on."""
    source = "done = await asyncio.gather(*(epochs.aio(40, i / 10) for i in range(6)))"
    notebook.set_source(3, source).run(3)
    view = notebook.cell(3).get_by_test_id("fnb").first
    expect(view.locator(".fnb-group .fnb-infotext")).to_have_text(
        re.compile(r"\d+% · \d+ / \d+ items · [\d.]+/s · .*\d running")
    )
    notebook.screenshot("table-progress", cell=3)
    notebook.wait_idle(3)
    expect(view.locator(".fnb-group .fnb-infotext")).to_have_text("6 done")
