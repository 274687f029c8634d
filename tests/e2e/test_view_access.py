"""The live view for everyone: forced colours, reduced motion, narrow panes, focus that survives updates, exports."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, expect

from tests.e2e.harness import ARTIFACTS, Browser, Front, JupyterServer
from tests.e2e.test_view import axe, opened, play, view

pytestmark = [pytest.mark.e2e, pytest.mark.kernel, pytest.mark.slow]

#: Overflow to the right, of the view itself and of what it does not scroll by design.
OVERFLOW = """el => {
    const right = el.getBoundingClientRect().right + 0.5;
    const scrolls = e => e.closest(".fnb-tablebox, .fnb-source, .fnb-grid, .fnb-scroll .fnb-heat") || getComputedStyle(e).position === "fixed";
    return [...el.querySelectorAll("*")]
        .filter(e => e.offsetParent && !scrolls(e) && e.getBoundingClientRect().right > right
                     && !(e.closest(".fnb-sr") || getComputedStyle(e).clipPath !== "none"))
        .map(e => e.outerHTML.slice(0, 120));
}"""


def height(found: Locator) -> float:
    """In pixels."""
    box = found.bounding_box()
    assert box is not None
    return box["height"]


@pytest.mark.parametrize("front", ["lab", "notebook"])
def test_a_quick_cell_is_one_line(server: JupyterServer, browser: Browser, front: Front) -> None:
    """One action: a header line, no body, live or static; it unfolds on demand."""
    notebook = opened(
        server, browser, f"access-one-{front}",
        "stage.play(syn.one_action('r1'), close=False)", "stage.play(syn.one_action('r2'))", front=front,
    )  # fmt: skip
    found = play(notebook, 1, "r1", "succeeded")
    expect(found.get_by_test_id("fnb-tree")).to_be_hidden()
    assert 45 > height(found)
    notebook.run(2).wait_idle(2).wait_output(2, "✓ r2 succeeded")
    static = notebook.cell(2).locator(".flyte-nb-static")
    assert 45 > height(static)
    notebook.screenshot(f"access-one-{front}", cell=1)
    found.get_by_test_id("fnb-toggle").click()
    expect(found.locator("[role=row]")).to_have_count(1)
    notebook.close()


@pytest.mark.parametrize("front", ["lab", "notebook"])
def test_focus_survives_updates(server: JupyterServer, browser: Browser, front: Front) -> None:
    """While rows come, errors fold and the panel is drawn anew, the control that has the focus keeps it."""
    notebook = opened(
        server, browser, f"access-focus-{front}",
        "events = list(syn.mapped(400, 40, run='r3'))\nstage.play(events, speed=0.4, close=False)", front=front,
    )  # fmt: skip
    notebook.run(1).wait_idle(1)
    found = view(notebook, "r3")
    errors = found.get_by_test_id("fnb-errors")
    expect(errors.locator(".fnb-errn")).to_be_visible()
    before = errors.locator(".fnb-errn").inner_text()
    errors.locator(".fnb-errn").focus()
    expect(errors.locator(".fnb-errn")).not_to_have_text(before)
    expect(errors.locator(".fnb-errn")).to_be_focused()
    found.get_by_test_id("fnb-cancel").focus()
    expect(found.locator(".fnb-state").first).to_have_text(re.compile("failed", re.IGNORECASE))
    assert notebook.page.evaluate("() => !!document.activeElement.closest('.fnb')")
    notebook.close()


def test_forced_colours_and_reduced_motion(server: JupyterServer, browser: Browser) -> None:
    """With the system's own colours every state still has its icon and word, bars their segments; nothing spins."""
    notebook = opened(
        server, browser, "access-forced", "stage.play(syn.nested('r4', close=False), close=False)",
        "stage.play(syn.mapped(300, 5, run='r5'))",
    )  # fmt: skip
    notebook.page.emulate_media(forced_colors="active", reduced_motion="reduce")
    found = play(notebook, 1, "r4", "running")
    expect(found.locator("[role=row]")).to_have_count(13)
    play(notebook, 2, "r5", "failed")
    spinning = "() => document.getAnimations().filter(a => a.effect?.target?.closest?.('.fnb')).length"
    assert 0 == notebook.page.evaluate(spinning)
    assert "none" == found.locator(".fnb-spin").first.evaluate("el => getComputedStyle(el).animationName")
    segments = view(notebook, "r5").locator(".fnb-bar > span").first
    assert "rgba(0, 0, 0, 0)" != segments.evaluate("el => getComputedStyle(el).backgroundColor")
    notebook.cell(1).scroll_into_view_if_needed()
    notebook.screenshot("access-forced-nested", cell=1)
    notebook.screenshot("access-forced-map", cell=2)
    notebook.page.emulate_media(forced_colors="none", reduced_motion="no-preference")
    notebook.close()


@pytest.mark.parametrize("width", [700, 1360])
def test_nothing_overflows(server: JupyterServer, browser: Browser, width: int) -> None:
    """At the width of a narrow pane and of a wide screen: tree, panel, logs and time axis stay inside the view."""
    notebook = opened(
        server, browser, f"access-width-{width}", "stage.play(syn.nested('r6'))",
        "stage.play(syn.mapped(1_000, 3, run='r7', logs=True))", width=width,
    )  # fmt: skip
    notebook.page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")
    for cell, run in ((1, "r6"), (2, "r7")):
        found = play(notebook, cell, run, "failed")
        found.get_by_test_id("fnb-errors").locator(".fnb-link").first.click()
        expect(found.get_by_test_id("fnb-detail")).to_contain_text("Attempt")
        for tab in ("logs", "timeline", "tree"):
            found.get_by_test_id(f"fnb-tab-{tab}").click()
            expect(found.get_by_test_id(f"fnb-tab-{tab}")).to_have_attribute("aria-selected", "true")
            assert [] == found.evaluate(OVERFLOW), (cell, tab)
            notebook.screenshot(f"access-{width}-{run}-{tab}", cell=cell)
    assert [] == axe(notebook)
    notebook.close()


class _Sanitised(HTMLParser):
    """What a strict host leaves: no script, style, svg, iframe or form; of attributes only href, src, alt, title, open."""

    DROPPED = frozenset({"script", "style", "svg", "iframe", "form", "input", "button", "canvas", "object"})
    VOID = frozenset({"br", "img", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.out: list[str] = []
        self._skip = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.DROPPED:
            self._skip += tag not in self.VOID
        elif not self._skip:
            kept = "".join(f' {k}="{v}"' for k, v in attrs if k in {"href", "src", "alt", "title", "open"})
            self.out.append(f"<{tag}{kept}>")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.DROPPED:
            self._skip -= 1
        elif not self._skip:
            self.out.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self.out.append(data.replace("&", "&amp;").replace("<", "&lt;"))


def test_exports_are_worth_reading(server: JupyterServer, browser: Browser, tmp_path: Path) -> None:
    """nbconvert's HTML and markdown, and a host that keeps neither styles nor scripts: header, groups, errors, last lines."""
    from nbconvert import HTMLExporter, MarkdownExporter

    notebook = opened(
        server, browser, "access-export", "stage.play(syn.nested('r8'))",
        "stage.play(syn.mapped(1_000, 3, run='r9', logs=True))",
    )  # fmt: skip
    play(notebook, 1, "r8", "failed")
    play(notebook, 2, "r9", "failed")
    notebook.wait_output(2, "✗ r9 failed").save().close()
    saved = nbformat.read(server.files / "access-export.ipynb", 4)
    wanted = ("10 done, 2 failed", "KeyError: 'discount'", "read 1,204,332 rows", "997 done, 3 failed", "3 × KeyError")

    page, _ = HTMLExporter().from_notebook_node(saved)
    (tmp_path / "page.html").write_text(page)
    strict = _Sanitised()
    html = "".join(output.data.get("text/html", "") for cell in saved.cells[1:] for output in cell.outputs)
    strict.feed(html)
    (tmp_path / "strict.html").write_text(f"<!doctype html><meta charset=utf-8><body>{''.join(strict.out)}</body>")
    for name in ("page", "strict"):
        shown = browser.open_file(tmp_path / f"{name}.html")
        for text in wanted:
            expect(shown.locator("body")).to_contain_text(text)
        shown.screenshot(path=ARTIFACTS / f"access-export-{name}.png", full_page=True)
        shown.context.close()
    text, _ = MarkdownExporter().from_notebook_node(saved)
    (ARTIFACTS / "access-export.md").write_text(text)
    for line in wanted:
        assert line in unescape(re.sub("<[^>]+>", "", text))
    for output in (output for cell in saved.cells[1:] for output in cell.outputs):
        assert 200_000 > len(output.data.get("text/html", "").encode())
        assert "<script" not in output.data.get("text/html", "")
        assert "widget-view" not in " ".join(output.data)
