"""flyte_nb beside raw Dask and joblib, in one run: ratios that do not depend on the machine. Runs in: `make bench`.

All three have two single-threaded processes; flyte_nb and Dask speak TLS on loopback. The last column is what we ask of ourselves;
a machine that does something else meanwhile shows figures that are too bad. Takes about four minutes.

``python -m bench.compare map gather`` measures these rows only; ``--growth`` prints instead what 1, 10 and 100 times the size take.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

from bench import compare_ours

Figures = dict[str, float]


class Row(NamedTuple):
    """One line of the table."""

    key: str
    name: str
    #: What is asked, in words, and whether it is met: by ours, and the others where they were measured.
    asked: str
    met: Callable[[float, Figures, Figures], bool]


def at_most(bound: float) -> Callable[[float, Figures, Figures], bool]:
    return lambda ours, _dask, _joblib: ours <= bound


ROWS = [
    Row("map", "map of 10,000 no-ops (s)", "0.05 s, and joblib's", lambda o, _d, j: o <= min(0.05, j.get("map", 1.0))),
    Row("async_map", "the same, async task (s)", "0.1 s", at_most(0.1)),
    Row("map_large", "map of 100,000 no-ops, view on (s)", "1 s", at_most(1)),
    Row("map_huge", "map of 1,000,000 no-ops, view on (s)", "8 s", at_most(8)),
    Row("map_huge_mb", "  the kernel grows by (MB)", "300 MB", at_most(300)),
    Row("gather", "gather of 20,000 awaits (s)", "0.4 s", at_most(0.4)),
    Row("printing", "map of 100,000 that print a line (s)", "3 s", at_most(3)),
    Row("retried", "map of 10,000, 1 % fail once (s)", "0.1 s", at_most(0.1)),
    Row("straggler", "one of 2 s, then 2,000 of 1 ms (s)", "2.15 s", at_most(2.15)),
    Row("burns", "40 CPU-bound of 0.1 s (s)", "2.06 s", at_most(2.06)),
    Row("burn_cpu", "  CPU beyond the bodies' own (s)", "0.15 s", at_most(0.15)),
    Row("sequential", "sequential await, p50 (ms)", "0.7 ms", at_most(0.7)),
    Row("fib", "nested fib, actions a second", "10 x Dask's", lambda o, d, _j: o >= 10 * d.get("fib", 0.0)),
    Row("array", "64 MB array to 100 actions (s)", "0.3 s", at_most(0.3)),
    Row("first", "first result in a new kernel (s)", "1.5 s", at_most(1.5)),
    Row("idle", "an idle minute, kernel (% of a core)", "1 %", at_most(1)),
    Row("idle_worker", "  the busiest worker", "0.5 %", at_most(0.5)),
    Row("memory", "the kernel in the end (MB)", "400 MB", at_most(400)),
]  # fmt: skip


def others(name: str) -> Figures:
    """What another library takes, in a process of its own."""
    command = [sys.executable, "-m", "bench.compare_others", name, "--quick"]
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
    found: Figures = json.loads(said.splitlines()[-1])  # what its workers print stands before it
    return found


def text(value: float | None) -> str:
    return (
        f"{value:10.3f}"
        if value is not None and value < 100
        else f"{value:10,.0f}"
        if value is not None
        else f"{'-':>10}"
    )


def table(wanted: list[str]) -> bool:
    """Print the table, row by row; returns whether all is met."""
    dask, joblib = others("dask"), others("joblib")
    named = {row.key: row for row in ROWS}
    print(f"{'':40} {'raw Dask':>10} {'joblib':>10} {'flyte_nb':>10} {'of Dask':>8} {'of joblib':>9}  asked")
    held = True
    for key, ours in compare_ours.rows(wanted):
        row = named[key]
        ratios = [f"{ours / side[key]:.2f}" if side.get(key) else "-" for side in (dask, joblib)]
        met = row.met(ours, dask, joblib)
        held &= met
        print(
            f"{row.name:40} {text(dask.get(key))} {text(joblib.get(key))} {text(ours)} {ratios[0]:>8} {ratios[1]:>9}  "
            f"{row.asked}{'' if met else '  NOT MET'}", flush=True,
        )  # fmt: skip
    return held


def growth() -> bool:
    """Print what grows, and how; returns whether nothing grows faster than its size."""
    print(f"{'':40} {'1 x':>16} {'10 x':>16} {'100 x':>16}  each 10 x takes at most 12 x as long")
    held = True
    for name, found in compare_ours.growth():
        steps = [later[0] / max(former[0], 0.02) for former, later in itertools.pairwise(found)]
        met = max(steps) <= 12
        held &= met
        figures = " ".join(f"{f'{seconds:.3f} s {grown:+.0f} MB':>16}" for seconds, grown in found)
        print(
            f"{name:40} {figures}  {' '.join(f'x {step:.1f}' for step in steps)}{'' if met else '  NOT MET'}",
            flush=True,
        )
    return held


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(not (growth() if "--growth" in arguments else table(arguments)))
