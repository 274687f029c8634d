"""Rows of the table that `make chaos` prints: ``name | figure | bound | ok``. Runs in: the command line.

Bounds are those of a quiet machine. A check that fails while something else uses the machine is made again (`patiently`): how much
of its time a process gets is measured, and said in the row.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

#: Wall seconds for each second of CPU, on all cores at once, from which on the machine counts as busy: 1 on a quiet one.
BUSY = 1.15
#: Times that a check is made, and seconds that each further one waits for a quiet machine.
TRIES, PATIENCE_S = 3, 30.0
_SPIN = "import time\nbegan = time.monotonic()\nwhile time.process_time() < 0.3: pass\nprint((time.monotonic() - began) / 0.3)"


class Row(NamedTuple):
    """What was checked, and whether it held."""

    name: str
    figure: str
    bound: str
    held: bool


#: All that counts, and how many of them have been printed.
ROWS: list[Row] = []
_printed = 0
#: Whether a check is made that may be made again.
_trying = False


def row(name: str, figure: object, bound: object, ok: object) -> None:
    """Add a row to the table."""
    ROWS.append(Row(name, str(figure), str(bound), bool(ok)))
    if not _trying:
        _print()


def _print() -> None:
    global _printed
    for each in ROWS[_printed:]:
        print(f"{each.name} | {each.figure} | {each.bound} | {'ok' if each.held else 'FAIL'}", flush=True)
    _printed = len(ROWS)


def measured(name: str, figure: float, bound: float, good: bool = True, unit: str = "s") -> None:
    """Print a row of a figure that is to be within a bound, and of what else must be true (`good`)."""
    row(name, f"{figure:.2f} {unit}", f"{bound:.2f}", good and figure <= bound)


def load() -> float:
    """Wall seconds that a second of CPU takes right now, on the slowest of all cores."""
    spinning = [
        subprocess.Popen([sys.executable, "-S", "-c", _SPIN], stdout=subprocess.PIPE, text=True)
        for _ in range(os.cpu_count() or 1)
    ]
    return max(float(each.communicate()[0]) for each in spinning)


def patiently(check: Callable[..., object], *args: Any) -> None:
    """Make a check; again if a row of it fails while something else uses the machine. What counts is the last time."""
    global _trying
    _trying, before, why = True, len(ROWS), ""
    for left in reversed(range(TRIES)):
        del ROWS[before:]
        check(*args)
        if all(each.held for each in ROWS[before:]) or not left or (busy := load()) <= BUSY:
            break
        why = f" (made again: a second of CPU took {busy:.1f} s)"
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and load() > BUSY:
            time.sleep(1)
    ROWS[before:] = [each._replace(figure=each.figure + why) for each in ROWS[before:]]
    _trying = False
    _print()


def status() -> int:
    """The exit status: 0 if all rows hold."""
    return 0 if all(each.held for each in ROWS) else 1
