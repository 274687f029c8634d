"""Asyncio locks of a module, reused on a new event loop. Runs in: local mode, worker processes.

Flyte runs all of a process's coroutines on one loop; here each attempt (in local mode) or each lane (on a worker) has its own.
Python binds a lock to the loop that first waited on it and refuses every other one for ever, so that a module's
``limit = asyncio.Semaphore(3)`` served the first action only. Here it is bound anew, unless something awaits it right now.
"""

from __future__ import annotations

import asyncio
from asyncio import mixins
from typing import Any

#: Attributes in which the primitives keep what awaits them.
_WAITING = ("_waiters", "_getters", "_putters")


def allow_other_loops() -> None:
    """Let asyncio's locks, events, semaphores, conditions and queues be bound to another loop. Idempotent."""
    mixin: Any = vars(mixins)["_LoopBoundMixin"]
    mixin._get_loop = _get_loop  # noqa: SLF001 - there is no public way


def _get_loop(self: Any) -> asyncio.AbstractEventLoop:
    loop = asyncio.get_running_loop()
    bound = self._loop
    if bound is None or (bound is not loop and (bound.is_closed() or not _is_awaited(self))):
        self._loop = loop
    elif bound is not loop:
        raise RuntimeError(f"{self!r} is bound to a different event loop")
    return loop


def _is_awaited(primitive: Any) -> bool:
    return any(getattr(primitive, name, None) for name in _WAITING)
