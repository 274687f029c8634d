"""``flyte.syncify``: what a function gives can be iterated over, and what it sets stays in it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from typing import Any, Self

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


class Feed:
    """Is fed by a task that its maker has left running; like a list in all else."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[int | None] = asyncio.Queue(1)
        self.fed: asyncio.Task[None] | None = None
        self.closed = False

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> int:
        item = await self.queue.get()
        if item is None:
            raise StopAsyncIteration
        return item

    def __len__(self) -> int:
        return 3

    def __getitem__(self, at: int) -> int:
        return 10 * at

    def __contains__(self, item: object) -> bool:
        return item == 7

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


@syncify
async def feed(n: int) -> Feed:
    made = Feed()

    async def put() -> None:
        for i in range(n):
            await asyncio.sleep(0)
            await made.queue.put(i)
        await made.queue.put(None)

    made.fed = asyncio.create_task(put())
    return made


@syncify
async def breaks(n: int) -> AsyncIterator[int]:
    async def items() -> AsyncIterator[int]:
        for i in range(n):
            yield i
        raise KeyError("broken")

    return items()


@syncify
async def endless(waits: bool) -> AsyncIterator[int]:
    async def items() -> AsyncIterator[int]:
        i = 0
        while True:
            if waits and i == 2:
                await asyncio.Event().wait()
            yield i
            i += 1

    return items()


@syncify
async def within(n: int) -> AsyncIterator[int]:
    return stream(len(list(pages(n))))


def test_what_it_gives_is_as_it_is_in_all_else() -> None:
    made: Any = pages(3)
    assert (3, True, [0, 1, 2], [0, 1, 2]) == (made.n, isinstance(made, Pages), list(made), list(made))
    fed: Any = feed(3)
    assert (3, 20, True, False, True) == (len(fed), fed[2], 7 in fed, 8 in fed, isinstance(fed, Feed))
    with fed as entered:
        assert [0, 1, 2] == list(entered)
    assert fed.closed


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (lambda: list(feed(4)), [0, 1, 2, 3]),
        (lambda: list(feed(0)), []),
        (lambda: [list(each) for each in (feed(2), feed(3))], [[0, 1], [0, 1, 2]]),
        (lambda: list(zip(feed(3), streamed(2), strict=False)), [(0, 0), (1, 1)]),
        (lambda: sum(streamed(4)), 6),
        (lambda: next(iter(endless(False))), 0),
        (lambda: [i for _, i in zip("ab", endless(True), strict=False)], [0, 1]),
        (lambda: list(within(3)), [0, 1, 2]),
        (lambda: dict(enumerate(generated(2))), {0: 0, 1: 1}),
        (
            lambda: (items := feed(3)) and [next(items), next(items), next(items, None), next(items, None)],
            [0, 1, 2, None],
        ),
        (lambda: asyncio.run(_in_a_loop()), [0, 1, 2]),
        (lambda: [*pages(1), *streamed(2)], [0, 0, 1]),
    ],
    ids=range(12),
)
def test_sync_code_goes_through_it_in_any_way(call: Any, wanted: Any) -> None:
    """What is left running for it goes on; what is left early ends, also while it waits."""
    assert wanted == call()


async def _in_a_loop() -> list[int]:
    return list(feed(3))


def test_what_breaks_on_the_way_is_raised_there() -> None:
    items = iter(breaks(2))
    assert [0, 1] == [next(items), next(items)]
    with pytest.raises(KeyError, match="broken"):
        next(items)


@syncify
async def sets(value: int) -> int:
    number.set(value)
    return number.get()


@syncify
async def sets_and_fails(value: int) -> None:
    number.set(value)
    raise KeyError(value)


@syncify
async def sets_for_each(value: int) -> AsyncIterator[int]:
    number.set(value)
    yield number.get()


class Sets:
    @syncify
    async def plain(self, value: int) -> int:
        return await sets.aio(value) + number.get()

    @syncify
    @classmethod
    async def of_class(cls, value: int) -> int:
        number.set(value)
        return number.get()


async def _failing() -> str:
    with pytest.raises(KeyError):
        await sets_and_fails.aio(5)
    return "failed"


async def _with_token() -> int:
    token = number.set(8)
    await sets.aio(5)
    number.reset(token)
    return number.get()


@pytest.mark.parametrize(
    ("call", "gives"),
    [
        (lambda: sets.aio(5), 5),
        (lambda: asyncio.gather(sets.aio(5), sets.aio(6)), [5, 6]),
        (lambda: asyncio.create_task(sets.aio(5)), 5),
        (lambda: asyncio.wait_for(sets.aio(5), 60), 5),
        (lambda: Sets().plain.aio(5), 12),
        (lambda: Sets.of_class.aio(5), 5),
        (_failing, "failed"),
        (_with_token, 7),
        (lambda: asyncio.to_thread(sets, 5), 5),
        (lambda: anext(sets_for_each.aio(5)), 5),
        (lambda: _value(sets(5)), 5),
        (lambda: _value(list(sets_for_each(5))), [5]),
    ],
    ids=range(12),
)  # fmt: skip
def test_a_context_variable_that_it_sets_stays_in_it(call: Any, gives: Any) -> None:
    """Awaited or not; it sees those of its caller."""

    async def main() -> tuple[Any, int]:
        number.set(7)
        return await call(), number.get()

    assert (gives, 7) == asyncio.run(main())
    assert 0 == number.get()


async def _value(value: Any) -> Any:
    return value


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
