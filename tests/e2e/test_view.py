"""The live view in JupyterLab and Notebook 7: what a reader sees, and what stays. Runs are synthetic, views are real."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, expect

from tests.e2e.harness import Browser, Front, JupyterServer, Notebook
from tests.kernel.kernelclient import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.kernel, pytest.mark.slow]

expect.set_options(timeout=20_000)

AXE = ROOT / "js" / "node_modules" / "axe-core" / "axe.min.js"

SETUP = """
import asyncio, time
from bench import synthetic as syn
from bench.playback import Stage
from tests.e2e.stories import flood, hostile, question
stage = Stage(get_ipython())

def until_told():
    while not stage.commands:
        time.sleep(0.02)
    print(stage.commands)

async def awaiting_until_told():
    while not stage.commands:
        await asyncio.sleep(0.02)
    print(stage.commands)
"""


def view(notebook: Notebook, run: str) -> Locator:
    """The live view of a run."""
    return notebook.page.locator(f"[data-testid=fnb][data-run={run}]")


def opened(
    server: JupyterServer, browser: Browser, name: str, *cells: str, front: Front = "lab", width: int = 1200
) -> Notebook:
    server.write(f"{name}.ipynb", [SETUP, *cells])
    notebook = browser.open(server, f"{name}.ipynb", front=front, width=width)
    notebook.run(0).wait_idle(0)
    assert "" == notebook.error(0)
    return notebook


def play(notebook: Notebook, cell: int, run: str, state: str) -> Locator:
    """Run a cell that plays a run and wait until its view says `state`."""
    notebook.run(cell).wait_idle(cell)
    found = view(notebook, run)
    expect(found.locator(".fnb-state").first).to_have_text(re.compile(state, re.IGNORECASE))
    return found


def mimes(notebook: Notebook, cell: int) -> set[str]:
    return {mime for output in notebook.outputs(cell) for mime in output.get("data", {})}


def axe(notebook: Notebook) -> list[object]:
    """What axe-core finds in the views: rules, and the first node of each."""
    assert AXE.exists(), "axe-core comes with the JavaScript packages: `make js/node_modules/.installed`"
    notebook.page.evaluate(AXE.read_text())
    found: list[object] = notebook.page.evaluate(
        """async () => (await axe.run("[data-testid=fnb]",
             { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }))
           .violations.map(v => [v.id, v.nodes[0].html, v.nodes[0].failureSummary])"""
    )
    return found


@pytest.fixture(autouse=True)
def _no_page_errors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every notebook a test opened is asked for errors of ours when it closes."""
    close = Notebook.close
    seen: list[str] = []

    def closing(self: Notebook) -> None:
        seen.extend(error for error in self.page_errors if "fnb" in error or "flyte" in error)
        close(self)

    monkeypatch.setattr(Notebook, "close", closing)
    yield
    assert [] == seen


@pytest.mark.parametrize("front", ["lab", "notebook"])
def test_nested_run_is_seen_live_and_stays_when_reopened_without_kernel(
    server: JupyterServer, browser: Browser, front: Front
) -> None:
    """Rows nested as the code is, logs as they are printed; after the end the page still answers, the file is static."""
    name = f"view-nested-{front}"
    notebook = opened(
        server, browser, name, "stage.play(syn.one_action('r1'))", "stage.play(syn.nested('r2'))", front=front
    )
    notebook.run(1).wait_idle(1).wait_output(1, "✓ r1 succeeded")
    found = play(notebook, 2, "r2", "failed")
    expect(found.locator("[role=row]")).to_have_count(13)
    expect(found.get_by_test_id("fnb-errors")).to_have_text(re.compile(r"KeyError: 'discount'.*render_report"))
    expect(found.get_by_test_id("fnb-tail")).to_contain_text("retrying against replica")
    notebook.wait_output(2, "✗ r2 failed")
    assert {"text/html", "text/plain"} == mimes(notebook, 2)
    assert 1 == notebook.cell(1).locator(".jp-OutputArea-output").count()

    found.get_by_test_id("fnb-tree").get_by_text("impute('apac'").click()
    detail = found.get_by_test_id("fnb-detail")
    expect(detail).to_contain_text("2 of 3")
    expect(detail).to_contain_text("warehouse did not answer")
    expect(detail).to_contain_text("retrying against replica")
    notebook.screenshot(f"view-nested-{front}", cell=2)
    notebook.save().close()

    server.shutdown_kernels()
    reopened = browser.open(server, f"{name}.ipynb", front=front, kernel=False)
    static = reopened.page.locator(".jp-OutputArea-output", has_text="render_report").first
    expect(static).to_contain_text("10 done, 2 failed")
    expect(static).to_contain_text("KeyError: 'discount'")
    expect(static).to_contain_text("read 1,204,332 rows")
    assert 0 == reopened.page.get_by_text("Error displaying widget").count()
    static.locator("summary", has_text="KeyError").click()
    expect(static.locator("details[open] pre").first).to_contain_text("'discount'")
    reopened.screenshot(f"view-nested-{front}-no-kernel", cell=2)
    reopened.close()


def test_map_with_failures_is_filtered_searched_and_opened(server: JupyterServer, browser: Browser) -> None:
    """1,000 actions with 3 failures: heat strip, folded error, state chip, search, sort, time axis; light and dark."""
    notebook = opened(server, browser, "view-map", "stage.play(syn.mapped(1_000, 3, run='r3', logs=True))")
    found = play(notebook, 1, "r3", "failed")
    notebook.screenshot("view-map", cell=1)
    notebook.dark().screenshot("view-map-dark", cell=1)
    expect(found.get_by_test_id("fnb-errors")).to_contain_text("3 ×")

    found.locator(".fnb-heat canvas").click(position={"x": 3, "y": 3})
    expect(found.get_by_test_id("fnb-detail")).to_contain_text("score(0, 'model-0')")
    found.locator(".fnb-chip[data-word=failed]").click()
    expect(found.locator("[role=row]")).to_have_count(3)
    expect(found.locator("[role=row]").first).to_contain_text("failed")
    found.locator(".fnb-chip[data-word=failed]").click()
    found.get_by_test_id("fnb-errors").get_by_role("button", name="3 ×").click()
    expect(found.locator("[role=row]")).to_have_count(3)
    found.get_by_title("Show all actions again").click()
    found.get_by_test_id("fnb-search").fill("task:score >60ms")
    expect(found.locator(".fnb-tabs")).to_contain_text(re.compile(r"Timeline\d{1,2} found"))
    found.get_by_test_id("fnb-search").fill("score(777")
    expect(found.locator("[role=row]")).to_have_count(1)
    found.get_by_test_id("fnb-search").fill("")
    found.locator(".fnb-sort").select_option("state")
    expect(found.locator("[role=row]").nth(2)).to_contain_text("KeyError")

    found.get_by_test_id("fnb-tab-timeline").click()
    expect(found.get_by_test_id("fnb-timeline")).to_have_attribute("aria-label", re.compile("8 lanes"))
    notebook.screenshot("view-timeline-dark", cell=1)
    notebook.dark(on=False).close()


def test_hundred_thousand_actions_are_one_picture(server: JupyterServer, browser: Browser) -> None:
    """One cell each in the heat strip; any of them can be scrolled to; only rows on screen exist."""
    notebook = opened(
        server,
        browser,
        "view-100k",
        "stage.play(syn.mapped(100_000, 40, run='r4', bundle=100), batch=5_000, every=0.01)",
    )
    found = play(notebook, 1, "r4", "failed")
    expect(found.locator(".fnb-chip[data-word=done]")).to_contain_text("99,960")
    found.locator(".fnb-heat canvas").hover(position={"x": 301, "y": 51})
    expect(found.locator(".fnb-tip").first).to_have_text(re.compile(r"score\(\d+, 'model-\d'\) · (succeeded|failed)"))
    notebook.screenshot("view-100k", cell=1)
    hovered = (found.locator(".fnb-tip").first.text_content() or "").partition(" · ")[0]
    found.locator(".fnb-heat canvas").click(position={"x": 301, "y": 51})
    expect(found.get_by_test_id("fnb-detail").locator(".fnb-title")).to_have_text(hovered)  # not its neighbour
    notebook.page.keyboard.press("Escape")
    found.locator(".fnb-group").click()
    tree = found.get_by_test_id("fnb-tree")
    tree.evaluate("el => { el.scrollTop = el.scrollHeight / 2; }")
    expect(found.locator("[role=row]", has_text=re.compile(r"score\(50\d\d\d, ")).first).to_be_visible()
    tree.press("End")
    expect(found.locator("[role=row]", has_text="score(99999,")).to_be_visible()

    assert found.locator("[role=row]").count() < 60
    notebook.close()


def test_log_flood_is_bounded_searched_and_downloaded(server: JupyterServer, browser: Browser, tmp_path: Path) -> None:
    """Hidden lines are counted, colours kept, one action's log found, all of it downloaded."""
    notebook = opened(server, browser, "view-flood", "stage.play(flood('r5'))")
    notebook.run(1)
    found = view(notebook, "r5")
    found.get_by_test_id("fnb-tab-logs").click()
    expect(found.locator(".fnb-state").first).to_have_text(re.compile("succeeded", re.IGNORECASE))
    expect(found.locator(".fnb-logsaid")).to_have_text(re.compile(r"500,000 lines · [\d,]+ lines hidden"))
    log = found.get_by_test_id("fnb-log")
    expect(log).to_contain_text("step 199 loss 24")
    expect(log.locator(".fnb-a-fg2").first).to_have_text("loss")
    assert log.locator(".fnb-logline").count() < 80
    notebook.screenshot("view-flood", cell=1)
    found.get_by_placeholder("Search log").fill("step 198 loss 7")
    expect(found.locator(".fnb-logsaid")).to_contain_text("of 500,000 lines")
    expect(log.locator(".fnb-logline").first).to_contain_text("step 198 loss 7")

    with notebook.page.expect_download() as download:
        found.get_by_role("button", name="Download").click()
    download.value.save_as(tmp_path / "all.log")
    text = (tmp_path / "all.log").read_text()
    assert "lines not kept" in text
    assert "noisy(19)] step 199 loss 24" in text
    notebook.close()


@pytest.mark.parametrize("wait", ["until_told()", "await awaiting_until_told()"])
@pytest.mark.parametrize("front", ["lab", "notebook"])
def test_cancel_arrives_once_while_the_cell_is_busy(
    server: JupyterServer, browser: Browser, front: Front, wait: str
) -> None:
    """A click reaches Python while the cell blocks and while it awaits, over two paths, and counts once."""
    cell = f"stage.play(syn.nested('r6', close=False), close=False)\n{wait}"
    notebook = opened(
        server, browser, f"view-cancel-{front}-{len(wait)}", cell, "print(len(stage.commands))", front=front
    )
    notebook.run(1)
    view(notebook, "r6").get_by_test_id("fnb-cancel").click()
    notebook.wait_idle(1)
    notebook.run(2).wait_idle(2)

    assert "('cancel_run', {'run': 'r6'})" in notebook.text(1)
    assert "1" == notebook.text(2).strip()
    notebook.close()


@pytest.mark.parametrize("front", ["lab", "notebook"])
def test_keyboard_is_the_views_own(server: JupyterServer, browser: Browser, front: Front) -> None:
    """Arrows walk the tree while it changes, Enter opens, Escape closes; the notebook's shortcuts don't fire."""
    notebook = opened(
        server,
        browser,
        f"view-keys-{front}",
        "stage.play(syn.nested('r7', close=False), close=False)",
        "1",
        front=front,
    )
    found = play(notebook, 1, "r7", "running")
    expect(found.locator("[role=row]")).to_have_count(13)
    tree = found.get_by_test_id("fnb-tree")
    tree.focus()
    cells = notebook.page.locator(".jp-Cell").count()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "d", "d", "b", "Enter"):
        notebook.page.keyboard.press(key)
    detail = found.get_by_test_id("fnb-detail")
    expect(detail).to_contain_text("clean('emea')")
    assert cells == notebook.page.locator(".jp-Cell").count()
    expect(tree).to_be_focused()
    notebook.page.keyboard.press("Escape")
    expect(detail).to_be_hidden()
    notebook.page.keyboard.press("ArrowLeft")
    expect(found.locator("[role=row]", has_text="clean('emea')")).to_have_attribute("aria-expanded", "false")
    found.get_by_test_id("fnb-tab-tree").focus()
    for key in ("ArrowRight", "d", "d"):
        notebook.page.keyboard.press(key)
    expect(found.get_by_test_id("fnb-tab-table")).to_be_focused()
    assert cells == notebook.page.locator(".jp-Cell").count()
    notebook.close()


def test_axe_finds_nothing(server: JupyterServer, browser: Browser) -> None:
    """WCAG 2.2 AA, by machine: tree, details, logs and time axis, light and dark, wide and narrow."""
    for width in (1200, 560):
        notebook = opened(
            server,
            browser,
            f"view-axe-{width}",
            "stage.play(syn.nested('r8'))",
            "stage.play(question('r9'), close=False)",
            width=width,
        )
        found = play(notebook, 1, "r8", "failed")
        play(notebook, 2, "r9", "paused")
        found.get_by_test_id("fnb-tree").get_by_text("render_report").click()
        expect(found.get_by_test_id("fnb-detail")).to_contain_text("Attempt")
        for dark in (False, True):
            notebook.dark(dark)
            for tab in ("logs", "timeline", "tree"):
                found.get_by_test_id(f"fnb-tab-{tab}").click()
                expect(found.get_by_test_id(f"fnb-tab-{tab}")).to_have_attribute("aria-selected", "true")
                assert [] == axe(notebook), (width, dark, tab)
            notebook.screenshot(f"view-{width}-{'dark' if dark else 'light'}", cell=1)
        notebook.dark(on=False).close()


def test_no_user_string_becomes_markup(server: JupyterServer, browser: Browser, tmp_path: Path) -> None:
    """Live, in the snapshot, reopened, and in nbconvert's HTML, a task named like markup shows as text and runs nothing."""
    from nbconvert import HTMLExporter

    notebook = opened(server, browser, "view-evil", "stage.play(hostile('r10'))")
    found = play(notebook, 1, "r10", "failed")
    found.locator("[role=row]").nth(2).click()
    frame = found.get_by_test_id("fnb-detail").frame_locator("iframe")
    expect(frame.get_by_text("the report")).to_be_visible()
    assert 0 == found.locator("img").count()
    assert notebook.page.evaluate("() => window.__pwned") is None
    notebook.wait_output(1, "✗ r10 failed").save().close()

    reopened = browser.open(server, "view-evil.ipynb", kernel=False)
    expect(reopened.page.locator(".jp-OutputArea-output", has_text="<img src=x").first).to_be_visible()
    assert reopened.page.evaluate("() => window.__pwned") is None
    reopened.close()

    page, _ = HTMLExporter().from_notebook_node(nbformat.read(server.files / "view-evil.ipynb", 4))
    (tmp_path / "evil.html").write_text(page)
    exported = browser.open_file(tmp_path / "evil.html")
    expect(exported.locator(".flyte-nb-static")).to_contain_text("<img src=x")
    assert exported.evaluate("() => window.__pwned") is None
    exported.context.close()


def test_picture_is_rebuilt_from_the_kernel(server: JupyterServer, browser: Browser) -> None:
    """After a reload, in a second page, and shown again in a later cell, the view is right; a restart is said."""
    notebook = opened(
        server, browser, "view-again", "stage.play(syn.nested('r11', close=False), close=False)", "stage.show('r11')"
    )
    found = play(notebook, 1, "r11", "running")
    expect(found.locator("[role=row]")).to_have_count(13)
    notebook.save().reload()
    expect(view(notebook, "r11").locator("[role=row]")).to_have_count(13)
    second = browser.open(server, "view-again.ipynb")
    expect(view(second, "r11").locator("[role=row]")).to_have_count(13)
    second.close()
    notebook.run(2).wait_idle(2)
    expect(view(notebook, "r11")).to_have_count(2)
    expect(view(notebook, "r11").last.locator("[role=row]")).to_have_count(13)
    notebook.restart_kernel()
    expect(notebook.page.locator(".flyte-nb-static").first).to_contain_text("The kernel has gone")
    notebook.close()


def test_condition_is_answered_in_the_view(server: JupyterServer, browser: Browser) -> None:
    """A paused condition shows its prompt and a field, or Yes and No; what is answered reaches Python."""
    notebook = opened(
        server,
        browser,
        "view-condition",
        "stage.play(question('r12'), close=False)",
        "until_told()",
        "stage.commands.clear(); until_told()",
    )
    found = play(notebook, 1, "r12", "paused")
    expect(found.locator("[role=row]").first).to_contain_text("Deploy which version?")
    notebook.run(2)
    found.get_by_test_id("fnb-signal").fill("v7")
    notebook.screenshot("view-condition", cell=1)
    notebook.page.keyboard.press("Enter")
    notebook.wait_idle(2)
    notebook.run(3)
    found.get_by_test_id("fnb-answer-yes").click()
    notebook.wait_idle(3)

    assert "('signal', {'run': 'r12', 'action': 'q', 'value': 'v7'})" in notebook.text(2)
    assert "('signal', {'run': 'r12', 'action': 'y', 'value': 'yes'})" in notebook.text(3)
    found.locator("[role=row]").first.locator(".fnb-label").click()
    expect(found.get_by_test_id("fnb-detail")).to_contain_text("v7 has passed its tests.")
    notebook.screenshot("view-condition-detail", cell=1)
    notebook.close()


def test_snapshot_holds_its_heat_strip_as_a_picture(server: JupyterServer, browser: Browser) -> None:
    """The saved HTML of a large run has PNGs, which the browser can draw: one cell per action, and how their times spread."""
    notebook = opened(server, browser, "view-png", "stage.play(syn.mapped(5_000, 9, run='r13', bundle=50, took=0.002))")
    play(notebook, 1, "r13", "failed")
    notebook.wait_output(1, "✗ r13 failed")
    (html,) = (output["data"]["text/html"] for output in notebook.outputs(1))
    uris = re.findall(r'src="(data:image/png;base64,[^"]+)"', "".join(html))
    assert all(base64.b64decode(uri.partition(",")[2]).startswith(b"\x89PNG") for uri in uris)
    cells, bars = notebook.page.evaluate(
        """uris => Promise.all(uris.map(async uri => {
            const i = new Image(); i.src = uri; await i.decode(); return [i.naturalWidth, i.naturalHeight]; }))""",
        uris,
    )

    assert cells[0] * cells[1] >= 5_000
    assert bars[0] < 400
    notebook.close()
