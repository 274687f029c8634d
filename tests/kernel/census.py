"""A census of a kernel: how much there is of everything that could leak. Runs in: `test_leaks`, and `bench/chaos/leaks.py`."""

from __future__ import annotations

import json
from typing import Any

from tests.kernel.kernelclient import Kernel

#: Tasks to leave something behind, and the census; no browser answers, and no time passes between the runs.
DEFINE = """
%load_ext flyte_nb
import asyncio, gc, json, os, threading
import ipywidgets.widgets.widget as widgets
import psutil
import flyte_nb as flyte
from flyte_nb.kernel.session import Session
from flyte_nb.views.browser import live_widget
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
    workers = [child for child in process.children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]
    print(json.dumps({
        "widgets": len(widgets._instances), "comms": len(get_ipython().kernel.comm_manager.comms),
        "closed widgets": kinds.count("RunWidget"), "threads": threading.active_count(), "descriptors": process.num_fds(),
        "files in shared memory": sum(len(os.listdir(f"/dev/shm/{d}")) for d in os.listdir("/dev/shm") if f"-{os.getpid()}-" in d)
        if os.path.isdir("/dev/shm") else 0,
        "objects": len(kinds), "MB of the kernel": round(process.memory_info().rss / 1e6),
        "MB of the workers": round(sum(each.memory_info().rss for each in workers) / 1e6),
        "descriptors of the workers": sum(each.num_fds() for each in workers),
        "threads of the workers": sum(each.num_threads() for each in workers),
        "runs": len(Session.current.store.runs),
    }))
"""


def census(kernel: Kernel) -> dict[str, Any]:
    """What there is, by name."""
    found: dict[str, Any] = json.loads(kernel.run("census()").ok().stdout)
    return found
