"""Bursts: calls of one task that one loop makes in one turn, as ``gather`` does, travel together, as rows if they are many.

Each is bound, serialized and named when it is made, with its task's code of that moment; only the handing over waits for the
end of the loop's turn. The first call of a turn goes at once: most are alone. Runs in: the calling code's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import pickle
from collections.abc import Collection
from typing import Any

from flyte_nb.core.control.calls import Settled
from flyte_nb.core.control.flight import Ticket
from flyte_nb.core.control.rows import Rows
from flyte_nb.core.interface import missing_annotations
from flyte_nb.core.tasks.alike import LEAST, MOST, RowMaker, may_be_rows
from flyte_nb.core.tasks.context import Context
from flyte_nb.core.tasks.prepare import code_of
from flyte_nb.core.transport.mailbox import mailbox_of

#: Why a row is cancelled.
_DROPPED = "its await was cancelled"


class Burst:
    """Calls of one task, in one context, in one turn of a loop."""

    __slots__ = ("_calls", "_context", "_loop", "_maker", "_many", "_may_be_rows", "_task")

    def __init__(self, context: Context, task: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._task = task
        self._loop = loop
        self._may_be_rows: bool | None = None
        self._maker: RowMaker | None = None
        self._calls: list[BurstCall] = []
        #: Whether some were handed over as rows: the rest are rows, too, however few.
        self._many = False
        loop.call_soon(self._end)

    def call(self, args: tuple[Any, ...]) -> BurstCall | None:
        """Make one more call; None if it must be made alone, where what is wrong with it is said."""
        if self._may_be_rows is None:
            self._may_be_rows = may_be_rows(self._context, self._task)
        if not self._may_be_rows:
            return None
        try:
            code = code_of(self._context.gateway, self._task)
        except Exception:
            return None
        maker = self._maker
        if maker is None or maker.rows.code is not code:
            maker = self._begin(code)
        if not maker.add([args]):
            return None
        call = BurstCall(self._loop, maker.rows, len(self._calls))
        self._calls.append(call)
        if len(self._calls) >= (MOST if self._many else LEAST):
            self._hand_over()
        return call

    def _begin(self, code: Any) -> RowMaker:
        self._hand_over()
        calls = self._calls = []
        box = mailbox_of(self._loop)

        def arrived(which: Collection[int]) -> None:
            box.post(_resolve, calls, which)

        def settle_one(_rows: Rows, row: int, settled: Settled) -> None:
            box.post(calls[row].resolve, settled)

        self._maker = RowMaker(self._context, self._task, self._context.group, code, arrived, settle_one)
        return self._maker

    def _hand_over(self) -> None:
        maker, self._maker = self._maker, None
        if maker is None or not self._calls:
            return
        rows, gateway = maker.sealed(), self._context.gateway
        if self._many or len(rows) >= LEAST:
            self._many = True
            gateway.submit_rows(rows)
            return
        box, tickets = mailbox_of(self._loop), []
        for row, call in enumerate(self._calls):
            call.ticket = Ticket(rows.call(row), functools.partial(box.post, call.resolve))
            tickets.append(call.ticket)
        gateway.submit_all(tickets)

    def _end(self) -> None:
        """The turn is over."""
        self._context.scope.bursts.pop((self._task, self._context), None)
        self._hand_over()


class BurstCall:
    """One call of a burst."""

    __slots__ = ("_rows", "future", "row", "ticket")

    def __init__(self, loop: asyncio.AbstractEventLoop, rows: Rows, row: int) -> None:
        self._rows = rows
        self.row = row
        self.future: asyncio.Future[Any] = loop.create_future()
        #: Where it was handed over alone.
        self.ticket: Ticket | None = None

    async def wait(self, context: Context) -> Any:
        """Await its result.

        Raises:
            errors.BaseRuntimeError: The action failed.
            asyncio.CancelledError: The await was cancelled, and with it the action.
        """
        __tracebackhide__ = True
        try:
            found = await self.future
        except BaseException:  # CancelledError, and GeneratorExit of a closed coroutine
            self._drop(context)
            raise
        task: Any = self._rows.task
        if type(found) is bytes:
            if not task.unannotated or missing_annotations.was_said():
                with contextlib.suppress(Exception):
                    return pickle.loads(found)
            found = Settled("ok", self._rows.call(self.row), found)
        return found.result()

    def _drop(self, context: Context) -> None:
        gateway = context.gateway
        if self.ticket is not None:
            gateway.drop(self.ticket, _DROPPED)
            return
        scope, rows = context.scope, self._rows
        dropped = scope.dropped.setdefault(rows, [])
        dropped.append(self.row)
        if len(dropped) == 1:
            # Thousands are dropped in one turn, when a gather is.
            def send() -> None:
                gateway.run_soon(gateway.controller.batches.drop_some, rows, scope.dropped.pop(rows, []), _DROPPED)

            try:
                self.future.get_loop().call_soon(send)
            except RuntimeError:  # its loop is closed
                send()

    def resolve(self, found: Settled | bytes | None) -> None:
        """It has come to its end."""
        if not self.future.done():
            self.future.set_result(found)

    @property
    def result(self) -> Settled | bytes | None:
        """What has come of it."""
        found = self._rows.results[self.row]
        return found if found is not None else self._rows.rest


def _resolve(calls: list[BurstCall], which: Collection[int]) -> None:
    for row in which:
        call = calls[row]
        if not call.future.done():
            call.future.set_result(call.result)
