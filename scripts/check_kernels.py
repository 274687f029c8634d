"""Check the live view's buttons on other versions of ipykernel: `python scripts/check_kernels.py [6.31.0 7.3.0]`.

Runs in: a script.

For each version an environment is made in a temporary folder (everything else comes from the environment that runs this), and
in JupyterLab a run is cancelled by its button while its cell awaits, and while its cell blocks; then the stop button. Needs
the `test` and `lab` extras, a Chromium, and a network for pip. Takes about half a minute a version.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import sysconfig
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Locator, expect  # noqa: E402 - the checkout must be on the path first

from tests.e2e.harness import Browser, JupyterServer, Notebook  # noqa: E402

VERSIONS = ("6.31.0", "7.3.0")

SETUP = """
%load_ext flyte_nb
import asyncio, time, ipykernel
import flyte_nb as flyte
env = flyte.TaskEnvironment("kernels")

@env.task
async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds

print("ipykernel", ipykernel.__version__)
"""
AWAITING = "await asyncio.gather(*(nap(60.0 + i) for i in range(3)))"
BLOCKING = "list(flyte.map(nap, [60.0, 61.0, 62.0]))"
SLEEPING = "for i in range(3): asyncio.create_task(nap.aio(60.0 + i))\nawait asyncio.sleep(0.5)\ntime.sleep(8)"


def environment(home: pathlib.Path, version: str) -> pathlib.Path:
    """An interpreter with this ipykernel, and everything else as here."""
    folder = home / f"ipykernel-{version}"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    # After its own packages, so that its ipykernel comes first.
    pathlib.Path(site, "base.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", f"ipykernel=={version}", "nest-asyncio"]
    subprocess.run(command, check=True)
    return python


def add_kernel(server: JupyterServer, name: str, python: pathlib.Path) -> None:
    """Make the interpreter a kernel of the server."""
    folder = server.home / "data" / "kernels" / name
    folder.mkdir(parents=True, exist_ok=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": name, "language": "python"}))


def view(notebook: Notebook, cell: int) -> Locator:
    """The live view under a cell."""
    return notebook.cell(cell).get_by_test_id("fnb").first


def check(server: JupyterServer, browser: Browser, kernel: str) -> None:
    """Click through one kernel; raises where something does not happen."""
    name = f"{kernel}.ipynb"
    server.write(name, [SETUP, AWAITING, BLOCKING, SLEEPING, AWAITING], kernel=kernel)
    notebook = browser.open(server, name)
    notebook.run(0).wait_idle(0)
    said = notebook.text(0).strip().splitlines()
    assert said, notebook.error(0)
    print(f"{said[-1]}:", end=" ", flush=True)
    for cell, what in ((1, "awaiting"), (2, "blocking"), (3, "sleeping")):
        notebook.run(cell).wait_running(cell)
        view(notebook, cell).get_by_test_id("fnb-cancel").click()
        expect(view(notebook, cell).locator(".fnb-chip[data-word=cancelled]")).to_contain_text("3", timeout=5_000)
        # A cell that sleeps itself is still at it: the click got through all the same.
        assert what != "sleeping" or notebook.is_running(cell)
        notebook.wait_idle(cell, timeout=20)
        print(f"cancel while {what}: ok,", end=" ", flush=True)
    notebook.run(4).wait_running(4)
    view(notebook, 4).wait_for()
    notebook.stop().wait_idle(4, timeout=15)
    print("stop: ok")
    notebook.close()
    server.shutdown_kernels()


def main() -> None:
    """Check each version."""
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        (home / "server").mkdir()
        with JupyterServer.start(home / "server") as server, Browser.start() as browser:
            for version in sys.argv[1:] or VERSIONS:
                add_kernel(server, f"k{version.replace('.', '-')}", environment(home, version))
                check(server, browser, f"k{version.replace('.', '-')}")


if __name__ == "__main__":
    main()
