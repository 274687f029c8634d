"""The programs of the asynchronous model, and the rules of calls, errors, groups and cancellation."""

from __future__ import annotations

import asyncio
import functools
import os
import time

import pytest

import flyte_nb as flyte
from flyte_nb.testing import run_cell

env = flyte.TaskEnvironment("contract")


@env.task
async def process_chunk(i: int, chunk: str) -> str:
    await asyncio.sleep(0.2)
    return f"Processed chunk {i}: {chunk}"


@env.task
async def parallel_pipeline(data: list[str]) -> list[str]:
    return await asyncio.gather(*(process_chunk(i, chunk) for i, chunk in enumerate(data)))


@env.task
def polynomial(x: int) -> int:
    return x * x + 2 * x + 1


@env.task
async def gather_sync() -> list[int]:
    return await asyncio.gather(*(polynomial.aio(x) for x in range(1, 6)))


@env.task
def process_item(i: int) -> int:
    if i == 13:
        raise ValueError("thirteen")
    return i * 2


@env.task
def sync_map(n: int) -> list[int]:
    return list(flyte.map(process_item, range(n)))


@env.task
async def async_map(n: int) -> list[str]:
    results = [r async for r in flyte.map.aio(process_item, range(n), return_exceptions=True)]
    return [str(r) for r in results]


@env.task
async def all_four() -> list:
    return [await parallel_pipeline(["data1", "data2", "data3"]), await gather_sync(), sync_map(4), await async_map(3)]


@pytest.mark.filterwarnings("ignore:the sync task")
def test_the_four_programs(run):
    """Gather, sync through .aio, map in sync and in async code, and one main task that calls all four (T16, T19, T21, T22)."""
    expected = [f"Processed chunk {i}: data{i + 1}" for i in range(3)]

    assert [expected, [4, 9, 16, 25, 36], [0, 2, 4, 6], ["0", "2", "4"]] == run(all_four)


@env.task
async def fib(n: int) -> int:
    if n < 2:
        return n
    a, b = await asyncio.gather(fib(n - 1), fib(n - 2))
    return a + b


def test_recursion_far_beyond_the_slots_completes(run):
    """Depth times width beyond the slots finishes, since a waiting parent holds none (T14)."""
    assert 21 == run(fib, 8)


@env.task
def sync_fib(n: int) -> int:
    return n if n < 2 else sync_fib(n - 1) + sync_fib(n - 2)


def test_sync_recursion_completes(run):
    """Sync parents block without holding a slot."""
    assert 5 == run(sync_fib, 5)


@env.task
def runs_a_loop(x: int) -> int:
    return asyncio.run(fib(x))


def test_asyncio_run_in_a_sync_body_makes_real_children(run):
    """asyncio.run(child()) works inside a sync task (T20)."""
    assert 3 == run(runs_a_loop, 4)


@env.task
async def tools() -> list:
    async with asyncio.TaskGroup() as group:
        first = group.create_task(fib(2))
    done = sorted([await each for each in asyncio.as_completed([fib(1), fib(3)])])
    gate = asyncio.Semaphore(1)

    async def limited(n: int) -> int:
        async with gate:
            return await fib(n)

    both = await asyncio.gather(limited(2), limited(3))
    waited = await asyncio.wait_for(fib(2), 30)
    return [first.result(), done, both, waited]


def test_asyncios_own_tools_work(run):
    """TaskGroup, as_completed, Semaphore, wait_for need no code of ours (T12)."""
    assert [1, [1, 2], [1, 2], 1] == run(tools)


@env.task
async def fails(x: int) -> int:
    raise KeyError(f"missing {x}")


@env.task
async def catches() -> list[str]:
    seen: list = []
    try:
        await fails(1)
    except KeyError as exc:
        seen.append(type(exc).__name__)
        seen.append(exc.code)  # type: ignore[attr-defined]
    try:
        await fails(2)
    except flyte.errors.RuntimeUserError as exc:
        seen.append(exc.code)
    results = await asyncio.gather(fails(3), fib(2), return_exceptions=True)
    seen.append(type(results[0]).__mro__[1].__name__)
    seen.append(results[1])
    return [str(s) for s in seen]


def test_errors_are_both_flytes_and_their_own(run):
    """except KeyError and except RuntimeUserError both catch a child's failure (T27)."""
    seen = run(catches)

    assert ["KeyError", "KeyError", "1"] == [seen[1], seen[2], seen[4]]


def test_an_uncaught_error_is_raised_by_outputs(mode):
    """The task's own error reaches the caller of run, or of outputs on a cluster."""
    with pytest.raises(KeyError) as caught:
        flyte.with_runcontext(mode=mode).run(fails, 7).outputs()

    assert isinstance(caught.value, flyte.errors.RuntimeUserError)


@env.task
async def copies(values: list[int]) -> list[int]:
    values.append(99)
    return values


@env.task
async def keeps() -> list:
    mine = [1, 2]
    theirs = await copies(mine)
    return [mine, theirs]


def test_arguments_and_results_are_copies(run):
    """What a child does to its argument never shows in the parent."""
    assert [[1, 2], [1, 2, 99]] == run(keeps)


@env.task
async def sleeper(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@env.task
async def impatient() -> str:
    try:
        await asyncio.wait_for(sleeper(60.0), 0.3)
    except TimeoutError:
        return "gave up"
    return "?"


def test_wait_for_cancels_its_child(mode):
    """A cancelled await aborts its action (T28), and the run can end."""
    run = flyte.with_runcontext(mode=mode).run(impatient)

    assert "gave up" == run.outputs()[0]
    assert ["aborted"] == [a.phase.value for a in run.actions if a.task == "contract.sleeper"]


@env.task
async def forgets() -> str:
    asyncio.ensure_future(sleeper(60.0))  # noqa: RUF006 - the mistake under test
    await asyncio.sleep(0.2)
    return "left"


def test_a_run_that_ends_leaves_nothing_running(mode):
    """Unfinished children are aborted, with a warning that names them (T29)."""
    run = flyte.with_runcontext(mode=mode).run(forgets)

    assert "left" == run.outputs()[0]
    assert ["aborted"] == [a.phase.value for a in run.actions if a.task == "contract.sleeper"]
    assert [line for line in run.get_logs() if "sleeper(60.0)" in line]


@env.task(retries=2)
async def flaky() -> int:
    attempt = flyte.ctx().attempt_number or 0
    if attempt < 2:
        raise ConnectionError(f"attempt {attempt}")
    return attempt


def test_retries_are_visible_attempts(mode):
    """Two failures, then success: three attempts on one action."""
    run = flyte.with_runcontext(mode=mode).run(flaky)

    assert 2 == run.outputs()[0]
    root = run.actions[0]
    assert [0, 1, 2] == [a.number for a in (*root.earlier, root.attempt)]


@env.task(timeout=1)
def too_slow() -> int:
    end = time.time() + 30
    while time.time() < end:
        pass
    return 1


def test_max_runtime_stops_a_busy_sync_body(mode):
    """A CPU-bound body is interrupted, and the caller gets a TaskTimeoutError."""
    with pytest.raises(flyte.errors.MaxRuntimeExceededError):
        flyte.with_runcontext(mode=mode).run(too_slow).outputs()


@env.task
async def scale(x: int, factor: int) -> int:
    return x * factor


@env.task
async def grouped() -> list[str]:
    with flyte.group("inner"):
        await scale(1, 2)
    names = [r async for r in flyte.map.aio(functools.partial(scale, factor=3), range(3), concurrency=1)]
    return [str(n) for n in names]


def test_groups_are_recorded(mode):
    """flyte.group and flyte.map tag their actions; a partial maps over its free parameter (T25)."""
    run = flyte.with_runcontext(mode=mode).run(grouped)

    assert ["0", "3", "6"] == run.outputs()[0]
    assert ["inner"] + 3 * ["contract.scale_map"] == [a.group for a in run.actions[1:]]


def test_names_do_not_depend_on_the_run(mode):
    """Two runs of a program give the same action names (T32)."""
    names = []
    for _ in range(2):
        run = flyte.with_runcontext(mode=mode).run(gather_twice)
        run.wait()
        names.append([a.name for a in run.actions])

    assert sorted(names[0]) == sorted(names[1])


@env.task
async def gather_twice() -> int:
    return sum(await asyncio.gather(fib(3), fib(3)))


def test_a_cell_is_a_root(mode):
    """Awaiting tasks in a cell submits actions, in order of arguments."""

    async def cell():
        return await asyncio.gather(*(scale(x, 10) for x in range(5)))

    assert [0, 10, 20, 30, 40] == run_cell(cell, mode=mode)


def test_outside_any_run_a_task_is_its_function():
    """Plain Python, as in Flyte (T30)."""
    assert 16 == polynomial(3)
    assert 6 == asyncio.run(scale(2, 3))
    assert [0, 2, 4] == list(flyte.map(process_item, range(3)))


def test_wrong_arguments_are_named_before_anything_runs(mode):
    """The error names the task and the parameter, and is a TypeError."""

    async def cell():
        await scale(1)  # type: ignore[call-arg]

    with pytest.raises(TypeError, match="factor"):
        run_cell(cell, mode=mode)


def test_an_argument_that_cannot_be_pickled_is_named(mode):
    """The message names the argument and what to do."""
    import threading

    @env.task
    async def takes(lock: object) -> int:
        return 1

    async def cell():
        await takes({"inner": threading.Lock()})

    with pytest.raises(flyte.errors.SerializationError, match="'lock'"):
        run_cell(cell, mode=mode)


@env.task
def pid() -> int:
    time.sleep(0.05)
    return os.getpid()


@pytest.mark.cluster
def test_work_runs_in_other_processes(cluster):
    """Two worker processes do the work, and neither is this one (T6)."""

    async def cell():
        return await asyncio.gather(*(pid.aio() for _ in range(8)))

    pids = set(run_cell(cell))

    assert 2 == len(pids)
    assert os.getpid() not in pids


@pytest.mark.cluster
def test_ten_thousand_no_ops_keep_their_order(cluster):
    """A large map on bundles gives every result once, in order."""

    async def cell():
        return [r async for r in flyte.map.aio(scale_one, range(10_000))]

    assert list(range(10_000)) == run_cell(cell)


@env.task
async def doubled(values: object, extra: bytes) -> object:
    return values * 2  # type: ignore[operator]


def test_large_arrays_cross_both_ways(mode):
    """An array above any inline limit arrives as a writable copy, and so does the result."""
    import numpy as np

    values = np.arange(2_000_000, dtype="float64")

    async def cell():
        return await asyncio.gather(doubled(values, b""), doubled(values, b"x"))

    first, second = run_cell(cell, mode=mode)
    first[0] = 7

    assert (values * 2 == second).all()


@env.task
async def scale_one(x: int) -> int:
    return x
