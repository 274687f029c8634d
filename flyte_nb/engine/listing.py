"""Listing: the workers of a cluster, as the scheduler lists them, and what that means for tasks. Runs in: engine thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from flyte_nb.core.history.worker_names import Numbers, learn
from flyte_nb.engine.clusters.devices import PRETENDED
from flyte_nb.engine.links.wire import WorkerInfo


class Listing(NamedTuple):
    """One answer of the scheduler; everything by the address of a worker."""

    workers: dict[str, WorkerInfo]
    #: Paused for memory, or about to be retired.
    resting: set[str]
    #: Those of them that are paused, and may come back.
    paused: set[str]
    #: Addresses of the nannies; "" where there is none.
    nannies: dict[str, str]
    #: The scheduler's id: another one has started anew.
    scheduler: str = ""

    @classmethod
    def of(cls, told: Mapping[str, Any], numbers: Numbers) -> Listing:
        """From what Dask tells of the scheduler and each worker; `numbers` name them."""
        workers = told["workers"]
        return cls(
            {address: _info(address, w, numbers) for address, w in workers.items()},
            {address for address, w in workers.items() if w.get("status", "running") != "running"},
            {address for address, w in workers.items() if w.get("status") == "paused"},
            {address: w.get("nanny") or "" for address, w in workers.items()},
            told.get("id", ""),
        )


def _info(address: str, worker: Mapping[str, Any], numbers: Numbers) -> WorkerInfo:
    resources: dict[str, float] = worker.get("resources") or {}
    name = numbers.name(worker.get("name", address))
    learn(address, name)
    return WorkerInfo(address, int(worker["nthreads"]), PRETENDED in resources, tuple(resources.items()), name)
