"""The four programs of the asynchronous model, as a user's file has them, and the main task that calls all four."""

from __future__ import annotations

import asyncio

import pytest

import flyte_nb as flyte
from flyte_nb.testing import run_cell
from tests.contract.journal import meet

env = flyte.TaskEnvironment("programs")


@env.task
async def process_chunk(i: int, chunk: str, meeting: str = "") -> str:
    if meeting:
        await meet(meeting, chunk, 3)
    return f"Processed chunk {i}: {chunk}"


@env.task
async def parallel_pipeline(data: list[str], meeting: str = "") -> list[str]:
    return await asyncio.gather(*(process_chunk(i, chunk, meeting) for i, chunk in enumerate(data)))


@env.task
def polynomial(x: int) -> int:
    return x * x + 2 * x + 1


@env.task
async def gather_sync(numbers: list[int]) -> list[int]:
    return await asyncio.gather(*(polynomial.aio(x) for x in numbers))


@env.task
def process_item(i: int) -> int:
    return i * 2


@env.task
def sync_map_example(n: int) -> list[str]:
    return [f"Task result: {result}" for result in flyte.map(process_item, range(n))]


@env.task
async def async_map_example(n: int) -> list[str]:
    results = []
    async for result in flyte.map.aio(process_item, range(n), return_exceptions=True):
        if isinstance(result, Exception):
            results.append(f"Task failed: {result}")
        else:
            results.append(f"Task result: {result}")
    return results


@env.task
async def main() -> list[list]:
    return [
        await parallel_pipeline(["data1", "data2", "data3"]),
        await gather_sync(list(range(1, 6))),
        sync_map_example(n=5),
        await async_map_example(n=5),
    ]


CHUNKS = [f"Processed chunk {i}: data{i + 1}" for i in range(3)]
ITEMS = [f"Task result: {2 * i}" for i in range(5)]


def test_t16_a_parallel_pipeline_overlaps_and_keeps_its_order(mode, tmp_path):
    """Three chunks that only end together, with results in the order of the data."""
    run = flyte.with_runcontext(mode=mode).run(parallel_pipeline, ["data1", "data2", "data3"], str(tmp_path / "m"))

    assert run.outputs()[0] == CHUNKS
    assert [a.task for a in run.actions] == ["programs.parallel_pipeline", *3 * ["programs.process_chunk"]]


def test_t19_sync_tasks_gather_through_aio(run):
    """``.aio`` makes an awaitable of a sync task."""
    assert run(gather_sync, [1, 2, 3, 4, 5]) == [4, 9, 16, 25, 36]


def test_t21_map_is_a_drop_in_for_a_loop(run):
    """A sync parent loops over flyte.map."""
    assert run(sync_map_example, 5) == ITEMS


def test_t22_map_aio_is_the_same_in_async_code(run):
    """An async parent loops over flyte.map.aio."""
    assert run(async_map_example, n=5) == ITEMS


@pytest.mark.filterwarnings("ignore:the sync task")
def test_one_main_task_calls_all_four(run):
    """The sync one is called plainly from async code."""
    assert run(main) == [CHUNKS, [4, 9, 16, 25, 36], ITEMS, ITEMS]


@pytest.mark.filterwarnings("ignore:the sync task")
def test_t33_a_cell_calls_all_four(mode):
    """What holds in a main task holds in a cell (tests/kernel has the same in real kernels)."""

    async def cell():
        return [
            await parallel_pipeline(["data1", "data2", "data3"]),
            await gather_sync(list(range(1, 6))),
            sync_map_example(n=5),
            await async_map_example(n=5),
            await main(),
        ]

    *each, together = run_cell(cell, mode=mode)

    assert each == [CHUNKS, [4, 9, 16, 25, 36], ITEMS, ITEMS] == together


@pytest.mark.filterwarnings("error")
def test_t30_without_a_run_the_programs_are_plain_python():
    """Unit tests call tasks as functions: everything happens in this process, with the same values."""
    assert asyncio.run(main()) == [CHUNKS, [4, 9, 16, 25, 36], ITEMS, ITEMS]
    assert polynomial(3) == 16
    assert asyncio.run(polynomial.aio(3)) == 16
    assert list(flyte.map(process_item, range(3))) == [0, 2, 4]
