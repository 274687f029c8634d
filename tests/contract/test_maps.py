"""flyte.map: order, errors as values, groups, concurrency, partials, early ends; in sync and async code, in and outside tasks."""

# Programs as users write them.
# ruff: noqa: PERF401, PERF402
# mypy: disable-error-code="attr-defined,list-item,misc,unreachable,unused-ignore"

from __future__ import annotations

import asyncio
import functools
import itertools
import operator

import pytest

import flyte_nb as flyte
from flyte_nb.testing import run_cell
from tests.contract.journal import jot, lines, peak, until

env = flyte.TaskEnvironment("maps")


@env.task
async def inc(x: int) -> int:
    if x == 13:
        raise ValueError("thirteen")
    return x + 1


@env.task
def add(x: int, y: int = 1) -> int:
    return x + y


def sync_forms() -> list:
    return [
        list(flyte.map(inc, range(4))),
        list(flyte.map(add, range(3))),
        list(flyte.map(inc, [])),
        list(flyte.map(inc)),
        list(flyte.map(add, [1, 2, 3], [10, 20])),
        list(flyte.map(functools.partial(add, y=5), range(3), concurrency=2)),
        list(flyte.map(functools.partial(add, 5), range(3), concurrency=1)),
        list(flyte.map(inc, (i for i in range(4)), concurrency=-1)),
    ]


async def async_forms() -> list:
    return [
        [r async for r in flyte.map.aio(inc, range(4))],
        [r async for r in flyte.map.aio(add, range(3))],
        [r async for r in flyte.map.aio(inc, [])],
        [r async for r in flyte.map.aio(inc)],
        [r async for r in flyte.map.aio(add, [1, 2, 3], [10, 20])],
        [r async for r in flyte.map.aio(functools.partial(add, y=5), range(3), concurrency=2)],
        [r async for r in flyte.map.aio(functools.partial(add, 5), range(3), concurrency=1)],
        [r async for r in flyte.map.aio(inc, (i for i in range(4)), concurrency=-1)],
    ]


EXPECTED = [[1, 2, 3, 4], [1, 2, 3], [], [], [11, 22], [5, 6, 7], [5, 6, 7], [1, 2, 3, 4]]


@env.task
def in_sync() -> list:
    return sync_forms()


@env.task
async def in_async() -> list:
    return await async_forms()


@env.task
async def sync_in_async() -> list:
    return sync_forms()


@pytest.mark.parametrize("task", [in_sync, in_async, sync_in_async], ids=lambda task: task.short_name)
def test_t21_t22_t23_map_in_every_combination(run, task):
    """Sync and async tasks, partials, several iterables, none; in sync and in async parents."""
    assert run(task) == EXPECTED


def test_t23_map_outside_any_task():
    """It calls the functions directly, in and outside a running loop."""

    async def in_a_loop() -> list:
        return sync_forms()

    assert sync_forms() == EXPECTED
    assert asyncio.run(async_forms()) == EXPECTED
    assert asyncio.run(in_a_loop()) == EXPECTED
    assert [type(r).__name__ for r in flyte.map(inc, [12, 13])] == ["int", "ValueError"]


@env.task
async def counts_failures(numbers: list[int]) -> list:
    results = [r async for r in flyte.map.aio(inc, numbers)]
    failed = [r for r in results if isinstance(r, Exception)]
    return [len(failed), [r for r in results if not isinstance(r, Exception)], type(failed[0]).__name__, failed[0].code]  # type: ignore[attr-defined]


@env.task
async def raises(numbers: list[int]) -> list:
    seen: list = []
    try:
        for r in flyte.map(inc, numbers, return_exceptions=False, concurrency=1):
            seen.append(r)
    except ValueError as exc:
        seen.append(str(exc))
    try:
        async for r in flyte.map.aio(inc, numbers, return_exceptions=False, concurrency=1):
            seen.append(r)
    except flyte.errors.RuntimeUserError as exc:
        seen.append(exc.code)
    return seen


def test_an_endless_generator_is_mapped_outside_any_task_too():
    """What is under way is bounded, so results come."""

    async def first() -> object:
        results = flyte.map.aio(inc, (i for i in itertools.count(100)))
        found = await anext(results)
        await results.aclose()
        return found

    assert 101 == next(flyte.map(inc, (i for i in itertools.count(100)))) == asyncio.run(first())


def test_t24_failures_are_values_unless_asked_otherwise(run):
    """The default yields them in place; return_exceptions=False raises the first."""
    assert run(counts_failures, [1, 13, 2]) == [1, [2, 3], "RuntimeUserError", "ValueError"]
    assert run(raises, [12, 13, 14]) == [13, "thirteen", 13, "ValueError"]


def _is_not_made() -> None:
    raise StopIteration


class Refuses:
    """Pickles, and ends whatever takes a StopIteration for an end where it is to be made again."""

    def __reduce__(self):
        return _is_not_made, ()


@env.task
def refuses(x: int) -> object:
    return Refuses() if x in {5, 200} else x


async def maps_what_cannot_be_made() -> list:
    found = list(flyte.map(refuses, range(300)))
    found_aio = [r async for r in flyte.map.aio(refuses, range(300))]
    return [
        [len(each), *(r if isinstance(r, int) else type(r).__name__ for r in each[4:7])] for each in (found, found_aio)
    ]


def test_a_result_that_cannot_be_made_here_cuts_no_list_short(mode):
    """Of many alike calls, whose results come together."""
    assert run_cell(maps_what_cannot_be_made, mode=mode) == [[300, 4, "RebuildError", 6]] * 2


@env.task
async def computes_with_errors() -> set[str]:
    (error,) = [r async for r in flyte.map.aio(inc, [13])]
    seen = set()
    for operation in (operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv):
        for pair in ((error, 1), (1, error)):
            try:
                operation(*pair)
                seen.add("no error")
            except ValueError as exc:
                seen.add(str(exc))
    try:
        sum(flyte.map(inc, [1, 13]))
    except flyte.errors.RuntimeUserError as exc:
        seen.add(exc.code)
    return seen


def test_t24_arithmetic_on_an_error_raises_it(run):
    """So sum() over a map surfaces the failure."""
    assert run(computes_with_errors) == {"thirteen", "ValueError"}


@env.task
async def grouped() -> None:
    with flyte.group("around"):
        list(flyte.map(inc, range(2)))
        [r async for r in flyte.map.aio(functools.partial(add, y=1), range(2), group_name="mine")]
        await inc(5)


def test_t25_the_items_of_a_map_share_a_group(mode):
    """``<task>_map``, or ``<task>_<group_name>``; it replaces the one around it."""
    run = flyte.with_runcontext(mode=mode).run(grouped)
    run.wait()

    assert [a.group for a in run.actions[1:]] == [*2 * ["maps.inc_map"], *2 * ["maps.add_mine"], "around"]


@env.task
async def passes(path: str, i: int) -> int:
    jot(path, f"in {i}")
    await asyncio.sleep(0.005)
    jot(path, f"out {i}")
    return i


@env.task
async def bounded(path: str, limit: int, sync: bool) -> list[int]:
    one = functools.partial(passes, path)
    if sync:
        return list(flyte.map(one, range(12), concurrency=limit))
    return [r async for r in flyte.map.aio(one, range(12), concurrency=limit)]


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("limit", [1, 3])
def test_t26_concurrency_bounds_what_runs_at_once(run, tmp_path, limit, sync):
    """Never more than asked for, all of them, in order."""
    path = str(tmp_path / "j")

    assert run(bounded, path, limit, sync) == list(range(12))
    assert peak(path) == limit


@env.task
async def endless() -> list[list[int]]:
    results = flyte.map(inc, itertools.count(), concurrency=2)
    first = [next(results) for _ in range(3)]
    results.close()
    more = flyte.map.aio(inc, itertools.count(), concurrency=2)
    second = [await anext(more) for _ in range(3)]
    await more.aclose()
    return [first, second]


def test_endless_inputs_are_taken_as_needed(run):
    """Where concurrency bounds what is in flight."""
    assert run(endless) == [[1, 2, 3], [1, 2, 3]]


@env.task
async def slow_to_clean(path: str, i: int) -> int:
    try:
        jot(path, f"start {i}")
        await until(lambda: len(lines(path)) >= 4)
        if i == 0:
            return 0
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(0.1)
        jot(path, f"cleaned {i}")
        raise
    return i


@env.task
async def fails_among_slow(path: str, i: int) -> int:
    if i != 1:
        return await slow_to_clean.func(path, i)
    jot(path, "start 1")
    await until(lambda: len(lines(path)) >= 4)
    raise ValueError("one")


@env.task
async def ends_early(path: str, how: str) -> list[str]:
    one = functools.partial(slow_to_clean, path)
    if how == "aclose":
        results = flyte.map.aio(one, range(4))
        await anext(results)
        await results.aclose()
    elif how == "break":
        for _ in flyte.map(one, range(4)):
            break
    elif how == "close":
        items = flyte.map(one, range(4))
        next(items)
        items.close()
    elif how == "failure":
        with pytest.raises(ValueError, match="one"):
            [
                r
                async for r in flyte.map.aio(
                    functools.partial(fails_among_slow, path), range(4), return_exceptions=False
                )
            ]
    else:
        consumer = asyncio.create_task(consumes(one))
        await until(lambda: len(lines(path)) >= 4)
        consumer.cancel()
        await asyncio.wait([consumer])
    return sorted(line for line in lines(path) if not line.startswith("start"))


async def consumes(one) -> list[int]:
    return [r async for r in flyte.map.aio(one, range(4))]


@pytest.mark.parametrize("how", ["aclose", "break", "close", "failure", "cancel"])
def test_a_map_that_ends_early_cancels_its_items_and_waits_for_them(run, tmp_path, how):
    """Their clean-up is over when the loop has been left."""
    left = run(ends_early, str(tmp_path / "j"), how)

    finished = {"cleaned 0"}  # or cancelled, if it had not ended yet
    assert set(left) - finished == {f"cleaned {i}" for i in ((2, 3) if how == "failure" else (1, 2, 3))}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (add, "must leave exactly one|missing|argument"),
        (functools.partial(add, 1, 2), "must leave exactly one"),
        (functools.partial(add, x=1), "provided both as positional"),
        (len, "takes a task"),
    ],
)
def test_what_cannot_be_mapped_is_refused_at_the_call(target, message):
    """As a TypeError, and before anything is iterated over."""
    target = functools.partial(target) if target is add else target
    for call in (flyte.map, flyte.map.aio):
        with pytest.raises(TypeError, match=message):
            call(target, [1])
