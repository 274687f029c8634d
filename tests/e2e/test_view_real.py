"""The live view over real runs on the embedded cluster: details, buttons, full logs, `%flyte show`, a blocked cell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.e2e.harness import Browser, Front, JupyterServer, Notebook

pytestmark = [pytest.mark.e2e, pytest.mark.kernel, pytest.mark.cluster, pytest.mark.slow]

expect.set_options(timeout=30_000)

SETUP = """
%load_ext flyte_nb
import asyncio, time
import numpy as np, pandas as pd
import flyte_nb as flyte
env = flyte.TaskEnvironment("shop")

class Config:
    def __init__(self, depth): self.depth = depth
    def __repr__(self): return f"Config(depth={self.depth})"

@env.task
async def load(name: str, rows: int, config: Config, password: str = "hunter2") -> pd.DataFrame:
    print("loading", name)
    return pd.DataFrame({"region": ["emea", "apac", "amer"] * (rows // 3), "sales": range(rows // 3 * 3)})

@env.task
async def plot(frame: pd.DataFrame) -> object:
    from matplotlib.figure import Figure
    figure = Figure(figsize=(4, 2))
    frame.groupby("region").sales.sum().plot.bar(ax=figure.subplots())
    return figure

@env.task
async def fit(frame: pd.DataFrame, depth: int) -> float:
    weights = {"emea": 1.0, "apac": 2.0}
    total = 0.0
    for region in frame.region:
        total += weights[region]
    return total

@env.task
async def pipeline(rows: int) -> float:
    frame = await load("sales", rows, Config(3))
    await plot(frame)
    return await fit(frame, 4)

@env.task
async def chatty(lines: int) -> int:
    for i in range(lines):
        print(f"line {i}")
    return lines

@env.task
async def flaky(x: int) -> int:
    if x == broken:
        raise ValueError(f"no {x}")
    return x

@env.task
async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds

@env.task(report=True)
async def reports() -> int:
    flyte.report.get_tab("main").log("<h1>Quarter</h1><script>parent.__pwned = 1</script>")
    flyte.report.get_tab("more").log("<p>second tab</p>")
    await flyte.report.flush.aio()
    return 1

broken = 3
"""


@pytest.fixture(scope="module")
def notebook(server: JupyterServer, browser: Browser) -> Iterator[Notebook]:
    """One notebook, with its kernel and cluster, for the tests that only look."""
    server.write("real.ipynb", [SETUP, *[""] * 14])
    notebook = browser.open(server, "real.ipynb")
    notebook.page.context.grant_permissions(["clipboard-read", "clipboard-write", "notifications"])
    notebook.run(0).wait_idle(0)
    assert "" == notebook.error(0)
    yield notebook
    assert [] == [error for error in notebook.page_errors if "fnb" in error or "flyte" in error]
    notebook.close()


@pytest.fixture(autouse=True)
def _end_kernels() -> None:
    """The tests of this module share a kernel."""


#: Has the page hidden, as far as scripts can tell, and notes the notifications that it shows.
HIDE = """() => {
    window.told = [];
    window.Notification = class extends Notification {
        constructor(title, more) { super(title, more); told.push(`${title}: ${more.body}`); }
    };
    Object.defineProperty(document, "hidden", { configurable: true, value: true });
}"""


def run(notebook: Notebook, cell: int, source: str) -> Locator:
    """Run a cell to its end; the first live view below it."""
    notebook.set_source(cell, source).run(cell).wait_idle(cell)
    return shown(notebook, cell)


def shown(notebook: Notebook, cell: int) -> Locator:
    return notebook.cell(cell).get_by_test_id("fnb").first


def opened(view: Locator, label: str) -> Locator:
    """The panel of the action of this label."""
    view.get_by_test_id("fnb-tree").get_by_text(label).first.click()
    detail = view.get_by_test_id("fnb-detail")
    expect(detail.locator(".fnb-dhead .fnb-title")).to_contain_text(label)
    expect(detail.get_by_text("Fetching…")).to_have_count(0)
    return detail


def test_a_panel_shows_inputs_output_picture_and_the_frame_that_failed(notebook: Notebook) -> None:
    """Tables for data frames, a PNG for a figure, the user's repr, no secret; frames with source and locals; commands."""
    view = run(notebook, 1, "await pipeline(30)")
    detail = opened(view, "load('sales'")
    expect(detail.get_by_label("Inputs")).to_contain_text("Config(depth=3)")
    expect(detail.get_by_label("Inputs")).not_to_contain_text("hunter2")
    expect(detail.locator("table thead")).to_contain_text("region")
    expect(detail.locator("table tbody tr")).to_have_count(21)
    expect(detail).to_contain_text("30 × 2 (first and last 10 rows shown)")
    notebook.screenshot("real-table", cell=1)

    picture = opened(view, "plot(").locator("img")
    expect(picture).to_be_visible()
    assert 100 < picture.evaluate("image => image.decode().then(() => image.naturalWidth)")

    detail = opened(view, "fit(")
    expect(detail).to_contain_text("KeyError")
    frame = detail.locator("details.fnb-frame[open]")
    expect(frame.locator(".fnb-failing")).to_contain_text("total += weights[region]")
    expect(frame.locator(".fnb-locals")).to_contain_text("'amer'")
    expect(detail.locator(".fnb-framebox > .fnb-place").last).to_have_text("Cell In[1]:28")
    (saved,) = [output["data"]["text/html"] for output in notebook.outputs(1) if "text/html" in output.get("data", {})]
    assert "Cell In[1], line 28, in fit\n    total += weights[region]\nKeyError: " in unescape("".join(saved))
    name = re.search(r"a\d+", detail.locator(".fnb-run").inner_text())
    assert name is not None
    expect(detail.locator(".fnb-hint").first).to_contain_text(f"%flyte debug {name[0]}")
    notebook.screenshot("real-failure", cell=1)
    notebook.dark().screenshot("real-failure-dark", cell=1)
    notebook.dark(on=False)
    detail.get_by_role("button", name="copy").first.click()
    assert f"%flyte debug {name[0]}" == notebook.page.evaluate("() => navigator.clipboard.readText()")


def test_a_value_that_takes_for_ever_is_given_up(notebook: Notebook) -> None:
    """A repr that never returns neither stops the engine nor the view: the panel says so."""
    source = """
class Slow:
    def __repr__(self):
        time.sleep(3600)

@env.task
async def slow(x: Slow) -> int:
    return 1

await asyncio.gather(slow(Slow()), nap(0.0))
"""
    view = run(notebook, 2, source)
    detail = opened(view, "slow(")
    expect(detail.get_by_label("Inputs")).to_contain_text("not read: it took longer than 5 s")
    expect(detail).to_contain_text("Attempt")
    assert "" == run(notebook, 3, "await nap(0.0)").page.evaluate("() => ''")


def test_reports_are_shown_without_script(notebook: Notebook) -> None:
    """Each tab in a frame of its own, where no script runs."""
    view = run(notebook, 4, "await asyncio.gather(reports(), nap(0.0))")
    detail = opened(view, "reports(")
    expect(detail.frame_locator("iframe").get_by_text("Quarter")).to_be_visible()
    detail.get_by_role("button", name="more").click()
    expect(detail.frame_locator("iframe").get_by_text("second tab")).to_be_visible()
    notebook.screenshot("real-report", cell=4)
    assert notebook.page.evaluate("() => window.__pwned") is None


def test_the_full_log_is_fetched_from_the_worker(notebook: Notebook, tmp_path: Path) -> None:
    """What the kernel does not keep is stated, and in the downloaded file all the same; the menu copies names and links."""
    view = run(notebook, 5, "await asyncio.gather(chatty(20_000), nap(0.0))")
    view.get_by_test_id("fnb-tab-logs").click()
    expect(view.locator(".fnb-logsaid")).to_have_text(re.compile(r"20,000 lines · [\d,]+ lines hidden"))
    view.get_by_test_id("fnb-tab-tree").click()
    view.get_by_test_id("fnb-menu").click()
    with notebook.page.expect_download() as download:
        notebook.page.get_by_role("menuitem", name="Download log").click()
    download.value.save_as(tmp_path / "all.log")
    lines = [line for line in (tmp_path / "all.log").read_text().splitlines() if line.startswith("line ")]
    assert [f"line {i}" for i in range(20_000)] == lines

    view.get_by_test_id("fnb-menu").click()
    notebook.screenshot("real-menu")
    notebook.page.get_by_role("menuitem", name="Copy link to this cell").click()
    link = notebook.page.evaluate("() => navigator.clipboard.readText()")
    cell = notebook.page.evaluate("() => flyteTest.model(5).id")
    assert link.endswith(f"/tree/real.ipynb#cell-id={cell}")


def test_show_adds_a_view_and_closes_none(notebook: Notebook) -> None:
    """`%flyte show` in two later cells: three views of one run, each live, also while it runs."""
    notebook.set_source(6, "await asyncio.gather(*(nap(0.5 * i) for i in range(8)))").run(6)
    expect(shown(notebook, 6).locator(".fnb-state").first).to_have_text("Running")
    notebook.wait_idle(6)
    name = shown(notebook, 6).get_attribute("data-run")
    for cell in (7, 8):
        notebook.set_source(cell, f"%flyte show {name}").run(cell).wait_idle(cell)
    for cell in (6, 7, 8):
        view = shown(notebook, cell)
        expect(view.locator(".fnb-state").first).to_have_text("Succeeded")
        detail = opened(view, "nap(3.5)")
        expect(detail).to_contain_text("Attempt")
        expect(detail.get_by_label("Output")).to_contain_text("3.5")


def test_retry_failed_and_what_has_no_effect_are_answered(notebook: Notebook) -> None:
    """Retry runs the failed action again with the code of now; pressing it when nothing is failed says so."""
    view = run(notebook, 9, "await asyncio.gather(*(flaky(i) for i in range(5)), return_exceptions=True)")
    expect(view.get_by_test_id("fnb-errors")).to_contain_text("ValueError: no 3")
    run(notebook, 10, "broken = -1")
    view.get_by_test_id("fnb-retry-failed").click()
    expect(view.locator(".fnb-chip[data-word=done]")).to_contain_text("5")
    expect(view.get_by_test_id("fnb-errors")).to_be_hidden()
    notebook.screenshot("real-retried", cell=9)


def test_conditions_are_answered_in_the_view(notebook: Notebook) -> None:
    """Yes and No for a bool, a number field for an int; what does not fit is refused in words; the cell goes on."""
    source = """
async def ask():
    go = await flyte.new_condition.aio("go", prompt="Train on all rows?", description="It takes an hour.")
    rows = await flyte.new_condition.aio("rows", prompt="How many rows?", data_type=int)
    return await go.wait.aio(), await rows.wait.aio()

await ask()
"""
    notebook.set_source(11, source).run(11)
    view = shown(notebook, 11)
    expect(view.locator("[role=row]", has_text="Train on all rows?")).to_be_visible()
    notebook.screenshot("real-condition", cell=11)
    view.get_by_test_id("fnb-signal").fill("300")
    view.get_by_test_id("fnb-signal").press("Enter")
    expect(view.locator("[role=row]", has_text="How many rows?").locator(".fnb-stateword")).to_have_text("succeeded")
    view.get_by_test_id("fnb-answer-yes").click()
    notebook.wait_idle(11, timeout=20)
    assert "(True, 300)" in notebook.text(11)


def test_a_parked_failure_is_resumed_or_retried(notebook: Notebook) -> None:
    """A notification says that it waits, to who is elsewhere; the panel offers Retry, Resume with a value, and Raise."""
    run(notebook, 10, "await asyncio.gather(nap(0.5), nap(0.0))").get_by_test_id("fnb-menu").click()
    notebook.page.get_by_role("menuitem", name="Notify me").click()
    expect(shown(notebook, 10).locator(".fnb-notice")).to_contain_text(
        "ends or waits for you, while this page is hidden"
    )
    notebook.page.evaluate(HIDE)
    source = """
broken = 1
run = flyte.with_runcontext(on_failure="pause").run(flaky, 1)
"""
    notebook.set_source(12, source).run(12).wait_idle(12)
    view = shown(notebook, 12)
    expect(view.locator(".fnb-chip[data-word=paused], [role=row] .fnb-c-4").first).to_be_visible()
    detail = opened(view, "flaky(1)")
    expect(detail).to_contain_text("ValueError")
    (told,) = notebook.page.evaluate("() => { delete document.hidden; return told; }")
    assert re.fullmatch(r"r\d+ waits for you: .*flaky.*\n1 paused", told), told
    detail.get_by_role("button", name="Resume with…").click()
    notebook.screenshot("real-paused", cell=12)
    detail.get_by_test_id("fnb-resume").fill("no value")
    detail.get_by_test_id("fnb-resume").press("Enter")
    expect(view.locator(".fnb-notice")).to_contain_text("'no value' is no value: SyntaxError")
    detail.get_by_test_id("fnb-resume").fill("42 * broken")
    detail.get_by_test_id("fnb-resume").press("Enter")
    expect(view.locator(".fnb-state").first).to_have_text("Succeeded")
    expect(view.locator(".fnb-notice")).to_be_hidden()
    expect(view.locator("[role=row]", has_text="flaky(1)")).to_contain_text("42 · given by hand")
    assert "42" in run(notebook, 10, "run.outputs()").page.evaluate("() => flyteTest.text(10)")


def test_a_running_action_is_looked_at_and_cancelled_alone(notebook: Notebook) -> None:
    """Stack says where it is; Cancel action ends it and nothing else."""
    notebook.set_source(14, "await asyncio.gather(nap(60.0), nap(1.5), return_exceptions=True)").run(14)
    view = shown(notebook, 14)
    expect(view.locator("[role=row]", has_text="nap(60.0)").locator(".fnb-stateword")).to_have_text("running")
    detail = opened(view, "nap(60.0)")
    detail.get_by_role("button", name="Stack", exact=True).click()
    expect(detail.get_by_test_id("fnb-answered")).to_contain_text("await asyncio.sleep(seconds)")
    notebook.screenshot("real-stack", cell=14)
    detail.get_by_role("button", name="Cancel action").click()
    notebook.wait_idle(14, timeout=20)
    expect(view.locator(".fnb-chip[data-word=cancelled]")).to_contain_text("1")
    assert "1.5]" in notebook.text(14)


def test_runs_outlive_their_cell_side_by_side(notebook: Notebook) -> None:
    """Two runs of one cell have a view each below it, live after the cell has ended."""
    notebook.set_source(13, "a, b = flyte.run(nap, 2.0), flyte.run(nap, 2.5)").run(13).wait_idle(13)
    views = notebook.cell(13).get_by_test_id("fnb")
    expect(views).to_have_count(2)
    expect(views.first.locator(".fnb-state").first).to_have_text("Running")
    for n in range(2):
        expect(views.nth(n).locator(".fnb-state").first).to_have_text("Succeeded")


@pytest.mark.parametrize("front", ["lab", "notebook"])
@pytest.mark.parametrize("blocked", ["list(flyte.map(nap, [60.0] * 4))", "time.sleep(60)"])
def test_cancel_works_while_the_cell_blocks(
    server: JupyterServer, browser: Browser, front: Front, blocked: str
) -> None:
    """A synchronous wait, of ours or of Python's, does not keep Cancel from the run."""
    name = f"blocked-{front}-{len(blocked)}.ipynb"
    cell = f"tasks = [asyncio.create_task(nap.aio(60.0)) for _ in range(3)]\nawait asyncio.sleep(0.3)\n{blocked}"
    server.write(name, [SETUP, cell])
    notebook = browser.open(server, name, front=front)
    notebook.run(0).wait_idle(0)
    notebook.run(1).wait_running(1)
    view = shown(notebook, 1)
    view.get_by_test_id("fnb-cancel").click()
    expect(view.locator(".fnb-chip[data-word=cancelled]")).to_contain_text(re.compile("[37]"))
    if "map" in blocked:
        notebook.wait_idle(1, timeout=20)
        assert "ActionAbortedError" in notebook.text(1)
    else:
        assert notebook.is_running(1)
        notebook.stop().wait_idle(1, timeout=20)
    notebook.close()
