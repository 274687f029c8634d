"""The main job in JupyterLab and Notebook 7: see a run, cancel it while its cell awaits, stop it, reopen without a kernel."""

from __future__ import annotations

import re

import pytest

from tests.e2e.harness import Browser, Front, JupyterServer

pytestmark = [pytest.mark.e2e, pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
%load_ext flyte_nb
import asyncio
import flyte_nb as flyte
env = flyte.TaskEnvironment("demo")

@env.task
async def nap(seconds: float) -> float:
    print("napping", seconds)
    await asyncio.sleep(seconds)
    return seconds
"""


@pytest.mark.parametrize("front", ["lab", "notebook"])
def test_a_run_is_seen_cancelled_stopped_and_kept(server: JupyterServer, browser: Browser, front: Front) -> None:
    """Each step is what a person does; what is left in the file shows without a kernel."""
    name = f"main-{front}.ipynb"
    server.write(
        name,
        [
            DEFINE,
            "await asyncio.gather(*(nap(0.1 * n) for n in range(6)))",
            "await asyncio.gather(*(nap(60.0 + n) for n in range(3)))",
            "await asyncio.gather(*(nap(90.0 + n) for n in range(3)))",
            "await nap(0.0)",
        ],
    )
    notebook = browser.open(server, name, front=front)
    notebook.run(0).wait_idle(0)
    notebook.run(1).wait_idle(1)
    assert "" == notebook.error(1)
    notebook.screenshot(f"main-{front}-done")

    # Cancel, from the view, while the cell awaits.
    notebook.run(2).wait_running(2)
    cancel = notebook.cell(2).get_by_role("button", name=re.compile("^cancel", re.IGNORECASE)).first
    cancel.wait_for(timeout=20_000)
    notebook.screenshot(f"main-{front}-running")
    cancel.click()
    notebook.wait_idle(2, timeout=15)
    assert "ActionAbortedError" in notebook.error(2)

    # The stop button.
    notebook.run(3).wait_running(3)
    notebook.cell(3).get_by_role("button", name=re.compile("^cancel", re.IGNORECASE)).first.wait_for(timeout=20_000)
    notebook.stop().wait_idle(3, timeout=15)
    assert notebook.error(3).startswith("CancelledError")

    # The next cell works.
    notebook.run(4).wait_idle(4)
    assert "" == notebook.error(4)
    notebook.screenshot(f"main-{front}-end")
    notebook.save().close()

    server.shutdown_kernels()
    reopened = browser.open(server, name, front=front, kernel=False)
    assert "Succeeded" in reopened.cell(1).inner_text()
    assert "Cancelled" in reopened.cell(3).inner_text()
    assert "Error displaying widget" not in reopened.page.content()
    reopened.screenshot(f"main-{front}-reopened")
    reopened.close()
