"""Rows of the table that `make chaos` prints: ``name | figure | bound | ok``. Runs in: the command line."""

from __future__ import annotations

#: What was checked, and whether it held.
HELD: list[bool] = []


def row(name: str, figure: object, bound: object, ok: object) -> None:
    """Print a row."""
    HELD.append(bool(ok))
    print(f"{name} | {figure} | {bound} | {'ok' if ok else 'FAIL'}", flush=True)


def measured(name: str, figure: float, bound: float, good: bool = True, unit: str = "s") -> None:
    """Print a row of a figure that is to be within a bound, and of what else must be true (`good`)."""
    row(name, f"{figure:.2f} {unit}", f"{bound:.2f}", good and figure <= bound)


def status() -> int:
    """The exit status: 0 if all rows hold."""
    return 0 if all(HELD) else 1
