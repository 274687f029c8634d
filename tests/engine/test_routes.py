"""Ways to workers: what keeps a link from going through the scheduler is an error that names the remedy."""

from __future__ import annotations

from typing import Any

import distributed
import pytest

from flyte_nb.engine.links.routes import Routes

pytestmark = pytest.mark.cluster


def refuses(*_args: Any, **_options: Any) -> None:
    """As a scheduler with ``distributed.scheduler.pickle: false``, which the latest Dask does not start."""
    raise ValueError("Cannot run function as the scheduler has been explicitly disallowed from deserializing")


async def test_a_scheduler_that_executes_nothing_relays_nothing() -> None:
    """It counts as a worker that cannot be reached, as where a connection is refused: the link is tried again later."""
    scheduler = distributed.Scheduler(host="127.0.0.1", port=0, dashboard=False)
    async with scheduler, distributed.Client(scheduler.address, asynchronous=True, set_as_default=False) as client:
        scheduler.handlers["run_function"] = refuses
        with pytest.raises(
            OSError, match=r"relays no links.*ValueError: Cannot run.*scheduler\.pickle.*links=\"direct\""
        ):
            await Routes(client, "relay").connect("tcp://127.0.0.1:1")
