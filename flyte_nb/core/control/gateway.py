"""Cross from the user's threads and loops to the controller's, and back, in batches. Runs in: both sides.

The controller lives on one loop (the engine's). User code awaits from other loops, or blocks in other threads. Each
direction is a queue that wakes its reader once per burst, however many calls are in it: with one wake-up per call, a
gather of 10,000 spent most of its time in self-pipe writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from flyte_nb.core.control.calls import Call, Settled
from flyte_nb.core.control.controller import Controller
from flyte_nb.core.control.flight import Ticket
from flyte_nb.core.control.raise_settled import exception_of
from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.mailbox import Mailbox, OneShot, mailbox_of, running_loop
from flyte_nb.core.transport.payload import loads

logger = logging.getLogger("flyte")


class Gateway:
    """How code in any thread reaches this process's controller."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        controller: Controller,
        blobs: Blobs | None = None,
        blocking: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self.loop = loop
        self.controller = controller
        self.blobs = blobs if blobs is not None else Blobs()
        #: Entered around every wait of a thread: a worker gives the thread's compute slot back meanwhile.
        self.blocking = blocking
        self.inbox = Mailbox(loop)

    def submit(self, call: Call, deliver: Callable[[Settled], None]) -> Ticket:
        """Hand a call over; `deliver` is called once, on the controller's thread."""
        ticket = Ticket(call, deliver)
        self.inbox.post(self.controller.take, ticket)
        return ticket

    def cancel(self, ticket: Ticket, reason: str) -> None:
        """Have the action of a ticket cancelled; its result is not delivered any more."""
        self.inbox.post(self.controller.drop, ticket, reason)

    async def wait(self, call: Call) -> Any:
        """Submit, and await the result.

        Raises:
            errors.BaseRuntimeError: The action failed.
            asyncio.CancelledError: The await was cancelled, and with it the action.
        """
        __tracebackhide__ = True
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Settled] = loop.create_future()
        box = mailbox_of(loop)
        ticket = self.submit(call, lambda settled: box.post(_resolve, future, settled))
        try:
            settled = await future
        except BaseException:  # CancelledError, and GeneratorExit of a closed coroutine
            self.cancel(ticket, "its await was cancelled")
            raise
        return self.open(settled)

    def wait_sync(self, call: Call) -> Any:
        """Submit, and block this thread until the result is there.

        Raises:
            errors.BaseRuntimeError: The action failed.
            asyncio.CancelledError: The calling action was cancelled meanwhile.
        """
        box = OneShot()
        ticket = self.submit(call, box.put)
        try:
            with self.blocking():
                settled = box.get()
        except BaseException:  # KeyboardInterrupt, and a cancellation raised into this thread
            self.cancel(ticket, "its caller was interrupted")
            raise
        return self.open(settled)

    def open(self, settled: Settled) -> Any:
        """The value of a settled call, or its error raised. Runs in the caller's thread: unpickling may take long."""
        __tracebackhide__ = True
        if settled.kind == "ok":
            assert settled.payload is not None
            return loads(settled.payload)
        if settled.kind == "cancelled":
            raise asyncio.CancelledError(settled.message)
        if settled.kind == "raised":
            raise settled.error
        raise exception_of(settled)

    def run_soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function on the controller's thread."""
        self.inbox.post(function, *args)

    def ask(self, function: Callable[..., Any], *args: Any, timeout: float | None = None) -> Any:
        """Call a function on the controller's thread and return what it returns.

        Raises:
            TimeoutError: No answer within `timeout` seconds.
        """
        if running_loop() is self.loop:
            return function(*args)
        box = OneShot()

        def answer() -> None:
            try:
                box.put((True, function(*args)))
            except BaseException as exc:
                box.put((False, exc))

        self.inbox.post(answer)
        ok, value = box.get(timeout)
        if ok:
            return value
        raise value


def _resolve(future: asyncio.Future[Settled], settled: Settled) -> None:
    if not future.done():
        future.set_result(settled)
