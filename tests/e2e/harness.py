"""Drive JupyterLab and Notebook 7 in a real browser: a server, a page, a notebook in it. Runs in: tests.

    with JupyterServer.start(folder) as server, Browser.start() as browser:
        server.write("a.ipynb", ["import asyncio", "await asyncio.Event().wait()"])
        notebook = browser.open(server, "a.ipynb", front="lab")
        notebook.run(0).wait_idle(0)
        notebook.run(1).stop().wait_idle(1)
        assert notebook.error(1).startswith("CancelledError")

Everything waits for a state of the page's own model, never for time. Cells are counted from 0.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import nbformat
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import ConsoleMessage, Locator, Page, Playwright, sync_playwright

from tests.e2e.chromium import REMEDY, find_chromium
from tests.kernel.kernelclient import GRACE, PATIENCE, ROOT, kernel_environment, wait_gone

Front = Literal["lab", "notebook"]

#: Where screenshots land, under the checkout.
ARTIFACTS = ROOT / "artifacts"

#: Milliseconds, for Playwright.
_PATIENCE_MS = PATIENCE * 1000

#: What a test must not depend on: news from the network, and cells that leave the page when scrolled away.
_SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}


class JupyterServer:
    """A Jupyter server with JupyterLab and Notebook 7, on a free port, with settings and kernels of its own."""

    def __init__(self, process: subprocess.Popen[bytes], home: Path, port: int, token: str) -> None:
        self.process = process
        self.home = home
        #: The folder that it serves.
        self.files = home / "files"
        self.port = port
        self.token = token

    @classmethod
    def start(cls, home: Path, *, python: str = sys.executable, arguments: Sequence[str] = ()) -> Self:
        """Start one and wait until it answers.

        Args:
            home: An empty folder for everything that it writes.
            python: The interpreter, to test another environment.
            arguments: Further command-line arguments.
        """
        port, token = _free_port(), secrets.token_hex(16)
        (home / "files").mkdir(parents=True, exist_ok=True)
        for name, settings in _SETTINGS.items():
            path = home / "settings" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings), encoding="utf-8")
        shutil.copytree(ROOT / "kernel-ext" / "kernelspec", home / "data" / "kernels" / "flyte_nb", dirs_exist_ok=True)
        shutil.copytree(ROOT / "js" / "lab", home / "data" / "labextensions" / "flyte-nb", dirs_exist_ok=True)
        environment = {
            **os.environ,
            **kernel_environment(home),
            "JUPYTER_DATA_DIR": str(home / "data"),
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        }
        command = [
            *(
                python,
                "-m",
                "jupyterlab",
                "--no-browser",
                "--ip=127.0.0.1",
                f"--port={port}",
                "--ServerApp.port_retries=0",
            ),
            *(f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={home / 'files'}", "--allow-root"),
            *("--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"),
            *arguments,
        ]
        with (home / "server.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=environment, cwd=home, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        server = cls(process, home, port, token)
        try:
            server._wait_ready()
        except BaseException:
            server.stop()
            raise
        return server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What the server, and the kernels it started, have logged."""
        return (self.home / "server.log").read_text(encoding="utf-8", errors="replace")

    def write(self, name: str, cells: Sequence[str], *, kernel: str = "python3") -> Path:
        """Write a notebook of code cells; a source that begins with ``%%markdown`` + newline becomes a text cell."""
        notebook = nbformat.v4.new_notebook()
        notebook.metadata["kernelspec"] = {"name": kernel, "display_name": kernel, "language": "python"}
        for source in cells:
            text = source.removeprefix("%%markdown\n")
            make = nbformat.v4.new_code_cell if text == source else nbformat.v4.new_markdown_cell
            notebook.cells.append(make(text))
        return self.save(name, notebook)

    def save(self, name: str, notebook: Any) -> Path:
        """Write a notebook."""
        path = self.files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)
        return path

    def read(self, name: str) -> Any:
        """A notebook as it was saved."""
        return nbformat.read(self.files / name, as_version=4)

    def url(self, name: str, front: Front) -> str:
        """Address of a notebook in a front end, with the token."""
        base = f"http://127.0.0.1:{self.port}"
        path = f"lab/workspaces/{secrets.token_hex(4)}/tree/{name}" if front == "lab" else f"notebooks/{name}"
        return f"{base}/{path}?token={self.token}"

    def api(self, path: str, method: str = "GET") -> Any:
        """Ask the server's REST API, as in ``api("sessions")``."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/{path}", method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            body = response.read()
        return json.loads(body) if body else None

    def shutdown_kernels(self) -> None:
        """End every session and its kernel."""
        for session in self.api("sessions"):
            self.api(f"sessions/{session['id']}", "DELETE")

    def stop(self) -> None:
        """End the server, its kernels and what those have started. Safe to repeat."""
        import psutil

        if self.process.poll() is not None:
            return
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(GRACE)
        for leftover in wait_gone(children, GRACE):
            leftover.kill()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.api("status")
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the Jupyter server did not start:\n{self.log[-3000:]}") from None
                time.sleep(0.05)
            else:
                return


class Browser:
    """A headless Chromium."""

    def __init__(self, playwright: Playwright, chromium: Chromium) -> None:
        self._playwright = playwright
        self.chromium = chromium

    @classmethod
    def start(cls) -> Self:
        """Start one.

        Raises:
            RuntimeError: If there is no Chromium or Chrome on this machine.
        """
        path = find_chromium()
        if path is None:
            raise RuntimeError(REMEDY)
        arguments = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            arguments.append("--no-sandbox")  # Chromium's sandbox refuses root.
        playwright = sync_playwright().start()
        try:
            chromium = playwright.chromium.launch(executable_path=path, args=arguments)
        except BaseException:
            playwright.stop()
            raise
        return cls(playwright, chromium)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def open(
        self, server: JupyterServer, name: str, *, front: Front = "lab", kernel: bool = True, width: int = 1200
    ) -> Notebook:
        """Open a notebook in a page of its own and wait until it, and its kernel, are ready.

        Args:
            server: Who serves it.
            name: Its path in the served folder.
            front: "lab" or "notebook".
            kernel: False opens a copy that asks for no kernel, as a reader without Python sees it.
            width: Of the window, in pixels.
        """
        if not kernel:
            name = _without_kernel(server, name)
        page = self.chromium.new_context(viewport={"width": width, "height": 900}).new_page()
        page.set_default_timeout(_PATIENCE_MS)
        notebook = Notebook(page, server, name)
        page.goto(server.url(name, front))
        notebook._wait_open(kernel=kernel)
        return notebook

    def open_file(self, path: Path, *, width: int = 1200) -> Page:
        """Open an HTML file, such as nbconvert's."""
        page = self.chromium.new_context(viewport={"width": width, "height": 900}).new_page()
        page.set_default_timeout(_PATIENCE_MS)
        page.goto(path.resolve().as_uri())
        return page

    def stop(self) -> None:
        """End it."""
        self.chromium.close()
        self._playwright.stop()


class Notebook:
    """A notebook that is open in a page."""

    def __init__(self, page: Page, server: JupyterServer, name: str) -> None:
        self.page = page
        self.server = server
        self.name = name
        #: Errors that the page logged or threw.
        self.page_errors: list[str] = []
        page.on("pageerror", lambda error: self.page_errors.append(str(error)))
        page.on("console", self._on_console)

    # --- cells -----------------------------------------------------------------------------------------------------------

    def run(self, n: int) -> Self:
        """Run a cell, as Ctrl-Enter does; does not wait for its end."""
        self.page.evaluate(
            """n => {
                const panel = flyteTest.panel();
                panel.content.activeCellIndex = n;
                panel.content.deselectAll?.();
                flyteTest.running[n] = true;
                jupyterapp.commands.execute("notebook:run-cell").finally(() => { flyteTest.running[n] = false; });
            }""",
            n,
        )
        return self

    def run_all(self) -> Self:
        """Run all cells; does not wait."""
        self.page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
        return self

    def wait_idle(self, n: int, *, timeout: float = PATIENCE) -> Self:
        """Wait until a cell that was `run` has ended. Whether the *kernel* is idle says nothing: its status flips."""
        self.page.wait_for_function("n => flyteTest.ended(n)", arg=n, timeout=timeout * 1000)
        return self

    def wait_running(self, n: int) -> Self:
        """Wait until the kernel executes a cell."""
        self.page.wait_for_function("n => flyteTest.model(n).executionState === 'running'", arg=n)
        return self

    def wait_output(self, n: int, text: str, *, timeout: float = PATIENCE) -> Self:
        """Wait until the text of a cell's outputs (streams, text/plain, errors) holds ``text``."""
        self.page.wait_for_function(
            "([n, text]) => flyteTest.text(n).includes(text)", arg=[n, text], timeout=timeout * 1000
        )
        return self

    def is_running(self, n: int) -> bool:
        """Whether a cell has been started and has not ended."""
        return not self.page.evaluate("n => flyteTest.ended(n)", n)

    def outputs(self, n: int) -> list[dict[str, Any]]:
        """A cell's outputs, as they would be saved."""
        outputs: list[dict[str, Any]] = self.page.evaluate("n => flyteTest.model(n).outputs.toJSON()", n)
        return outputs

    def text(self, n: int) -> str:
        """The text of a cell's outputs: streams, text/plain and errors."""
        return str(self.page.evaluate("n => flyteTest.text(n)", n))

    def error(self, n: int) -> str:
        """The error that a cell shows, as "Name: value"; "" if it shows none."""
        errors = [o for o in self.outputs(n) if o["output_type"] == "error"]
        return f"{errors[-1]['ename']}: {errors[-1]['evalue']}" if errors else ""

    def cell(self, n: int) -> Locator:
        """A cell, to look for things in."""
        self.page.evaluate("n => flyteTest.panel().content.widgets[n].node.setAttribute('data-testid', `cell-${n}`)", n)
        return self.page.get_by_test_id(f"cell-{n}")

    def set_source(self, n: int, source: str) -> Self:
        """Replace a cell's source."""
        self.page.evaluate("([n, s]) => flyteTest.model(n).sharedModel.setSource(s)", [n, source])
        return self

    # --- kernel ------------------------------------------------------------------------------------------------------------

    def stop(self) -> Self:
        """Click the stop button in the toolbar."""
        self._toolbar("interrupt").click()
        return self

    def restart_kernel(self) -> Self:
        """Click the restart button in the toolbar, confirm, and wait for the new kernel."""
        self._toolbar("restart").click()
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        self.page.wait_for_function("() => ['restarting', 'autorestarting', 'starting'].includes(flyteTest.status())")
        self.page.wait_for_function("() => flyteTest.status() === 'idle'")
        return self

    def kernel_id(self) -> str | None:
        """Id of the notebook's kernel; None without one."""
        return self.page.evaluate("() => flyteTest.panel().sessionContext.session?.kernel?.id ?? null") or None

    # --- document and page ---------------------------------------------------------------------------------------------

    def save(self) -> Self:
        """Save the notebook."""
        self.page.evaluate("() => flyteTest.panel().context.save()")
        return self

    def reload(self) -> Self:
        """Reload the page; the kernel lives on."""
        self.page.reload()
        self._wait_open(kernel=True)
        return self

    def dark(self, on: bool = True) -> Self:
        """Switch to the dark theme, or back."""
        theme = "JupyterLab Dark" if on else "JupyterLab Light"
        self.page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
        self.page.wait_for_selector(f"body[data-jp-theme-light='{str(not on).lower()}']", state="attached")
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")  # Lab covers the page while it switches.
        return self

    def screenshot(self, name: str, *, cell: int | None = None) -> Path:
        """Save a picture of the page, or of one cell, as ``artifacts/<name>.png``."""
        ARTIFACTS.mkdir(exist_ok=True)
        path = ARTIFACTS / f"{name}.png"
        if cell is None:
            self.page.screenshot(path=path)
        else:
            self.cell(cell).screenshot(path=path)
        return path

    def close(self) -> None:
        """Close the page; the kernel lives on."""
        self.page.context.close()

    def _toolbar(self, item: str) -> Locator:
        return self.page.locator(f".jp-NotebookPanel:not(.lm-mod-hidden) [data-jp-item-name='{item}']").first

    def _wait_open(self, *, kernel: bool) -> None:
        self.page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.content?.model?.cells?.length > 0")
        self.page.evaluate(_HELPERS)
        self.page.wait_for_function("() => flyteTest.panel().sessionContext")
        if kernel:
            # The kernel-select dialog never comes up here: the notebook names its kernel.
            self.page.wait_for_function("() => flyteTest.status() === 'idle'")
            return
        self.page.wait_for_function(
            "() => flyteTest.panel().sessionContext.isReady || document.querySelector('.jp-Dialog')"
        )
        reject = self.page.locator(".jp-Dialog .jp-mod-reject")
        if reject.count():
            reject.first.click()

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.page_errors.append(message.text)


#: Put into the page once, and used by everything above.
_HELPERS = """() => {
    const panel = () => {
        const widget = jupyterapp.shell.currentWidget;
        return widget?.content?.widgets ? widget : undefined;
    };
    const model = n => panel().content.model.cells.get(n);
    const joined = value => (Array.isArray(value) ? value.join("") : value ?? "");
    const running = {};
    window.flyteTest = {
        panel, model, running,
        ended: n => !running[n] && model(n).executionState === "idle",
        status: () => panel()?.sessionContext.session?.kernel?.status ?? "none",
        text: n => model(n).outputs.toJSON().map(o =>
            o.output_type === "stream" ? joined(o.text)
            : o.output_type === "error" ? `${o.ename}: ${o.evalue}`
            : joined(o.data["text/plain"])).join("\\n"),
    };
}"""


def _without_kernel(server: JupyterServer, name: str) -> str:
    """Save a copy that names neither kernel nor language, so that no front end starts one."""
    notebook = server.read(name)
    notebook.metadata.pop("kernelspec", None)
    notebook.metadata.pop("language_info", None)
    copy = f"{name.removesuffix('.ipynb')}-no-kernel.ipynb"
    server.save(copy, notebook)
    return copy


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
