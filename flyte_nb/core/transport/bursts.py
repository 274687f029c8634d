"""Bursts: calls that follow one another with no user code between them, as a gather's first steps do. Runs in: caller's thread.

What they take has not changed meanwhile, as far as any code could tell: another thread that writes does it at no known moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import weakref
from collections.abc import Callable, Hashable
from types import CodeType
from typing import Any

from flyte_nb.core.transport.mailbox import running_loop

#: The coroutine functions that a call of a task is: their first step executes nothing of the user's.
CALLS: set[CodeType] = set()


class Burst(threading.local):
    """What was found unchanged in the present burst of this thread."""

    def __init__(self) -> None:
        #: By address and size, the object that it is the memory of: another one may come to lie there.
        self._found: dict[Hashable, Callable[[], object]] = {}
        #: The asyncio task that made the last call, and the one whose step comes right after.
        self._last: Callable[[], object] = _nothing
        self._next: Callable[[], object] = _nothing

    def has(self, key: Hashable, buffer: memoryview) -> bool:
        """Whether this memory was found unchanged earlier in this burst."""
        return key in self._found and self._goes_on() and self._found[key]() is buffer.obj

    def found(self, key: Hashable, buffer: memoryview) -> None:
        """This memory is as it was."""
        if not self._goes_on():
            self._found.clear()
        loop = running_loop()
        task = asyncio.current_task(loop) if loop is not None else None
        if task is not None and _is_call(task):
            with contextlib.suppress(TypeError):  # bytes and the like, which come and go
                self._found[key] = weakref.ref(buffer.obj)
            self._look_ahead(loop, task)

    def _goes_on(self) -> bool:
        loop = running_loop()
        task = asyncio.current_task(loop) if loop is not None else None
        if task is None or task not in (self._last(), self._next()) or not _is_call(task):
            return False
        self._look_ahead(loop, task)
        return True

    def _look_ahead(self, loop: Any, task: Any) -> None:
        following = _next_task(loop)
        self._last = weakref.ref(task)
        self._next = weakref.ref(following) if following is not None else _nothing


def next_call(loop: Any, ahead: int = 1) -> contextvars.Context | None:
    """The variables of the call whose first step a loop does next: no code of the user's runs on it before.

    None if it does anything else next, or if fewer callbacks than `ahead` are ready.
    """
    if len(getattr(loop, "_ready", ())) < ahead:
        return None
    task = _next_task(loop)
    if task is None or not _is_call(task) or task.cancelling():
        return None
    coroutine: Any = task.get_coro()
    begins = coroutine.cr_frame is not None and not coroutine.cr_suspended
    return loop._ready[0]._context if begins else None  # noqa: SLF001


def is_next_a_call(loop: Any) -> bool:
    """Whether a loop does a step of a call next: what its await was given, say, or that it was cancelled."""
    task = _next_task(loop)
    return task is not None and _is_call(task)


def _next_task(loop: Any) -> asyncio.Task[Any] | None:
    """The task of which a loop does a step next."""
    ready = getattr(loop, "_ready", None)  # asyncio's own loop
    found = getattr(ready[0]._callback, "__self__", None) if ready else None  # noqa: SLF001
    return found if isinstance(found, asyncio.Task) else None


def _nothing() -> None:
    """A reference to nothing."""


def _is_call(task: Any) -> bool:
    return getattr(task.get_coro(), "cr_code", None) in CALLS
