"""Calls of a map in flight: submit ahead, collect in order, cancel what is left. Runs in: the calling code.

Submission goes in batches and results come back in batches: with a coroutine and a wake-up per item, 10,000 no-ops took
twice as long. Inputs are consumed lazily where ``concurrency`` bounds what is in flight, and where their number is not known (a
generator): endless ones work.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import math
import operator
import pickle
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from typing import Any

from flyte_nb.core.control.calls import RESULT, Settled
from flyte_nb.core.control.flight import Ticket
from flyte_nb.core.control.gateway import Gateway
from flyte_nb.core.control.rows import Rows
from flyte_nb.core.interface import missing_annotations
from flyte_nb.core.tasks.alike import LEAST, MOST, RowMaker, may_be_rows
from flyte_nb.core.tasks.context import Context, group_name
from flyte_nb.core.tasks.prepare import code_of, prepare
from flyte_nb.core.tasks.task import Task, inside_trace
from flyte_nb.core.transport.code_versions import CodeVersion
from flyte_nb.core.transport.mailbox import Mailbox, running_loop
from flyte_nb.core.values.describe import repr_with_type

#: Seconds that a map which ends early waits for its cancelled items. A body has a few seconds for its clean-up, then its
#: process is replaced: what takes longer has lost its worker.
END_PATIENCE = 15.0

#: Calls in flight of a map whose inputs have no known number and that has no ``concurrency``: they may be endless.
MAX_AHEAD = 4_096

#: Seconds for which a generator is asked for inputs before its results are looked at.
FILL_SECONDS = 0.05

#: Calls prepared before they are handed over: large enough to spare wake-ups, small enough to start workers early.
SUBMIT_BATCH = 256

#: Results of rows that are made into values at once.
OPENED = 64

#: Iterables that run no code of the user's.
_PLAIN = frozenset({list, tuple, range, str, bytes, dict, set, frozenset})


class Target:
    """What a map calls: a task, or a partial of one."""

    def __init__(self, func: Any, iterables: tuple[Any, ...] = ()) -> None:
        partial = func if isinstance(func, functools.partial) else None
        task = partial.func if partial else func
        if not isinstance(task, Task):
            what = getattr(task, "__name__", repr(task))
            raise TypeError(
                f"flyte.map takes a task or a functools.partial of one, not {what}. Decorate it with @env.task."
            )
        self.task: Task[..., Any] = task
        self.args: tuple[Any, ...] = partial.args if partial else ()
        self.kwargs: dict[str, Any] = partial.keywords if partial else {}
        #: Whether no code of the user's runs between one input and the next, which could change what the task sees.
        self.plain: bool = False
        #: Whether the number of inputs is known before they are taken; it, as far as it is.
        self.sized: bool = True
        self.count: int = 0
        if partial:
            self._check_partial()
        for each in iterables:
            if not isinstance(each, Iterable | AsyncIterable) and not hasattr(type(each), "__getitem__"):
                raise TypeError(
                    f"flyte.map takes iterables of inputs for {task.name}, not {repr_with_type(each)}. Bind what is the "
                    f"same in all calls: functools.partial({task.short_name}, ...)."
                )

    def _check_partial(self) -> None:
        names = list(self.task.interface.inputs)
        free = [n for n in names[len(self.args) :] if n not in self.kwargs]
        taken = names[len(self.args)] if len(self.args) < len(names) else None
        if taken is not None and taken in self.kwargs and free:
            raise TypeError(
                f"Parameter '{taken}' is provided both as positional argument and keyword argument: the mapped value of "
                f"{self.task.name} goes there. Bind the other parameters instead."
            )
        if len(free) != 1:
            raise TypeError(
                f"Partial function must leave exactly one parameter unspecified: the partial of {self.task.name} leaves "
                f"{len(free)} ({', '.join(free) or 'none'})."
            )

    def call(self, values: tuple[Any, ...]) -> Any:
        """Call outside a run: the plain function."""
        return self.task.func(*self.args, *values, **self.kwargs)

    def inputs(self, iterables: tuple[Iterable[Any], ...]) -> Iterator[tuple[Any, ...]]:
        """Arguments of one call after another; the shortest iterable decides the length."""
        self.plain = all(type(each) in _PLAIN for each in iterables)
        self.sized = any(hasattr(type(each), "__len__") for each in iterables)
        self.count = min(map(len, iterables), default=0) if self.plain else 0  # type: ignore[arg-type]
        return zip(*iterables, strict=False) if iterables else iter(())


class Window:
    """Calls of one map in flight: submits ahead, collects in order.

    Raises:
        errors.TraceDoesNotAllowNestedTasksError: A ``@flyte.trace`` function maps.
    """

    def __init__(
        self, context: Context, target: Target, inputs: Iterator[tuple[Any, ...]], group: str | None, limit: int,
        return_exceptions: bool,
    ) -> None:  # fmt: skip
        if context.trace:
            raise inside_trace(target.task, context)
        self.gateway: Gateway = context.gateway
        self._context = context
        self._target = target
        self._inputs = inputs
        self._group = f"{target.task.name}_{group_name(group) if group else 'map'}"
        self._limit = limit if limit > 0 or target.sized else MAX_AHEAD
        #: Calls are submitted once so many are free: one where the user gave a small limit; else a batch, which is cheaper.
        self._refill = (limit // 4 if limit >= MAX_AHEAD // 4 else 1) if limit > 0 else MAX_AHEAD // 2
        self._return_exceptions = return_exceptions
        #: Results by index that came before their turn.
        self.done: dict[int, Settled] = {}
        self.tickets: dict[int, Ticket] = {}
        self.submitted: int = 0
        #: Whether the inputs are used up.
        self.exhausted: bool = False
        #: The task as it is for the calls of one batch.
        self._code: CodeVersion | None = None
        #: Calls that were handed over as rows, by the index of the first; without those that all results were taken of.
        self._rows: deque[tuple[int, Rows]] = deque()
        self._may_be_rows = not target.kwargs and may_be_rows(context, target.task)
        self._maker: RowMaker | None = None
        #: Inputs that were taken of the iterables and of which no calls were made yet.
        self._ahead: deque[tuple[Any, ...]] = deque()
        self._taken = 0
        #: First failure in order of arrival, for ``return_exceptions=False``.
        self.failed: Settled | None = None
        self.wake: Callable[[], None] = lambda: None

    def fill(self) -> None:
        """Submit as many calls as may be in flight."""
        free = self._limit - self._out if self._limit > 0 else -1
        alike = self._may_be_rows and (free < 0 or free >= LEAST)
        batch: list[Ticket] = []
        self._code = None
        until = math.inf if self._target.sized else time.perf_counter() + FILL_SECONDS
        while free and not self.exhausted:
            # What a slow generator gave is under way meanwhile, and may have ended.
            slow = time.perf_counter() > until
            if slow and self.done:
                break
            if slow or len(batch) >= SUBMIT_BATCH:
                self._hand_over(batch)
                batch = []
            if slow or (self._maker is not None and len(self._maker) >= (MOST if self._rows else LEAST)):
                self._hand_over_rows()
            if slow:
                until = time.perf_counter() + FILL_SECONDS
            if alike and max(self._target.count, self.submitted) >= LEAST:
                added = self._add_rows(free)
                free -= added
                if added and not self._ahead:
                    continue
            try:
                values = self._ahead.popleft() if self._ahead else next(self._inputs)
            except StopIteration:
                self.exhausted = True
                break
            free -= 1
            self._hand_over_rows()
            ticket = self._ticket(values)
            if ticket is not None:
                batch.append(ticket)
        if batch:
            self._hand_over(batch)
        self._hand_over_rows()

    @property
    def _out(self) -> int:
        """Calls of which no result was taken yet."""
        return self.submitted - self._taken

    def _add_rows(self, free: int) -> int:
        """Make the next calls rows; of those that were taken and are none, the first must be a call of its own."""
        target, maker = self._target, self._maker
        room = (MOST if self._rows else LEAST) - (len(maker) if maker is not None else 0)
        # Between one input and the next code of the user's may run, which changes what the task sees.
        most = min(room, free if free > 0 else room) if target.plain else 1
        values = [self._ahead.popleft() for _ in range(min(most, len(self._ahead)))]
        values += itertools.islice(self._inputs, most - len(values))
        if not values:
            return 0
        if maker is None or not target.plain:
            try:
                code = code_of(self.gateway, target.task)
            except Exception:  # as a call of its own it says so
                self._ahead.extendleft(reversed(values))
                return 0
            if maker is None or maker.rows.code is not code:
                self._hand_over_rows()
                settle = functools.partial(self._settle_row, self.submitted)
                maker = self._maker = RowMaker(self._context, target.task, self._group, code, self._arrived, settle)
        added = maker.add([(*target.args, *each) for each in values] if target.args else values)
        self.submitted += added
        self._ahead.extendleft(reversed(values[added:]))
        return added

    def _hand_over_rows(self) -> None:
        maker, self._maker = self._maker, None
        if maker is not None and len(maker):
            rows = maker.sealed()
            self._rows.append((self.submitted - len(rows), rows))
            self.gateway.submit_rows(rows)
            time.sleep(0)

    def _arrived(self, _rows: object) -> None:
        # On the controller's thread.
        self.wake()

    def _settle_row(self, first: int, _rows: Rows, row: int, settled: Settled) -> None:
        self._settle(first + row, settled)

    def _ticket(self, values: tuple[Any, ...]) -> Ticket | None:
        """The next call; None if it cannot be made, which is its result."""
        index, target = self.submitted, self._target
        self.submitted += 1
        try:
            if self._code is None or not target.plain:
                self._code = code_of(self.gateway, target.task)
            call = prepare(self._context, target.task, (*target.args, *values), target.kwargs, self._group, self._code)
        except Exception as exc:
            self.tickets[index] = Ticket(None, _ignore)  # type: ignore[arg-type]
            self._settle(index, Settled("raised", None, error=exc))
            return None
        ticket = self.tickets[index] = Ticket(call, functools.partial(self._settle, index))
        return ticket

    def _hand_over(self, batch: list[Ticket]) -> None:
        self.gateway.submit_all(batch)
        self._code = None
        time.sleep(0)  # let the engine begin with them: it waits for the GIL

    def _settle(self, index: int, settled: Settled) -> None:
        # On the controller's thread.
        self.done[index] = settled
        if settled.kind != "ok" and self.failed is None:
            self.failed = settled
        self.wake()

    def cancel(self, then: Callable[[], None]) -> bool:
        """Cancel what is still out, if anything is; `then` is called, on the controller's thread, when it has ended."""
        out = [t for index, t in self.tickets.items() if index not in self.done and t.call is not None]
        rows = [rows for _, rows in self._rows if rows.left]
        if out or rows:
            self.gateway.drop_all(out, "the map ended early", then, rows)
        return bool(out or rows)

    def has(self, index: int) -> bool:
        """Submit what may be in flight now; whether there is an input with this index."""
        if not self.exhausted and (not self.submitted or (self._limit > 0 and self._limit - self._out >= self._refill)):
            self.fill()
        return not self.exhausted or index < self.submitted

    def arrivals(self) -> Iterator[Settled | list[bytes] | None]:
        """The results in order; None where the next one is not there, and is to be waited for until `wake` is called.

        Those of rows come as payloads, for `values`, several at a time.
        """
        index = 0
        while self.has(index):
            settled = self.take(index)
            yield settled
            if settled is not None:
                index = self._taken

    def take(self, index: int) -> Settled | list[bytes] | None:
        """The result with this index if it is there; any failure, as soon as there is one, where failures are raised."""
        if self._rows and index >= self._rows[0][0]:
            found = self._take_rows(index - self._rows[0][0])
        else:
            found = self.done.pop(index, None)
            if found is not None:
                del self.tickets[index]
                self._taken += 1
        return found if found is not None or self._return_exceptions else self.failed

    def _take_rows(self, row: int) -> Settled | list[bytes] | None:
        first, rows = self._rows[0]
        results, task = rows.results, self._target.task
        found: Any
        if results[row] is None:
            found = self.done.pop(first + row, None) or rows.rest
            taken = int(found is not None)
        elif task.unannotated and not missing_annotations.was_said():
            found, taken = Settled("ok", rows.call(row), results[row]), 1
        else:
            found = list(itertools.takewhile(_is_there, itertools.islice(results, row, None)))
            taken = len(found)
        self._taken += taken
        if row + taken == len(rows):
            self._rows.popleft()
        return found  # type: ignore[no-any-return]

    def values(self, payloads: list[bytes]) -> Iterator[Iterable[Any]]:
        """The values of rows, some at a time."""
        for at in range(0, len(payloads), OPENED):
            some: list[bytes] = payloads[at : at + OPENED]
            values: list[Any] = []
            with contextlib.suppress(Exception):
                values = list(map(pickle.loads, some))
            # Fewer, too, where a value's own code raises StopIteration, which `list` takes for the end.
            yield values if len(values) == len(some) else map(self._value, some)

    def _value(self, payload: bytes) -> Any:
        """A value of a row; or the error that it cannot be made, raised or as a value."""
        try:
            return pickle.loads(payload)
        except Exception:
            return self.open(Settled("ok", None, payload, what=RESULT.format(self._target.task.name)))

    def open(self, settled: Settled) -> Any:
        """The value, or its error: raised, or as a value."""
        try:
            return settled.result()
        except Exception as exc:  # a CancelledError is none
            if not self._return_exceptions:
                raise
            return exc

    def _broken_off(self) -> bool:
        """Whether a person has stopped the map, who does not wait for what is out. A stopped cell's is cancelled anyway."""
        if self._context.scope.stopped is None:
            if not isinstance(sys.exc_info()[1], KeyboardInterrupt):
                return False
            self.cancel(lambda: None)
        return True

    def end(self) -> None:
        """Cancel the items that are out, and wait for their end, unless interrupted."""
        if self._broken_off():
            return
        ended = threading.Event()
        # A forgotten generator is closed by the garbage collector in whatever thread it runs: the controller's must not block.
        if self.cancel(ended.set) and running_loop() is not self.gateway.loop:
            with self.gateway.blocking():
                ended.wait(END_PATIENCE)

    async def end_aio(self, box: Mailbox) -> None:
        """Cancel the items that are out, and await their end, unless interrupted."""
        if self._broken_off():
            return
        ended = asyncio.Event()
        if self.cancel(lambda: box.post(ended.set)):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), END_PATIENCE)


_is_there = functools.partial(operator.is_not, None)


def _ignore(_settled: Settled) -> None:
    """Ignore the end of a call that was never made."""
