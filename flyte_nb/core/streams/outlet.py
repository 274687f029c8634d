"""Outlet: the producer's end of a stream, which yields in a body and waits while its consumer is behind. Runs in: worker.

The body's thread puts items in, the loop of its host sends what has collected since the last time as one message: an item
that comes alone travels at once, a thousand that come together travel together. ``took`` tells how many items the consumer
has taken so far; a producer that is ahead by `buffer` items, or `BUFFER_BYTES`, waits, without a slot.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Any

from flyte_nb.core.interface.interface import Interface
from flyte_nb.core.transport.blobs import Results
from flyte_nb.core.transport.mailbox import mailbox_of
from flyte_nb.core.transport.payload import Packed, Payload, UnpicklableError, dumps, key_bytes, nbytes
from flyte_nb.core.values.describe import brief
from flyte_nb.core.values.value_hash import content_hash

#: Items that a producer may be ahead of its consumer, unless its task says otherwise (``buffer=``); and bytes.
BUFFER, BUFFER_BYTES = 256, 64 * 1024 * 1024
#: Seconds after which an asynchronous producer that never waits lets its loop do other work.
TURN_S = 0.01
#: Seconds between two looks at the latest item for the views, and the longest text of it, in characters.
SHOW_EVERY_S, SHOWN_CHARS = 0.1, 80
#: Seconds that a body which is to end has for reaching its next ``yield``, where it gets GeneratorExit; then its ``await`` is
#: cancelled.
LEAVE_S = 0.3

#: An item, and a digest of it and all before it.
Item = tuple[Payload, bytes]


class Outlet:
    """One attempt's.

    Args:
        name: Of the task.
        interface: Checks items.
        buffer: Items that it may be ahead.
        results: Makes gifts of items' large buffers.
        send: Sends items to the owner, with the number of the first one; called by what `post` was given.
        post: Calls a function on the loop of the host, behind what it was given before and before the attempt's end.
        blocking: Entered around every wait of a thread.
    """

    def __init__(
        self, name: str, interface: Interface, buffer: int, results: Results, send: Callable[[int, list[Item]], object],
        post: Callable[..., object], blocking: Callable[[], AbstractContextManager[None]],
    ) -> None:  # fmt: skip
        self._name = name
        self._interface = interface
        self._buffer = buffer
        self._results = results
        self._send = send
        self._post = post
        self._blocking = blocking
        self._lock = threading.Lock()
        self._unsent: list[Item] = []
        #: Sizes of the items that were put in and not taken, oldest first; and their sum.
        self._sizes: deque[int] = deque()
        self._nbytes = 0
        #: Items put in so far; taken by the consumer.
        self.count = 0
        self._taken = 0
        self._digest = b""
        #: Whether the body is to end; and whether that is because its consumer wants nothing more.
        self.closed = self.left = False
        #: Whether it gets GeneratorExit: its clean-up is not to be disturbed.
        self.ending = False
        #: Wakes the body, if it waits for its consumer.
        self.wake: Callable[[], None] | None = None
        self._latest: Any = None
        #: Text of a recent item.
        self.shown = ""
        self._shown_at = 0.0

    # -- in the body's thread -------------------------------------------------------------------------------------

    def send_all(self, items: Any) -> None:
        """Put in what a generator, or any iterable, yields; it is closed where the consumer leaves."""
        try:
            for item in items:
                self._put(item)
                while self._is_full:
                    self._wait()
                if self.closed:
                    self.ending = True
                    break
        finally:
            if (close := getattr(items, "close", None)) is not None:
                close()

    async def send_all_aio(self, items: AsyncIterator[Any]) -> None:
        """The same of an asynchronous generator."""
        turn = time.perf_counter()
        try:
            async for item in items:
                self._put(item)
                while self._is_full:
                    await self._wait_aio()
                    turn = time.perf_counter()
                if self.closed:
                    self.ending = True
                    break
                if time.perf_counter() - turn > TURN_S:
                    await asyncio.sleep(0)
                    turn = time.perf_counter()
        finally:
            if (close := getattr(items, "aclose", None)) is not None:
                await close()

    def _put(self, value: Any) -> None:
        value = self._interface.check_outputs(value)
        try:
            payload = dumps(value, self._results)
        except UnpicklableError as exc:
            raise UnpicklableError(
                f"item {self.count} of {self._name} cannot be sent: {exc}. Yield what it is made from instead."
            ) from exc.__cause__
        self._digest = hashlib.blake2b(self._digest + _content(value, payload), digest_size=16).digest()
        self._latest = value
        now = time.perf_counter()
        if now - self._shown_at > SHOW_EVERY_S:
            self._show(now)
        with self._lock:
            self.count += 1
            if self.count > self._taken:
                self._sizes.append(nbytes(payload))
                self._nbytes += self._sizes[-1]
            self._unsent.append((payload, self._digest))
            first = len(self._unsent) == 1
        if first:
            self._post(self._flush)

    def _show(self, now: float) -> None:
        self._shown_at, self.shown = now, brief(self._latest, SHOWN_CHARS)

    @property
    def _is_full(self) -> bool:
        return not self.closed and (self.count - self._taken >= self._buffer or self._nbytes >= BUFFER_BYTES)

    def _wait(self) -> None:
        taken = threading.Event()
        if time.perf_counter() - self._shown_at > SHOW_EVERY_S / 10:
            self._show(time.perf_counter())
        self.wake = taken.set
        try:
            if self._is_full:
                with self._blocking():
                    taken.wait()
        finally:
            self.wake = None

    async def _wait_aio(self) -> None:
        if time.perf_counter() - self._shown_at > SHOW_EVERY_S / 10:
            self._show(time.perf_counter())
        loop = asyncio.get_running_loop()
        taken, box = loop.create_future(), mailbox_of(loop)
        self.wake = lambda: box.post(_done, taken)
        try:
            if self._is_full:
                await taken
        finally:
            self.wake = None

    @property
    def waits(self) -> str:
        """Who waits for whom, to be shown behind something else: a consumer that waits has told what it has taken."""
        if self.wake is not None:
            return " · waits for its consumer"
        return " · the consumer waits for its producer" if self.count == self._taken else ""

    @property
    def summary(self) -> str:
        """What it has yielded, in a few words. In the body's thread, when it has ended."""
        if self.count:
            self.shown = brief(self._latest, SHOWN_CHARS)
        text = f"{self.count:,} item{'s' * (self.count != 1)}{(self.count > 0 and f', the last {self.shown}') or ''}"
        return f"{text}; its consumer left" if self.left else text

    # -- on the host's loop ---------------------------------------------------------------------------------------

    def _flush(self) -> None:
        with self._lock:
            items, self._unsent = self._unsent, []
            first = self.count - len(items)
        self._send(first, items)

    def took(self, count: int) -> None:
        """The consumer has taken so many items so far; negative: it wants no more."""
        if count < 0:
            self.left = True
            self.close()
            return
        with self._lock:
            for _ in range(min(count - self._taken, len(self._sizes))):
                self._nbytes -= self._sizes.popleft()
            self._taken = max(count, self._taken)
        if (wake := self.wake) is not None:
            wake()

    def close(self) -> None:
        """Have the body end at its next ``yield``."""
        self.closed = True
        if (wake := self.wake) is not None:
            wake()

    def __repr__(self) -> str:
        ends = "closed" if self.closed else "full" if self._is_full else "open"
        return f"<Outlet of {self._name} [{self.count} yielded, {self._taken} taken, {ends}]>"


def _content(value: Any, payload: Payload) -> bytes:
    """What tells an item from a different one, in every process."""
    if type(payload) is not Packed:
        with contextlib.suppress(Exception):  # what the user's objects raise: then its pickle stands for it
            return content_hash(value)
    return key_bytes(payload)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
