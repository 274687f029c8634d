"""Make the README's pictures from a real run in JupyterLab: `python scripts/screenshot.py`. Runs in: a script.

Writes `docs/live-view.png` and `docs/live-view-dark.png`. Needs the `test` and `lab` extras and a Chromium.
"""

from __future__ import annotations

import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.e2e.harness import Browser, JupyterServer, Notebook  # noqa: E402 - the checkout must be on the path first

SETUP = """
%load_ext flyte_nb
import asyncio, random, time
import flyte_nb as flyte
from sklearn.datasets import load_digits

env = flyte.TaskEnvironment("digits")

@env.task(retries=2)
async def load(name: str) -> int:
    print(f"loading {name}")
    await asyncio.sleep(0.3)
    return len(load_digits().data)

@env.task
def fit(fold: int, depth: int) -> float:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.tree import DecisionTreeClassifier
    if fold == 17 and depth == 9:
        raise ValueError("fold 17 holds no sevens")
    x, y = load_digits(return_X_y=True)
    a, b, c, d = train_test_split(x, y, random_state=fold)
    score = DecisionTreeClassifier(max_depth=depth, random_state=0).fit(a, c).score(b, d)
    if fold % 10 == 0:
        print(f"fold {fold:2d} depth {depth}: accuracy {score:.3f}")
    return score

@env.task
async def best_depth(folds: int) -> int:
    rows = await load("digits")
    print(f"{rows:,} images")
    scores = {}
    for depth in (3, 6, 9):
        with flyte.group(f"depth {depth}"):
            found = await asyncio.gather(*(fit.aio(i, depth) for i in range(folds)), return_exceptions=True)
        good = [s for s in found if isinstance(s, float)]
        scores[depth] = sum(good) / len(good)
    return max(scores, key=scores.get)
"""

CALL = "await best_depth(folds=120)"


def take(notebook: Notebook, name: str) -> None:
    """Picture the cell with its live view, a failed action opened."""
    view = notebook.page.locator("[data-testid=fnb]").first
    view.locator(".fnb-errors .fnb-link").first.wait_for(timeout=120_000)
    view.locator(".fnb-errors .fnb-link").first.click()
    notebook.page.wait_for_function("() => document.querySelector('.fnb-dbody')?.textContent.includes('Attempt')")
    notebook.page.mouse.move(0, 0)
    path = ROOT / "docs" / name
    path.parent.mkdir(exist_ok=True)
    notebook.cell(1).screenshot(path=path)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    """Run the notebook twice: light and dark."""
    with tempfile.TemporaryDirectory() as home, JupyterServer.start(pathlib.Path(home)) as server:
        server.write("readme.ipynb", [SETUP, CALL])
        with Browser.start() as browser:
            for dark, name in ((False, "live-view.png"), (True, "live-view-dark.png")):
                notebook = browser.open(server, "readme.ipynb", width=1360)
                notebook.page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")
                notebook.dark(dark)
                notebook.run(0).wait_idle(0)
                notebook.run(1)
                take(notebook, name)
                notebook.dark(on=False).wait_idle(1, timeout=120)
                notebook.close()
                server.shutdown_kernels()


if __name__ == "__main__":
    main()
