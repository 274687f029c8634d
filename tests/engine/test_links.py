"""Links between workers, and from several kernels to one worker: who is gone, and who only seems to be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from distributed.comm.core import connect

from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.engine.links.link import open_link
from flyte_nb.kernel.session import Session
from tests.engine.session import started

pytestmark = pytest.mark.cluster

#: Seconds after which something counts as never happening.
NEVER = 30.0


@pytest.fixture
def session() -> Iterator[Session]:
    """Two workers that have not met yet."""
    with started(n_workers=2) as session:
        yield session


async def on_worker(session: Session, address: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function on a worker, past the engine. On the engine's loop."""
    handle = session.engine.network.handle
    assert handle is not None
    return (await handle.client.run(function, *args, workers=[address]))[address]


async def ask_another(other: str, late: bool, dask_worker: Any) -> tuple[bool, bool]:
    """Ask another worker; `late`: while its own link is being accepted here. Returns (answered, somebody seemed lost)."""
    import asyncio

    from flyte_nb.engine.links import peers

    module: Any = peers
    [host] = dask_worker._flyte_nb_hosts.values()
    links = host.network.links
    connect, answer = module.open_link, asyncio.get_running_loop().create_future()

    async def connect_late(*args: Any) -> Any:
        while other not in links:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.001)
        return await connect(*args)

    module.open_link = connect_late if late else connect
    try:
        host.network.questions.ask(other, "stacks", ("no-run", ""), answer.set_result)
        if not late:
            while other not in links:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        answered = await asyncio.wait_for(answer, 20)
        await asyncio.sleep(0.05)  # a link that is closed by mistake is closed by now, or never
    finally:
        module.open_link = connect
    return answered is not None, bool(host.executor.losses.last_at)


def test_workers_that_connect_to_each_other_at_once_lose_nobody(session: Session) -> None:
    """Two links between two workers are as good as one: none takes the other for dead, and both are answered."""

    async def both() -> list[Any]:
        first, second = session.engine.network.roster
        return [
            *await asyncio.gather(
                on_worker(session, first, ask_another, second, True),
                on_worker(session, second, ask_another, first, False),
            )
        ]

    assert session.engine.call(both, timeout=NEVER) == [(True, False), (True, False)]


def test_a_kernel_that_ends_is_no_lost_worker(session: Session) -> None:
    """Of several kernels on a cluster one ends: its runs are forgotten, nothing is kept for it, and others do not notice."""

    async def other_kernel() -> tuple[bool, bool, bool]:
        network = session.engine.network
        assert network.handle is not None
        address = next(iter(network.roster))
        args = network.handle.client.security.get_connection_args("client")
        comm = await connect(address, **args)
        link = await open_link(
            address, "kernel-other", comm, lambda _link, _message: None, lambda _link: None, network.kernel
        )
        link.send(("run", RunInfo(name="theirs", home="kernel-other")))

        def knows(dask_worker: Any) -> bool:
            return any("theirs" in host.runs for host in dask_worker._flyte_nb_hosts.values())

        def state(dask_worker: Any) -> tuple[bool, bool]:
            [host] = dask_worker._flyte_nb_hosts.values()
            host.send("kernel-other", ("closed", "some-lane"))
            return bool(host.executor.losses.last_at), bool(host.network._unsent)

        async def until(known: bool) -> None:
            while await on_worker(session, address, knows) is not known:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.02)

        await asyncio.wait_for(until(True), NEVER)
        link.close()
        await asyncio.wait_for(until(False), NEVER)
        return (address in network.links, *await on_worker(session, address, state))

    assert session.engine.call(other_kernel, timeout=2 * NEVER) == (True, False, False)
