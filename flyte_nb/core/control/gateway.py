"""Gateway: cross from user code's threads and loops to the controller's, and back, in batches. Runs in: both sides.

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
from flyte_nb.core.control.flight import Deliver, Ticket
from flyte_nb.core.control.questions import Answers, Then
from flyte_nb.core.control.rows import Rows
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.code_versions import CodeVersions
from flyte_nb.core.transport.mailbox import Mailbox, OneShot, mailbox_of, running_loop

logger: logging.Logger = logging.getLogger("flyte")


def _ignore(_answer: Any) -> None:
    pass


class Gateway:
    """How code in any thread reaches this process's controller. `controller` itself is for code on the controller's thread."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, controller: Controller, blobs: Blobs | None = None,
        blocking: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
        code: CodeVersions | None = None,
    ) -> None:  # fmt: skip
        self.loop = loop
        self.controller = controller
        self.blobs: Blobs = blobs if blobs is not None else Blobs()
        #: Entered around every wait of a thread: a worker gives the thread's compute slot back meanwhile.
        self.blocking = blocking
        #: What tasks are at the moment of a call; None where they are executed in this process, as they are.
        self.code = code
        self.inbox: Mailbox = Mailbox(loop)

    # -- calls ----------------------------------------------------------------------------------------------------

    def submit(self, call: Call, deliver: Deliver) -> Ticket:
        """Hand a call over; `deliver` is called once, on the controller's thread."""
        ticket = Ticket(call, deliver)
        self.inbox.post(self.controller.take, ticket)
        return ticket

    def submit_all(self, tickets: list[Ticket]) -> None:
        """Hand over calls whose tickets their caller has made."""
        self.inbox.post(self._take_all, tickets)

    def _take_all(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            self.controller.take(ticket)

    def drop(self, ticket: Ticket, reason: str) -> None:
        """Cancel the action of a ticket; its result is not delivered any more."""
        self.inbox.post(self.controller.drop, ticket, reason)

    def drop_all(self, tickets: list[Ticket], reason: str, then: Callable[[], None], batches: list[Rows]) -> None:
        """Cancel the actions of tickets, and rows: `Controller.drop_all`."""
        self.inbox.post(self.controller.drop_all, tickets, reason, then, batches)

    def submit_rows(self, rows: Rows) -> None:
        """Hand over alike calls."""
        self.inbox.post(self.controller.batches.take, rows)

    @property
    def takes_rows(self) -> bool:
        """Whether calls may be handed over as rows."""
        return self.controller.batches.executor is not None

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
            self.drop(ticket, "its await was cancelled")
            raise
        return settled.result()

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
                settled: Settled = box.get()
        except BaseException:  # KeyboardInterrupt, and a cancellation raised into this thread
            self.drop(ticket, "its caller was interrupted")
            raise
        return settled.result()

    # -- events, and a run's home ---------------------------------------------------------------------------------

    def emit(self, *events: ev.Event) -> None:
        """Publish events."""
        for event in events:
            self.inbox.post(self.controller.emit, event)

    @property
    def is_home(self) -> bool:
        """Whether the runs whose actions are here have their home in this process."""
        return isinstance(self.controller.home, Answers)

    def ask_home(self, run: RunInfo, op: str, args: tuple[Any, ...], then: Then = _ignore) -> None:
        """Ask a run's home: `flyte_nb.core.control.questions.Home`. `then` is called on the controller's thread."""
        home = self.controller.home
        if home is None:
            self.inbox.post(then, None)
        else:
            self.inbox.post(home.ask, run, op, args, then)

    def wait_for_home(self, run: RunInfo, op: str, args: tuple[Any, ...]) -> Any:
        """Ask a run's home, and block this thread until it has answered; None if it cannot."""
        box = OneShot()
        self.ask_home(run, op, args, box.put)
        with self.blocking():
            return box.get()

    def now(self) -> float:
        """Seconds since the epoch, by the controller's clock."""
        return self.controller.now()

    # -- anything else --------------------------------------------------------------------------------------------

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
