"""Entry points for Dask: the task function of a lane, and the plugin that makes a worker a host. Runs in: worker process."""

from __future__ import annotations

import functools
from typing import Any

import cloudpickle
from distributed import WorkerPlugin, get_worker

from flyte_nb.engine.links.wire import LaneSpec
from flyte_nb.worker.answers import answers_of
from flyte_nb.worker.host import Host
from flyte_nb.worker.lane import AsyncLane, SyncLane
from flyte_nb.worker.process import task_state

#: Task functions kept unpickled per process: a session rarely uses more at a time.
MAX_TASKS = 256


@functools.lru_cache(maxsize=MAX_TASKS)
def load_task(blob: bytes) -> Any:
    """The task of a lane; the same object for the same bytes, so that its globals stay warm."""
    return cloudpickle.loads(blob)


def host_of(worker: Any) -> Host:
    """The host of a worker, made on first use."""
    host: Host | None = getattr(worker, "_flyte_nb_host", None)
    if host is None:
        host = worker._flyte_nb_host = Host(worker, run_lane, answers_of)  # noqa: SLF001 - our mark on Dask's worker
    return host


def run_lane(spec: LaneSpec) -> None:
    """Be a lane until it is closed. A plain ``def``: Dask would run a coroutine on the worker's own loop."""
    kind = AsyncLane if spec.is_async else SyncLane
    task = load_task(spec.task)
    task_state.watch(task, spec.task)
    kind(host_of(get_worker()), spec.lane, spec.owner, task).run()


class HostPlugin(WorkerPlugin):
    """Makes a Dask worker a host of lanes."""

    name = "flyte_nb"
    idempotent = True

    def setup(self, worker: Any) -> None:
        """Listen for links."""
        host_of(worker)

    def teardown(self, worker: Any) -> None:
        """Close the links."""
        host_of(worker).close()
