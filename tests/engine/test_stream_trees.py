"""Random trees of streams against a model: producers, consumers, failures, early ends, slow ones, workers killed."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flyte_nb as flyte
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell
from tests.engine.session import started, worker_processes
from tests.engine.test_random_trees import look

pytestmark = pytest.mark.cluster

env = flyte.TaskEnvironment("streamtrees")


class Node(NamedTuple):
    """One stream: how its body is written, how many items of its own it has, how it ends, and what it passes on."""

    #: "async" merges its children's items into its own, "sync" and "chain" pass them on one stream after the other.
    kind: str
    items: int
    #: "ok"; "fail" raises after its items; "flaky" does so in its first attempt only.
    end: str
    #: Items of each child that are taken before it is left; None: all.
    take: int | None
    buffer: int
    #: Whether its own items are arrays, which cross in shared memory.
    large: bool = False
    children: tuple[Node, ...] = ()


def model(node: Node) -> tuple[list[int], bool]:
    """Items of a node, sorted where their order is not given, and whether it ends well. Failures of children are passed over."""
    found = list(range(node.items))
    for child in node.children:
        given, _ = model(child)
        found += given if node.take is None else given[: node.take]
    return found, node.end != "fail"


def item_of(node: Node, i: int) -> Any:
    """Its item of a number."""
    return np.full(40_000, i) if node.large else i


def number_of(item: Any) -> int:
    """The number of an item."""
    return int(item[-1]) if isinstance(item, np.ndarray) else item


def behave(node: Node) -> None:
    """End as the node says."""
    if node.end == "fail" or (node.end == "flaky" and flyte.ctx().attempt_number == 0):
        raise ValueError(f"after {node.items} items")


def call(node: Node) -> Any:
    """The stream of a node."""
    task: Any = {"sync": sync_stream, "chain": chain_stream}.get(node.kind, async_stream)
    return task.override(buffer=node.buffer)(node)


@env.task(retries=1)
async def async_stream(node: Node) -> AsyncIterator[Any]:
    """Its own items, then its children's, awaited."""
    for i in range(node.items):
        yield item_of(node, i)
        if i % 3 == 2:
            await asyncio.sleep(0.001)
    for child in node.children:
        async for item in some(child, node.take):
            yield item
    behave(node)


async def some(child: Node, take: int | None) -> AsyncIterator[Any]:
    """As many of a child's items as are wanted; its failure is passed over."""
    if take == 0:
        return
    taken = 0
    try:
        async for item in call(child):
            yield item
            taken += 1
            if taken == take:
                return
    except ValueError:
        pass


@env.task(retries=1)
def sync_stream(node: Node) -> Iterator[Any]:
    """The same, ``def``: it blocks."""
    yield from (item_of(node, i) for i in range(node.items))
    for child in node.children:
        if node.take == 0:
            continue
        try:
            yield from itertools.islice(call(child), node.take)
        except ValueError:
            pass
    behave(node)


@env.task
async def listed(numbers: AsyncIterator[Any]) -> list[Any]:
    """A stream that it was given, as a list; None for its failure."""
    found = []
    try:
        async for number in numbers:
            found.append(number)  # noqa: PERF401 - what came before a failure counts
    except ValueError:
        pass
    return found


@env.task(retries=1)
async def chain_stream(node: Node) -> AsyncIterator[Any]:
    """Its children's items come through a task that takes the stream as an argument."""
    for i in range(node.items):
        yield item_of(node, i)
    for child in node.children:
        if node.take != 0:
            for item in (await listed(call(child)))[: node.take]:
                yield item
    behave(node)


def nodes(depth: int, width: int) -> st.SearchStrategy[Node]:
    """Trees of at most this depth and width."""
    own = (
        st.sampled_from(["async", "sync", "chain"]), st.integers(0, 40), st.sampled_from(["ok", "ok", "flaky", "fail"]),
        st.sampled_from([None, None, 0, 1, 7]), st.sampled_from([1, 2, 5, 100]), st.sampled_from([False, False, True]),
    )  # fmt: skip
    found = st.builds(Node, *own)
    for _ in range(depth):
        found = st.builds(Node, *own, st.lists(found, max_size=width).map(tuple))
    return found


def random_node(rng: random.Random, depth: int) -> Node:
    """A tree that works, with streams long enough to be cut in the middle."""
    children = tuple(random_node(rng, depth - 1) for _ in range(2)) if depth else ()
    kind, end = rng.choice(["async", "sync", "chain"]), rng.choice(["ok", "flaky"])
    return Node(kind, rng.randint(50, 200), end, None, rng.choice([1, 8, 64]), rng.random() < 0.3, children)


async def taken(node: Node, slow: bool) -> tuple[list[int], bool]:
    """Items of a node, and whether it ended well."""
    found: list[int] = []
    try:
        async for item in call(node):
            found.append(number_of(item))
            if slow and found[-1] % 5 == 0:
                await asyncio.sleep(0.002)
    except ValueError:
        return found, False
    return found, True


@pytest.fixture(scope="module", params=[(1, 1), (2, 2)], ids=["one slot", "four slots"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Session]:
    """One worker with one slot; two workers with two."""
    workers, threads = request.param
    with started(n_workers=workers, threads_per_worker=threads) as session:
        yield session


def end(session: Session) -> None:
    """Nothing of the latest run goes on."""
    run, actions = session.gateway.ask(look, session)
    assert [action for action in actions if not action.phase.is_terminal] == []
    assert session.gateway.ask(session.engine.controller.unfinished, run) == []


def test_streams_give_what_the_model_says(cluster: Session) -> None:
    """Items, their order, failures after them, and early ends, whatever the tree and however slow its consumer."""

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(nodes(2, 2), st.booleans())
    def check_tree(tree: Node, slow: bool) -> None:
        assert run_cell(lambda: taken(tree, slow)) == model(tree)
        end(cluster)

    check_tree()


@pytest.mark.parametrize("seed", range(2))
def test_killed_workers_change_no_stream(cluster: Session, seed: int) -> None:
    """A worker killed in the middle: what is lost begins again, and no item comes twice, none is missing."""
    rng = random.Random(seed)
    tree = random_node(rng, 2)

    def kill_one() -> None:
        alive = worker_processes(cluster)
        if alive:
            os.kill(rng.choice(alive).pid, signal.SIGKILL)

    timer = threading.Timer(rng.uniform(0.02, 0.4), kill_one)
    timer.start()
    assert run_cell(lambda: taken(tree, True)) == model(tree)
    timer.join()
    end(cluster)


def test_many_at_once_on_few_slots(cluster: Session) -> None:
    """More streams than slots, each held back by its consumer, none holds a slot meanwhile; cancelled, none is left."""
    leaf = Node("sync", 300, "ok", None, 2)

    async def all_at_once() -> None:
        streams = [call(leaf._replace(kind=kind)) for kind in ["sync", "async"] * 6]
        for _ in range(3):
            await asyncio.gather(*map(anext, streams))
        rest = await asyncio.gather(*streams[:6])
        assert [len(each) for each in rest] == [297] * 6

    run_cell(all_at_once)
    end(cluster)


@env.task
async def endless(folder: str) -> AsyncIterator[int]:
    """Never ends by itself; writes what ended it."""
    try:
        for i in itertools.count():
            yield i
            if i % 100 == 0:
                await asyncio.sleep(0.001)
    except BaseException as exc:
        with (Path(folder) / "ends").open("a") as file:
            file.write(f"{type(exc).__name__} ")
        raise


@env.task
async def dies_once(folder: str) -> int:
    """Its worker is lost with it, in the middle of a stream."""
    async for i in endless(folder):
        if i == 500 and not (Path(folder) / "died").exists():
            (Path(folder) / "died").touch()
            os._exit(1)
        if i == 1_000:
            return i
    return 0


def test_a_consumer_that_is_lost_ends_its_producer(cluster: Session, tmp_path: Path) -> None:
    """It gets GeneratorExit at its yield, wherever it is executed; what is executed again begins a stream of its own."""

    async def cell() -> None:
        assert await dies_once(str(tmp_path)) == 1_000
        until = time.monotonic() + 20
        while not (tmp_path / "ends").exists():
            assert time.monotonic() < until
            await asyncio.sleep(0.01)

    run_cell(cell)
    end(cluster)
    ends = (tmp_path / "ends").read_text().split()
    assert set(ends) == {"GeneratorExit"}
    assert len(ends) <= 2  # of the first, unless it was on the worker that was lost, and of the second
