"""Run coroutines and async generators from sync code, whatever loop runs there. Runs in: everywhere."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager
from typing import Any

from flyte_nb.core.tasks.context import current

#: Items of a synchronised async generator that may be made ahead of its reader: it is a stream, not a list.
AHEAD = 1
_END = object()


def _waiting() -> AbstractContextManager[None]:
    """A wait of this thread: on a worker, its compute slot is free meanwhile."""
    context = current()
    return context.gateway.blocking() if context is not None else contextlib.nullcontext()


def run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end on a loop of its own, in a thread of its own, under a copy of the caller's context.

    A shared background loop would deadlock as soon as what runs on it calls a synchronised function itself.
    """
    return run_and_keep(coroutine, lambda _value: False)[0]


def run_and_keep(
    coroutine: Coroutine[Any, Any, Any], keeps: Callable[[Any], bool]
) -> tuple[Any, asyncio.AbstractEventLoop | None]:
    """As `run_coroutine`; the loop goes on if the value needs it, with what runs on it, until it is stopped.

    Returns:
        The value, and the loop if that goes on.
    """
    answer: dict[str, Any] = {}
    ready = threading.Event()

    def work() -> None:
        try:
            with asyncio.Runner() as runner:
                answer["value"] = runner.run(coroutine)
                if keeps(answer["value"]):
                    answer["loop"] = runner.get_loop()
                    ready.set()
                    runner.get_loop().run_forever()
        except BaseException as exc:
            answer["error"] = exc
        ready.set()

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), name="flyte-syncify", daemon=True)
    thread.start()
    with _waiting():
        ready.wait()
    if "error" in answer:
        raise answer["error"]
    return answer["value"], answer.get("loop")


def run_generator(generator: AsyncIterator[Any], loop: asyncio.AbstractEventLoop | None = None) -> Iterator[Any]:
    """The items of an async generator, as they are made: on a loop of its own, or on one that it belongs to."""
    items: queue.Queue[tuple[object, Any]] = queue.Queue(maxsize=AHEAD)
    stop = threading.Event()

    def put(kind: object, value: Any) -> None:
        while not stop.is_set():
            try:
                items.put((kind, value), timeout=0.1)
            except queue.Full:
                continue
            return

    async def drain() -> None:
        try:
            async for item in generator:
                put(None, item)
                if stop.is_set():  # one that never waits is not cancelled either
                    break
            put(_END, None)
        except BaseException as exc:
            put(exc, None)
        finally:
            if hasattr(generator, "aclose"):
                await generator.aclose()

    ending = _start(drain, loop)
    try:
        while True:
            with _waiting():
                kind, value = items.get()
            if kind is _END:
                return
            if isinstance(kind, BaseException):
                raise kind
            yield value
    finally:
        stop.set()
        ending()


def _start(
    function: Callable[[], Coroutine[Any, Any, None]], loop: asyncio.AbstractEventLoop | None
) -> Callable[[], object]:
    """Start a coroutine elsewhere; returns what ends it, also while it waits."""
    if loop is not None:
        return asyncio.run_coroutine_threadsafe(function(), loop).cancel
    began: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, Any]] = queue.SimpleQueue()

    async def run() -> None:
        began.put((asyncio.get_running_loop(), asyncio.current_task()))
        with contextlib.suppress(asyncio.CancelledError):
            await function()

    context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: context.run(asyncio.run, run()), name="flyte-syncify", daemon=True)
    thread.start()
    own, task = began.get()

    def end() -> None:
        with contextlib.suppress(RuntimeError):  # it has ended
            own.call_soon_threadsafe(task.cancel)
        thread.join()

    return end
