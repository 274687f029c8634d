"""Slot time: an attempt is busy while it computes, and not while it waits."""

# Programs as users write them.
# mypy: disable-error-code="union-attr,unused-ignore"

from __future__ import annotations

import asyncio
import time

import pytest

import flyte_nb as flyte
from flyte_nb.core.history.facts import Action

env = flyte.TaskEnvironment("slot-time")


def compute(seconds: float) -> float:
    """Compute for so much time of this thread's."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
    return seconds


@env.task
async def sleeps(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@env.task
async def computes(seconds: float) -> float:
    return compute(seconds)


@env.task
def computes_sync(seconds: float) -> float:
    return compute(seconds)


@env.task
async def sleeps_then_computes(asleep: float, seconds: float) -> float:
    await asyncio.sleep(asleep)
    return compute(seconds)


@env.task
async def computes_in_helpers(seconds: float) -> float:
    async def helper() -> float:
        await asyncio.sleep(0.001)
        return compute(seconds / 3)

    return sum(await asyncio.gather(helper(), helper(), helper()))


@env.task
def sleeps_sync(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@env.task
def blocks_on_child(seconds: float) -> float:
    return sleeps_sync(seconds)


@env.task
async def awaits_child(seconds: float) -> float:
    return await sleeps(seconds)


@env.task
async def overlap() -> None:
    """Eight attempts at once, one of which computes."""
    await asyncio.gather(*(sleeps_then_computes(0.3, 0.2 if i == 3 else 0.0) for i in range(8)))


def ended(mode: str, task: object, *args: object) -> list[Action]:
    """The actions of a run, root first."""
    run = flyte.with_runcontext(mode=mode).run(task, *args)
    run.wait()
    assert run.phase == "succeeded"
    return run.actions


def took(action: Action) -> float:
    return float(action.attempt.ended_at - action.attempt.started_at)  # type: ignore[operator]


@pytest.mark.parametrize("task", [sleeps, awaits_child, blocks_on_child], ids=lambda task: task.short_name)
def test_a_suspended_action_holds_no_slot(mode, task):
    """One that only awaits is busy for a moment of its time."""
    action = ended(mode, task, 0.3)[0]

    assert took(action) >= 0.3
    assert 0 < action.attempt.busy < 0.15


@pytest.mark.parametrize("task", [computes, computes_sync, computes_in_helpers], ids=lambda task: task.short_name)
def test_an_action_that_computes_is_busy(mode, task):
    """All the time that it computes, in its helpers' asyncio tasks as well."""
    action = ended(mode, task, 0.3)[0]

    assert 0.29 <= action.attempt.busy <= took(action) + 0.01


def test_attempts_that_overlap_on_a_loop_are_told_apart(mode):
    """The slot time is that of the one that computed."""
    busy = sorted(action.attempt.busy for action in ended(mode, overlap)[1:])

    assert len(busy) == 8
    assert busy[-2] < 0.15 < 0.19 <= busy[-1]
