"""Batches made of what many coroutines submit."""

from __future__ import annotations

import asyncio

import pytest

from flyte_nb.extras import DynamicBatcher, Prompt, TokenBatcher


def recorder():
    """A function that upper-cases, and the batches it was given."""
    batches: list[list[str]] = []

    async def process(batch: list[str]) -> list[str]:
        batches.append(batch)
        await asyncio.sleep(0)
        return [text.upper() for text in batch]

    return process, batches


async def test_results_come_back_to_who_submitted_them():
    """Many producers, one function; each future has its own record's result."""
    process, batches = recorder()
    async with DynamicBatcher(process, batch_timeout_s=10, max_batch_size=5) as batcher:
        futures = await asyncio.gather(*(batcher.submit(f"r{i}") for i in range(10)))
        assert [f"R{i}" for i in range(10)] == await asyncio.gather(*futures)

    assert [5, 5] == [len(batch) for batch in batches]
    assert (10, 10, 2, 5.0) == (
        batcher.stats.total_submitted,
        batcher.stats.total_completed,
        batcher.stats.total_batches,
        batcher.stats.avg_batch_size,
    )


async def test_a_batch_is_full_at_its_cost():
    """Costs given, estimated, or the record's own (tokens)."""
    process, batches = recorder()
    async with DynamicBatcher(process, cost_estimator=len, target_batch_cost=6, batch_timeout_s=0.01) as batcher:
        await asyncio.gather(*await batcher.submit_batch(["aaa", "bbb", "ccc", "d"]))
    assert [["aaa", "bbb"], ["ccc", "d"]] == batches

    async def answer(batch: list[Prompt]) -> list[int]:
        return [prompt.estimate_tokens() for prompt in batch]

    async with TokenBatcher(answer, target_batch_tokens=3, batch_timeout_s=0.01) as tokens:
        future = await tokens.submit(Prompt("12345678"))
        assert 3 == await future
    assert 3 == tokens.stats.total_batch_cost


@pytest.mark.parametrize("ahead", [1, 2, 8])
async def test_while_a_batch_is_processed_the_next_one_gathers_to_its_full_size(ahead: int):
    """So there is nothing to be fetched ahead: ``prefetch_batches`` is taken, and changes nothing."""
    batches: list[list[int]] = []
    under_way, go_on = asyncio.Event(), asyncio.Event()

    async def process(batch: list[int]) -> list[int]:
        batches.append(batch)
        under_way.set()
        await go_on.wait()
        return batch

    async with DynamicBatcher(process, batch_timeout_s=0.01, max_batch_size=4, prefetch_batches=ahead) as batcher:
        first = await batcher.submit(0)
        await under_way.wait()
        later = [await batcher.submit(i) for i in range(1, 10)]
        go_on.set()
        assert list(range(10)) == await asyncio.gather(first, *later)
    assert [1, 4, 4, 1] == [len(batch) for batch in batches]


async def test_a_failure_reaches_every_record_of_its_batch():
    """And the batcher goes on."""

    async def fail_once(batch: list[int]) -> list[int]:
        if 0 in batch:
            raise ValueError("zero")
        return batch

    async with DynamicBatcher(fail_once, batch_timeout_s=0.01) as batcher:
        bad = await batcher.submit(0)
        with pytest.raises(ValueError, match="zero"):
            await bad
        good = await batcher.submit(1)
        assert 1 == await good


async def test_a_wrong_number_of_results_is_an_error():
    """One result for each record."""

    async def forgets(batch: list[int]) -> list[int]:
        return batch[1:]

    async with DynamicBatcher(forgets, batch_timeout_s=0.01) as batcher:
        future = await batcher.submit(1)
        with pytest.raises(ValueError, match="0 results for 1 records"):
            await future


async def test_stopping_runs_what_waits():
    """What was submitted before is done; later submits are refused."""
    process, batches = recorder()
    batcher = DynamicBatcher(process, batch_timeout_s=60)
    await batcher.start()
    future = await batcher.submit("last")
    await batcher.stop()

    assert "LAST" == future.result()
    assert [["last"]] == batches
    with pytest.raises(RuntimeError, match="not running"):
        await batcher.submit("later")
