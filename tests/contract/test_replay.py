"""A parent that is executed again gets what its completed children gave before, and executes the rest (T15, T32)."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import flyte_nb as flyte
from flyte_nb.core.history.facts import Phase

env = flyte.TaskEnvironment("replaycontract")


def mark(path: str, text: str) -> None:
    with Path(path).open("a") as file:
        file.write(text + "\n")


def marks(path: str | Path) -> list[str]:
    return Path(path).read_text().split() if Path(path).exists() else []


@pytest.fixture
def path(tmp_path):
    """A file that executions leave their names in."""
    return tmp_path / "executed"


@pytest.fixture
def start(mode):
    """Start a run and wait for it."""

    def start(task, *args, **options):
        run = flyte.with_runcontext(mode=mode, **options).run(task, *args)
        run.wait()
        return run

    return start


@env.task
async def step(name: str, path: str) -> str:
    mark(path, name)
    return name.upper()


@env.task
async def fails_first(name: str, path: str) -> str:
    mark(path, name)
    if marks(path).count(name) == 1:
        raise ValueError(f"{name} fails at first")
    return name.upper()


@env.task(retries=2)
async def parent(path: str) -> list[str]:
    if flyte.ctx().attempt_number == 1:
        raise RuntimeError("it fails before it calls anything")
    found = list(await asyncio.gather(step("a", path), step("b", path)))
    found.append(await step("a", path))
    if flyte.ctx().attempt_number == 0:
        raise RuntimeError("the parent fails at first")
    return [*found, await step("c", path)]


@env.task
async def grandparent(path: str) -> list[str]:
    return await parent(path)


@pytest.mark.parametrize("task", [parent, grandparent], ids=["root", "nested"])
def test_completed_children_of_a_failed_parent_are_recalled(start, path, task):
    """A later attempt executes only what the first did not complete; equal calls are told apart."""
    run = start(task, str(path))

    assert ["A", "B", "A", "C"] == run.outputs()[0]
    assert ["a", "a", "b", "c"] == sorted(marks(path))
    steps = [action for action in run.actions if action.task.endswith(".step")]
    assert 4 == len(steps)
    assert {Phase.SUCCEEDED} == {action.phase for action in steps}


@env.task(retries=1)
async def with_failing_child(path: str) -> list[str]:
    return [await step("a", path), await fails_first("f", path)]


def test_failed_children_are_executed_again(start, path):
    """So a parent's retry can mend a child's failure; the child shows both attempts."""
    run = start(with_failing_child, str(path))

    assert ["A", "F"] == run.outputs()[0]
    assert ["a", "f", "f"] == marks(path)
    (child,) = [action for action in run.actions if action.task.endswith(".fails_first")]
    assert [Phase.SUCCEEDED, 1] == [child.phase, child.attempt.number]
    assert [False] == [attempt.ok for attempt in child.earlier]


@env.task
async def large(n: int, path: str) -> bytes:
    mark(path, "large")
    return b"x" * n


@env.task(retries=1)
async def with_large_child(n: int, path: str) -> int:
    size = len(await large(n, path))
    if flyte.ctx().attempt_number == 0:
        raise RuntimeError("again")
    return size


@env.task
async def above_large(n: int, path: str) -> int:
    return await with_large_child(n, path)


@pytest.mark.parametrize(("task", "n"), [(with_large_child, 3_000_000), (above_large, 200_000)], ids=["root", "nested"])
def test_large_results_are_recalled(start, path, task, n):
    """Results that are too large for an event are kept beside it."""
    assert n == start(task, n, str(path)).outputs()[0]
    assert ["large"] == marks(path)


def told_home() -> None:
    """Wait until this process has sent its events: a thread that dies in the same millisecond takes them along."""
    from flyte_nb.core.tasks.context import current

    context = current()
    assert context is not None
    answered = threading.Event()
    home: Any = context.gateway.controller.home
    context.gateway.run_soon(home.ask, context.run, "records", (context.action, False), lambda _answer: answered.set())
    answered.wait(10)


@env.task
async def killed_once(path: str) -> list[str]:
    found = [await step("a", path), await step("b", path)]
    if not marks(path + ".killed"):
        mark(path + ".killed", "x")
        await asyncio.to_thread(told_home)
        os._exit(1)
    return [*found, await step("c", path)]


@env.task
async def above_killed(path: str) -> list[str]:
    return await killed_once(path)


@pytest.mark.cluster
@pytest.mark.parametrize("task", [killed_once, above_killed], ids=["root", "nested"])
def test_children_of_a_parent_whose_worker_died_are_recalled(cluster, path, task):
    """The process that executed the parent is killed: what its children gave before is not computed again (T15)."""
    run = flyte.with_runcontext(mode="remote").run(task, str(path))

    assert ["A", "B", "C"] == run.outputs()[0]
    assert ["a", "b", "c"] == marks(path)
    assert {Phase.SUCCEEDED} == {action.phase for action in run.actions}


@env.task
async def program(n: int, path: str) -> list:
    with flyte.group("letters"):
        letters = await asyncio.gather(*(step(letter, path) for letter in "xyz"))
    mapped = [r async for r in flyte.map.aio(step, ["p"] * n, [path] * n)]
    return [*letters, *mapped]


def test_two_runs_have_the_same_names(start, path):
    """Names depend on the program, not on scheduling (T32)."""
    runs = [start(program, 5, str(path)) for _ in range(2)]

    first, second = ({action.name for action in run.actions} for run in runs)
    assert first == second
    assert 9 == len(first)
