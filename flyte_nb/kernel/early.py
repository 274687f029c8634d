"""Early: worker processes are begun before what a session needs in this one is imported. Runs in: kernel main thread.

Both take as long, and a core each. So nothing here imports Dask.
"""

from __future__ import annotations

from flyte_nb.engine.clusters.forks import SOURCE

#: Module that worker processes of the embedded cluster import first.
PRELOAD = "flyte_nb.worker.preload"


def begin_workers() -> None:
    """Begin what workers of the embedded cluster will come from, unless it is there."""
    SOURCE.begin(PRELOAD)
