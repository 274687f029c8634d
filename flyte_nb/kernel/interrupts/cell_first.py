"""Cancel a cell ahead of the thousands of tasks it has started, which end after it. Runs in: kernel main thread.

A loop runs all that is ready before it looks at anything new, and a gather that is cancelled cancels all its children first:
with 100,000 calls the cell would end after the last of them, seconds later. asyncio has no public way around either; where its
attributes are missing (other loops), the cell is cancelled as usual.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context
from types import FrameType
from typing import Any

from flyte_nb.kernel.interrupts.clean_up import awaiting

#: So many steps and children are cancelled in one go: it takes about a millisecond.
FEW = 200
#: Seconds after which the others follow: the cell has been shown as ended by then.
AFTER_S = 0.1
#: Seconds within which a cell that is cancelled wakes up.
TRACED_S = 0.05


def cancel(task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop, is_own: Callable[[Context], bool]) -> None:
    """Cancel a cell's task. Called from the signal handler, while another task or none runs.

    Args:
        task: The cell's.
        loop: That it runs on.
        is_own: Whether a step with this context belongs to the cell.
    """
    put_off(task, loop, is_own)
    waiter: Any = getattr(task, "_fut_waiter", None)
    children = getattr(waiter, "_children", ())
    if len(children) <= FEW or not isinstance(waiter, asyncio.Future):
        task.cancel()
    else:
        asyncio.Future.cancel(waiter)  # and not the gather's own method
        in_turn(loop, (child.cancel for child in children))
    loop.call_soon_threadsafe(lambda: None)  # wakes it


def put_off(task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop, is_own: Callable[[Context], bool]) -> None:
    """Take the steps of a cell's other tasks out of the loop's queue, if there are many; they follow later."""
    ready = getattr(loop, "_ready", None)
    if not isinstance(ready, deque) or len(ready) <= FEW:
        return
    # The loop takes as many as there were when it began: in the place of those taken out comes one that is cancelled.
    filler = asyncio.Handle(lambda: None, (), loop)
    filler.cancel()
    own: list[Any] = []
    for _ in range(len(ready)):  # one by one: other threads append meanwhile
        handle = ready.popleft()
        if is_own(handle._context) and getattr(handle._callback, "__self__", None) is not task:  # noqa: SLF001 - see above
            own.append(handle)
            ready.append(filler)
        else:
            ready.append(handle)
    in_turn(loop, (handle._run for handle in own if not handle._cancelled))  # noqa: SLF001


def in_turn(loop: asyncio.AbstractEventLoop, calls: Iterable[Callable[[], object]]) -> None:
    """Make these calls later, a few in each round of the loop."""
    left = iter(calls)

    def some() -> None:
        batch = list(itertools.islice(left, FEW))
        for call in batch:
            call()
        if batch:
            loop.call_soon(some)

    loop.call_later(AFTER_S, some)


def insist(task: asyncio.Task[Any]) -> None:
    """Raise KeyboardInterrupt in a cell that has caught its cancellation and awaits again.

    A future knows only CancelledError; so that is replaced where it is raised, by a trace function that lives as long.
    """
    if task.done():
        return
    if sys.gettrace() is None:  # no debugger
        for frame in awaiting(task):
            frame.f_trace = _interrupted
        sys.settrace(_interrupted)
        asyncio.get_running_loop().call_later(TRACED_S, _untrace)
    task.cancel()


def _interrupted(_frame: FrameType, event: str, argument: Any) -> Any:
    if event == "exception" and issubclass(argument[0], asyncio.CancelledError):
        raise KeyboardInterrupt
    return _interrupted if event != "call" else None


def _untrace() -> None:
    if sys.gettrace() is _interrupted:
        sys.settrace(None)
