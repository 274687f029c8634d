"""A cluster without work rests: its threads wake up a few times a second, however many views and lanes there were."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import flyte_nb as flyte
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell
from tests.engine.session import started, worker_processes

pytestmark = pytest.mark.cluster

env = flyte.TaskEnvironment("idle")
#: Wake-ups a second: of a worker's main thread, and of the kernel's engine thread. With a loop of 10 or 30 a second there are more.
WORKER, ENGINE = 10, 60


@env.task
def answer() -> int:
    """Anything."""
    return 42


def wake_ups(process: int, thread: int) -> int:
    """How often a thread has waited so far."""
    status = Path(f"/proc/{process}/task/{thread}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_nothing_wakes_up_often_where_nothing_is_to_be_done() -> None:
    """Once the lanes have closed; in a worker that replaces another one, too."""
    with started(n_workers=1) as session:
        [worker_process] = worker_processes(session)
        worker_process.kill()
        worker_process.wait(30)
        assert run_cell(answer.aio) == 42
        until = time.monotonic() + 60
        while session.engine.call(_lanes, timeout=10) and time.monotonic() < until:
            time.sleep(0.1)
        handle = session.engine.network.handle
        assert handle is not None
        [nanny] = handle.cluster.workers.values()
        engine = session.engine.thread.thread.native_id
        assert engine is not None
        threads = ((nanny.pid, nanny.pid), (os.getpid(), engine))
        time.sleep(1)
        before, began = [wake_ups(*each) for each in threads], time.monotonic()
        time.sleep(4)
        took = time.monotonic() - began
        worker, kernel = ((wake_ups(*each) - was) / took for each, was in zip(threads, before, strict=True))

    assert worker < WORKER
    assert kernel < ENGINE


async def _lanes() -> int:
    assert Session.current is not None
    return len(Session.current.engine.executor.pool.lanes)
