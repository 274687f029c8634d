"""Cluster objects of other packages, as far as `init` looks at them: where their scheduler is, and with which credentials.

Each stand-in has what its class really has (dask-gateway 2026.3, dask-kubernetes 2026.3, dask-jobqueue 0.9), and a real
scheduler behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator
from multiprocessing.context import SpawnProcess
from typing import Any

import distributed
import pytest
from distributed.core import rpc
from distributed.deploy.cluster import Cluster
from distributed.deploy.spec import SpecCluster

import flyte_nb as flyte
from flyte_nb.core.transport.process_folder import session_folder
from flyte_nb.engine.clusters.cluster import needs_callers_loop, open_cluster
from flyte_nb.engine.clusters.worker_exits import WorkerExits
from flyte_nb.errors import NoClusterError
from flyte_nb.testing import run_cell
from tests.engine.session import started

env = flyte.TaskEnvironment("objects")


@env.task
async def double(x: int) -> int:
    """Anything."""
    return 2 * x


class GatewaySecurity(distributed.Security):
    """dask-gateway's: credentials are in memory, and the one thing that is asked of it are connection arguments."""

    def __init__(self, own: distributed.Security) -> None:
        self._own = own

    def get_connection_args(self, role: str) -> dict[str, Any]:
        """As of the credentials."""
        found: dict[str, Any] = self._own.get_connection_args(role)
        return found


class GatewayCluster:
    """dask-gateway's: no `distributed.deploy.Cluster`, and without a scheduler object."""

    asynchronous = False

    def __init__(self, address: str, security: distributed.Security) -> None:
        self.scheduler_address: str | None = address
        self.security = GatewaySecurity(security)


class KubeCluster(Cluster):
    """dask-kubernetes' (HelmCluster is made alike): an RPC to a service, or to a forwarded port; no credentials."""

    def __init__(self, address: str) -> None:
        self._asynchronous, self._cluster_info, self.scheduler_info = False, {}, {"workers": {}}
        self._name = self.name = "kube"
        self.scheduler_comm = rpc(address)

    def __del__(self, _warn: Any = None) -> None:
        """Its resources are elsewhere."""


class Elsewhere:
    """A scheduler that another process is: of SSHCluster, and of jobqueue's with ``scheduler_options``."""

    def __init__(self, address: str) -> None:
        self.address = address


class SSHCluster(SpecCluster):
    """Dask's own, and JobQueueCluster: specified clusters with a scheduler that they start."""

    def __init__(self, address: str, security: distributed.Security | None) -> None:
        self._asynchronous, self._cluster_info, self.scheduler_info = False, {}, {"workers": {}}
        self._name = self.name = "ssh"
        self.scheduler = Elsewhere(address)
        self.scheduler_comm = rpc(address, connection_args=security.get_connection_args("client") if security else None)
        self.security = security

    def __del__(self, _warn: Any = None) -> None:
        """Its resources are elsewhere."""


@contextlib.asynccontextmanager
async def scheduler(security: distributed.Security | None = None) -> AsyncIterator[str]:
    """One that runs; its address."""
    protocol = "tls" if security else "tcp"
    async with distributed.Scheduler(
        protocol=protocol, host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0", security=security
    ) as made:
        yield str(made.address)


async def attached(target: Any, **options: Any) -> str:
    """Where `init` ends up with a cluster object."""
    assert not needs_callers_loop(target)
    handle = await open_cluster(target, WorkerExits(), n_workers=None, threads_per_worker=1, dashboard=False, **options)
    try:
        found: str = (await handle.client.scheduler.identity())["address"]
        return found
    finally:
        await handle.close()


async def test_address_and_credentials_are_those_of_the_object() -> None:
    """Of each kind; credentials given to `init` come first."""
    security = distributed.Security.temporary()
    async with scheduler(security) as tls, scheduler() as plain:
        assert await attached(GatewayCluster(tls, security)) == tls
        assert await attached(SSHCluster(tls, security)) == tls
        assert await attached(SSHCluster(plain, None)) == plain
        assert await attached(KubeCluster(plain)) == plain
        wrong = copy.copy(security)
        wrong.tls_client_cert = wrong.tls_client_key = None
        assert await attached(GatewayCluster(tls, wrong), security=security) == tls


async def test_a_cluster_that_has_no_scheduler_yet_is_told_from_one_that_cannot_be_reached() -> None:
    """Each in a sentence that says what to do."""
    unstarted = KubeCluster("tcp://127.0.0.1:1")
    unstarted.scheduler_comm = None
    with pytest.raises(NoClusterError, match=r"has no scheduler yet: start it"):
        await attached(unstarted)
    unstarted_gateway = GatewayCluster("", distributed.Security())
    unstarted_gateway.scheduler_address = None
    with pytest.raises(NoClusterError, match=r"has no scheduler yet: start it"):
        await attached(unstarted_gateway)
    with pytest.raises(NoClusterError, match=r"give init\(\) the GatewayCluster object"):
        await attached("gateway://127.0.0.1:1/cluster")


@pytest.mark.cluster
def test_a_cluster_made_while_the_embedded_one_starts_is_the_users_own() -> None:
    """It has the user's settings, processes of its own, and all its workers when the embedded one has gone."""
    flyte.init(n_workers=1)  # starts in the background
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as own:
        pids = {name: nanny.pid for name, nanny in own.workers.items()}
        assert [nanny.preload for nanny in own.workers.values()] == [[], []]
        assert not [nanny for nanny in own.workers.values() if nanny.local_directory.startswith(session_folder())]
        assert all(type(nanny.process.process._process) is SpawnProcess for nanny in own.workers.values())
        with started(own) as session:
            assert run_cell(lambda: asyncio.gather(*(double(i) for i in range(20)))) == [2 * i for i in range(20)]
            assert len(session.engine.network.roster) == 2
            assert {name: nanny.pid for name, nanny in own.workers.items()} == pids
