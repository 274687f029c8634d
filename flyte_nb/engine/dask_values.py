"""Dask's collections, delayed objects and futures: awaited, they are actions; as arguments, they are refused, or stay lazy.

``await ddf.sum()`` computes on the cluster, and is shown as a child of the cell or task that awaits it, with Dask's own
progress; its result is recorded as a step's, so that a retry of the task does not compute it again. By Dask's own protocol it
would give the lazy collection back; a persisted one is waited for and given back, as Dask does.

Runs in: the calling code, in the kernel and on workers; progress arrives on the loop of Dask's client.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
import uuid
from collections.abc import Callable, Generator
from typing import Any

import distributed
from dask.base import DaskMethodsMixin
from dask.core import flatten
from dask.delayed import Delayed, DelayedAttr, DelayedLeaf
from dask.utils import key_split
from distributed import futures_of
from distributed.comm.core import connect
from distributed.diagnostics.progress import Progress
from distributed.protocol.pickle import dumps as dumps_for_dask

from flyte_nb.core.history.facts import MAX_MESSAGE, ErrorNote, Phase
from flyte_nb.core.steps.step import Step, name_step
from flyte_nb.core.tasks.context import Context, current
from flyte_nb.core.transport.payload import dumps, loads, small
from flyte_nb.core.values.describe import UNSENDABLE, brief

#: Seconds between two reports of progress.
REPORT_EVERY_S = 0.5
#: Seconds in which the scheduler knows of a computation.
KNOWN_WITHIN_S = 10.0
#: Largest result that is recorded, in bytes; a larger one is computed again.
MAX_RECORDED = 8 * 1024 * 1024
#: Longest text of a result, in characters.
PREVIEW_CHARS = 300

_FUTURE = "It is a Dask future, whose value is kept by the cluster: write `await future`, or `future.result()`."
_DELAYED = "It is a dask.delayed object, which was not computed: write `await x`, or `x.compute()`."


class _DaskStep(Step):
    """One computation of Dask's that is awaited."""

    def __init__(self, context: Context, what: Any) -> None:
        key = str(getattr(what, "key", "") or getattr(what, "_name", "") or getattr(what, "name", ""))
        label = f"{type(what).__name__}({key_split(key)})" if key else type(what).__name__
        super().__init__(context, name_step(context, f"dask:{key}"), "dask", label, "dask")
        self._note = ""
        self._over = False

    def start(self) -> None:
        """It begins."""
        now = time.time()
        self.queue(now)
        self.begin(now)

    def progressed(self, done: int, total: int) -> None:
        """So many of its Dask tasks are done. On the loop of Dask's client."""
        note = f"{done:,} of {total:,} Dask tasks"
        if not self._over and note != self._note:
            self._note = note
            self.note(time.time(), note)

    def returned(self, value: Any) -> None:
        """It has a result."""
        self._over, now = True, time.time()
        try:
            payload = dumps(value)
        except Exception:
            payload = None  # it is the caller's all the same
        self.end(Phase.SUCCEEDED, now, output=small(payload), preview=brief(value, PREVIEW_CHARS))
        if payload is not None and small(payload) is None and len(payload) <= MAX_RECORDED:
            self.context.gateway.ask_home(self.context.run, "keep_result", (self.name, payload))

    def raised(self, exc: BaseException) -> None:
        """It has failed, or was cancelled."""
        self._over = True
        if isinstance(exc, (GeneratorExit, asyncio.CancelledError)):
            self.end(Phase.ABORTED, time.time())
        else:
            self.end(Phase.FAILED, time.time(), ErrorNote("user", type(exc).__name__, str(exc)[:MAX_MESSAGE]))


async def _follow(futures: list[Any], step: _DaskStep) -> None:
    """Report Dask's progress of futures at a step: the scheduler sends it, as for Dask's own bars."""
    keys, name, rounds = {future.key for future in futures}, f"flyte_nb-{uuid.uuid4().hex}", int(KNOWN_WITHIN_S / 0.05)

    # Local functions travel by value: the scheduler need not have this package.
    async def setup(scheduler: Any) -> Any:
        for _ in range(rounds):
            if keys <= scheduler.tasks.keys():
                found = Progress(keys, scheduler, complete=True, name=name)
                await found.setup()
                return found
            await asyncio.sleep(0.05)
        raise OSError("no such task")

    def look(_scheduler: Any, found: Any) -> tuple[int, int, str]:
        return len(found.all_keys), len(found.keys), str(found.status)

    def teardown(scheduler: Any, found: Any) -> None:
        scheduler.plugins.pop(found.name, None)

    client = futures[0].client
    comm = await connect(client.scheduler.address, **client.connection_args)
    try:
        functions = {"setup": setup, "function": look, "teardown": teardown}
        pickled = {word: dumps_for_dask(function) for word, function in functions.items()}
        await comm.write({"op": "feed", "interval": REPORT_EVERY_S, **pickled})
        status = "None"
        while status == "None":
            total, left, status = await comm.read()
            step.progressed(total - left, total)
    finally:
        comm.abort()


async def _computed(client: Callable[[], Any], what: Any) -> Any:
    """The value of a future, delayed object or collection: an action where there is a run to show it in."""
    __tracebackhide__ = True
    context = current()
    step = _DaskStep(context, what) if context is not None else None
    if step is not None and (record := step.record) is not None:
        return loads(record)
    if step is not None:
        step.start()
    try:
        if isinstance(what, distributed.Future):
            value = await _result(what, [what], step)
        elif futures := _persisted(what):
            await _result(None, futures, step)
            value = what
        else:
            future = client().compute(what)
            value = await _result(future, [future], step, mine=True)
    except BaseException as exc:
        if step is not None:
            step.raised(exc)
        raise
    if step is not None:
        step.returned(value)
    return value


def _persisted(what: Any) -> list[Any]:
    """The futures that a collection consists of; none if it is still to be computed, if only from data that is persisted."""
    found: list[Any] = futures_of(what)
    if not found:
        return []
    graph = what.__dask_graph__()
    parts = [graph.get(key) for key in flatten(what.__dask_keys__())]
    return found if all(isinstance(getattr(part, "value", part), distributed.Future) for part in parts) else []


async def _result(future: Any, futures: list[Any], step: _DaskStep | None, *, mine: bool = False) -> Any:
    """Wait for futures, whichever loop their client is on, and get the value of one; one of ours is cancelled with the wait."""

    async def wait() -> Any:
        telling = asyncio.ensure_future(_follow(futures, step)) if step is not None else None
        try:
            if future is None:
                return await distributed.wait(futures)
            return await future.result()  # on the client's own loop it is a coroutine
        except asyncio.CancelledError:
            if mine:
                await future.cancel()
            raise
        finally:
            if telling is not None:
                telling.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await telling

    loop = futures[0].client.loop.asyncio_loop
    if loop is asyncio.get_running_loop():
        return await wait()
    # Not in the body's context: what Dask makes there would end with it.
    return await asyncio.wrap_future(contextvars.Context().run(asyncio.run_coroutine_threadsafe, wait(), loop))


def install(client: Callable[[], Any]) -> contextlib.ExitStack:
    """Make them awaitable, by the client that is given, and refuse some as arguments; closing what is returned undoes it."""
    undo = contextlib.ExitStack()

    def of_collection(self: Any) -> Generator[Any, Any, Any]:
        return _computed(client, self).__await__()

    def of_future(self: Any) -> Generator[Any, Any, Any]:
        return _computed(client, self).__await__()

    for kind, found in ((distributed.Future, of_future), (DaskMethodsMixin, of_collection)):
        undo.callback(setattr, kind, "__await__", vars(kind)["__await__"])
        setattr(kind, "__await__", found)  # noqa: B010 - no method of that class, for mypy
    UNSENDABLE[distributed.Future] = _FUTURE
    UNSENDABLE.update(dict.fromkeys((Delayed, DelayedAttr, DelayedLeaf), _DELAYED))
    return undo
