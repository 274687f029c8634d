"""Leaks, in the long form: 1,000 small runs in one kernel, then 200,000 actions in large ones; what is left behind levels off.

    python -m bench.chaos.leaks [--runs 1000] [--large 100] [--soak 30]

`--large 500` sees a million actions, in five minutes. `--soak 30` does nothing but mixed cells, with stops and killed workers among
them, for half an hour, and prints a line each minute. Prints ``name | figure | bound | ok`` and exits 0, or 1.
"""

from __future__ import annotations

import argparse
import sys
import time

from bench.chaos._rows import row, status
from tests.kernel.census import DEFINE, census
from tests.kernel.kernelclient import Kernel

ZEROS = """
@env.task
def zeros(n: int) -> object:
    import numpy as np
    return np.zeros(n)
"""
SMALL = """
await asyncio.gather(*(square(i) for i in range(5)), fail(1), zeros.aio(40_000), return_exceptions=True)
sum(flyte.map(square, range(5)))
"""
LARGE = "v = await asyncio.gather(*(square.override(short_name='s')(i) for i in range(2_000)))"
#: Cells of a soak, one after another, with what they give; what kills a worker, and what is stopped, come now and then.
MIXED = [
    ("await square(3)", "9"),
    ("sum(flyte.map(square, range(50)))", "40425"),
    ("len(await asyncio.gather(*(square(i) for i in range(100))))", "100"),
    ("sum(a.size for a in await asyncio.gather(*(zeros.aio(200_000) for _ in range(4))))", "800000"),
    (
        "[isinstance(e, ValueError) for e in await asyncio.gather(fail(1), fail(2), return_exceptions=True)]",
        "[True, True]",
    ),
    ("flyte.run(square, 4).outputs()[0]", "16"),
]
KILL = "[p.kill() for p in psutil.Process().children(recursive=True) if 'spawn_main' in ' '.join(p.cmdline())][:1]"
STOPPED = (
    "print('begun'); await asyncio.gather(*(asyncio.sleep(60) for _ in range(9)), *(square(i) for i in range(2_000)))"
)
#: A worker is killed, and a cell stopped, once in so many cells.
KILL_EVERY, STOP_EVERY = 500, 50
#: What may be added between the two looks at the small runs: the store is full at the first one.
MARGINS = {
    "widgets": 6, "comms": 6, "closed widgets": 6, "threads": 4, "descriptors": 10, "files in shared memory": 2,
    "objects": 20_000, "MB of the kernel": 25, "MB of the workers": 25, "descriptors of the workers": 10,
    "threads of the workers": 6,
}  # fmt: skip
#: MB of a kernel that has seen a million actions.
MAX_MB = 400


def soak(kernel: Kernel, minutes: float) -> None:
    """Run mixed cells for so many minutes; the second half is to add no more than `MARGINS` to the first."""
    began, seen, number, wrong = time.monotonic(), [], 0, 0
    while (now := (time.monotonic() - began) / 60) < minutes:
        code, wanted = MIXED[number % len(MIXED)]
        wrong += kernel.run(code).result != wanted
        number += 1
        if number % STOP_EVERY == 0:
            cell = kernel.begin(STOPPED)
            cell.wait_for(lambda: cell.stdout)  # noqa: B023 - at once
            time.sleep(0.2)
            kernel.interrupt()
            cell.wait()
        if number % KILL_EVERY == 0:
            kernel.run(KILL).ok()
        if now >= len(seen) + 1:
            seen.append(census(kernel))
            print(f"minute {len(seen)}, {number:,} cells: {seen[-1]}", flush=True)
    row(f"soak of {minutes:g} minutes, {number:,} cells: wrong results", wrong, 0, not wrong)
    first, second = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    for what, margin in MARGINS.items():
        before, after = (max(each[what] for each in half) for half in (first, second))
        row(f"soak: most {what} in either half", f"{before:,} -> {after:,}", f"+{margin:,}", after <= before + margin)


def main(arguments: list[str] | None = None) -> int:
    """Run both parts; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--large", type=int, default=100)
    parser.add_argument("--soak", type=float, default=0.0)
    options = parser.parse_args(arguments)
    with Kernel.start() as kernel:
        kernel.run(DEFINE + ZEROS).ok()
        if options.soak:
            soak(kernel, options.soak)
            return status()
        for number in range(options.runs):
            if number == max(20, options.runs // 4):
                first = census(kernel)
            kernel.run(SMALL).ok()
        last = census(kernel)
        for what, margin in MARGINS.items():
            figure = f"{first[what]:,} -> {last[what]:,}"
            row(f"{options.runs:,} runs: {what}", figure, f"+{margin:,}", last[what] <= first[what] + margin)
        peak = 0
        for number in range(options.large):
            kernel.run(LARGE).ok()
            if number % 25 == 24:
                peak = max(peak, census(kernel)["MB of the kernel"])
        name = f"{options.large * 2_000:,} actions in {options.large} runs: MB of the kernel"
        row(name, peak, MAX_MB, 0 < peak < MAX_MB)
        said = kernel.run("%flyte runs").ok().stdout.splitlines()[0]
        row("what is gone is said", said[:80], "not kept any more", "not kept any more" in said)
    return status()


if __name__ == "__main__":
    sys.exit(main())
