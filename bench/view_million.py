"""What the browser feels of a real run of a million actions: JupyterLab in Chromium, a kernel with two workers.

    python bench/view_million.py [actions]

Asked: rows within 0.3 s of the view's first line, also where the whole run is shown again; no frame over 50 ms; a heap that does
not grow with the actions. Frames are counted while the run goes on, beside three busy processes, and again while the tree of all
actions is scrolled from end to end. Takes about a minute. Runs in: a script.
"""

from __future__ import annotations

import pathlib
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from bench.view_browser import PROBE, lab

SETUP = """
%load_ext flyte_nb
import flyte_nb as flyte
flyte.init(n_workers=2, threads_per_worker=1)
env = flyte.TaskEnvironment("million")

@env.task
def noop(x: int) -> int:
    return x

async def mapped(n):
    count = 0
    async for _ in flyte.map.aio(noop, range(n)):
        count += 1
    print(count)

await mapped(2_000)
"""
#: Scrolls the tree of a view from its top to its end in so many steps, one a frame.
SCROLL = """
([view, steps]) => new Promise((done) => {
  const tree = [...document.querySelectorAll("[data-testid=fnb-tree]")][view];
  let step = 0;
  const next = () => {
    tree.scrollTop = (tree.scrollHeight - tree.clientHeight) * (step++ / steps);
    step > steps ? done(tree.scrollHeight) : requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
})
"""
HEAP = "() => { window.gc?.(); return performance.memory.usedJSHeapSize / 1e6; }"
TAKE = "() => [window.__probe.frames.splice(0), window.__probe.long.splice(0)]"


def said(what: str, probed: list[list[float]]) -> None:
    """One line on frames, and on tasks of the page's own thread of over 50 ms: other frames were late for want of a core."""
    frames, long = sorted(probed[0]), [round(each) for each in sorted(probed[1])]
    over = [round(frame) for frame in frames if frame > 50]
    print(
        f"  {what}: {len(frames)} frames, median {frames[len(frames) // 2]:.1f} ms, p99 {frames[int(len(frames) * 0.99)]:.0f}; "
        f"{len(over)} over 50 ms {over[-9:]}, {len(long)} long tasks {long[-9:]}"
    )


def again(page: Any, notebook: Any, cell: int) -> float:
    """Milliseconds from the view's first element to rows, of the view that a cell shows."""
    page.evaluate(
        """() => { const seen = window.__again = {}, count = (what) => document.querySelectorAll(what).length;
             const views = count("[data-flyte-run]"), strips = count("[data-run] .fnb-row canvas");
             new MutationObserver(() => {
               if (!seen.line && count("[data-flyte-run]") > views) seen.line = performance.now();
               if (!seen.rows && count("[data-run] .fnb-row canvas") > strips) seen.rows = performance.now();
             }).observe(document.body, { childList: true, subtree: true }); }"""
    )
    notebook.run(cell)
    page.wait_for_function("() => window.__again.rows", timeout=30_000)
    return float(page.evaluate("() => window.__again.rows - (window.__again.line ?? window.__again.rows)"))


def measure(n: int) -> None:
    """Run, look, scroll, show again; print it."""
    with lab() as notebook:
        page = notebook.page
        notebook.open(SETUP, f"await mapped({n})", "%flyte show")
        notebook.run(0)
        notebook.text(0)
        page.wait_for_timeout(1_000)
        print(f"browser, a real run of {n:,} actions")
        before = page.evaluate(HEAP)
        page.evaluate(PROBE.replace("r1", "r2"))
        page.wait_for_timeout(1_000)
        said("idle page", page.evaluate(TAKE))
        notebook.run(1)
        counted = notebook.text(1)
        page.wait_for_timeout(500)
        assert str(n) in counted, counted
        first = page.evaluate("() => window.__probe.first")
        said("while it runs", page.evaluate(TAKE))
        print(f"  from the first line of HTML to rows: {first['tree'] - first['line']:.0f} ms")
        print(f"  heap: {before:.0f} MB before, {page.evaluate(HEAP):.0f} MB after")
        page.locator("[data-run=r2] .fnb-group").first.click()
        page.wait_for_timeout(500)
        said("its group opened", page.evaluate(TAKE))
        height = page.evaluate(SCROLL, [1, 300])
        page.wait_for_timeout(500)
        said(f"scrolling {height:,} pixels of rows", page.evaluate(TAKE))
        print(f"  shown again in a later cell: {again(page, notebook, 2):.0f} ms to its heat strip")
        page.wait_for_timeout(500)
        said("meanwhile", page.evaluate(TAKE))
        print(f"  heap in the end: {page.evaluate(HEAP):.0f} MB")


if __name__ == "__main__":
    measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
