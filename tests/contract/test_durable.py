"""Time and sleep that a retried task does not start over."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import time

import pytest

import flyte_nb as flyte
from flyte_nb import durable, remote

env = flyte.TaskEnvironment("durable")


@env.task(retries=1)
async def same_times(path: str) -> tuple[bool, bool, bool]:
    from pathlib import Path

    known = Path(path)
    found = [repr(await durable.time.aio()), repr(durable.time()), repr(durable.now())]
    if flyte.ctx().attempt_number == 0:
        known.write_text("\n".join(found))
        raise ValueError("again")
    before = known.read_text().split("\n")
    return before == found, found[0] != found[1], abs(float(found[0]) - time.time()) < 60


def test_times_are_the_same_in_every_attempt(mode, tmp_path):
    """time and now give what they gave first; two calls are two times."""
    assert (True, True, True) == tuple(
        flyte.with_runcontext(mode=mode).run(same_times, str(tmp_path / "times")).outputs()
    )


@env.task(retries=1)
async def sleeps() -> float:
    began = time.monotonic()
    await durable.sleep.aio(0.3)
    slept = time.monotonic() - began
    if flyte.ctx().attempt_number == 0:
        raise ValueError("again")
    return slept


@env.task(retries=1)
def sleeps_sync() -> float:
    began = time.monotonic()
    durable.sleep(0.3)
    slept = time.monotonic() - began
    if flyte.ctx().attempt_number == 0:
        raise ValueError("again")
    return slept


@pytest.mark.parametrize("task", [sleeps, sleeps_sync])
def test_a_sleep_that_is_over_is_not_slept_again(mode, task):
    """The second attempt returns at once; the sleep is one action of the run."""
    run = flyte.with_runcontext(mode=mode).run(task)

    assert run.outputs()[0] < 0.3
    assert [("sleep", "durable.sleep(0.3)", "succeeded")] == [
        (action.kind, action.facts.label, action.phase.value)
        for action in remote.Action.listall(for_run_name=run.name, parent_name="a0")
    ]


@env.task(retries=1)
async def crashes_asleep() -> float:
    if flyte.ctx().attempt_number == 0:

        async def crash() -> None:
            await asyncio.sleep(0.5)
            os._exit(1)

        await asyncio.gather(durable.sleep.aio(0.8), crash())
    began = time.time()
    await durable.sleep.aio(0.8)
    return time.time() - began


@pytest.mark.cluster
def test_a_sleep_counts_from_its_first_call_even_if_the_worker_dies(cluster):
    """What is left is slept in the next attempt, on another worker."""
    assert flyte.with_runcontext(mode="remote").run(crashes_asleep).outputs()[0] < 0.5


def test_outside_a_task_they_are_the_plain_functions():
    """Nothing is recorded."""
    began = time.monotonic()
    durable.sleep(0.01)
    asyncio.run(durable.sleep.aio(0.01))

    assert time.monotonic() - began >= 0.02
    assert abs(durable.time() - time.time()) < 60
    assert isinstance(durable.now(), dt.datetime)
