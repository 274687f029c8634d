"""Random trees of actions against a model: deeper and wider than the slots, failing, cancelled, their workers killed."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flyte_nb as flyte
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Phase
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell
from tests.engine.session import started, worker_processes

pytestmark = pytest.mark.cluster

env = flyte.TaskEnvironment("trees")


class Node(NamedTuple):
    """One action: how its body is written, what it does, and whom it calls."""

    #: "async" gathers its children, "sync" maps over them, "loop" awaits one after the other.
    kind: str
    #: "ok" returns; "fail" raises; "flaky" raises in its first attempt; "hang" waits until it is cancelled.
    does: str
    number: int
    children: tuple[Node, ...] = ()


def model(node: Node) -> int | None:
    """What awaiting a node gives: its number and those of its descendants, None if it fails or is cancelled."""
    if node.does in {"fail", "hang"}:
        return None
    return node.number + sum(value for value in map(model, node.children) if value is not None)


def awaited(node: Node) -> int:
    """How many actions a node makes, itself included."""
    return 1 + (0 if node.does in {"fail", "hang"} else sum(map(awaited, node.children)))


async def call(node: Node) -> int | None:
    """Await a node: hanging ones are cancelled, failures counted as None."""
    try:
        if node.does == "hang":
            await asyncio.wait_for(run_async(node), 0.05)
        return await (run_sync.aio(node) if node.kind == "sync" else run_async(node))
    except (ValueError, TimeoutError):
        return None


def behave(node: Node) -> None:
    """Fail as the node says."""
    first = flyte.ctx().attempt_number == 0
    if node.does == "fail" or (node.does == "flaky" and first):
        raise ValueError(f"node {node.number}")


@env.task(retries=1)
async def run_async(node: Node) -> int:
    """An asynchronous node."""
    behave(node)
    if node.does == "hang":
        await asyncio.sleep(600)
    if node.kind == "loop":
        values = [await call(child) for child in node.children]
    else:
        values = list(await asyncio.gather(*map(call, node.children)))
    return node.number + sum(v for v in values if v is not None)


@env.task(retries=1)
def run_sync(node: Node) -> int:
    """A synchronous node: its children overlap as a map, or in an asyncio.run."""
    behave(node)
    if any(child.does == "hang" for child in node.children) or node.number % 2:

        async def all_of_them() -> list[int | None]:
            return list(await asyncio.gather(*map(call, node.children)))

        values: list[Any] = asyncio.run(all_of_them())
    else:
        values = list(flyte.map(run_async, node.children))
    return node.number + sum(v for v in values if isinstance(v, int))


def nodes(depth: int, width: int) -> st.SearchStrategy[Node]:
    """Trees of at most this depth and width."""
    kind, does = (
        st.sampled_from(["async", "sync", "loop"]),
        st.sampled_from(["ok", "ok", "ok", "flaky", "fail", "hang"]),
    )
    leaf = st.builds(Node, kind, does, st.integers(1, 9))
    for _ in range(depth):
        leaf = st.builds(Node, kind, does, st.integers(1, 9), st.lists(leaf, max_size=width).map(tuple))
    return leaf


def random_tree(rng: random.Random, depth: int, width: int) -> Node:
    """A tree that works, of exactly this depth and width."""
    children = tuple(random_tree(rng, depth - 1, width) for _ in range(width)) if depth else ()
    return Node(rng.choice(["async", "sync", "loop"]), rng.choice(["ok", "ok", "flaky"]), rng.randint(1, 9), children)


@pytest.fixture(scope="module", params=[(1, 1), (2, 2)], ids=["one slot", "four slots"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Session]:
    """One worker with one slot; two workers with two."""
    workers, threads = request.param
    with started(n_workers=workers, threads_per_worker=threads) as session:
        yield session


def look(session: Session) -> tuple[str, list[Any]]:
    """The latest run, and its actions."""
    run = next(reversed(session.store.runs))
    return run, list(session.store.runs[run].actions.values())


def check(session: Session, ends: Counter[tuple[str, str]]) -> None:
    """Every action of the latest run has ended, with one result at most; nothing of it executes."""
    run, actions = session.gateway.ask(look, session)
    assert [action for action in actions if not action.phase.is_terminal] == []
    assert {name: n for (of, name), n in ends.items() if of == run and n != 1} == {}
    assert session.gateway.ask(session.engine.controller.unfinished, run) == []


@pytest.fixture
def ends(cluster: Session, monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """How often each action was said to have come to a result."""
    counted: Counter[tuple[str, str]] = Counter()
    append = cluster.store.append

    def counting(event: ev.Event) -> None:
        # What was cancelled or abandoned with a lost parent is executed again, and what it recalls ends again: no result twice.
        if type(event) is ev.ActionEnded and event.phase in {Phase.SUCCEEDED, Phase.FAILED}:
            counted[event.run, event.action] += 1
        append(event)

    monkeypatch.setattr(cluster.store, "append", counting)
    return counted


def test_trees_give_what_the_model_says(cluster: Session, ends: Counter[tuple[str, str]]) -> None:
    """Values, failures, retries and cancellations are those of the model, whatever the tree."""

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(nodes(3, 3))
    def check_tree(tree: Node) -> None:
        assert run_cell(lambda: call(tree)) == model(tree)
        check(cluster, ends)

    check_tree()


def test_nothing_grows_over_fifty_rounds(cluster: Session, ends: Counter[tuple[str, str]]) -> None:
    """Threads and memory of workers and kernel stay what they were; every slot is free again."""
    rng = random.Random(7)
    workers = worker_processes(cluster)
    figures = []
    for round_ in range(50):
        tree = random_tree(rng, 2, 3)
        assert run_cell(functools.partial(call, tree)) == model(tree)
        if round_ in {9, 49}:
            check(cluster, ends)
            threads = max(p.num_threads() for p in workers)
            figures.append((threads, threading.active_count(), sum(p.memory_info().rss for p in workers)))
    (threads, own, memory), (threads_later, own_later, memory_later) = figures
    assert threads_later <= threads + 4
    assert own_later <= own + 2
    assert memory_later <= memory + 64 * 1024 * 1024

    def held(dask_worker: Any) -> tuple[int, int]:
        [host] = dask_worker._flyte_nb_hosts.values()
        return host.gate.slots, host.gate.free + sum(lane.holder.held for lane in host.lanes.values())

    client = cluster.engine.network.handle.client  # type: ignore[union-attr]

    async def ask_all() -> dict[str, tuple[int, int]]:
        return await client.run(held)

    answers = cluster.engine.call(ask_all)
    assert all(slots == accounted for slots, accounted in answers.values()), answers


@pytest.mark.parametrize("seed", range(6))
def test_killed_workers_change_no_result(cluster: Session, ends: Counter[tuple[str, str]], seed: int) -> None:
    """A worker killed in the middle costs time, never a result: what was lost is done again, what had ended is not."""
    rng = random.Random(seed)
    tree = random_tree(rng, 3, 3)

    def kill_one() -> None:
        alive = worker_processes(cluster)
        if alive:
            os.kill(rng.choice(alive).pid, signal.SIGKILL)

    timer = threading.Timer(rng.uniform(0.02, 0.3), kill_one)
    timer.start()
    assert run_cell(lambda: call(tree)) == model(tree)
    timer.join()
    check(cluster, ends)
