"""Calling tasks: laziness, sync from async, partials, tasks as values, overrides, arguments; the same names in every run."""

# Programs as users write them.
# mypy: disable-error-code="redundant-expr,unused-coroutine,return-value,arg-type,operator,call-overload,misc,unused-ignore"

from __future__ import annotations

import asyncio
import collections.abc
import functools
import inspect
import itertools
import threading
import typing

import anyio
import pytest

import flyte_nb as flyte
from flyte_nb.testing import run_cell

env = flyte.TaskEnvironment("calls")


@env.task
async def add(x: int, y: int = 2) -> int:
    return x + y


@env.task
def sync_add(x: int, y: int = 2) -> int:
    return x + y


async def plain(x: int) -> int:
    return x + 100


@env.task
async def makes_coroutines() -> list[bool]:
    made = [add(1), sync_add.aio(1)]
    kinds = [isinstance(each, collections.abc.Coroutine) and inspect.iscoroutine(each) for each in made]
    for each in made:
        each.close()
    return kinds


def test_t8_calling_an_async_task_only_makes_a_coroutine(mode):
    """No action exists until it is scheduled."""
    run = flyte.with_runcontext(mode=mode).run(makes_coroutines)

    assert run.outputs()[0] == [True, True]
    assert len(run.actions) == 1


@env.task
async def never_awaits() -> int:
    add(1)
    return 1


@pytest.mark.filterwarnings("ignore:coroutine")
def test_t8_what_is_never_awaited_never_runs(mode):
    """As with any coroutine."""
    run = flyte.with_runcontext(mode=mode).run(never_awaits)

    assert (run.outputs()[0], len(run.actions)) == (1, 1)


async def with_gather() -> list[int]:
    return await asyncio.gather(add(1), add(2))


async def with_create_task() -> list[int]:
    tasks = [asyncio.create_task(add(1)), asyncio.ensure_future(add(2))]
    return [await task for task in tasks]


async def with_task_group() -> list[int]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(add(1)), group.create_task(add(2))]
    return [task.result() for task in tasks]


async def with_as_completed() -> list[int]:
    return sorted([await each for each in asyncio.as_completed([add(1), add(2)])])


async def with_wait() -> list[int]:
    done, pending = await asyncio.wait([asyncio.create_task(add(1)), asyncio.create_task(add(2))])
    return sorted(task.result() for task in done) + list(pending)


async def with_wait_for() -> list[int]:
    return [await asyncio.wait_for(add(x), 60) for x in (1, 2)]


async def with_timeout() -> list[int]:
    async with asyncio.timeout(60):
        return [await add(1), await add(2)]


async def with_semaphore() -> list[int]:
    gate = asyncio.Semaphore(1)

    async def limited(x: int) -> int:
        async with gate:
            return await add(x)

    return await asyncio.gather(limited(1), limited(2))


async def with_queue() -> list[int]:
    todo: asyncio.Queue[int] = asyncio.Queue()
    got: list[int] = []

    async def worker() -> None:
        while not todo.empty():
            got.append(await add(await todo.get()))

    for x in (1, 2):
        todo.put_nowait(x)
    await asyncio.gather(worker(), worker())
    return sorted(got)


async def with_anyio() -> list[int]:
    got: dict[int, int] = {}

    async def one(x: int) -> None:
        got[x] = await add(x)

    async with anyio.create_task_group() as group:
        group.start_soon(one, 1)
        group.start_soon(one, 2)
        group.start_soon(add, 3)
    return [got[1], got[2]]


CONSTRUCTS = [
    with_gather, with_create_task, with_task_group, with_as_completed, with_wait, with_wait_for, with_timeout,
    with_semaphore, with_queue, with_anyio,
]  # fmt: skip


@env.task
async def uses(construct: typing.Callable) -> list[int]:
    return await construct()


@pytest.mark.parametrize("construct", CONSTRUCTS, ids=lambda f: f.__name__)
def test_t12_every_construct_of_asyncio_works(run, construct):
    """No code of Flyte's is needed; functions travel as arguments."""
    assert run(uses, construct) == [3, 4]


@env.task
def sequential(n: int) -> list[int]:
    return [sync_add(i) for i in range(n)]


def test_t18_a_sync_task_runs_unchanged_in_a_sync_parent(mode):
    """Ten calls are ten actions, one after the other."""
    run = flyte.with_runcontext(mode=mode).run(sequential, 10)

    assert run.outputs()[0] == list(range(2, 12))
    children = run.actions[1:]
    assert len(children) == 10
    assert all(a.ended_at <= b.queued_at for a, b in itertools.pairwise(children))


@env.task
def sync_parent() -> list[int]:
    async def many() -> list[int]:
        return await asyncio.gather(add(1), sync_add.aio(2))

    coroutine = add(0)
    assert inspect.iscoroutine(coroutine)
    name = flyte.ctx().action.name
    assert asyncio.run(action_name()) == name
    return [asyncio.run(coroutine), *asyncio.run(many()), sync_add(3)]


async def action_name() -> str:
    return flyte.ctx().action.name


def test_t20_a_sync_body_sees_its_context_and_may_run_loops(mode):
    """asyncio.run in a sync body makes real children."""
    run = flyte.with_runcontext(mode=mode).run(sync_parent)

    assert run.outputs()[0] == [2, 3, 4, 5]
    assert len(run.actions) == 5


def make(n: int):
    @env.task
    async def inner(x: int) -> int:
        return x + n

    return inner


made_outside = make(5)


@env.task
async def apply(function: typing.Callable, x: int) -> int:
    result = function(x)
    return await result if inspect.isawaitable(result) else result


@env.task
async def apply_all(functions: dict[str, typing.Callable], x: int) -> dict[str, int]:
    return {name: await function(x) for name, function in functions.items()}


@env.task
async def tasks_as_values() -> list:
    seven, table = 7, {"a": add, "b": sync_add.aio}
    return [
        await functools.partial(add, y=10)(1),
        await functools.partial(sync_add.aio, 5)(1),
        [await each(1) for each in table.values()],
        [await made_outside(1), await make(9)(1)],
        [await apply(f, 1) for f in (add, plain, lambda x: x + seven, functools.partial(add, y=50))],
        await apply_all({"a": add, "b": add.override(short_name="other")}, 1),
    ]


def test_tasks_are_values(run):
    """In partials, tables, closures, and as arguments, wherever they are called."""
    assert run(tasks_as_values) == [11, 6, [3, 3], [6, 10], [3, 101, 8, 51], {"a": 3, "b": 3}]


@env.task
async def forwards() -> list[int]:
    return [await add.forward(1), sync_add.forward(1)]


def test_forward_is_the_plain_function(mode):
    """No action is made."""
    run = flyte.with_runcontext(mode=mode).run(forwards)

    assert (run.outputs()[0], len(run.actions)) == ([3, 3], 1)


@env.task
async def named(a: int, /, b: int, *, c: str, d: str = "d") -> str:
    return f"{a}{b}{c}{d}"


@env.task
async def binds() -> list[str]:
    return [await named(1, 2, c="c"), await named(1, b=2, d="x", c="c")]


def test_arguments_bind_as_in_python(run):
    """By position, by name, by name only, by default."""
    assert run(binds) == ["12cd", "12cx"]


@env.task
async def misbinds() -> list[bool]:
    seen = []
    for args, kwargs in [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1,), {"x": 2}), (("a",), {}), ((None,), {})]:
        try:
            await add(*args, **kwargs)
        except TypeError as exc:
            seen.append(isinstance(exc, ValueError) and "calls.add" in str(exc))
    return seen


def test_wrong_arguments_are_refused_before_anything_runs(mode):
    """As a TypeError and a ValueError that names the task; no action is made."""
    run = flyte.with_runcontext(mode=mode).run(misbinds)

    assert run.outputs()[0] == [True] * 6
    assert len(run.actions) == 1


@pytest.mark.parametrize(("args", "kwargs"), [(("a",), {}), ((), {}), ((1,), {"z": 1})])
def test_run_refuses_wrong_arguments(mode, args, kwargs):
    """At once, and what is no task as well."""
    with pytest.raises(TypeError, match=r"calls\.add"):
        flyte.with_runcontext(mode=mode).run(add, *args, **kwargs)
    with pytest.raises(TypeError, match="not generic functions"):
        flyte.with_runcontext(mode=mode).run(plain, 1)


@env.task
async def takes(lock: object) -> int:
    return 1


def test_an_argument_that_cannot_be_pickled_is_named(mode):
    """The message names the argument and what to do."""

    async def cell():
        await takes({"inner": threading.Lock()})

    with pytest.raises(flyte.errors.SerializationError, match="'lock'"):
        run_cell(cell, mode=mode)


@env.task
async def overrides() -> list:
    other = add.override(short_name="other", retries=2, timeout=10, cache="auto", env_vars={"A": "1"}, queue="q")
    again = other.override(short_name="again").override(retries=0, timeout=0)
    kept = [task.retries.count for task in (add, other, again)]
    return [await add.override(short_name="x", resources=flyte.Resources(cpu=1))(1), await again(1), kept]


def test_override_chains_leave_the_original_alone(mode):
    """Each gives a new task, which may set values back to zero; the name of the task stays."""
    run = flyte.with_runcontext(mode=mode, disable_run_cache=True).run(overrides)

    assert run.outputs()[0] == [3, 3, [0, 2, 0]]
    assert [a.label for a in run.actions[1:]] == ["x(1)", "again(1)"]
    assert {a.task for a in run.actions[1:]} == {"calls.add"}


@pytest.mark.parametrize("setting", ["name", "image", "docs", "interface"])
def test_what_cannot_be_overridden(setting):
    """ValueError for what a task is; TypeError for what does not exist."""
    with pytest.raises(ValueError, match="cannot be overridden"):
        add.override(**{setting: "x"})
    with pytest.raises(TypeError):
        add.override(nonsense=1)


@env.task
async def plainly() -> int:
    return sync_add(1) + sync_add(2)


@pytest.mark.filterwarnings("ignore:the sync task")
def test_a_sync_task_called_plainly_in_async_code_runs(run):
    """It blocks its caller, with a warning."""
    assert run(plainly) == 7


def test_strict_sync_refuses_it(mode):
    """As Flyte does."""
    with pytest.raises(flyte.errors.SyncTaskCallInAsyncContextError):
        flyte.with_runcontext(mode=mode, strict_sync=True).run(plainly).outputs()


@env.task
async def identities() -> list[str]:
    return [await me(1), await me(1), await me(2), await me.override(short_name="x", retries=3)(1)]


@env.task
async def me(x: int) -> str:
    return flyte.ctx().action.name


@env.task
async def identities_reordered() -> list[str]:
    return sorted(await asyncio.gather(me(2), me(1), me(1), me(1)))


def test_t32_two_runs_give_the_same_names(run):
    """Equal calls are counted, overrides do not matter, and neither does the order of scheduling."""
    names = run(identities)

    assert len(set(names)) == 4
    assert names == run(identities)
    assert run(identities_reordered) == run(identities_reordered)


gpu_env = flyte.TaskEnvironment("gpus", resources=flyte.Resources(cpu=(1, 2), memory=("1Gi", "2Gi"), gpu="T4:1"))


@gpu_env.task
async def on_gpu(x: int) -> int:
    return x


@env.task
async def asks_for_gpus() -> list[int]:
    other = flyte.Resources(gpu=flyte.GPU("A100", 1))
    return await asyncio.gather(on_gpu(1), on_gpu.override(resources=other)(2))


def test_tasks_that_ask_for_gpus_run_where_nobody_counts_them(run):
    """On the embedded cluster as in local mode."""
    assert run(asks_for_gpus) == [1, 2]
