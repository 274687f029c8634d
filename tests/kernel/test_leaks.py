"""A kernel that has seen many runs is no larger than one that has seen some. `bench/chaos/leaks.py` is the long form."""

from __future__ import annotations

import json

import pytest

from tests.kernel.kernelclient import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
%load_ext flyte_nb
import asyncio, gc, json, os, threading
import ipywidgets.widgets.widget as widgets
import psutil
import flyte_nb as flyte
import flyte_nb.core.history.store as store
import flyte_nb.views.browser.live_widget as live_widget
from flyte_nb.kernel.session import Session
store.MAX_RUNS = 40  # else the store is not full before the 200th
live_widget.LATE_AFTER = live_widget.ANSWER_WITHIN = 0.0
env = flyte.TaskEnvironment("demo")

@env.task
async def square(x: int) -> int:
    print(x)
    return x * x

@env.task
async def fail(x: int) -> int:
    raise ValueError(x)

def census():
    gc.collect()
    process = psutil.Process()
    kinds = [type(one).__name__ for one in gc.get_objects()]
    print(json.dumps({
        "widgets": len(widgets._instances), "comms": len(get_ipython().kernel.comm_manager.comms),
        "alive": kinds.count("RunWidget"),
        "threads": threading.active_count(), "files": process.num_fds(), "objects": len(kinds),
        "shared": sum(len(os.listdir(f"/dev/shm/{name}")) for name in os.listdir("/dev/shm") if f"-{os.getpid()}-" in name),
        "mb": round(process.memory_info().rss / 1e6), "runs": len(Session.current.store.runs),
    }))

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


def test_everything_that_runs_leave_behind_levels_off() -> None:
    """Widgets, comms, threads, descriptors, shared memory, objects and memory, after 60 runs and after 120."""
    with Kernel.start() as nb:
        nb.run(DEFINE).ok()
        # Dask measures nothing for a dashboard that is not there.
        assert "[False, []]" == nb.run("await look.aio()").ok().result
        assert "[]" == nb.run("[each for each in gc.callbacks if 'distributed' in str(each)]").ok().result

        def after(runs: int) -> dict[str, int]:
            for _ in range(runs):
                nb.run(RUN).ok()
            found: dict[str, int] = json.loads(nb.run("census()").ok().stdout)
            return found

        first, second = after(60), after(60)

        assert first["widgets"] > 20  # there is something to leak
        assert 40 == first["runs"] == second["runs"]
        for what, margin in {"widgets": 6, "comms": 6, "alive": 6, "threads": 3, "files": 8, "shared": 0}.items():
            assert second[what] <= first[what] + margin, (what, first, second)
        assert second["objects"] < 1.05 * first["objects"], (first, second)
        assert second["mb"] <= first["mb"] + 12, (first, second)
