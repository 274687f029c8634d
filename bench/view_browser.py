"""The browser's side of `bench/view.py`: JupyterLab in Chromium, many actions at full speed. Runs in: a script."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

ROOT = pathlib.Path(__file__).parent.parent

#: Records the time of every frame, and when the view first shows 100 cells or a row.
PROBE = """
() => {
  const probe = (window.__probe = { frames: [], long: [], first: {} });
  let last = performance.now();
  const tick = (now) => { probe.frames.push(now - last); last = now; requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
  const long = new PerformanceObserver((list) => { for (const e of list.getEntries()) probe.long.push(e.duration); });
  long.observe({ type: "longtask" });
  new MutationObserver(() => {
    if (!probe.first.line && document.querySelector("[data-flyte-run=r1]")) probe.first.line = performance.now();
    if (!probe.first.tree && document.querySelector("[data-run=r1] .fnb-row")) probe.first.tree = performance.now();
    const again = document.querySelectorAll("[data-run=r1] .fnb-row canvas");
    if (!probe.first.again && again.length > 1) probe.first.again = performance.now();
  }).observe(document.body, { childList: true, subtree: true });
}
"""


@contextlib.contextmanager
def lab(width: int = 1200, height: int = 1000, theme: str = "JupyterLab Light") -> Iterator[Any]:
    """A page on a fresh JupyterLab, with `page.root` the notebook folder and `page.url` the server."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as tmp:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        root = pathlib.Path(tmp, "notebooks")
        root.mkdir()
        settings = pathlib.Path(tmp, "settings", "@jupyterlab", "apputils-extension")
        settings.mkdir(parents=True)
        (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
        (settings / "notification.jupyterlab-settings").write_text(json.dumps({"fetchNews": "false"}))
        env = {
            **os.environ, "JUPYTERLAB_SETTINGS_DIR": str(settings.parent.parent), "JUPYTERLAB_WORKSPACES_DIR": f"{tmp}/ws",
            "JUPYTER_RUNTIME_DIR": f"{tmp}/runtime", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        args = [
            "--no-browser",
            "--allow-root",
            f"--port={port}",
            "--IdentityProvider.token=",
            f"--ServerApp.root_dir={root}",
        ]
        command = [sys.executable, "-m", "jupyter", "lab", *args, "--LabApp.expose_app_in_browser=True"]
        with pathlib.Path(tmp, "log").open("w") as log:
            server = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_for(f"http://127.0.0.1:{port}/api/status")
            with sync_playwright() as playwright:
                path = shutil.which("chromium") or shutil.which("google-chrome")
                browser = playwright.chromium.launch(
                    executable_path=path,
                    args=["--no-sandbox", "--enable-precise-memory-info", "--js-flags=--expose-gc"],
                )
                page = browser.new_page(viewport={"width": width, "height": height})
                yield Lab(page, root, f"http://127.0.0.1:{port}")
                browser.close()
        finally:
            server.terminate()
            server.wait(15)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=2)
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


class Lab:
    """A notebook in JupyterLab."""

    def __init__(self, page: Any, root: pathlib.Path, url: str) -> None:
        self.page = page
        self.root = root
        self.url = url

    def open(self, *cells: str) -> None:
        import nbformat

        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.root / "bench.ipynb")
        self.page.goto(f"{self.url}/lab/tree/bench.ipynb")
        self.page.wait_for_function(
            """() => { const n = [...(window.jupyterapp?.shell.widgets("main") ?? [])].find((w) => w.sessionContext);
                 return n && n.sessionContext.session?.kernel?.connectionStatus === "connected"
                   && n.sessionContext.kernelDisplayStatus === "idle"; }""",
            timeout=60_000,
        )

    def run(self, cell: int) -> None:
        self.page.evaluate(
            """(i) => { const n = [...window.jupyterapp.shell.widgets("main")].find((w) => w.sessionContext);
                 n.content.activeCellIndex = i; window.jupyterapp.commands.execute("notebook:run-cell"); }""",
            cell,
        )

    def text(self, cell: int) -> str:
        """What a cell printed, once it has ended."""
        self.page.wait_for_function(
            """(i) => { const n = [...window.jupyterapp.shell.widgets("main")].find((w) => w.sessionContext);
                 const m = n.content.widgets[i].model; return m.executionCount && m.executionState !== "running"; }""",
            arg=cell,
            timeout=120_000,
        )
        outputs = self.page.evaluate(
            """(i) => [...window.jupyterapp.shell.widgets("main")].find((w) => w.sessionContext)
                 .content.widgets[i].model.outputs.toJSON()""",
            cell,
        )
        return "".join(output.get("text", "") for output in outputs)


SETUP = "from bench.playback import Stage\nfrom bench import synthetic as syn\nstage = Stage(get_ipython())"


def measure(n: int) -> None:
    """Play `n` actions at full speed under a cell that waits, and print what the browser felt."""
    with lab() as notebook:
        page = notebook.page
        play = "stage.play(events, batch=2_000, every=0.02, wait=True); print(stage.views['r1'].stats)"
        notebook.open(
            SETUP,
            "stage.play(syn.nested('r0'), wait=True)",
            f"events = list(syn.mapped({n}, 50, slots=16, bundle=100, logs=True))",
            play,
            "stage.show('r1')",
        )
        for cell in range(3):
            notebook.run(cell)
            notebook.text(cell)
        page.wait_for_timeout(2_500)
        page.evaluate(PROBE)
        page.wait_for_timeout(1_000)
        idle = page.evaluate(
            "() => { const f = window.__probe.frames.splice(0); window.__probe.long.splice(0); return f; }"
        )
        notebook.run(3)
        stats = notebook.text(3)
        page.wait_for_timeout(500)
        probe = page.evaluate("() => window.__probe")
        # A second look at the whole run: the replay of everything, as after a reload.
        shown = page.evaluate(
            """() => new Promise((resolve) => {
                 const view = document.querySelector("[data-run=r1]"); const t = performance.now();
                 view.querySelector("[data-testid=fnb-tab-timeline]").click();
                 setTimeout(() => { view.querySelector("[data-testid=fnb-tab-tree]").click();
                   const done = () => resolve(performance.now() - t - 400);
                   requestAnimationFrame(() => requestAnimationFrame(done)); }, 400); })"""
        )
        again = page.evaluate("() => performance.now()")
        notebook.run(4)
        page.wait_for_function("() => window.__probe.first.again", timeout=20_000)
        again = page.evaluate("() => window.__probe.first.again") - again
        heap = page.evaluate("() => { window.gc?.(); return performance.memory.usedJSHeapSize / 1e6; }")
        frames = sorted(probe["frames"])
        over = [f for f in frames if f > 50]
        middle, p99 = frames[len(frames) // 2], frames[int(len(frames) * 0.99)]
        print(f"browser, {n:,} actions at full speed on a warm page")
        print(f"  idle page: median frame {sorted(idle)[len(idle) // 2]:.1f} ms, worst {max(idle):.0f} ms")
        print(f"  running: {len(frames)} frames, median {middle:.1f} ms, p99 {p99:.0f} ms, worst {frames[-1]:.0f} ms")
        print(f"  {len(over)} frames over 50 ms; long tasks: {[round(x) for x in probe['long']]}")
        first = probe["first"]
        print(f"  from the first line of HTML to rows: {first.get('tree', 0) - first.get('line', 0):.0f} ms")
        print(f"  shown again in a later cell: {again:.0f} ms to its heat strip")
        print(f"  back to the tree: {shown:.0f} ms; heap {heap:.0f} MB")
        print(f"  kernel: {stats.strip()}")


if __name__ == "__main__":
    measure(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
