"""``flyte.syncify``: what a function gives can be iterated over, and what it sets stays in it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from typing import Any

import pytest

from flyte_nb.syncify import syncify

number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)


class Pages:
    """An async iterable of one's own."""

    def __init__(self, n: int) -> None:
        self.n = n

    async def __aiter__(self) -> AsyncIterator[int]:
        for i in range(self.n):
            await asyncio.sleep(0)
            yield i


async def stream(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


@syncify
async def pages(n: int) -> Pages:
    return Pages(n)


@syncify
async def streamed(n: int) -> AsyncIterator[int]:
    return stream(n)


@syncify
async def plain(n: int) -> list[int]:
    return list(range(n))


@syncify
async def generated(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


class Service:
    @syncify
    async def pages(self, n: int) -> Pages:
        return Pages(n)


@pytest.mark.parametrize(
    "call", [pages, streamed, plain, generated, Service().pages], ids=["pages", "stream", "list", "generator", "method"]
)
@pytest.mark.parametrize("n", [0, 3])
def test_sync_code_goes_through_what_it_gives(call: Any, n: int) -> None:
    assert list(range(n)) == list(call(n))


def test_async_code_goes_through_it_as_well() -> None:
    async def main() -> list[list[int]]:
        return [
            [i async for i in await pages.aio(3)],
            [i async for i in await streamed.aio(3)],
            [i async for i in generated.aio(3)],
            [i async for i in pages(3)],
        ]

    assert [[0, 1, 2]] * 4 == asyncio.run(main())


def test_attributes_of_what_it_gives_are_there() -> None:
    assert 3 == pages(3).n


@syncify
async def sets(value: int) -> int:
    number.set(value)
    return number.get()


def test_a_context_variable_that_it_sets_stays_in_it() -> None:
    """Awaited or not; it sees those of its caller."""

    @syncify
    async def sees() -> int:
        return number.get()

    async def main() -> tuple[int, int, int]:
        number.set(7)
        return await sets.aio(5), number.get(), await sees.aio()

    assert (5, 7, 7) == asyncio.run(main())
    assert (5, 0) == (sets(5), number.get())


def test_a_cancelled_call_is_cancelled() -> None:
    ended: list[str] = []

    @syncify
    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow.aio(), 0.05)

    asyncio.run(main())
    assert ended == ["cancelled"]
