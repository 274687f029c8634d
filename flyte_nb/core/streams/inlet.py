"""Inlet: the consumer's end of a stream, where items wait in order until they are taken. Runs in: everywhere.

Items arrive on the controller's thread and are taken in any other. What a producer yields again after it was lost or has failed
is compared with what had arrived, by a digest of the whole beginning: memory does not grow with the length of a stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from flyte_nb.core.control.calls import Settled
from flyte_nb.core.control.controller import Controller
from flyte_nb.core.control.flight import Ticket
from flyte_nb.core.control.gateway import Gateway
from flyte_nb.core.streams.outlet import Item
from flyte_nb.core.transport.mailbox import mailbox_of
from flyte_nb.core.transport.payload import Packed, Payload, carried, is_here, loads, nbytes, rebuilt
from flyte_nb.errors import RuntimeUserError

#: Bytes of a stream that are kept while it goes on, so that its record has all items when it has ended; of one that is cached,
#: and of one that is a run of its own, whose outputs they are.
KEPT_BYTES, KEPT_IF_CACHED, KEPT_OF_RUN = 8 * 1024**2, 64 * 1024**2, 256 * 1024**2
Key = tuple[str, str, int]
#: What `Inlet.take` gives where there is no item. No exception: an item's own code may raise any.
NOTHING: Any = object()
_ITEM = "an item of {} arrived, but"


class StreamChangedError(RuntimeUserError):
    """A stream that began again has yielded other items than those that its consumer has had."""

    def __init__(self, name: str, count: int) -> None:
        text = (
            f"{name} was executed again, and did not yield the {count:,} item{'s' * (count != 1)} again that had arrived "
            "before: what follows would not fit. Make it deterministic (seeds, order of sets and of files), or give it no "
            "retries."
        )
        super().__init__("StreamChangedError", text)


class Inlet:
    """One call's.

    Args:
        name: Of the task.
        buffer: Items that its producer may be ahead.
        keep: Bytes of items that are kept for the record.
    """

    def __init__(self, name: str, buffer: int, keep: int) -> None:
        self.name = name
        self._keep = keep
        #: How many items are taken before the producer is told.
        self._tell_every = max(1, buffer // 2)
        #: Arrived, and not taken.
        self.items: deque[Any] = deque()
        #: A list of all items, from a record, of which those follow that have not arrived.
        self._tail: Payload | None = None
        #: Items that have arrived so far, and the digest of them all.
        self.received = 0
        self._digest = b""
        self.taken = 0
        self._told = 0
        #: Whether the consumer wants no more.
        self.closed = False
        #: How the action ended, behind the last item.
        self.end: Settled | None = None
        self.gateway: Gateway | None = None
        self.ticket: Ticket | None = None
        self._waiters: deque[Callable[[], None]] = deque()
        #: All items from the first one on, as long as they are kept.
        self._kept: list[Payload] | None = []
        self._kept_bytes = 0
        self._record: bytes | None = None

    # -- on the controller's thread -------------------------------------------------------------------------------

    def arrived(self, first: int, items: list[Item]) -> int | None:
        """Take items that have arrived, of which the first has this number; returns what the producer is to be told."""
        known = self.received - first
        if known < 0 or self.end is not None:
            return None
        if 0 < known <= len(items) and items[known - 1][1] != self._digest:
            self.deliver(Settled("raised", None, error=StreamChangedError(self.name, self.received)))
            return -1
        new = [payload for payload, _ in items[known:]]
        if new:
            self.received += len(new)
            self._digest = items[-1][1]
            self._remember(new)
            self.items.extend(new)
            if self.closed:  # looked at behind it: the consumer leaves in its own thread
                self.items.clear()
            self.wake()
        return self.taken if known > 0 else None

    def _remember(self, new: list[Payload]) -> None:
        if self._kept is not None:
            self._kept_bytes += sum(map(nbytes, new))
            if self._kept_bytes > self._keep:
                self._kept = None
            else:
                self._kept += new

    def record(self) -> Payload | None:
        """All items as the payload of a list, once the producer has ended; None if they are too many, or not all of them."""
        if self._kept is not None and not self.closed:
            self._record = pickle.dumps(_Joined(tuple(map(carried, self._kept))), 5)
        self._kept = None
        return self._record

    def deliver(self, settled: Settled) -> None:
        """The action has ended. Its result, where that is a record, or a person's, is what follows the items so far."""
        if self.end is not None:
            return
        self._kept = None
        if settled.kind == "ok" and settled.payload is not None and settled.payload is not self._record:
            self._tail = settled.payload
            self.items.append(_TAIL)  # opened by the consumer: it may be large
        self.end = settled
        self.wake()

    def wake(self) -> None:
        """Have whoever waits look again."""
        while True:
            try:
                waiter = self._waiters.popleft()
            except IndexError:  # the last one has just given up, in its thread
                return
            waiter()

    # -- in the consumer's thread ---------------------------------------------------------------------------------

    def take(self) -> Any:
        """The next item, unpickled; `NOTHING` if there is none now.

        Raises:
            RebuildError: It cannot be made here; the next call gives the one behind it.
            BlobGoneError: A large part of it is gone with the process that kept it.
        """
        if (payload := self._pop()) is _TAIL:
            assert self._tail is not None
            following = rebuilt(self._tail, _ITEM, self.name)[self.received :]
            self.items.extendleft(map(_Opened, reversed(following)))
            payload = self._pop()
        if payload is NOTHING:
            return NOTHING
        self.taken += 1
        if self.taken - self._told >= self._tell_every or type(payload) is Packed:
            self._tell_taken()
        if type(payload) is _Opened:
            return payload.value
        try:
            return loads(payload)
        except Exception:  # says what is wrong
            return rebuilt(payload, _ITEM, self.name)

    def _pop(self) -> Any:
        try:
            payload = self.items[0]
            return NOTHING if type(payload) is Packed and not is_here(payload) else self.items.popleft()
        except IndexError:  # also where the consumer leaves, in another thread
            return NOTHING

    def _tell_taken(self) -> None:
        if self._told != self.taken and self.end is None:
            self._told = self.taken
            self._tell(took, self.taken)

    @property
    def is_ready(self) -> bool:
        """Whether there is an item, or the end."""
        try:
            head = self.items[0]
        except IndexError:
            return self.end is not None
        return type(head) is not Packed or is_here(head)

    def wait(self) -> None:
        """Block this thread until there is something."""
        assert self.gateway is not None
        there = threading.Event()
        with self._waking(there.set):
            if self.is_ready:
                return
            self._tell_taken()  # bytes may hold the producer back, not items
            with self.gateway.blocking():
                there.wait()

    async def wait_aio(self) -> None:
        """Await something."""
        there, box = asyncio.Event(), mailbox_of(asyncio.get_running_loop())
        with self._waking(lambda: box.post(there.set)):
            if not self.is_ready:
                self._tell_taken()
                await there.wait()

    async def wait_end(self) -> None:
        """Await the end, whatever comes before it."""
        box = mailbox_of(asyncio.get_running_loop())
        while self.end is None:
            there = asyncio.Event()
            with self._waking(functools.partial(box.post, there.set)):
                if self.end is None:
                    await there.wait()

    @contextlib.contextmanager
    def _waking(self, waiter: Callable[[], None]) -> Iterator[None]:
        self._waiters.append(waiter)
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):  # it was called
                self._waiters.remove(waiter)  # else it stays as long as nothing arrives: a timeout has ended the wait

    def leave(self) -> None:
        """Take no more: the producer ends at its next ``yield``. Idempotent; from any thread."""
        if not self.closed:
            self.closed = True
            self.items.clear()
            if self.end is None:
                self._tell(leave)

    def _tell(self, function: Callable[..., None], *args: Any) -> None:
        if self.gateway is not None:
            self.gateway.run_soon(function, self.gateway.controller, self.ticket, *args)

    def __repr__(self) -> str:
        return (
            f"<Inlet of {self.name} [{self.received} arrived, {self.taken} taken{', ended' * (self.end is not None)}]>"
        )


class Collector(Inlet):
    """Of a call that nobody iterates over, or not yet: it takes all items as they come, as long as they can be kept."""

    #: Whether somebody waits for all items, and nobody iterates: those that cannot be kept are wanted by nobody.
    unread = False

    def arrived(self, first: int, items: list[Item]) -> int | None:
        """Take items in. They are kept for whoever iterates later; beyond that, the producer waits for it."""
        told = super().arrived(first, items)
        if told == -1 or self._kept is not None:
            return told if told == -1 else self.received
        return self.give_up() if self.unread else told

    def give_up(self) -> int | None:
        """Nobody will iterate: keep nothing if all cannot be kept; returns what the producer is to be told."""
        self.unread = True
        if self._kept is not None or self.end is not None:
            return None
        self.closed = True
        self.items.clear()
        return -1


#: Stands for what follows in a record.
_TAIL = object()


class _Opened:
    """An item that is a value already, of a record."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _Joined:
    """Payloads that are unpickled as one list of their values."""

    def __init__(self, payloads: tuple[Payload, ...]) -> None:
        self._payloads = payloads

    def __reduce__(self) -> Any:
        return joined, (self._payloads,)


def joined(payloads: tuple[Payload, ...]) -> list[Any]:
    """The list of items whose payloads these are."""
    return [loads(payload) for payload in payloads]


# -- what is asked of the controller, on its thread ---------------------------------------------------------------------


def arrived(controller: Controller, key: Key, first: int, items: list[Item]) -> Callable[[], None] | None:
    """Items of an attempt have arrived at the owner of its action.

    Returns:
        What is to be called when large parts of them have come that are still elsewhere; None if nobody waits for the items.
    """
    flight = controller.flights.get(key[:2])
    if flight is None or flight.work is None or flight.work.attempt != key[2]:
        return None
    if flight.call.stream is None:  # nobody iterates: its result is the list of its items, as of any other task
        flight.call.stream = flight.call.task.collector()  # type: ignore[attr-defined]
        flight.call.stream.unread = True
    inlet: Inlet = flight.call.stream
    told = inlet.arrived(first, items)
    if told is not None:
        controller.executor.took(flight.work, told)
    return inlet.wake


def took(controller: Controller, ticket: Ticket, count: int) -> None:
    """The consumer has taken so many items so far."""
    flight = ticket.flight
    if flight and not flight.ended and flight.work is not None:
        controller.executor.took(flight.work, count)


def read_all(controller: Controller, ticket: Ticket) -> None:
    """Somebody waits for all items of a call, and nobody iterates over them."""
    flight = ticket.flight
    if flight and not flight.ended and flight.work is not None and flight.call.stream.give_up() is not None:
        controller.executor.took(flight.work, -1)


def leave(controller: Controller, ticket: Ticket) -> None:
    """The consumer wants no more: the producer ends well at its next ``yield``; one that has not begun is cancelled."""
    flight = ticket.flight
    if not flight or flight.ended:
        return
    if flight.work is not None and flight.call.stream.received:
        controller.executor.took(flight.work, -1)
    else:
        controller.cancel(flight, "its consumer wants nothing of it")
