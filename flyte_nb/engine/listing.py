"""Listing: the workers of a cluster, as the scheduler lists them, and what that means for tasks. Runs in: engine thread."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from flyte_nb.engine.clusters.embedded import PRETENDED
from flyte_nb.engine.links.wire import WorkerInfo


class Listing(NamedTuple):
    """One answer of the scheduler; everything by the address of a worker."""

    workers: dict[str, WorkerInfo]
    #: Paused for memory, or about to be retired.
    resting: set[str]
    #: Addresses of the nannies; "" where there is none.
    nannies: dict[str, str]
    #: Dask resources that workers offer.
    offers: dict[str, dict[str, float]]

    @classmethod
    def of(cls, workers: Mapping[str, Mapping[str, Any]]) -> Listing:
        """From what Dask tells of each worker."""
        return cls(
            {a: WorkerInfo(a, int(w["nthreads"]), PRETENDED in w.get("resources", ())) for a, w in workers.items()},
            {address for address, w in workers.items() if w.get("status", "running") != "running"},
            {address: w.get("nanny") or "" for address, w in workers.items()},
            {address: w.get("resources") or {} for address, w in workers.items()},
        )

    def why_waiting(self, resources: dict[str, float], roster: Collection[str], unfit: Mapping[str, str]) -> str:
        """Why no worker takes a task; "" if one does.

        Args:
            resources: Dask resources that the task needs.
            roster: The workers that take tasks.
            unfit: Why others cannot, by address.
        """
        if not self.workers:
            return "the cluster has no workers"
        if not roster:
            if self.workers.keys() <= self.resting:
                return f"all {len(self.workers)} workers of the cluster are paused"
            return next(iter(unfit.values()), "the workers are being prepared")
        for name, amount in resources.items():
            most = max(self.offers.get(address, {}).get(name, 0) for address in roster)
            if most < amount:
                return f"no worker offers {name}={amount:g} (the most is {most:g})"
        return ""
