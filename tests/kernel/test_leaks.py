"""A kernel that has seen many runs is no larger than one that has seen some. `bench/chaos/leaks.py` is the long form."""

from __future__ import annotations

import pytest

from tests.kernel.census import DEFINE, census
from tests.kernel.kernelclient import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

FEW_RUNS = """
import flyte_nb.core.history.store as store
store.MAX_RUNS = 40  # else the store is not full before the 200th

@env.task
def look() -> list:
    import dask
    return [dask.config.get("distributed.worker.profile.enabled"), [str(each) for each in gc.callbacks]]
"""
RUN = """
await asyncio.gather(*(square(i) for i in range(6)), fail(1), return_exceptions=True)
import numpy
await asyncio.gather(*(flyte.map.aio(square, range(3)).__anext__() for _ in range(2)))
None
"""
#: What may be added between the two looks: the store is full at the first one.
MARGINS = {"widgets": 6, "comms": 6, "closed widgets": 6, "threads": 3, "descriptors": 8, "files in shared memory": 0}


def test_everything_that_runs_leave_behind_levels_off() -> None:
    """Widgets, comms, threads, descriptors, shared memory, objects and memory, after 60 runs and after 120."""
    with Kernel.start() as nb:
        nb.run(DEFINE + FEW_RUNS).ok()
        # Dask measures nothing for a dashboard that is not there.
        assert "[False, []]" == nb.run("await look.aio()").ok().result
        assert "[]" == nb.run("[each for each in gc.callbacks if 'distributed' in str(each)]").ok().result

        def after(runs: int) -> dict[str, int]:
            for _ in range(runs):
                nb.run(RUN).ok()
            return census(nb)

        first, second = after(60), after(60)

        assert first["widgets"] > 20  # there is something to leak
        assert 40 == first["runs"] == second["runs"]
        for what, margin in MARGINS.items():
            assert second[what] <= first[what] + margin, (what, first, second)
        assert second["objects"] < 1.05 * first["objects"], (first, second)
        assert second["MB of the kernel"] <= first["MB of the kernel"] + 12, (first, second)
