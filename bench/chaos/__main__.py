"""``make chaos``: attack the package, module by module, and print one table; exits 0 if everything holds.

Every ``bench/chaos/<name>.py`` has a ``main()`` that prints rows ``name | figure | bound | ok`` and returns 0, or 1 if one fails.
It is run in a process of its own, and ended if it takes too long. ``python -m bench.chaos ends stops`` runs these only.

Runs in: the command line.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
#: Seconds that one module may take; on a quiet machine they take ten minutes together.
LIMIT = 900.0


def run(name: str) -> list[list[str]]:
    """Run a module; its rows, and one that fails if it did not end well."""
    began = time.monotonic()
    code = f"import sys, bench.chaos.{name} as case; sys.exit(case.main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=HERE.parents[1], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=LIMIT)
        how = f"exit status {process.returncode}"
    except BaseException as exc:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        how = "did not end"
        if not isinstance(exc, subprocess.TimeoutExpired):  # Ctrl-C, SIGTERM
            raise
    rows = [[cell.strip() for cell in line.split(" | ")] for line in said.splitlines()]
    rows = [[name, *cells] for cells in rows if len(cells) == 4 and cells[-1] in {"ok", "FAIL"}]
    ended_well = process.returncode == (1 if any(cells[-1] == "FAIL" for cells in rows) else 0)
    if not ended_well or not rows:
        print(said[-2_000:])
    rows.append(
        [
            name,
            "the module itself",
            f"{time.monotonic() - began:.0f} s, {how}",
            f"{LIMIT:.0f} s",
            "ok" if ended_well and rows else "FAIL",
        ]
    )
    return rows


def main(names: list[str]) -> int:
    """Run the modules of these names, or all."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    rows = [["module", "what", "figure", "bound", ""]]
    for name in names or found:
        print(f"... {name}", flush=True)
        rows += run(name)
    widths = [min(60, max(len(cells[i]) for cells in rows)) for i in range(4)]
    for cells in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=False)), cells[-1]]))
    failed = sum(cells[-1] == "FAIL" for cells in rows)
    print(f"{len(rows) - 1 - failed} of {len(rows) - 1} hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
