"""Dask inside tasks: a body that blocks in a Dask client gives its slot back, and never waits for a thread of Dask's.

``get_worker``, ``get_client``, ``worker_client``, ``dask.compute`` work in a task as in one of Dask's own: they find the worker
by a context variable (`enter`). What differs is mended here: Dask knows nothing of slots, and its coroutines would run
in the context of the body that called, whose threads and output end with it.

Runs in: worker process.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import distributed
from dask.utils import parse_timedelta
from distributed import threadpoolexecutor
from distributed.worker import _worker_cvar

from flyte_nb.core.attempts.family import running
from flyte_nb.worker import slots

#: Seconds between two moments at which an interrupt reaches a thread that waits for Dask.
SLICE_S = 0.05


def enter(variables: contextvars.Context, worker: Any) -> None:
    """Have ``get_worker()`` and what rests on it find the worker, in a body's context."""
    variables.run(_worker_cvar.set, worker)


def install() -> contextlib.ExitStack:
    """Mend Dask in this process; closing what is returned undoes it."""
    undo = contextlib.ExitStack()
    plain = distributed.utils.sync
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == "distributed"]:
        for name, old, new in (
            ("sync", plain, functools.partial(_sync, plain)),
            ("tpe_secede", threadpoolexecutor.secede, _secede),
            ("secede", threadpoolexecutor.secede, _secede_anew),
            ("secede", distributed.secede, _secede_worker),
            ("rejoin", threadpoolexecutor.rejoin, _rejoin),
        ):
            if module is not threadpoolexecutor and vars(module).get(name) is old:
                undo.callback(setattr, module, name, old)
                setattr(module, name, new)
    each = distributed.as_completed.__next__

    def following(self: Any) -> Any:
        with slots.suspended():
            return each(self)

    for name in ("__next__", "next"):
        undo.callback(setattr, distributed.as_completed, name, each)
        setattr(distributed.as_completed, name, following)
    return undo


def _sync(
    plain: Callable[..., Any], loop: Any, func: Callable[..., Any], *args: Any, callback_timeout: Any = None, **kwargs: Any
) -> Any:  # fmt: skip
    """As Dask's: call an asynchronous function on a loop, and wait; without the slot meanwhile."""
    if slots.of_this_thread() is None and running() is None:
        return plain(loop, func, *args, callback_timeout=callback_timeout, **kwargs)
    timeout = parse_timedelta(callback_timeout, "s")

    async def call() -> Any:
        return await asyncio.wait_for(func(*args, **kwargs), timeout)

    found: Future[Any] = contextvars.Context().run(asyncio.run_coroutine_threadsafe, call(), loop.asyncio_loop)
    try:
        with slots.suspended():
            while not found.done():
                with contextlib.suppress(TimeoutError):
                    found.result(SLICE_S)
    except BaseException:  # it was stopped
        found.cancel()
        raise
    return found.result()


def _secede() -> None:
    """As of Dask's pool; a lane has left it as soon as it waits, and a body's thread was never in it."""
    if running() is None:
        threadpoolexecutor.secede()


_plain_secede = distributed.secede


def _secede_worker() -> None:
    if running() is None:
        _plain_secede()


def _secede_anew() -> None:
    """As ``worker_client`` wants it: a KeyError where there is nothing to come back to."""
    if running() is not None:
        raise KeyError("a lane has left Dask's pool of threads for good")
    threadpoolexecutor.secede()


def _rejoin() -> None:
    if running() is None:
        threadpoolexecutor.rejoin()
