"""Entry points for Dask: the task function of a lane, and the plugin that makes a worker a host. Runs in: worker process."""

from __future__ import annotations

import functools
import signal
import threading
from typing import Any

import cloudpickle
from distributed import WorkerPlugin, get_worker

from flyte_nb.engine.links.wire import LaneSpec
from flyte_nb.worker.host import Host
from flyte_nb.worker.lane import AsyncLane, SyncLane

#: Task functions kept unpickled per process: a session rarely uses more at a time.
MAX_TASKS = 256


@functools.lru_cache(maxsize=MAX_TASKS)
def load_task(blob: bytes) -> Any:
    """The task of a lane; the same object for the same bytes, so that its globals stay warm."""
    return cloudpickle.loads(blob)


def run_lane(spec: LaneSpec) -> None:
    """Be a lane until it is closed. A plain ``def``: Dask would run a coroutine on the worker's own loop."""
    host = Host.of(get_worker(), run_lane)
    kind = AsyncLane if spec.is_async else SyncLane
    kind(host, spec.lane, spec.owner, load_task(spec.task)).run()


class HostPlugin(WorkerPlugin):
    """Makes a Dask worker a host of lanes."""

    name = "flyte_nb"
    idempotent = True

    def setup(self, worker: Any) -> None:
        """Listen for links."""
        Host.of(worker, run_lane)

    def teardown(self, worker: Any) -> None:
        """Close the links."""
        Host.of(worker, run_lane).close()


def ignore_interrupts() -> None:
    """The stop button sends SIGINT to the whole process group; it is the kernel's to handle, not the workers'."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
