"""Rows of the table that `make chaos` prints: ``name | figure | bound | ok``. Runs in: the command line."""

from __future__ import annotations

#: What was checked, and whether it held.
HELD: list[bool] = []


def row(name: str, figure: object, bound: object, ok: object) -> None:
    """Print a row."""
    HELD.append(bool(ok))
    print(f"{name} | {figure} | {bound} | {'ok' if ok else 'FAIL'}", flush=True)


def status() -> int:
    """The exit status: 0 if all rows hold."""
    return 0 if all(HELD) else 1
