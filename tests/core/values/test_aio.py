"""Functions in two forms: as methods, as static methods, pickled, and polled."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest

import flyte_nb as flyte
from flyte_nb.core.values.aio import Dual, DualIterator, Polled, blocking


class Thing:
    """What has methods in two forms."""

    def __init__(self) -> None:
        self.left = 3

    @blocking
    def where(self, *, more: str = "") -> str:
        """Name of the thread."""
        return threading.current_thread().name + more

    @Dual
    @staticmethod
    def made(left: int) -> int:
        return left

    @DualIterator
    def listed(self, **_ignored: object) -> list[int]:
        return [1, 2]

    @DualIterator
    def watch(self) -> Polled[int]:
        def looks() -> Iterator[int | None]:
            while self.left:
                self.left -= 1
                yield self.left if self.left % 2 else None

        return Polled(looks, 0.001)


@blocking
def module_level() -> int:
    return 1


def test_a_blocking_method_runs_in_a_thread_when_it_is_awaited() -> None:
    """And in the caller's own when it is called."""
    thing = Thing()
    here = threading.current_thread().name

    assert here + "!" == thing.where(more="!")
    assert here != asyncio.run(thing.where.aio())
    assert "Name of the thread." == thing.where.__doc__
    assert "<where, also as .aio>" == repr(thing.where)


def test_a_static_method_is_found_on_class_and_instance() -> None:
    """Neither is given the instance."""
    thing: Any = Thing()

    assert (1, 1, 1) == (Thing.made(1), thing.made(1), asyncio.run(thing.made.aio(1)))


def test_iterators_serve_both_kinds_of_loop() -> None:
    """A list stays a list; what is polled for comes once it is there."""

    async def awaited() -> list[list[int]]:
        return [
            [each async for each in Thing().listed.aio()],
            [each async for each in Thing().watch()],
            [each async for each in Thing().watch.aio()],
        ]

    assert [1, 2] == Thing().listed()
    assert [1] == list(Thing().watch())
    assert [[1, 2], [1], [1]] == asyncio.run(awaited())


@pytest.mark.parametrize("function", [flyte.run, flyte.rerun, flyte.remote.Action.get, flyte.durable.now, module_level])
def test_it_travels_by_name(function: object) -> None:
    """A task may refer to `flyte.run`: the worker finds its own."""
    assert function is pickle.loads(pickle.dumps(function))
    assert function is cloudpickle.loads(cloudpickle.dumps(function))


def test_a_bound_one_travels_with_its_object() -> None:
    """As a bound method does."""
    assert [1, 2] == cloudpickle.loads(cloudpickle.dumps(Thing().listed))()


async def test_waits_leave_the_threads_of_the_loop_to_others() -> None:
    """However many there are, and after they were broken off."""
    gate = threading.Event()

    @blocking
    def wait() -> bool:
        return gate.wait()

    waits = [asyncio.create_task(wait.aio()) for _ in range(60)]
    await asyncio.sleep(0)
    for each in waits[:30]:
        each.cancel()
    assert 1 == await asyncio.wait_for(asyncio.to_thread(lambda: 1), 60)
    gate.set()
    assert [True] * 30 == await asyncio.gather(*waits[30:])
