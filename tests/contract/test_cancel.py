"""Cancelling, aborting, timing out: exactly the subtree ends, its clean-up runs, the slot is free, and nothing outlives a run."""

from __future__ import annotations

import asyncio
import datetime as dt
import time

import anyio
import pytest

import flyte_nb as flyte
from tests.contract.journal import jot, lines, until, until_sync

env = flyte.TaskEnvironment("cancel")


@env.task
async def sleeper(path: str, i: int, seconds: float = 60.0) -> int:
    try:
        jot(path, f"start {i}")
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        jot(path, f"cancelled {i}")
        raise
    jot(path, f"end {i}")
    return i


@env.task
async def nested(path: str, i: int) -> int:
    try:
        jot(path, f"start {i}")
        return await sleeper(path, i + 100)
    except asyncio.CancelledError:
        jot(path, f"cancelled {i}")
        raise


@env.task
async def swallows(path: str, i: int) -> int:
    jot(path, f"start {i}")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        jot(path, f"cancelled {i}")
    return 7


@env.task
def busy(path: str, i: int) -> int:
    jot(path, f"start {i}")
    end = time.monotonic() + 60
    try:
        while time.monotonic() < end:
            time.sleep(0.001)
    except asyncio.CancelledError:
        jot(path, f"cancelled {i}")
        raise
    return i


def started(path: str, count: int):
    return until(lambda: sum(line.startswith("start") for line in lines(path)) >= count)


async def by_cancel(path: str, child) -> None:
    task = asyncio.create_task(child(path, 1))
    await started(path, 1)
    task.cancel()
    await task


async def by_wait_for(path: str, child) -> None:
    await asyncio.wait_for(child(path, 1), 0.5)


async def by_timeout(path: str, child) -> None:
    async with asyncio.timeout(0.5):
        await child(path, 1)


async def by_sibling(path: str, child) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(child(path, 1))
        await started(path, 1)
        raise KeyError("sibling")


async def by_anyio(path: str, child) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(child, path, 1)
        await started(path, 1)
        group.cancel_scope.cancel()
    raise asyncio.CancelledError


async def by_gather(path: str, child) -> None:
    gathered = asyncio.gather(*(child(path, i) for i in range(4)))
    await started(path, 4)
    gathered.cancel()
    await gathered


async def by_first_completed(path: str, child) -> None:
    waiting, quick = asyncio.create_task(child(path, 1)), asyncio.create_task(sleeper(path, 9, 0.01))
    await started(path, 2)
    done, pending = await asyncio.wait([waiting, quick], return_when=asyncio.FIRST_COMPLETED)
    assert (done, pending) == ({quick}, {waiting})
    waiting.cancel()
    await waiting


WAYS = [by_cancel, by_wait_for, by_timeout, by_sibling, by_anyio, by_gather, by_first_completed]


@env.task
async def cancels(path: str, way: object, child: object) -> str:
    try:
        await way(path, child)  # type: ignore[operator]
    except (asyncio.CancelledError, TimeoutError, ExceptionGroup):
        return "cancelled"
    return "?"


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_t28_cancelling_an_await_aborts_its_action(mode, tmp_path, way):
    """Whatever construct does it: the child sees CancelledError, and ends ABORTED."""
    path = str(tmp_path / "j")
    run = flyte.with_runcontext(mode=mode).run(cancels, path, way, sleeper)

    assert run.outputs()[0] == "cancelled"
    run.wait()
    assert {a.phase.value for a in run.actions[1:] if " 9, " not in a.label} == {"aborted"}
    begun = {line[6:] for line in lines(path) if line.startswith("start")} - {"9"}
    assert begun == {line[10:] for line in lines(path) if line.startswith("cancelled")}


@pytest.mark.parametrize("child", [nested, swallows, busy.aio], ids=["nested", "swallows", "busy"])
def test_t28_the_whole_subtree_ends(mode, tmp_path, child):
    """Descendants too; a child that swallows it; a sync body. The parent gets CancelledError in any case."""
    path = str(tmp_path / "j")
    run = flyte.with_runcontext(mode=mode).run(cancels, path, by_cancel, child)

    assert run.outputs()[0] == "cancelled"
    run.wait()
    assert {a.phase.value for a in run.actions[1:]} == {"aborted"}
    begun = {line[6:] for line in lines(path) if line.startswith("start")}
    assert begun == {line[10:] for line in lines(path) if line.startswith("cancelled")}


@env.task
async def shields(path: str) -> int:
    inner = asyncio.ensure_future(sleeper(path, 1, 0.3))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(inner), 0.05)
    return await inner


def test_shield_protects_a_child(run, tmp_path):
    """As in asyncio."""
    assert run(shields, str(tmp_path / "j")) == 1


@env.task
async def gather_fails(path: str) -> int:
    slow = asyncio.create_task(released(path))
    try:
        await asyncio.gather(slow, fails())
    except ValueError:
        jot(path, "caught")
    return await slow


@env.task
async def released(path: str) -> int:
    await until(lambda: "caught" in lines(path))
    return 1


@env.task
async def fails() -> int:
    raise ValueError("no")


def test_a_failed_gather_leaves_its_siblings_running(run, tmp_path):
    """The first error comes at once; the sibling can only end after it was caught."""
    assert run(gather_fails, str(tmp_path / "j")) == 1


@env.task
async def forgets(path: str) -> str:
    asyncio.ensure_future(sleeper(path, 1))  # noqa: RUF006 - the mistake under test
    await started(path, 1)
    return "left"


def test_t29_a_run_that_ends_leaves_nothing_running(mode, tmp_path):
    """Unfinished children are aborted, with a warning that names them."""
    path = str(tmp_path / "j")
    run = flyte.with_runcontext(mode=mode).run(forgets, path)

    assert run.outputs()[0] == "left"
    assert [a.phase.value for a in run.actions] == ["succeeded", "aborted"]
    assert lines(path) == ["start 1", "cancelled 1"]
    assert [line for line in run.get_logs() if "sleeper(" in line]


@pytest.mark.cluster
def test_aborting_a_run_ends_all_of_it(cluster, tmp_path):
    """Outputs and raise_for_status raise ActionAbortedError; wait does not."""
    path = str(tmp_path / "j")
    run = flyte.run(nested, path, 1)
    until_sync(lambda: len(lines(path)) == 2)
    run.abort(reason="enough")
    run.wait()

    assert (run.phase, run.done()) == ("aborted", True)
    assert sorted(lines(path)) == ["cancelled 1", "cancelled 101", "start 1", "start 101"]
    for ask in (run.outputs, run.raise_for_status):
        with pytest.raises(flyte.errors.ActionAbortedError, match="enough"):
            ask()


@env.task(timeout=0.3)
async def slow() -> int:
    await asyncio.sleep(60)
    return 1


@env.task(timeout=flyte.Timeout(max_runtime=dt.timedelta(seconds=0.5)), retries=1)
async def slow_at_first() -> int:
    if flyte.ctx().attempt_number == 0:
        await asyncio.sleep(60)
    return flyte.ctx().attempt_number or 0


@env.task(timeout=flyte.Timeout(deadline=dt.timedelta(seconds=0.5)), retries=1000)
async def fails_for_ever() -> int:
    await asyncio.sleep(0.05)
    raise ValueError("again")


@env.task(timeout=0.5)
async def waits_too_long(path: str) -> int:
    return await sleeper(path, 1)


@env.task(timeout=0.5)
def spins() -> int:
    while True:
        pass


@env.task
async def times_out(path: str) -> list:
    seen: list = []
    calls = (slow(), slow_at_first(), fails_for_ever(), waits_too_long(path), spins.aio(), slow.override(timeout=0.1)())
    for call in calls:
        try:
            seen.append(await call)
        except flyte.errors.TaskTimeoutError as exc:
            seen.append(exc.code)
    return seen


def test_t20_time_limits_hold_for_every_body(mode, tmp_path):
    """Sync and async, with retries, over all attempts, and for a parent whose children are aborted with it."""
    run = flyte.with_runcontext(mode=mode).run(times_out, str(tmp_path / "j"))
    runtime, deadline = "MaxRuntimeExceededError", "DeadlineExceededError"

    assert run.outputs()[0] == [runtime, 1, deadline, runtime, runtime, runtime]
    phases = [a.phase.value for a in run.actions[1:]]
    assert phases == ["timed_out", "succeeded", "timed_out", "timed_out", "aborted", "timed_out", "timed_out"]
