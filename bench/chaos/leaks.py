"""Leaks, in the long form: 1,000 small runs in one kernel, then 200,000 actions in large ones; what is left behind levels off.

    python bench/chaos/leaks.py [--runs 1000] [--large 100]

`--large 500` sees a million actions, in five minutes. Prints ``name | figure | bound | ok`` and exits 0, or 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.kernel.kernelclient import Kernel  # noqa: E402

DEFINE = """
%load_ext flyte_nb
import asyncio, gc, json, os, threading
import ipywidgets.widgets.widget as widgets
import psutil
import flyte_nb as flyte
from flyte_nb.kernel.session import Session
from flyte_nb.views.browser import live_widget
live_widget.LATE_AFTER = live_widget.ANSWER_WITHIN = 0.0  # no browser answers, and no time passes between the runs
env = flyte.TaskEnvironment("demo")

@env.task
async def square(x: int) -> int:
    print(x)
    return x * x

@env.task
async def fail(x: int) -> int:
    raise ValueError(x)

@env.task
def zeros(n: int) -> object:
    import numpy as np
    return np.zeros(n)

def census():
    gc.collect()
    process = psutil.Process()
    kinds = [type(one).__name__ for one in gc.get_objects()]
    workers = [child for child in process.children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]
    print(json.dumps({
        "widgets": len(widgets._instances), "comms": len(get_ipython().kernel.comm_manager.comms),
        "closed widgets": kinds.count("RunWidget"), "threads": threading.active_count(), "descriptors": process.num_fds(),
        "files in shared memory": sum(len(os.listdir(f"/dev/shm/{d}")) for d in os.listdir("/dev/shm") if f"-{os.getpid()}-" in d)
        if os.path.isdir("/dev/shm") else 0,
        "objects": len(kinds), "MB of the kernel": round(process.memory_info().rss / 1e6),
        "MB of the workers": round(sum(each.memory_info().rss for each in workers) / 1e6),
        "descriptors of the workers": sum(each.num_fds() for each in workers),
        "threads of the workers": sum(each.num_threads() for each in workers),
        "MB of history": round(sum(record.nbytes for record in Session.current.store.runs.values()) / 1e6),
    }))
"""
SMALL = """
await asyncio.gather(*(square(i) for i in range(5)), fail(1), zeros.aio(40_000), return_exceptions=True)
sum(flyte.map(square, range(5)))
"""
LARGE = "v = await asyncio.gather(*(square.override(short_name='s')(i) for i in range(2_000)))"
#: What may be added between the two looks at the small runs: the store is full at the first one.
MARGINS = {
    "widgets": 6, "comms": 6, "closed widgets": 6, "threads": 4, "descriptors": 10, "files in shared memory": 2,
    "objects": 20_000, "MB of the kernel": 25, "MB of the workers": 25, "descriptors of the workers": 10,
    "threads of the workers": 6,
}  # fmt: skip
#: MB of a kernel that has seen a million actions.
MAX_MB = 400


def row(name: str, figure: object, bound: object, ok: bool) -> bool:
    """Print a row of the table."""
    print(f"{name} | {figure} | {bound} | {'ok' if ok else 'FAIL'}", flush=True)
    return ok


def census(kernel: Kernel) -> dict[str, Any]:
    """What there is of everything that could leak."""
    found: dict[str, Any] = json.loads(kernel.run("census()").ok().stdout)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run both parts; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--large", type=int, default=100)
    options = parser.parse_args(arguments)
    good = True
    with Kernel.start() as kernel:
        kernel.run(DEFINE).ok()
        for number in range(options.runs):
            if number == max(20, options.runs // 4):
                first = census(kernel)
            kernel.run(SMALL).ok()
        last = census(kernel)
        for what, margin in MARGINS.items():
            figure = f"{first[what]:,} -> {last[what]:,}"
            good &= row(f"{options.runs:,} runs: {what}", figure, f"+{margin:,}", last[what] <= first[what] + margin)
        peak = 0
        for number in range(options.large):
            kernel.run(LARGE).ok()
            if number % 25 == 24:
                peak = max(peak, census(kernel)["MB of the kernel"])
        name = f"{options.large * 2_000:,} actions in {options.large} runs: MB of the kernel"
        good &= row(name, peak, MAX_MB, 0 < peak < MAX_MB)
        said = kernel.run("%flyte runs").ok().stdout.splitlines()[0]
        good &= row("what is gone is said", said[:80], "not kept any more", "not kept any more" in said)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
