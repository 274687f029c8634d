"""What the live view costs, in numbers: `python bench/view.py [--browser] [--actions 100000]`. Runs in: anywhere.

Without ``--browser``: the engine's side alone, with and without a view, in one process, in turn. With it: JupyterLab and
Chromium too (needs playwright): first paint, frame times, heap. Needs about a minute and two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import statistics
import sys
import time
import tracemalloc
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from bench import synthetic as syn
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.store import RunStore
from flyte_nb.views.surface import Mode
from flyte_nb.views.view import View

#: Events per turn of the engine's loop: what its inbox takes in 10 ms at full speed.
BATCH = 600


class Browser:
    """A widget that counts what would be sent; the JSON is made, as the kernel would."""

    uid = "bench"

    def __init__(self) -> None:
        self.bytes = 0
        self.messages = 0
        self.spent = 0.0

    def bundle(self, html: str, text: str) -> dict[str, Any]:
        return {"text/html": html, "text/plain": text}

    def send(self, content: Any, buffers: list[bytes] | None = None) -> None:
        self.bytes += len(json.dumps(content)) + sum(map(len, buffers or []))
        self.messages += 1

    def close(self) -> None: ...


class Nowhere:
    def publish(self, bundle: Any, display_id: str) -> None: ...

    def update(self, bundle: Any, display_id: str) -> None: ...


def start(store: RunStore, browser: Browser) -> View:
    """A live view that has this widget from the start."""
    live.make_widget = lambda *_: browser
    view = View(store.runs["r1"], display=Nowhere(), mode=Mode.WIDGET)
    view.start()
    assert isinstance(view.surface, live.LiveWidget)
    view.surface.offer()
    return view


async def fold(events: list[ev.Event], *, view: bool, rows: int = 30) -> tuple[float, View | None, Browser]:
    """Seconds to fold all events, with a view that shows `rows` rows of the map, or none."""
    store, browser = RunStore(), Browser()
    store.append(events[0])
    shown = None
    if view:
        shown = start(store, browser)
        shown.handle("ready", {}, "n0")
        shown.handle(
            "visible_rows", {"view": "v", "open": ["a0"], "ranges": [["a0/g:score", 0, rows]], "logs": True}, "n1"
        )
    started = time.process_time()
    for at in range(1, len(events), BATCH):
        store.extend(events[at : at + BATCH])
        await asyncio.sleep(0)
    spent = time.process_time() - started
    if shown is not None:
        shown.finish()
    return spent, shown, browser


def engine(n: int) -> None:
    """With and without a view, three times in turn; the median of each."""
    print(f"engine side, {n:,} actions, 4 events each, folded as fast as they come")
    events = list(syn.mapped(n, 50, bundle=100, logs=True))
    off, on = [], []
    last: tuple[float, View | None, Browser] | None = None
    for _ in range(3):
        off.append(asyncio.run(fold(events, view=False))[0])
        last = asyncio.run(fold(events, view=True))
        on.append(last[0])
    assert last is not None
    view, browser = last[1], last[2]
    assert view is not None
    a, b = statistics.median(off), statistics.median(on)
    print(f"  fold, no view           {a:6.2f} s CPU   ({len(events) / a:,.0f} events/s)")
    print(f"  fold, live view         {b:6.2f} s CPU   ({100 * (b - a) / a:+.1f} % of folding alone)")
    print(f"  flushes: {view.stats['seconds'] * 1e3:.0f} ms in all, worst {view.stats['worst'] * 1e3:.1f} ms")
    print(f"  sent: {browser.messages} messages, {browser.bytes / 1e3:,.0f} kB: {browser.bytes / b / 1e3:,.0f} kB/s")


def flood(lines: int) -> None:
    """One action that prints `lines` lines, 1,000 to a message, at full speed."""
    print(f"log flood, {lines:,} lines")
    actor = syn.Actor("r1", "x1", "a0", "noisy()")
    events: list[ev.Event] = [syn.opened(), syn.root(), actor.queued(syn.T0), actor.start(syn.T0)]
    text = [f"step {i} loss=0.123456 accuracy=0.98765 lr=0.001" for i in range(1_000)]

    async def run(view: bool) -> tuple[float, Browser]:
        store, browser = RunStore(), Browser()
        store.extend(events)
        shown = None
        if view:
            shown = start(store, browser)
            shown.handle("ready", {}, "n0")
            shown.handle("visible_rows", {"view": "v", "logs": True}, "n1")
        started = time.process_time()
        for _ in range(lines // 1_000):
            store.append(actor.logged(syn.T0, *text))
            await asyncio.sleep(0)
        spent = time.process_time() - started
        if shown is not None:
            shown.finish()
        return spent, browser

    off, on, browser = [], [], Browser()
    for _ in range(3):
        off.append(asyncio.run(run(view=False))[0])
        spent, browser = asyncio.run(run(view=True))
        on.append(spent)
    tracemalloc.start()
    asyncio.run(run(view=True))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"  keep, no view {statistics.median(off):.2f} s CPU, live view {statistics.median(on):.2f} s CPU")
    print(
        f"  sent {browser.messages} messages, {browser.bytes / 1e3:,.0f} kB; peak memory of all of it {peak / 1e6:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--actions", type=int, default=100_000)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--browser", action="store_true", help="measure JupyterLab in Chromium too")
    options = parser.parse_args()
    engine(options.actions)
    flood(options.lines)
    if options.browser:
        from bench.view_browser import measure

        measure(options.actions)


if __name__ == "__main__":
    main()
