"""Make the documentation's pictures from a real run in JupyterLab: `python scripts/screenshot.py`. Runs in: a script.

Writes `docs/live-view.png`, `docs/live-view-dark.png`, and the animation `docs/live-view.webp` (only that: "animation").
Needs the `test` and `lab` extras and a Chromium.
"""

from __future__ import annotations

import io
import pathlib
import sys
import tempfile
import time

from PIL import Image

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
#: The animation: seconds, frames in each, pixels of the cell that it shows, and to which width they are scaled.
ANIMATION_S, FRAMES_PER_S, FRAME_HEIGHT, FRAME_WIDTH = 14.0, 4, 520, 760


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


def animate(notebook: Notebook) -> None:
    """Record the cell from its start until its run has ended, or the animation is long enough."""
    frames: list[Image.Image] = []
    view = notebook.page.locator("[data-testid=fnb]").first
    view.get_by_text("depth 3").first.wait_for(timeout=120_000)
    ends = time.monotonic() + ANIMATION_S
    while time.monotonic() < ends:
        began = time.monotonic()
        picture = Image.open(io.BytesIO(notebook.cell(1).screenshot())).convert("RGB")
        frames.append(picture.crop((0, 0, picture.width, min(picture.height, FRAME_HEIGHT))))
        time.sleep(max(0.0, 1 / FRAMES_PER_S - (time.monotonic() - began)))
    width = max(frame.width for frame in frames)
    height = max(frame.height for frame in frames)
    small = []
    for frame in frames:
        whole = Image.new("RGB", (width, height), "white")
        whole.paste(frame, (0, 0))
        small.append(whole.resize((FRAME_WIDTH, height * FRAME_WIDTH // width)))
    path = ROOT / "docs" / "live-view.webp"
    small[0].save(
        path, save_all=True, append_images=small[1:], duration=round(1000 / FRAMES_PER_S), loop=0, quality=55, method=6
    )
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e3:.0f} kB, {len(frames)} frames")


def main() -> None:
    """Run the notebook twice, light and dark; and once more for the animation."""
    moves_only = sys.argv[1:] == ["animation"]
    with tempfile.TemporaryDirectory() as home, JupyterServer.start(pathlib.Path(home)) as server:
        server.write("readme.ipynb", [SETUP, CALL])
        with Browser.start() as browser:
            for dark, name in ((False, "live-view.webp"), (False, "live-view.png"), (True, "live-view-dark.png")):
                if moves_only and not name.endswith(".webp"):
                    continue
                notebook = browser.open(server, "readme.ipynb", width=1360)
                notebook.page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")
                notebook.dark(dark)
                notebook.run(0).wait_idle(0)
                notebook.run(1)
                if name.endswith(".webp"):
                    animate(notebook)
                else:
                    take(notebook, name)
                notebook.dark(on=False).wait_idle(1, timeout=120)
                notebook.close()
                server.shutdown_kernels()


if __name__ == "__main__":
    main()
