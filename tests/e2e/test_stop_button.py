"""The stop button of JupyterLab and Notebook 7, without the rest of the extension."""

from __future__ import annotations

import json
import time

import pytest

from tests.e2e.harness import ARTIFACTS, Browser, Front, JupyterServer
from tests.kernel.conftest import INSTALL

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


@pytest.mark.parametrize("front", ["lab", "notebook"])
def test_stop_button_ends_an_awaiting_cell_and_the_next_cell_runs(
    server: JupyterServer, browser: Browser, front: Front
) -> None:
    """A click ends a cell that awaits for ever; what it said is kept, saved, and shown without a kernel."""
    name = f"stop-{front}.ipynb"
    server.write(
        name,
        [
            INSTALL,
            "asyncio.get_running_loop().call_soon(print, 'waiting'); await asyncio.Event().wait()",
            "await asyncio.sleep(0); 6 * 7",
        ],
    )
    notebook = browser.open(server, name, front=front)
    notebook.run(0).wait_idle(0)
    assert "" == notebook.error(0)

    notebook.run(1).wait_output(1, "waiting")
    assert notebook.is_running(1)
    began = time.monotonic()
    notebook.stop().wait_idle(1)
    record(front, time.monotonic() - began)
    assert notebook.error(1).startswith("CancelledError")

    notebook.run(2).wait_idle(2)
    assert "42" == notebook.text(2)
    notebook.screenshot(f"stop-{front}")
    notebook.dark().screenshot(f"stop-{front}-dark")
    notebook.dark(on=False).save().close()

    server.shutdown_kernels()
    reopened = browser.open(server, name, front=front, kernel=False)
    assert reopened.kernel_id() is None
    assert reopened.error(1).startswith("CancelledError")
    assert reopened.cell(2).inner_text().rstrip().endswith("42")
    reopened.close()


def test_restart_gives_the_notebook_a_fresh_kernel(server: JupyterServer, browser: Browser) -> None:
    """The restart button leaves a kernel that knows nothing of the old one."""
    server.write("restart.ipynb", ["x = 1", "x"])
    notebook = browser.open(server, "restart.ipynb")
    notebook.run(0).wait_idle(0)
    notebook.restart_kernel()
    notebook.run(1).wait_idle(1)

    assert notebook.error(1).startswith("NameError")
    notebook.close()


def record(front: str, seconds: float) -> None:
    """Keep what was measured where a person finds it; a test asserts no durations."""
    ARTIFACTS.mkdir(exist_ok=True)
    path = ARTIFACTS / "stop-button-seconds.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, front: round(seconds, 3)}))
