"""Alike calls, prepared as rows: bound, checked, serialized and named as `prepare` does, what they share once; bursts of them.

A burst is what one loop calls of one task in one turn, as ``gather`` does. Each call is prepared when it is made, with its
task's code of that moment; only the handing over waits for the end of the turn. The first call of a turn goes at once: most
are alone. A body may compute for long after its calls, on the same loop: its bursts end where the next step of the loop is
not one more of their calls.

Runs in: the thread of the calling code.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import operator
import pickle
from collections.abc import Callable, Collection
from pickle import dumps
from typing import Any, Literal

from flyte_nb.core.control.calls import CALL_SITE_DIGITS, Settled, call_site_of
from flyte_nb.core.control.flight import Ticket
from flyte_nb.core.control.rows import Rows
from flyte_nb.core.interface import missing_annotations
from flyte_nb.core.settings.config import MAX_INLINE_IO_BYTES
from flyte_nb.core.settings.label import label_of_call
from flyte_nb.core.tasks.context import Context, of
from flyte_nb.core.tasks.prepare import CODE_DIGITS, STOPPED, as_it_was, code_of, inputs_key
from flyte_nb.core.transport.bursts import is_next_a_call, next_call
from flyte_nb.core.transport.code_versions import CodeVersion
from flyte_nb.core.transport.mailbox import mailbox_of
from flyte_nb.core.transport.payload import ATOMS, SMALL_BYTES, dumps_call
from flyte_nb.core.values import redact

#: Fewer calls than this are actions of their own: what is small is shown whole.
LEAST = 256
#: Calls in one batch of rows: their lists and arrays cost little more than the rows.
MOST = 2_048
#: Callbacks of a body's loop that are ready where a burst may begin: it is worth nothing to a few calls.
AHEAD = 32


def may_be_rows(context: Context, task: Any) -> bool:
    """Whether calls of a task are plain: nothing but their inputs and their results differs, or is to be watched."""
    run, config = context.run, task.config
    limits = config.timeout
    return (
        context.gateway.takes_rows
        and not task.is_stream
        and not (context.custom or context.scope.records or run.recovers or run.max_action_concurrency)
        and (run.disable_run_cache or not config.cache.is_enabled())
        and limits.deadline_s is None
        and limits.queued_s is None
        and not limits.runtime_s
        and config.max_inline_io_bytes == MAX_INLINE_IO_BYTES
        and not task.ignored_inputs
        and "links" not in task.overrides
        and not any(redact.hides(name, "x") for name in task.input_names)
    )


class RowMaker:
    """Makes rows of calls that are made one after another.

    Args:
        context: Of the caller.
        task: What is called.
        group: Their group.
        code: As of `flyte_nb.core.tasks.prepare.prepare`.
        deliver: Called when results have come.
        settle_one: Called with how a row was settled that went alone.
    """

    def __init__(
        self, context: Context, task: Any, group: str, code: CodeVersion | None,
        deliver: Callable[[Collection[int]], None],
        settle_one: Callable[[Rows, int, Settled], None],
    ) -> None:  # fmt: skip
        self._context = context
        self._task = task
        self._bind = task.interface.bind
        exact = task.interface.exact
        #: Types of arguments that are sent as they are.
        self._exact = exact if exact is not None and ATOMS.issuperset(exact) else None
        identity = as_it_was(context, task.identity)
        stem, _, version = identity.rpartition(":")
        place = f"{call_site_of(context.action)}\0{stem}\0{group}\0"
        self._place = hashlib.blake2b(place.encode(), digest_size=CALL_SITE_DIGITS // 2)
        self.rows = Rows(task, context.run, context.action, group, code, version[:CODE_DIGITS], deliver, settle_one)
        self._names = bytearray()
        self._payloads: list[bytes] = []
        self._given: list[tuple[Any, ...]] = []
        #: Whether all inputs are plain built-in values, so that labels can be made of them at any time.
        self._plain = True

    def __len__(self) -> int:
        return len(self._payloads)

    def add(self, many: list[tuple[Any, ...]]) -> int:
        """Add calls; returns how many: the next one must be an action of its own, its inputs are large, or it cannot be made.

        Raises:
            asyncio.CancelledError: As of `flyte_nb.core.tasks.prepare.prepare`.
        """
        context = self._context
        if context.scope.stopped is not None and context.scope.stopped():
            raise asyncio.CancelledError(STOPPED) from None
        if context.scope.attachments.get("closed"):
            return 0
        keys, made = list[bytes](), list[Any]()
        exact, none, place, payloads = self._exact, dict[str, Any](), self._place, self._payloads
        with contextlib.suppress(Exception):  # made once more, as a call of its own, it says so
            for args in many:
                if tuple(map(type, args)) == exact:
                    payload = key = dumps((args, none), 5)
                else:
                    payload, key = self._bound(args)
                if len(payload) > SMALL_BYTES:
                    break
                base = place.copy()
                base.update(key)
                keys.append(base.digest())
                made.append(base)
                payloads.append(payload)
        n = len(keys)
        del self._payloads[len(self._given) + n :]
        self._given += many[:n]
        again = context.scope.next_of(b"".join(keys))
        for at, nth in enumerate(again or ()):
            if nth > 1:
                made[at].update(b"\0%d" % nth)
                keys[at] = made[at].digest()
        self._names += b"".join(keys)
        return n

    def add_one(self, args: tuple[Any, ...]) -> bool:
        """Add one call, in a third of the time; False if it must be an action of its own, or cannot be made."""
        scope = self._context.scope
        if scope.attachments.get("closed"):
            return False
        try:
            payload, key = self._bound(args)
        except Exception:  # made once more, it says so
            return False
        if len(payload) > SMALL_BYTES:
            return False
        base = self._place.copy()
        base.update(key)
        name = base.digest()
        nth = scope.next(name)
        if nth > 1:
            base.update(b"\0%d" % nth)
            name = base.digest()
        self._names += name
        self._payloads.append(payload)
        self._given.append(args)
        return True

    def _bound(self, args: tuple[Any, ...]) -> tuple[bytes, bytes]:
        """Arguments as they are sent, and what identifies them."""
        if tuple(map(type, args)) == self._exact:
            payload = dumps((args, {}), 5)
            return payload, payload
        bound = self._bind(args, {})
        if bound[0] is args and all(type(value) in ATOMS for value in args):
            payload = dumps(bound, 5)
            return payload, payload
        payload = self._dumped(args, bound)
        return payload, inputs_key(payload, bound)

    def _dumped(self, args: tuple[Any, ...], bound: tuple[tuple[Any, ...], dict[str, Any]]) -> bytes:
        payload = dumps_call(bound, self._context.gateway.blobs)
        if type(payload) is not bytes:
            raise ValueError("it is large")
        if b"\x93" in payload or not all(map(operator.is_, args, bound[0])):
            self._plain = False  # a class is named, or something was made of what was given
        return payload

    def sealed(self) -> Rows:
        """The rows of all calls so far, one at least."""
        task, given = self._task, self._given
        labels: Any = (task.short_name, task.input_names, len(given[0]))
        if not self._plain or task.config.label:
            labels = [label_of_call(task, args, {}) for args in given]
        self.rows.seal(bytes(self._names), self._payloads, labels)
        return self.rows


#: Why a row is cancelled.
_DROPPED = "its await was cancelled"


class Burst:
    """Calls of one task, in one context, in one turn of a loop."""

    __slots__ = ("_calls", "_context", "_maker", "_many", "_may_be_rows", "_task", "loop")

    def __init__(self, context: Context, task: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._task = task
        self.loop = loop
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
        if not self._may_be_rows or self._context.scope.stopped is not None:
            return None
        try:
            code = code_of(self._context.gateway, self._task)
        except Exception:
            return None
        if len(self._context.scope.bursts) > 1:
            hand_over_before(self._context.scope.bursts, self.loop, self)
        maker = self._maker
        if maker is None or maker.rows.code is not code:
            maker = self._begin(code)
        if not maker.add_one(args):
            return None
        call = BurstCall(self, self.loop, maker.rows, len(self._calls))
        self._calls.append(call)
        if len(self._calls) >= (MOST if self._many else LEAST) or self._ends():
            self.hand_over()
        return call

    def _ends(self) -> bool:
        """Whether what follows may be code of a body."""
        return self._context.in_task and not goes_on(self._context, self.loop)

    def _begin(self, code: Any) -> RowMaker:
        self.hand_over()
        calls = self._calls = []
        box = mailbox_of(self.loop)

        def arrived(which: Collection[int]) -> None:
            box.post(_resolve, calls, which)

        def settle_one(_rows: Rows, row: int, settled: Settled) -> None:
            box.post(calls[row].resolve, settled)

        self._maker = RowMaker(self._context, self._task, self._context.group, code, arrived, settle_one)
        return self._maker

    def hand_over(self) -> None:
        """Hand over what was called since the last time; if the cell was stopped, it never existed."""
        maker, self._maker = self._maker, None
        if maker is None or not self._calls:
            return
        if self._context.scope.stopped is not None:  # since they were called
            for call in self._calls:
                call.ticket = False
                call.future.cancel(STOPPED)
            return
        rows, gateway = maker.sealed(), self._context.gateway
        if self._many or len(rows) >= LEAST:
            self._many = True
            gateway.submit_rows(rows)
            return
        box, tickets = mailbox_of(self.loop), []
        for row, call in enumerate(self._calls):
            ticket = call.ticket = Ticket(rows.call(row), functools.partial(box.post, call.resolve))
            tickets.append(ticket)
        gateway.submit_all(tickets)

    def _end(self) -> None:
        """The turn is over."""
        self._context.scope.bursts.pop((self._task, self._context, self.loop), None)
        self.hand_over()
        self._calls = []


def goes_on(context: Context, loop: asyncio.AbstractEventLoop, ahead: int = 1) -> bool:
    """Whether what a loop does next is the first step of one more call in this context; with so many callbacks ready."""
    variables = next_call(loop, ahead)
    return variables is not None and of(variables) is context


def hand_over_before(bursts: dict[Any, Burst], loop: asyncio.AbstractEventLoop, going: Burst | None = None) -> None:
    """Hand over what was called before the next call, which is of the burst that goes on, or alone.

    Actions are numbered in the order of their calls, whatever becomes of each.
    """
    for burst in list(bursts.values()):
        if burst is not going and burst.loop is loop:
            burst.hand_over()


class BurstCall:
    """One call of a burst."""

    __slots__ = ("_burst", "_rows", "future", "row", "ticket")

    def __init__(self, burst: Burst, loop: asyncio.AbstractEventLoop, rows: Rows, row: int) -> None:
        #: None once it has its result: each of them leads back here, and code and data in them wait for no collector.
        self._burst: Any = burst
        self._rows: Any = rows
        self.row = row
        self.future: asyncio.Future[Any] = loop.create_future()
        #: Where it was handed over alone; False if it never will be.
        self.ticket: Ticket | Literal[False] | None = None

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
        rows = self._rows
        self._burst = self._rows = self.ticket = None
        if type(found) is bytes:
            if not rows.task.unannotated or missing_annotations.was_said():
                with contextlib.suppress(Exception):
                    return pickle.loads(found)
            found = Settled("ok", rows.call(self.row), found)
        return found.result()

    def _drop(self, context: Context) -> None:
        gateway = context.gateway
        self._burst.hand_over()  # a cell that is stopped has its steps in another order
        if self.ticket is not None:
            if self.ticket:
                gateway.drop(self.ticket, _DROPPED)
            return
        scope, rows = context.scope, self._rows
        dropped = scope.dropped.setdefault(rows, [])
        dropped.append(self.row)
        loop = self.future.get_loop()

        # Thousands are dropped in one turn, when a gather is.
        def send() -> None:
            with contextlib.suppress(KeyError):  # that was all
                while True:
                    gateway.run_soon(gateway.controller.batches.drop_some, *scope.dropped.popitem(), _DROPPED)

        if context.in_task and not is_next_a_call(loop):  # its body may block the loop
            send()
        elif len(dropped) == 1:
            try:
                loop.call_soon(send)
            except RuntimeError:  # its loop is closed
                send()

    def resolve(self, found: Settled | bytes | None) -> None:
        """It has come to its end."""
        if not self.future.done():
            self.future.set_result(found)

    @property
    def result(self) -> Settled | bytes | None:
        """What has come of it."""
        found: Settled | bytes | None = self._rows.results[self.row]
        rest: Settled | bytes | None = self._rows.rest
        return found if found is not None else rest


def _resolve(calls: list[BurstCall], which: Collection[int]) -> None:
    for row in which:
        call = calls[row]
        if not call.future.done():
            call.future.set_result(call.result)
