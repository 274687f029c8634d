"""Warm environments: how many processes, what stays in them, how many actions at once; parents that wait hold no replica."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

import flyte_nb as flyte
from tests.contract.journal import jot, lines, peak

one = flyte.TaskEnvironment("one-replica", reusable=flyte.ReusePolicy(replicas=1, concurrency=3, idle_ttl=60))
alone = flyte.TaskEnvironment("one-at-a-time", reusable=flyte.ReusePolicy(replicas=1))
two = flyte.TaskEnvironment("two-replicas", reusable=flyte.ReusePolicy(replicas=(1, 2), concurrency=1))
many = flyte.TaskEnvironment("many-replicas", reusable=flyte.ReusePolicy(replicas=20))
nine = flyte.TaskEnvironment("nine-replicas", reusable=flyte.ReusePolicy(replicas=(0, 3), concurrency=3))
env = flyte.TaskEnvironment("reuse", depends_on=[one, alone, two])

loaded: list[float] = []


@one.task
async def infer(path: str, x: int) -> list:
    if not loaded:
        loaded.append(time.time())
        jot(path, "load")
    jot(path, f"in {x}")
    await asyncio.sleep(0.02)
    jot(path, f"out {x}")
    return [os.getpid(), x]


@env.task
async def serves(path: str) -> list:
    first = await infer(path, 0)
    return [first, *await asyncio.gather(*(infer(path, x) for x in range(1, 13)))]


@pytest.mark.cluster
def test_globals_stay_in_the_one_process(cluster, tmp_path):
    """What one action loaded the others find; no more run at once than the policy says."""
    path = str(tmp_path / "j")
    got = flyte.run(serves, path).outputs()[0]

    assert [x for _, x in got] == list(range(13))
    assert len({pid for pid, _ in got}) == 1
    assert lines(path).count("load") == 1
    assert 1 < peak(path) <= 3


@alone.task
def one_at_a_time(path: str, x: int) -> int:
    jot(path, f"in {x}")
    time.sleep(0.01)
    jot(path, f"out {x}")
    return os.getpid()


@alone.task
def recursion(n: int) -> int:
    return n if n < 2 else recursion(n - 1) + recursion(n - 2)


@one.task
async def async_recursion(n: int) -> int:
    return n if n < 2 else sum(await asyncio.gather(async_recursion(n - 1), async_recursion(n - 2)))


@two.task
async def crossing_recursion(n: int) -> int:
    return n if n < 2 else sum(await asyncio.gather(crossing_recursion(n - 1), crossing_recursion(n - 2)))


@env.task
async def maps(path: str) -> list[int]:
    return [r async for r in flyte.map.aio(one_at_a_time, [path] * 8, range(8), return_exceptions=False)]


@pytest.mark.cluster
def test_one_replica_of_concurrency_one_runs_one_at_a_time(cluster, tmp_path):
    """In one process."""
    path = str(tmp_path / "j")

    assert len(set(flyte.run(maps, path).outputs()[0])) == 1
    assert peak(path) == 1


def test_parents_that_wait_hold_no_replica(run):
    """An environment may call itself, to any depth."""
    assert run(recursion, 6) == 8
    assert run(async_recursion, 7) == 13
    assert run(crossing_recursion, 7) == 13


@two.task
async def where(path: str, x: int) -> int:
    jot(path, f"in {x}")
    await asyncio.sleep(0.02)
    jot(path, f"out {x}")
    return os.getpid()


@env.task
async def spreads(path: str) -> list[int]:
    return await asyncio.gather(*(where(path, x) for x in range(8)))


@pytest.mark.cluster
def test_more_replicas_are_more_processes(cluster, tmp_path):
    """Each takes one action at a time."""
    path = str(tmp_path / "j")

    assert len(set(flyte.run(spreads, path).outputs()[0])) == 2
    assert peak(path) == 2


@many.task
async def waits(path: str, x: int) -> int:
    jot(path, f"in {x}")
    if not loaded:
        loaded.append(time.time())
        jot(path, "load")
    await asyncio.sleep(0.3)
    jot(path, f"out {x}")
    return os.getpid()


@nine.task
async def waits_too(path: str, x: int) -> int:
    return await waits.func(path, x)


@env.task
async def many_wait(path: str, few: bool) -> list[int]:
    task = waits_too if few else waits
    await asyncio.gather(*(task(path, x) for x in range(4)))
    return await asyncio.gather(*(task(path, x) for x in range(4, 60)))


@pytest.mark.cluster
@pytest.mark.parametrize(("few", "most"), [(False, 20), (True, 9)])
def test_replicas_beyond_the_processes_share_them(cluster, tmp_path, few, most):
    """As many actions wait side by side as there are replicas, times their concurrency; globals are those of the process."""
    path = str(tmp_path / "j")

    assert len(set(flyte.run(many_wait, path, few).outputs()[0])) == 2
    assert peak(path) == most
    assert lines(path).count("load") <= 2


def test_reuse_can_be_given_up(run):
    """With it what is fixed in a replica may be overridden."""
    with pytest.raises(ValueError, match="reusable"):
        one_at_a_time.override(resources=flyte.Resources(cpu=1))

    assert run(recursion.override(reusable="off", resources=flyte.Resources(cpu=1)), 4) == 3
