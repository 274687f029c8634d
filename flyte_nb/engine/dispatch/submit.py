"""Submit a lane to Dask. Runs in: engine thread; worker loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flyte_nb.engine.links.wire import LaneSpec

#: What Dask executes for a lane: the worker's side of it, until it is closed.
RunLane = Callable[[LaneSpec], None]


def submit_lane(
    client: Any, run_lane: RunLane, spec: LaneSpec, resources: dict[str, float], prefer: str, only: bool = False
) -> Any:
    """Submit the Dask task of a lane.

    Args:
        client: An asynchronous `distributed.Client`.
        run_lane: The task function.
        spec: The lane.
        resources: Dask resources it holds.
        prefer: Address of the worker it had best run on; "" leaves it to Dask.
        only: Whether it may run nowhere else.

    Returns:
        Its `distributed.Future`.
    """
    return client.submit(
        run_lane,
        spec,
        key=f"flyte-{spec.task_name}-{spec.lane.rpartition(':')[2]}",
        pure=False,
        retries=0,
        resources=resources or None,
        workers=[prefer] if prefer else None,
        allow_other_workers=bool(prefer) and not only,
    )
