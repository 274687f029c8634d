"""Start the embedded cluster, or attach to an existing one. Runs in: engine thread.

Embedded: one single-threaded process per core, TLS with certificates made for this session, everything bound to loopback,
no dashboard unless asked for. Workers ignore SIGINT (the stop button reaches the whole process group) and end with us.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import distributed
from distributed.versions import VersionMismatchWarning
from tornado.ioloop import IOLoop

from flyte_nb.core.settings import notices
from flyte_nb.engine.clusters.dask_logs import quiet_loggers
from flyte_nb.engine.clusters.embedded import open_embedded
from flyte_nb.engine.clusters.forks import SOURCE
from flyte_nb.engine.clusters.worker_exits import WorkerExits
from flyte_nb.errors import NoClusterError

#: Python's own: programs freeze time (`mock.patch("time.time")`), and callbacks that are due in fifty years never come.
_now = time.time

#: Seconds to reach a scheduler; then `NoClusterError`.
CONNECT_TIMEOUT = 8.0

#: What is said of an address without what makes it one.
_GATEWAY = (
    "{} is the address of a dask-gateway, which asks for credentials: give init() the GatewayCluster object instead "
    "(`Gateway().connect(name)`), it has them."
)


class ClusterHandle(NamedTuple):
    """A Dask client, and the cluster under it if it is ours to close."""

    client: Any
    cluster: Any
    #: "embedded cluster" or the address.
    description: str

    @property
    def embedded(self) -> bool:
        """Whether we started it."""
        return self.cluster is not None

    async def close(self) -> None:
        """Close what is ours."""
        await self.client.close()
        if self.cluster is not None:
            await self.cluster.close()


async def open_cluster(
    target: Any, exits: WorkerExits, *, n_workers: int | None, threads_per_worker: int, dashboard: bool,
    memory_limit: str | float | None = "auto", security: Any = None, preload: str = "", kernel: str = "",
) -> ClusterHandle:  # fmt: skip
    """Start or attach.

    Args:
        target: None starts the embedded cluster; else an address, scheduler file, `distributed.Client` or Dask cluster.
        exits: Collects how workers of the embedded cluster end.
        n_workers: Processes of the embedded cluster; None = one per core.
        threads_per_worker: Compute slots per process.
        memory_limit: What a process of the embedded cluster may use ("2 GiB", bytes, a fraction of the machine's); its
            nanny ends one that uses 95 % of it. None = no limit.
        security: TLS credentials of an existing cluster, a `distributed.Security`; None = the cluster object's, or those of
            Dask's configuration.
        dashboard: Whether Dask's dashboard is served, on 127.0.0.1 and a free port.
        preload: Module that worker processes of the embedded cluster import first, and which makes them hosts.
        kernel: This process's name as a peer.

    Raises:
        NoClusterError: The scheduler cannot be reached within `CONNECT_TIMEOUT` seconds.
    """
    quiet_loggers()
    IOLoop.current().time = _now  # type: ignore[method-assign]
    if target is None:
        cluster, client = await open_embedded(
            exits, n_workers, threads_per_worker, dashboard, memory_limit, preload, kernel
        )
        return ClusterHandle(client, cluster, "embedded cluster")
    SOURCE.end()
    if isinstance(target, distributed.Client):
        if target.scheduler is None:
            raise NoClusterError(
                f"{target!r} is closed, or not started yet (`await` it): give init() one that is connected."
            )
        address, security = str(target.scheduler.address), security or target.security
    elif isinstance(target, (str, os.PathLike)) and (Path(target).is_file() or _is_path(str(target))):  # noqa: ASYNC240 - once, before anything runs
        if not Path(target).is_file():  # noqa: ASYNC240
            raise NoClusterError(
                f"there is no scheduler file {target}. `dask scheduler --scheduler-file {target}` writes one, on a disk that "
                "this process sees, too; an address looks like 'tcp://host:8786'."
            )
        return await _attach(None, security, str(target), f"scheduler file {target}")
    elif isinstance(target, str):
        address = target
    elif hasattr(target, "scheduler_address"):
        address, security = str(target.scheduler_address), security or getattr(target, "security", None)
        if "://" not in address:
            raise NoClusterError(
                f"{target!r} has no scheduler yet: start it (`await` it, if it is asynchronous) before init()."
            )
    else:
        raise TypeError(
            f"init() cannot use {target!r} as a cluster. Give it an address ('tcp://host:8786'), a scheduler file, "
            "a distributed.Client or a Dask cluster object; or nothing, for an embedded cluster."
        )
    return await _attach(address, security, None, address)


def _is_path(text: str) -> bool:
    """Whether a text can only mean a file: an address has no folders, nor such an ending."""
    return "://" not in text and (os.sep in text or text.endswith(".json"))


def needs_callers_loop(target: Any) -> bool:
    """Whether a cluster runs on the loop of the calling thread, so that it stands still while that waits."""
    cluster = getattr(target, "cluster", None) if isinstance(target, distributed.Client) else target
    return bool(getattr(cluster, "asynchronous", False)) and isinstance(
        getattr(cluster, "scheduler", None), distributed.Scheduler
    )


async def _connected(address: str | None, **options: Any) -> Any:
    client = distributed.Client(address, asynchronous=True, set_as_default=False, **options)
    try:
        return await asyncio.wait_for(client, CONNECT_TIMEOUT)
    except BaseException:
        with contextlib.suppress(Exception):  # else Python complains of it, in the middle of something else
            await client.close(timeout=1)
        raise


async def _attach(address: str | None, security: Any, scheduler_file: str | None, what: str) -> ClusterHandle:
    try:
        with warnings.catch_warnings():  # `flyte_nb.engine.clusters.welcome` compares versions
            warnings.simplefilter("ignore", VersionMismatchWarning)
            client = await _connected(
                address, security=security, scheduler_file=scheduler_file, timeout=CONNECT_TIMEOUT - 1
            )
    except TypeError as exc:  # Dask's answer to tls:// without credentials
        if what.startswith("gateway://"):
            raise NoClusterError(_GATEWAY.format(what)) from exc
        raise NoClusterError(
            f"the Dask scheduler at {what} wants TLS credentials: give them as flyte_nb.init({what!r}, "
            "security=distributed.Security(...)), or in Dask's configuration (distributed.comm.tls)."
        ) from exc
    except (OSError, TimeoutError, ValueError) as exc:
        if what.startswith("gateway://") and isinstance(exc, ValueError):  # a scheme that dask-gateway registers
            raise NoClusterError(_GATEWAY.format(what)) from exc
        raise NoClusterError(
            f"the Dask scheduler at {what} cannot be reached: {str(exc) or type(exc).__name__}. Check the address and that "
            "`dask scheduler` runs there, or call flyte_nb.init() without an address for an embedded cluster."
        ) from exc
    notices.gpus_are_uncounted(False)
    return ClusterHandle(client, None, what)
