"""Run coroutines and async generators from sync code, whatever loop runs there. Runs in: everywhere."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
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
    answer: dict[str, Any] = {}

    def work() -> None:
        try:
            answer["value"] = asyncio.run(coroutine)
        except BaseException as exc:
            answer["error"] = exc

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), name="flyte-syncify", daemon=True)
    thread.start()
    with _waiting():
        thread.join()
    if "error" in answer:
        raise answer["error"]
    return answer["value"]


def run_generator(generator: AsyncIterator[Any]) -> Iterator[Any]:
    """The items of an async generator, as they are made."""
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
                if stop.is_set():
                    break
            put(_END, None)
        except BaseException as exc:
            put(exc, None)

    context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: context.run(asyncio.run, drain()), name="flyte-syncify", daemon=True)
    thread.start()
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
        thread.join()
