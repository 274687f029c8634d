"""Rows: alike calls of one task by one parent, driven together as columns (`flyte_nb.core.history.columns`).

Theory of operation. What nearly every action of a map does is to succeed at its first attempt; so that costs a few bytes of
arrays and a share of a message. A row that does anything else becomes an `ActionInFlight` first (`Batches.go_alone`), and is
driven by the controller as any other: retries, backoff, pauses and cancellation know nothing of rows.

Invariant: each row is open, then ended here or alone; alone, it ends with its flight. Runs in: controller's thread.
"""

from __future__ import annotations

import functools
import itertools
import os
from array import array
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple, Protocol

from flyte_nb.core.control.calls import Call, Settled, TaskSpec
from flyte_nb.core.control.flight import ActionInFlight, Deliver
from flyte_nb.core.control.work import NOWHERE, Location, Outcome, Work
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.columns import BATCH_BITS, DIGEST, find_in, label_in
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.history.run_info import RunInfo

#: Actions that a sentence names.
NAMED = 5
#: States of a row.
OPEN, ENDED, ALONE = 0, 1, 2


class Rows:
    """Alike calls on their way."""

    __slots__ = (
        "alone", "code", "deliver", "group", "labels", "left", "names", "number", "on_end", "parent", "payloads", "reason",
        "rest", "results", "run", "settle_one", "state", "suffix", "taken", "task",
    )  # fmt: skip

    def __init__(
        self, task: TaskSpec, run: RunInfo, parent: str, group: str, code: Any, suffix: str,
        deliver: Callable[[Collection[int]], None], settle_one: Callable[[Rows, int, Settled], None],
    ) -> None:  # fmt: skip
        #: Given as they are taken; unique.
        self.number = 0
        self.task = task
        self.run = run
        self.parent = parent
        self.group = group
        #: As of `Call.code`.
        self.code = code
        #: As of `CallsQueued`.
        self.names = b""
        self.suffix = suffix
        self.payloads: list[bytes] = []
        self.labels: ev.Labels = []
        self.state = bytearray()
        self.results: list[bytes | None] = []
        #: How every open row is settled, once all of them are.
        self.rest: Settled | None = None
        #: Called with rows whose results have come, or that are settled by `rest`; None once nobody waits.
        self.deliver: Callable[[Collection[int]], None] | None = deliver
        #: Called with how a row was settled that went alone.
        self.settle_one = settle_one
        #: Rows that are actions in flight, or were.
        self.alone: dict[int, ActionInFlight] = {}
        #: Rows that have not ended.
        self.left = 0
        #: Why they were cancelled; "" while they were not.
        self.reason = ""
        #: Whether the controller has them.
        self.taken = False
        self.on_end: Callable[[], None] | None = None

    def seal(self, names: bytes, payloads: list[bytes], labels: ev.Labels) -> None:
        """All rows are there."""
        self.names, self.payloads, self.labels = names, payloads, labels
        self.left = len(payloads)
        self.state = bytearray(self.left)
        self.results = [None] * self.left

    def __len__(self) -> int:
        return len(self.payloads)

    def name(self, row: int) -> str:
        """The name of a row's action."""
        return self.names[DIGEST * row : DIGEST * (row + 1)].hex() + self.suffix

    def find(self, name: str) -> int:
        """The row of this name; -1 if there is none."""
        return find_in(self.names, self.suffix, name)

    def call(self, row: int) -> Call:
        """A row as a call."""
        label = label_in(self.labels, self.payloads[row], row)
        call = Call(self.task, self.run, self.name(row), self.parent, self.payloads[row], label, self.group, ())
        call.code = self.code
        return call

    def open(self, rows: Iterable[int]) -> array[int]:
        """Those of some rows that are open."""
        return array("I", [row for row in rows if self.state[row] == OPEN])

    def __repr__(self) -> str:
        return f"<Rows {self.number} of {self.task.name} [{self.left} of {len(self)} left, {len(self.alone)} alone]>"


class Ends(NamedTuple):
    """How some rows ended well: which, when each began and ended, its slot time, result, and text of it if it is not plain."""

    rows: array[int]
    started: bytes
    ended: bytes
    busy: bytes
    outputs: list[bytes | None]
    previews: dict[int, str]
    location: Location


class RowExecutor(Protocol):
    """Executes rows; called on the controller's thread."""

    def start_rows(self, rows: Rows) -> None:
        """Execute all rows some time; how they end is told to `Batches`."""

    def go_alone(self, rows: Rows, row: int, work: Work, done: Callable[[Outcome], None]) -> None:
        """A row is an attempt of its own from now on, wherever it is."""

    def forget(self, rows: Rows, which: Collection[int]) -> array[int]:
        """Forget those of some rows that are queued, and return them."""

    def cancel_rows(self, rows: Rows) -> array[int]:
        """Return rows that are queued, and are forgotten; have workers give back others, or end them."""

    def ended_early(self, rows: Rows) -> None:
        """Rows that were forgotten have ended; perhaps no other is open."""


class _Controller(Protocol):
    """What drives rows that are actions of their own."""

    emit: Callable[[ev.Event], None]
    now: Callable[[], float]

    def adopt(self, call: Call, deliver: Deliver) -> tuple[ActionInFlight, Work, Callable[[Outcome], None]]: ...
    def cancel(self, flight: ActionInFlight, reason: str) -> None: ...
    def abort(self, run: str, action: str, reason: str) -> bool: ...


class Batches:
    """The rows of one controller."""

    def __init__(self, controller: _Controller) -> None:
        self._controller = controller
        #: Executes them; None where each call is to be an action of its own.
        self.executor: RowExecutor | None = None
        self.by_number: dict[int, Rows] = {}
        # A run may have rows of several owners, and of earlier kernels.
        self._numbers = itertools.count(int.from_bytes(os.urandom(4), "big") << BATCH_BITS)

    def take(self, rows: Rows) -> None:
        """Take submitted rows."""
        if rows.taken:
            return
        rows.taken, rows.number = True, next(self._numbers)
        self._controller.emit(
            ev.CallsQueued(
                rows.run.name, rows.number, rows.parent, rows.task.name, rows.group, self._controller.now(),
                rows.task.config.retries.count + 1, rows.names, rows.suffix, rows.payloads, rows.labels,
            )
        )  # fmt: skip
        self.by_number[rows.number] = rows
        assert self.executor is not None
        self.executor.start_rows(rows)

    def ended(self, rows: Rows, ends: Ends) -> None:
        """Some open rows have ended well."""
        low, n = ends.rows[0], len(ends.rows)
        in_a_row = ends.rows[-1] - low + 1 == n
        if in_a_row:
            rows.state[low : low + n] = bytes([ENDED]) * n
        else:
            for row in ends.rows:
                rows.state[row] = ENDED
        if rows.reason:
            nothing: list[bytes | None] = [None] * len(ends.rows)
            self._end(rows, Phase.ABORTED, ends._replace(outputs=nothing, previews={}))
            return
        if in_a_row:
            rows.results[low : low + n] = ends.outputs
        else:
            for row, output in zip(ends.rows, ends.outputs, strict=True):
                rows.results[row] = output
        self._end(rows, Phase.SUCCEEDED, ends)

    def aborted(self, rows: Rows, which: array[int]) -> None:
        """Open rows that were cancelled will not begin."""
        n = len(which)
        for row in which:
            rows.state[row] = ENDED
        if n:
            never = bytes(8 * n)
            self._end(rows, Phase.ABORTED, Ends(which, never, never, bytes(4 * n), [None] * n, {}, NOWHERE))
            assert self.executor is not None
            self.executor.ended_early(rows)

    def _end(self, rows: Rows, phase: Phase, ends: Ends) -> None:
        now = self._controller.now()
        self._controller.emit(ev.CallsEnded(rows.run.name, rows.number, phase, now, ends.rows.tobytes(), *ends[1:]))
        if rows.deliver is not None and not rows.reason:
            rows.deliver(ends.rows)
        self._left(rows, len(ends.rows))

    def _left(self, rows: Rows, ended: int) -> None:
        rows.left -= ended
        if not rows.left:
            self.by_number.pop(rows.number, None)
            if rows.on_end is not None:
                rows.on_end()

    def go_alone(self, rows: Rows, row: int) -> ActionInFlight | None:
        """A row as an action in flight from now on; None if it has ended."""
        if rows.state[row] != OPEN:
            return rows.alone.get(row)
        rows.state[row] = ALONE
        call = rows.call(row)
        settle = functools.partial(rows.settle_one, rows, row)
        flight, work, done = self._controller.adopt(call, settle)
        rows.alone[row] = flight
        flight.on_end = functools.partial(self._left, rows, 1)
        if rows.rest is not None or rows.deliver is None:
            flight.deliver = None
        assert self.executor is not None
        self.executor.go_alone(rows, row, work, done)
        return flight

    def find(self, run: str, action: str) -> ActionInFlight | None:
        """The action of this name, in flight from now on if it is a row."""
        for rows in list(self.by_number.values()):
            if rows.run.name == run and (row := rows.find(action)) >= 0:
                flight = self.go_alone(rows, row)
                return None if flight is not None and flight.ended else flight
        return None

    # -- cancelling -----------------------------------------------------------------------------------------------

    def cancel(self, rows: Rows, kind: str, reason: str) -> None:
        """Have all rows end early; what is awaited is settled with `kind` ("cancelled" or "aborted")."""
        if rows.reason:
            return
        rows.reason = reason or kind
        rows.rest = Settled(kind, None, message=reason)
        for row, flight in list(rows.alone.items()):
            if not flight.ended and kind == "aborted":
                self._controller.abort(rows.run.name, rows.name(row), reason)
            elif not flight.ended:
                self._controller.cancel(flight, reason)
        if rows.deliver is not None:
            rows.deliver(rows.open(range(len(rows))))
        assert self.executor is not None
        self.aborted(rows, self.executor.cancel_rows(rows))

    def cancel_one(self, rows: Rows, row: int) -> None:
        """Cancel a row of those that are cancelled: it is under way."""
        flight = self.go_alone(rows, row)
        if flight is not None:
            self._controller.cancel(flight, rows.reason)

    def drop(self, rows: Rows, reason: str) -> None:
        """Cancel all rows; their results are not delivered any more."""
        rows.deliver = None
        for flight in rows.alone.values():
            flight.deliver = None
        if rows.taken:
            self.cancel(rows, "cancelled", reason)
        else:  # cancelled before they were taken: they never existed
            rows.taken, rows.left = True, 0

    def drop_some(self, rows: Rows, which: Collection[int], reason: str) -> None:
        """Cancel some rows; their results are not delivered any more."""
        still = rows.open(which)
        if rows.reason or (len(still) == len(which) == len(rows)):
            self.drop(rows, reason)
            return
        for row in which:
            if (flight := rows.alone.get(row)) is not None and not flight.ended:
                flight.deliver = None
                self._controller.cancel(flight, reason)
        assert self.executor is not None
        self.aborted(rows, self.executor.forget(rows, frozenset(still)))
        for row in rows.open(still):
            if (flight := self.go_alone(rows, row)) is not None:
                flight.deliver = None
                self._controller.cancel(flight, reason)

    def cancel_run(self, run: str, reason: str, kind: str = "cancelled", parent: str = "") -> None:
        """Cancel the rows of a run, or of one parent in it."""
        for rows in list(self.by_number.values()):
            if rows.run.name == run and parent in ("", rows.parent):
                self.cancel(rows, kind, reason)

    def all_alone(self) -> None:
        """Make each open row an action in flight: something ends all of them."""
        for rows in list(self.by_number.values()):
            for row in rows.open(range(len(rows))):
                self.go_alone(rows, row)

    def is_busy(self, run: str) -> bool:
        """Whether rows of a run are on their way."""
        return any(rows.run.name == run for rows in self.by_number.values())

    def unfinished(self, run: str, parent: str) -> tuple[int, list[str]]:
        """How many rows of a parent have not ended and are not being cancelled, and the labels of some."""
        count, labels = 0, list[str]()
        for rows in self.by_number.values():
            if rows.run.name == run and rows.parent == parent and not rows.reason:
                still = rows.open(range(len(rows)))
                count += len(still)
                labels += [rows.call(row).label for row in still[: max(NAMED - len(labels), 0)]]
        return count, labels

    def __repr__(self) -> str:
        return f"<Batches [{sum(rows.left for rows in self.by_number.values())} rows]>"
