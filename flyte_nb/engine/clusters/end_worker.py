"""End the process of one worker: by its nanny, here or elsewhere. Runs in: engine thread."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import psutil
from distributed.core import Status, rpc

from flyte_nb.engine.clusters.cluster import ClusterHandle

#: Seconds that a nanny elsewhere gives its worker to end by itself, which one that stands still does not.
NANNY_PATIENCE = 0.2
#: Seconds within which it must have answered.
ANSWERS_WITHIN = 5.0


async def end_worker(handle: ClusterHandle, address: str, nanny: str) -> bool:
    """Have a worker's process killed at once; its nanny starts another.

    Args:
        handle: The cluster.
        address: Of the worker.
        nanny: Address of its nanny; "" if it has none.

    Returns:
        Whether somebody could be asked to do it.
    """
    own = _own(handle, address)
    if own is not None:
        with contextlib.suppress(ValueError):  # it has just ended
            await own.process.process.kill()
        return True
    if not nanny:
        return False
    with contextlib.suppress(OSError, TimeoutError):
        async with rpc(nanny, connection_args=handle.client.security.get_connection_args("client")) as asked:
            await asyncio.wait_for(_kill(asked), ANSWERS_WITHIN)
        return True
    # It cannot be reached from here: the scheduler reaches it.
    with contextlib.suppress(OSError, TimeoutError):
        await asyncio.wait_for(
            handle.client.restart_workers([address], timeout=1, raise_for_error=False), ANSWERS_WITHIN
        )
        return True
    return False


def _own(handle: ClusterHandle, address: str) -> Any:
    """The nanny in this process of a worker that lives; None if there is none."""
    nannies = list(getattr(handle.cluster, "workers", {}).values())
    return next((one for one in nannies if one.worker_address == address and one.is_alive()), None)


def is_alive(handle: ClusterHandle, address: str) -> bool:
    """Whether the process of a worker of the embedded cluster lives, whatever its nanny knows yet."""
    own = _own(handle, address)
    if own is None or own.process.status is not Status.running:
        return False
    with contextlib.suppress(psutil.Error):
        return psutil.Process(own.pid).status() != psutil.STATUS_ZOMBIE
    return False


async def _kill(nanny: Any) -> None:
    await nanny.kill(timeout=NANNY_PATIENCE, reason="flyte_nb-silent-worker")
