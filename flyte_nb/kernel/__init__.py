"""Kernel: the session behind a notebook, its cells, `%flyte`, the stop button, the debugger. Runs in: kernel main thread."""

from __future__ import annotations

#: Module that worker processes of the embedded cluster import first.
PRELOAD = "flyte_nb.worker.preload"


def begin_workers() -> None:
    """Begin what worker processes will come from, before this process imports Dask: each takes as long, and a core."""
    from flyte_nb.engine.clusters.forks import SOURCE

    SOURCE.begin(PRELOAD)
