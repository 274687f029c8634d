"""Stacks of running threads and of suspended coroutines say where things are, without disturbing them."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any

import pytest

from flyte_nb.core.attempts import stacks
from flyte_nb.core.attempts.stacks import Stack, coroutine_stack, format_stack, thread_stack
from flyte_nb.core.failures import wording


async def leaf(event: asyncio.Event) -> None:
    await event.wait()


async def middle(event: asyncio.Event) -> None:
    await leaf(event)


async def items(event: asyncio.Event) -> AsyncIterator[int]:
    await leaf(event)
    yield 1


async def iterates(event: asyncio.Event) -> None:
    async for _ in items(event):
        pass


async def gathers(event: asyncio.Event) -> None:
    await asyncio.gather(leaf(event), leaf(event), asyncio.sleep(0))


async def awaits_a_task(event: asyncio.Event) -> None:
    await asyncio.create_task(middle(event))


async def waits_with_timeout(event: asyncio.Event) -> None:
    await asyncio.wait_for(middle(event), 60)


async def in_a_group(event: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(leaf(event))
        group.create_task(leaf(event))


async def waits_for_several(event: asyncio.Event) -> None:
    await asyncio.wait({asyncio.ensure_future(leaf(event)) for _ in range(2)})


class Wrapper:
    def __init__(self, event: asyncio.Event) -> None:
        self.event = event

    def __await__(self) -> Generator[Any, None, None]:
        return middle(self.event).__await__()


async def awaits_an_object(event: asyncio.Event) -> None:
    await Wrapper(event)


async def looked_at(function: Callable[[asyncio.Event], Awaitable[None]]) -> Stack:
    """The stack of a task that has come to rest."""
    event = asyncio.Event()
    task = asyncio.ensure_future(function(event))
    for _ in range(10):
        await asyncio.sleep(0)
    try:
        return coroutine_stack(task)
    finally:
        event.set()
        await task


@pytest.mark.parametrize(
    ("function", "names", "waits_for"),
    [
        (leaf, ["leaf"], "asyncio.Event.wait"),
        (middle, ["middle", "leaf"], "asyncio.Event.wait"),
        (iterates, ["iterates", "items", "leaf"], "asyncio.Event.wait"),
        (gathers, ["gathers"], "asyncio.gather: 2 of 3 unfinished"),
        (awaits_a_task, ["awaits_a_task", "middle", "leaf"], "asyncio.Event.wait"),
        (waits_with_timeout, ["waits_with_timeout", "middle", "leaf"], "asyncio.Event.wait"),
        (in_a_group, ["in_a_group"], "asyncio.TaskGroup: 2 unfinished"),
        (waits_for_several, ["waits_for_several"], "asyncio.wait: 2 of 2 unfinished"),
        (awaits_an_object, ["awaits_an_object", "middle", "leaf"], "asyncio.Event.wait"),
    ],
)
async def test_a_suspended_task_is_followed_to_what_it_waits_for(
    function: Callable[[asyncio.Event], Awaitable[None]], names: list[str], waits_for: str
) -> None:
    """Through coroutines, generators, tasks and asyncio's own functions."""
    stack = await looked_at(function)

    assert stack.state == "suspended"
    assert [frame.name for frame in stack.frames if frame.is_user] == names
    assert stack.waits_for == waits_for


async def test_a_future_of_unknown_origin_is_called_so() -> None:
    """Nothing tells what made it."""

    async def waits(event: asyncio.Event) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0, lambda: None)
        waiter = asyncio.ensure_future(event.wait())
        waiter.add_done_callback(lambda _: future.set_result(None))
        await future

    stack = await looked_at(waits)

    assert stack.waits_for == "a future"
    assert format_stack(stack).endswith("waits for a future")


async def test_a_running_coroutine_is_followed_into_what_it_calls() -> None:
    """Plain functions that it is in at this moment."""
    seen: list[Stack] = []

    def helper(task: asyncio.Task[None] | None) -> None:
        seen.append(coroutine_stack(task))

    async def runs() -> None:
        helper(asyncio.current_task())

    await asyncio.create_task(runs())

    (stack,) = seen
    assert stack.state == "running"
    assert [frame.name for frame in stack.frames if frame.is_user][:2] == ["runs", "helper"]


async def test_a_coroutine_that_ended_has_no_stack() -> None:
    """And says so."""
    task = asyncio.create_task(asyncio.sleep(0))
    await task

    assert coroutine_stack(task) == Stack((), "ended")


def test_a_thread_shows_the_users_frames() -> None:
    """Those of the threading module are counted."""
    started, release = threading.Event(), threading.Event()

    def blocks() -> None:
        started.set()
        release.wait()

    thread = threading.Thread(target=blocks)
    thread.start()
    started.wait()
    assert thread.ident is not None
    try:
        stack = thread_stack(thread.ident)
    finally:
        release.set()
        thread.join()

    assert stack.state == "running"
    assert [frame.name for frame in stack.frames if frame.is_user] == ["blocks"]
    assert stack.where.endswith("in blocks")
    text = format_stack(stack)
    assert text.startswith("running\n")
    assert "in blocks" in text
    assert "hidden)" in text
    assert any(frame.filename.endswith("threading.py") for frame in stack.frames)
    assert pickle.loads(pickle.dumps(stack)) == stack
    assert thread_stack(thread.ident).state == "ended"


def test_a_deep_stack_is_bounded() -> None:
    """Both ends, and a count."""
    found: list[Stack] = []

    def dive(depth: int) -> None:
        if depth:
            dive(depth - 1)
        else:
            found.append(thread_stack(threading.get_ident()))

    dive(600)

    (stack,) = found
    assert len(stack.frames) == stacks.MAX_STACK_FRAMES
    assert stack.left_out > 200
    assert len(format_stack(stack).splitlines()) < 60
    assert "more frames" in format_stack(stack)


def test_file_names_are_worded_as_the_kernel_says() -> None:
    """Cells by their number."""
    wording.configure(wording.Presentation(file=lambda name: "Cell In[3]"))
    try:
        stack = Stack((stacks.StackFrame("/tmp/ipykernel_1/2.py", 4, "work", "user", "x = 1"),), "suspended")
        assert format_stack(stack) == "suspended\n  Cell In[3]:4 in work\n    x = 1"
    finally:
        wording.configure(wording.Presentation())


COLLECTED = """
import faulthandler, gc, threading
from flyte_nb.core.attempts.stacks import frames_of_threads
faulthandler.dump_traceback_later(60, exit=True)
class Cycle: pass
def deep(n):
    if n: return deep(n - 1)
    gc.set_threshold(1, 1000, 1000)
    return frames_of_threads()
for _ in range(300):
    gc.disable()
    for _ in range(20):
        one = Cycle(); one.local = threading.local(); one.local.x = 1; one.me = one; del one
    spare = [{} for _ in range(5)]; del spare
    gc.enable()
    deep(3)
    assert gc.isenabled()
    gc.set_threshold(700)
"""


def test_the_collector_does_not_stand_in_the_way_of_a_look() -> None:
    """Python's own function would stand still for ever, as soon as it is run within it and finds a `threading.local`."""
    subprocess.run([sys.executable, "-c", COLLECTED], check=True, timeout=120)
