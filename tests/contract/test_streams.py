"""Tasks that yield: order, back-pressure, ends of all kinds, retries, records; in this process and on a cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import flyte_nb as flyte
from flyte_nb.errors import ArgumentError, RuntimeDataValidationError
from flyte_nb.testing import run_cell

env = flyte.TaskEnvironment("streams")


class Row(NamedTuple):
    """What a table has."""

    number: int
    name: str


@env.task
async def count(n: int) -> AsyncIterator[int]:
    """Numbers below n."""
    for i in range(n):
        yield i
        if i % 7 == 0:
            await asyncio.sleep(0)


@env.task
def rows(n: int) -> Iterator[Row]:
    """Rows of a table."""
    for i in range(n):
        yield Row(i, f"row {i}")


@env.task
async def paced(folder: str, n: int) -> AsyncIterator[int]:
    """Waits after each item until its consumer has written that it has it."""
    for i in range(n):
        yield i
        while not (Path(folder) / f"had {i}").exists():  # noqa: ASYNC110 - its consumer is another process
            await asyncio.sleep(0.002)


@env.task
async def endless(folder: str, pause: float = 0.0) -> AsyncIterator[int]:
    """Never ends by itself; writes how it ended, and when its child did."""
    at = 0
    try:
        while True:
            yield at
            at += 1
            if pause:
                await asyncio.sleep(pause)
    except BaseException as exc:
        (Path(folder) / "how").write_text(f"{type(exc).__name__} at {at}")
        raise
    finally:
        await asyncio.sleep(0)
        (Path(folder) / "finally").touch()


@env.task
def endless_sync(folder: str) -> Iterator[int]:
    """The same, ``def``."""
    at = 0
    try:
        while True:
            yield at
            at += 1
    finally:
        (Path(folder) / "finally").write_text(str(at))


@env.task
async def breaks(n: int, catch: str = "") -> AsyncIterator[int]:
    """Fails after n items."""
    for i in range(n):
        yield i
    raise KeyError("no more pages")


async def there(path: Path) -> str:
    """Wait for a file, and read it."""
    until = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < until, path
        await asyncio.sleep(0.005)
    return path.read_text()


@pytest.fixture
def cell(mode: str) -> Any:
    """Run an async function as a cell."""
    return lambda function: run_cell(function, mode=mode)


def test_items_come_in_order_each_as_soon_as_it_is_there(cell: Any, tmp_path: Path) -> None:
    """Async and sync producers, async and sync consumers; the next item is not even made before this one is had."""

    async def body() -> None:
        assert [i async for i in count(1_000)] == list(range(1_000))
        assert [row async for row in rows.aio(300)] == [Row(i, f"row {i}") for i in range(300)]
        assert [row.number for row in rows(5)] == list(range(5))
        assert list(count(3)) == [0, 1, 2]  # type: ignore[call-overload]
        assert await count(0) == []  # type: ignore[misc]
        assert await asyncio.gather(count(2), rows.aio(1)) == [[0, 1], [Row(0, "row 0")]]  # type: ignore[call-overload]
        async for i in paced(str(tmp_path), 4):
            (tmp_path / f"had {i}").touch()

    cell(body)


def test_a_producer_waits_for_its_consumer(cell: Any, tmp_path: Path) -> None:
    """It is ahead by its buffer and no more; memory holds the buffer, not the stream."""

    @env.task(buffer=3)
    async def numbered(folder: str) -> AsyncIterator[int]:
        for i in range(300):
            (Path(folder) / "made").write_text(str(i))
            yield i

    async def body() -> None:
        stream = numbered(str(tmp_path))
        assert await anext(stream) == 0
        await asyncio.sleep(0.2)
        assert int((tmp_path / "made").read_text()) <= 4
        stream_of_ten = numbered.override(buffer=10)(str(tmp_path))
        async with aclosing(stream_of_ten):  # type: ignore[type-var]
            assert await anext(stream_of_ten) == 0
            await asyncio.sleep(0.2)
            assert 8 <= int((tmp_path / "made").read_text()) <= 11
        assert [i async for i in stream] == list(range(1, 300))

    cell(body)


@pytest.mark.parametrize("end", ["break", "aclose", "raise", "cancel", "with", "break sync", "break in between"])
def test_a_consumer_that_leaves_ends_the_producer_at_its_yield(cell: Any, tmp_path: Path, end: str) -> None:
    """Its clean-up runs, and a break is no failure and no cancellation of the action."""
    folder = str(tmp_path)

    async def take(n: int) -> None:
        async for i in endless(folder):
            if i == n:
                if end == "raise":
                    raise ZeroDivisionError
                if end == "cancel":
                    await asyncio.sleep(600)
                break

    async def body() -> None:
        if end == "break":
            await take(5)
        elif end == "raise":
            with pytest.raises(ZeroDivisionError):
                await take(5)
        elif end == "aclose":
            stream: Any = endless(folder)
            assert await anext(stream) == 0
            await stream.aclose()
            assert (tmp_path / "finally").exists()
            assert [i async for i in stream] == []
        elif end == "cancel":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(take(3), 0.5)
        elif end == "with":
            with endless(folder) as stream:  # type: ignore[attr-defined]
                assert next(stream) == 0
        elif end == "break sync":
            for i in endless_sync(folder):
                if i == 5:
                    break
            assert int(await there(tmp_path / "finally")) >= 5
        else:  # where the producer awaits something, it has a moment to reach its next yield
            async for i in endless(folder, 600.0):
                assert i == 0
                await asyncio.sleep(0.2)  # the producer is past its yield
                break
            assert (await there(tmp_path / "how")).startswith("CancelledError")
        await there(tmp_path / "finally")
        if end not in {"break sync", "break in between"}:
            assert (await there(tmp_path / "how")).startswith("GeneratorExit")

    cell(body)


def test_an_error_comes_behind_the_items_before_it(cell: Any) -> None:
    """With the class and the record of any other; an item that cannot cross, or does not fit, is named."""

    @env.task
    async def wrong() -> AsyncIterator[int]:
        yield 1
        yield "two"  # type: ignore[misc]

    @env.task
    async def odd() -> AsyncIterator[Any]:
        yield 1
        yield asyncio.get_running_loop()

    async def body() -> None:
        for task, error, text in [(breaks, KeyError, "no more pages"), (wrong, RuntimeDataValidationError, "int"),
                                  (odd, Exception, "item 1 of streams.odd cannot be sent")]:  # fmt: skip
            stream: Any = task(1) if task is breaks else task()  # type: ignore[operator]
            assert isinstance(await anext(stream), int)
            with pytest.raises(error, match=text):
                await anext(stream)
            assert await stream == []
        with pytest.raises(ArgumentError):
            count("many")  # type: ignore[arg-type]

    cell(body)


def test_a_retry_delivers_nothing_twice(cell: Any) -> None:
    """Items that are equal are left out, sets included; where they differ, that is the error."""

    @env.task(retries=2)
    async def flaky(fails_at: int) -> AsyncIterator[tuple[int, set[str]]]:
        for i in range(2_000):
            if i == fails_at + flyte.ctx().attempt_number and flyte.ctx().attempt_number < 2:
                raise OSError("connection lost")
            yield i, {f"{i}{c}" for c in "abcdef"}

    @env.task(retries=1)
    def unequal() -> Iterator[int]:
        for i in range(10):
            yield i + flyte.ctx().attempt_number
        if flyte.ctx().attempt_number == 0:
            raise OSError("connection lost")

    async def body() -> None:
        assert [i async for i, _ in flaky(1_500)] == list(range(2_000))
        assert [i async for i, _ in flaky(0)] == list(range(2_000))
        stream: Any = unequal.aio()
        assert [await anext(stream) for _ in range(10)] == list(range(10))
        with pytest.raises(flyte.errors.BaseRuntimeError, match="did not yield the 10 items again"):
            await anext(stream)

    cell(body)


def test_a_stream_as_an_argument_is_begun_by_the_task_that_gets_it(cell: Any) -> None:
    """So its items go from worker to worker; what has begun here is refused, with the way that works."""

    @env.task
    async def total(numbers: AsyncIterator[int]) -> int:
        return sum([n async for n in numbers])

    @env.task
    def names(table: Iterator[Row]) -> list[str]:
        return [row.name for row in table]

    @env.task
    async def doubled(numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        async for n in numbers:
            yield 2 * n

    async def body() -> None:
        assert await total(count(100)) == 4950
        assert await names.aio(rows(3)) == ["row 0", "row 1", "row 2"]
        assert await total(doubled(doubled(count(10)))) == 180
        begun = count(10)
        assert await anext(begun) == 0
        with pytest.raises(TypeError, match="before its first item is taken"):
            await total(begun)

    cell(body)


def test_large_items_travel_apart(cell: Any) -> None:
    """Each is a copy of its own, as of the moment of its yield."""

    @env.task
    async def arrays(n: int) -> AsyncIterator[Any]:
        array = np.zeros(500_000)
        for i in range(n):
            array[:] = i
            yield array

    @env.task(buffer=1_000)
    def texts(n: int) -> Iterator[str]:
        for i in range(n):
            yield chr(97 + i % 26) * 200_000

    async def body() -> None:
        assert [float(array.mean()) async for array in arrays(40)] == [float(i) for i in range(40)]
        assert [text[0] async for text in texts.aio(400)] == [chr(97 + i % 26) for i in range(400)]

    cell(body)


def test_a_stream_that_ended_is_in_the_record(cell: Any, tmp_path: Path) -> None:
    """A parent that is executed again gets it from there; so does a later call, with ``cache=``; not one that was left."""

    @env.task(cache=flyte.Cache("override", version_override=str(tmp_path)), buffer=10)
    async def kept(folder: str) -> AsyncIterator[int]:
        with (Path(folder) / "ran").open("a") as file:
            file.write("x")
        for i in range(100):
            yield i

    @env.task
    async def letters(folder: str) -> AsyncIterator[str]:
        with (Path(folder) / "letters").open("a") as file:
            file.write("x")
        for letter in "abc":
            yield letter

    @env.task(retries=1)
    async def parent(folder: str) -> str:
        text = "".join([letter async for letter in letters(folder)])
        if flyte.ctx().attempt_number == 0:
            raise OSError("connection lost")
        return text

    folder = str(tmp_path)

    async def body() -> None:
        async for _ in kept(folder):
            break
        assert [i async for i in kept(folder)] == list(range(100))
        assert [i async for i in kept(folder)] == list(range(100))
        assert (tmp_path / "ran").read_text() == "xx"
        assert await parent(folder) == "abc"
        assert (tmp_path / "letters").read_text() == "x"

    cell(body)


def test_a_run_of_a_stream_gives_its_items_and_has_their_list(mode: str) -> None:
    """They come while it runs, also to `async for`; without anybody who iterates, it ends all the same."""
    run = flyte.with_runcontext(mode=mode).run(count, 2_000)
    assert run.outputs()[0] == list(range(2_000))
    assert list(run) == list(range(2_000))
    assert list(run) == list(range(2_000))

    async def iterate() -> list[int]:
        return [item async for item in flyte.with_runcontext(mode=mode).run(count, 500)]

    assert asyncio.run(iterate()) == list(range(500))
    with pytest.raises(TypeError, match="no stream"):
        iter(flyte.with_runcontext(mode=mode).run(parent_of_none))
    with pytest.raises(KeyError):
        flyte.with_runcontext(mode=mode).run(breaks, 2).outputs()


@env.task
async def parent_of_none() -> None:
    """Yields nothing."""


def test_a_parent_that_is_executed_again_begins_its_stream_again(cell: Any, tmp_path: Path) -> None:
    """Also one that it has left and that is still ending; and a map of a task that yields gives lists."""

    @env.task
    async def lingers(folder: str) -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0.3)
            with (Path(folder) / "ended").open("a") as file:
                file.write("x")

    @env.task(retries=1)
    async def parent(folder: str) -> list[int]:
        found = []
        async for i in lingers(folder):
            found.append(i)
            if i == 2:
                break
        if flyte.ctx().attempt_number == 0:
            raise OSError("connection lost")
        return found

    @env.task(retries=1)
    async def several() -> AsyncIterator[tuple[int, ...]]:
        yield ()
        if flyte.ctx().attempt_number == 0:
            raise OSError("connection lost")
        yield (1, 2, 3)

    async def body() -> None:
        assert await parent(str(tmp_path)) == [1, 2]
        until = time.monotonic() + 20
        while (tmp_path / "ended").read_text() != "xx":
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
        assert await flyte.map(count, [2, 0, 1]) == [[0, 1], [], [0]]  # type: ignore[comparison-overlap]
        assert await several() == [(), (1, 2, 3)]  # type: ignore[misc]

    cell(body)


def test_several_at_once(cell: Any) -> None:
    """Merged in order of arrival; mapped over while they come, a bounded number at a time."""

    @env.task
    async def square(x: int) -> int:
        return x * x

    async def body() -> None:
        merged = [i async for i in flyte.merge(count(50), rows.aio(50), plain(3))]
        assert [i for i in merged if isinstance(i, int)] == list(range(50))
        assert [i.number for i in merged if isinstance(i, Row)] == list(range(50))
        assert [i for i in merged if isinstance(i, str)] == ["0", "1", "2"]
        with pytest.raises(KeyError):
            async for _ in flyte.merge(breaks(1), count(5)):
                pass
        squares = flyte.map.aio(square, count(20), concurrency=3)
        assert [y async for y in squares] == [i * i for i in range(20)]
        assert [y async for y in flyte.map(square, plain_numbers(5))] == [0, 1, 4, 9, 16]
        assert list(flyte.map(square, count(10))) == [i * i for i in range(10)]

    cell(body)


async def plain(n: int) -> AsyncIterator[str]:
    """No task."""
    for i in range(n):
        yield str(i)


async def plain_numbers(n: int) -> AsyncIterator[int]:
    """No task."""
    for i in range(n):
        yield i


def test_outside_a_run_and_where_it_makes_no_sense() -> None:
    """It is the plain generator there; a buffer is for tasks that yield."""

    async def plainly() -> list[Any]:
        return [[i async for i in count(3)], [row.number async for row in rows.aio(2)]]

    assert [row.number for row in rows(2)] == [0, 1]
    assert asyncio.run(plainly()) == [[0, 1, 2], [0, 1]]
    with pytest.raises(ValueError, match="has no `yield`"):
        env.task(buffer=3)(lambda: 1)
    with pytest.raises(ValueError, match="from 1 on"):
        env.task(buffer=0)(count.func)
