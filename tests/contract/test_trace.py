"""``@flyte.trace``: recorded calls of plain functions, which a retry does not execute again."""

from __future__ import annotations

import asyncio
import inspect
import os
from pathlib import Path

import pytest

import flyte_nb as flyte
from flyte_nb.core.history.facts import Phase
from flyte_nb.testing import run_cell

env = flyte.TaskEnvironment("tracecontract")


def mark(path: str, text: str = "x") -> None:
    with Path(path).open("a") as file:
        file.write(text + "\n")


def me() -> str:
    """Name of the running action."""
    action = flyte.ctx().action
    assert action is not None
    return str(action.name)


def marks(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


@pytest.fixture
def start(mode):
    """Start a run and wait for it."""

    def start(task, *args):
        run = flyte.with_runcontext(mode=mode).run(task, *args)
        run.wait()
        return run

    return start


@pytest.fixture
def path(tmp_path):
    """A file that executions leave their names in."""
    return tmp_path / "executed"


@flyte.trace
def plain(x: int, path: str) -> int:
    mark(path, "plain")
    return x + 1


@flyte.trace()
async def coroutine(x: int, path: str) -> int:
    mark(path, "coroutine")
    await asyncio.sleep(0)
    return x + 2


@flyte.trace
def generator(n: int, path: str):
    mark(path, "generator")
    yield from range(n)
    return "end"


@flyte.trace()
async def async_generator(n: int, path: str):
    mark(path, "async_generator")
    for i in range(n):
        yield i


@flyte.trace
async def nothing(path: str) -> None:
    mark(path, "nothing")


def test_the_wrapper_is_of_the_functions_kind():
    """So that whatever looks at it sees what was decorated."""
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)
    assert "plain" == plain.__name__
    assert ["x", "path"] == list(inspect.signature(plain).parameters)


def test_outside_tasks_it_does_nothing(tmp_path):
    """The functions are called as if undecorated."""
    path = str(tmp_path / "executed")

    async def collect():
        return [await coroutine(1, path), [i async for i in async_generator(2, path)], await nothing(path)]  # type: ignore[func-returns-value]

    assert [2, [0, 1]] == [plain(1, path), list(generator(2, path))]
    assert [3, [0, 1], None] == asyncio.run(collect())


@env.task(retries=1)
async def all_kinds(path: str) -> list:
    found = [
        plain(1, path),
        await coroutine(1, path),
        list(generator(3, path)),
        [i async for i in async_generator(3, path)],
        await nothing(path),  # type: ignore[func-returns-value]
    ]
    if flyte.ctx().attempt_number == 0:
        raise ValueError("the first attempt fails")
    return found


def test_a_retry_replays_all_four_kinds_and_none(start, path):
    """What succeeded in the first attempt, a None included, is given again and not executed (T32)."""
    run = start(all_kinds, str(path))

    assert [2, 3, [0, 1, 2], [0, 1, 2], None] == run.outputs()[0]
    assert ["plain", "coroutine", "generator", "async_generator", "nothing"] == marks(path)
    steps = [action for action in run.actions if action.kind == "trace"]
    assert ["plain", "coroutine", "generator", "async_generator", "nothing"] == [step.task for step in steps]
    assert {Phase.SUCCEEDED} == {step.phase for step in steps}
    assert {"a0"} == {step.parent for step in steps}


class CustomError(Exception):
    """Of the user's."""


raised = CustomError("original")


@flyte.trace
def raises() -> None:
    raise raised


@env.task
async def catches() -> bool:
    try:
        raises()
    except CustomError as exc:
        return exc is raised
    return False


def test_the_original_exception_object_is_raised(start):
    """Not a copy, not wrapped; the step is shown as failed."""
    run = start(catches)

    assert run.outputs()[0]
    (step,) = [action for action in run.actions if action.kind == "trace"]
    assert Phase.FAILED is step.phase
    assert "CustomError" == step.error.code


@flyte.trace
async def fails_once(path: str) -> str:
    mark(path, "tried")
    if len(marks(Path(path))) == 1:
        raise ValueError("once")
    return "fine"


@env.task(retries=1)
async def with_flaky_step(path: str) -> str:
    return await fails_once(path)


def test_failed_steps_are_executed_again(start, path):
    """Only successes are replayed; the step then shows its second attempt."""
    run = start(with_flaky_step, str(path))

    assert "fine" == run.outputs()[0]
    (step,) = [action for action in run.actions if action.kind == "trace"]
    assert [Phase.SUCCEEDED, 1] == [step.phase, step.attempt.number]


@env.task
async def child(x: int) -> int:
    return x


@env.task
def sync_child(x: int) -> int:
    return x


@flyte.trace
async def calls_a_task(x: int) -> int:
    return await child(x)


@flyte.trace
def calls_a_sync_task(x: int) -> int:
    return sync_child(x)


@flyte.trace
async def calls_forward(x: int) -> int:
    return await child.forward(x)


@env.task
async def nested_task(kind: str) -> int:
    if kind == "async":
        return await calls_a_task(1)
    if kind == "sync":
        return calls_a_sync_task(1)
    return await calls_forward(1)


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_tasks_inside_are_refused(run, kind):
    """A trace cannot start actions."""
    with pytest.raises(flyte.errors.RuntimeUserError) as info:
        run(nested_task, kind)
    assert "TraceDoesNotAllowNestedTasksError" == info.value.code


def test_forward_is_allowed_inside(run):
    """It is a plain call."""
    assert 1 == run(nested_task, "forward")


@flyte.trace
async def who_am_i() -> tuple[str, str]:
    await asyncio.sleep(0)
    return me(), str(flyte.ctx().task_action)


@flyte.trace
async def outer(x: int) -> list[str]:
    inner = await asyncio.gather(who_am_i(), who_am_i())
    return [me(), *(name for name, _ in inner)]


@env.task
async def names() -> list[str]:
    own = me()
    first, second = await asyncio.gather(outer(1), outer(2))
    return [own, *first, *second, me()]


def test_traces_nest_and_overlap_with_names_of_their_own(start):
    """Each call has its action in the context; the records are children of the task."""
    run = start(names)
    own, *steps, after = run.outputs()[0]

    assert own == after == "a0"
    assert 6 == len(set(steps))
    assert set(steps) == {action.facts.name for action in run.actions if action.kind == "trace"}
    assert {"a0"} == {action.parent for action in run.actions if action.kind == "trace"}


@flyte.trace
async def streams():
    for i in range(3):
        yield i, me()
        await asyncio.sleep(0)


@flyte.trace
def breaks_off():
    try:
        yield 1
        yield 2
    finally:
        assert me() != "a0"


@env.task
async def consumes() -> list:
    found = []
    async for i, inside in streams():
        found.append((i, inside != me()))
    for i in breaks_off():
        found.append(i)
        break
    return found


def test_items_pass_through_as_they_come(start):
    """The consumer's code is not inside; a generator that is left early is recorded as given up."""
    run = start(consumes)

    assert [(0, True), (1, True), (2, True), 1] == run.outputs()[0]
    steps = {action.task: action for action in run.actions if action.kind == "trace"}
    assert Phase.SUCCEEDED is steps["streams"].phase
    assert Phase.ABORTED is steps["breaks_off"].phase


@flyte.trace
def accumulates():
    total = 0
    while (given := (yield total)) is not None:
        total += given
    return total


@env.task
def sends() -> list[int]:
    generator = accumulates()
    found = [next(generator), generator.send(2), generator.send(3)]
    try:
        generator.send(None)
    except StopIteration as stop:
        found.append(stop.value)
    return found


def test_send_and_return_value_of_a_generator(run):
    """As undecorated."""
    assert [0, 2, 5, 5] == run(sends)


@flyte.trace
def with_a_lock(lock, x: int) -> int:
    return x + 1


@env.task(retries=1)
def takes_what_cannot_be_pickled() -> int:
    import threading

    found = with_a_lock(threading.Lock(), 1)
    if flyte.ctx().attempt_number == 0:
        raise ValueError("again")
    return found


def test_unpicklable_arguments_are_no_error(run):
    """The call is recorded, and executed again by a retry."""
    assert 2 == run(takes_what_cannot_be_pickled)


class Tool:
    def __init__(self, path: str) -> None:
        self.path = path

    @flyte.trace
    def method(self, x: int) -> int:
        mark(self.path, "method")
        return x


@env.task(retries=1)
def uses_a_method(path: str) -> list[int]:
    tool = Tool(path)
    found = [tool.method(1), tool.method(1), tool.method(x=2)]
    if flyte.ctx().attempt_number == 0:
        raise ValueError("again")
    return found


def test_methods_and_repeated_calls(run, path):
    """Equal calls are told apart by their order."""
    assert [1, 1, 2] == run(uses_a_method, str(path))
    assert 3 == len(marks(path))


def test_a_task_cannot_be_traced():
    """It is recorded anyway."""
    with pytest.raises(TypeError, match="is a task"):
        flyte.trace(child)


def test_in_a_cell(mode, tmp_path):
    """A cell's traced calls are recorded; plain task calls beside them work, inside them they are refused."""
    path = str(tmp_path / "executed")

    async def cell():
        with pytest.raises(flyte.errors.TraceDoesNotAllowNestedTasksError):
            await calls_a_task(1)
        return [plain(1, path), await coroutine(1, path), await child(5)]

    assert [2, 3, 5] == run_cell(cell, mode=mode)


@flyte.trace
async def big(n: int, path: str) -> bytes:
    mark(path, "big")
    return b"x" * n


@env.task(retries=1)
async def with_a_big_step(n: int, path: str) -> int:
    found = len(await big(n, path))
    if flyte.ctx().attempt_number == 0:
        raise ValueError("again")
    return found


def test_large_results_are_replayed_too(run, path):
    """Up to a bound."""
    assert 1_000_000 == run(with_a_big_step, 1_000_000, str(path))
    assert ["big"] == marks(path)


@flyte.trace
def kills(path: str) -> None:
    mark(path, "killed")
    os._exit(1)


@env.task
def killed_in_a_step(path: str) -> str:
    if not marks(Path(path)):
        kills(path)
    return "fine"


@pytest.mark.cluster
def test_a_step_that_was_lost_with_its_worker_does_not_hold_up_the_run(cluster, path):
    """The task goes on elsewhere, and the step is shown as ended."""
    run = flyte.with_runcontext(mode="remote").run(killed_in_a_step, str(path))

    assert "fine" == run.outputs()[0]
    assert all(action.phase.is_terminal for action in run.actions)
    assert Phase.ABANDONED in {action.phase for action in run.actions} or 1 == len(run.actions)
