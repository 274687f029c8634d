"""Leaks, in the long form: 1,000 small runs in one kernel, then 200,000 actions in large ones; what is left behind levels off.

    python -m bench.chaos.leaks [--runs 1000] [--large 100]

`--large 500` sees a million actions, in five minutes. Prints ``name | figure | bound | ok`` and exits 0, or 1.
"""

from __future__ import annotations

import argparse
import sys

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
#: What may be added between the two looks at the small runs: the store is full at the first one.
MARGINS = {
    "widgets": 6, "comms": 6, "closed widgets": 6, "threads": 4, "descriptors": 10, "files in shared memory": 2,
    "objects": 20_000, "MB of the kernel": 25, "MB of the workers": 25, "descriptors of the workers": 10,
    "threads of the workers": 6,
}  # fmt: skip
#: MB of a kernel that has seen a million actions.
MAX_MB = 400


def main(arguments: list[str] | None = None) -> int:
    """Run both parts; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--large", type=int, default=100)
    options = parser.parse_args(arguments)
    with Kernel.start() as kernel:
        kernel.run(DEFINE + ZEROS).ok()
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
