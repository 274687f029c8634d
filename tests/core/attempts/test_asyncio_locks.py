"""A module's locks, used from one loop after another."""

from __future__ import annotations

import asyncio

import pytest

from flyte_nb.core.attempts.threads import allow_other_loops


@pytest.fixture(autouse=True)
def allowed() -> None:
    """As in local mode and on workers."""
    allow_other_loops()


async def contended(gate: asyncio.Semaphore) -> list[int]:
    """Two that meet at a gate for one: the second waits, which binds the gate to the loop."""

    async def one(i: int) -> int:
        async with gate:
            await asyncio.sleep(0)
            return i

    return list(await asyncio.gather(one(1), one(2)))


def test_a_semaphore_serves_one_loop_after_another() -> None:
    """Each run of asyncio.run has its own loop."""
    gate = asyncio.Semaphore(1)

    assert [asyncio.run(contended(gate)) for _ in range(3)] == 3 * [[1, 2]]


def test_what_is_waited_for_stays_with_its_loop() -> None:
    """Python's own refusal."""
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def waits() -> None:
        waiting = asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="different event loop"):
            await asyncio.to_thread(lambda: asyncio.run(asyncio.wait_for(queue.get(), 5)))
        queue.put_nowait(1)
        assert await waiting == 1

    asyncio.run(waits())
