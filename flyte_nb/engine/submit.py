"""Submit a lane to Dask. Runs in: engine thread; worker loop."""

from __future__ import annotations

from typing import Any

from flyte_nb.engine.wire import LaneSpec


def submit_lane(client: Any, spec: LaneSpec, resources: dict[str, float], prefer: str, only: bool = False) -> Any:
    """Submit the Dask task of a lane.

    Args:
        client: An asynchronous `distributed.Client`.
        spec: The lane.
        resources: Dask resources it holds.
        prefer: Address of the worker it had best run on; "" leaves it to Dask.
        only: Whether it may run nowhere else.

    Returns:
        Its `distributed.Future`.
    """
    from flyte_nb.worker.entry import run_lane

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
