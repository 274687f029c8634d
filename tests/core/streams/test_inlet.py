"""The consumer's end of a stream: what an item's own code raises, leaving at any moment, waits that were given up, fair turns."""

from __future__ import annotations

import asyncio
import pickle
from collections import deque
from contextlib import aclosing
from typing import Any

import pytest

import flyte_nb as flyte
from flyte_nb.core.control.calls import Settled
from flyte_nb.core.streams.inlet import Inlet
from flyte_nb.core.streams.stream import Reading
from flyte_nb.core.transport.payload import RebuildError


def _raise(kind: type[Exception]) -> Any:
    raise kind("its own")


class Refuses:
    """Pickles, and raises an error of this class when it is to be made again."""

    def __init__(self, kind: type[Exception]) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        return _raise, (self.kind,)


def stream_of(*values: Any, ended: bool = True) -> tuple[Inlet, Reading[Any]]:
    """A stream whose items have arrived."""
    inlet = Inlet("e.items", 8, 10**6)
    arrive(inlet, *values)
    if ended:
        inlet.deliver(Settled("ok", None))
    return inlet, Reading(None, ((), {}), inlet)


def arrive(inlet: Inlet, *values: Any) -> None:
    inlet.arrived(inlet.received, [(pickle.dumps(value), b"digest") for value in values])


@pytest.mark.parametrize("kind", [IndexError, KeyError, StopIteration, StopAsyncIteration])
def test_an_item_that_cannot_be_made_here_is_an_error_and_not_the_end(kind: type[Exception]) -> None:
    """Whatever its own code raises; what comes behind it is still there. In both kinds of loops, and of a record."""

    def read(stream: Reading[Any]) -> list[Any]:
        found: list[Any] = []
        while len(found) < 9:
            try:
                found.append(next(stream))
            except RebuildError as exc:
                found.append(kind.__name__ in str(exc))
            except StopIteration:
                break
        return found

    async def read_aio(stream: Reading[Any]) -> list[Any]:
        found: list[Any] = []
        while len(found) < 9:
            try:
                found.append(await anext(stream))
            except RebuildError as exc:
                found.append(kind.__name__ in str(exc))
            except StopAsyncIteration:
                break
        return found

    assert [0, True, 2] == read(stream_of(0, Refuses(kind), 2)[1])
    assert [0, True, 2] == asyncio.run(read_aio(stream_of(0, Refuses(kind), 2)[1]))
    inlet, of_record = stream_of(0, ended=False)
    inlet.deliver(Settled("ok", None, pickle.dumps([0, Refuses(kind)])))
    assert [0, True] == read(of_record)


def test_what_arrives_as_its_consumer_leaves_is_dropped() -> None:
    """At the very moment at which it is taken in, too: nothing is left that nobody takes, and that a wait is ended by."""
    inlet, _ = stream_of(ended=False)

    class Leaves(deque[Any]):
        def extend(self, new: Any) -> None:
            inlet.leave()
            super().extend(new)

    inlet.items = Leaves()
    arrive(inlet, 1)

    assert inlet.closed
    assert not inlet.items


def test_a_wait_that_is_given_up_leaves_nothing() -> None:
    """A silent stream that is asked with a timeout, again and again."""
    inlet, stream = stream_of(ended=False)

    async def ask() -> None:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.001)
        assert not inlet._waiters
        arrive(inlet, 5)
        assert 5 == await asyncio.wait_for(anext(stream), 10)

    asyncio.run(ask())


def test_merge_gives_each_stream_its_turn_and_leaves_a_run_as_it_is() -> None:
    """Also beside one that has always more; closing what iterates over a run waits for nothing."""
    ahead, first = stream_of("ahead", "ahead", ended=False)
    _, second = stream_of("other", "other", ended=False)

    async def read() -> list[str]:
        found: list[str] = []
        async with aclosing(flyte.merge(first, second)) as merged:
            async for item in merged:
                found.append(item)
                arrive(ahead, "ahead")
                if found.count("other") == 2 or len(found) > 20:
                    break
        return found

    found = asyncio.run(asyncio.wait_for(read(), 20))
    assert 2 == found.count("other")
