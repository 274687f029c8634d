"""Cells that run everywhere, on a worker that several kernels use."""

from __future__ import annotations

import linecache
import queue
from typing import Any

from flyte_nb.worker.process.everywhere import Everywhere


def run(everywhere: Everywhere, home: str, number: int, source: str) -> str:
    """The error of a kernel's cell; "" if none."""
    found: queue.Queue[Any] = queue.Queue()
    everywhere.run(found.put, home, [(number, source)])
    return str(found.get(timeout=30)[1])


def test_an_error_shows_the_lines_of_its_own_kernel() -> None:
    """Cells of two kernels have the same number; what a kernel has left behind goes with it."""
    everywhere, before = Everywhere(None, lambda function, *args: function(*args)), set(linecache.cache)
    for home in ("one", "other"):
        assert not run(everywhere, home, 1, f"def convert():\n    int('{home}')")
    for home in ("one", "other"):
        assert f"    int('{home}')\n" in run(everywhere, home, 2, "convert()")
        everywhere.forget(home)
    assert not any("everywhere" in name for name in set(linecache.cache) - before)
