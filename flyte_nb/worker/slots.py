"""Compute slots: the right of a thread to compute in this process. Runs in: worker process.

Theory of operation. A worker has as many slots as Dask gave it threads. Every lane (`flyte_nb.worker.lanes.lane`) owns one
thread; it must hold a slot while it runs user code, and gives it back whenever it waits: a sync lane that blocks on a child
action, an async lane whose loop has nothing to do. The latter is seen where every loop waits, in its selector: so one
`select` call that would block releases the slot, and takes one again when it returns. No coroutine has to be wrapped, and
a loop that user code makes itself (``asyncio.run`` in a sync body) behaves the same.

Slots are handed over in order of arrival, so that a thousand coroutines that wake together compute at most `nthreads`
at a time and none starves. One exception: a body that has begun and wants to go on waits at most `SPARE_AFTER_S`, then it takes
the one spare slot. Otherwise a parent could not cancel, or time out, a child that computes in its own process.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from flyte_nb.core.attempts.family import running
from flyte_nb.core.attempts.meter import Meter, Metered
from flyte_nb.core.transport import patched
from flyte_nb.engine.clusters.black_box import BlackBox
from flyte_nb.worker.process.memory import process_size

#: Seconds a loop that always has work may keep its slot while others wait for one.
QUANTUM = 0.02
#: Seconds that a loop which has work lets pass between two looks for events.
GLANCE_S = 0.0005
#: Seconds that a body which has begun waits for a slot before it takes the spare one: a child that computes in the same
#: process may hold the slot for hours.
SPARE_AFTER_S = 0.2
#: Seconds between two checks of a waiting thread whether a slot is held that long.
LOOK_EVERY = 0.02

_mine = threading.local()


class SlotGate:
    """A fair counting semaphore over the slots of this process."""

    def __init__(self, slots: int) -> None:
        self._lock = threading.Lock()
        self._free = slots
        self._waiting: deque[tuple[SlotHolder, threading.Lock]] = deque()
        self.slots = slots
        #: Holders of a slot now.
        self.holders: set[SlotHolder] = set()

    def acquire(self, holder: SlotHolder, impatient: bool = False) -> None:
        """Wait for a slot, first come first served. `SlotHolder.held` is set by the thread that hands it over.

        The waiting thread may be interrupted at any moment, also just after its turn has come.

        Args:
            holder: Gets it.
            impatient: Whether to take the spare slot after `SPARE_AFTER_S` seconds, if it is free then and one of the others is
                held that long: in a mere crowd every holder's turn comes.
        """
        with self._lock:
            if holder.held:  # by another thread of the same attempt
                return
            if self._free > 0:
                self._free -= 1
                holder.held = True
                return
            if impatient and self._take_spare(holder):
                return
            turn = threading.Lock()
            turn.acquire()
            waiter = (holder, turn)
            self._waiting.append(waiter)
        try:
            while not turn.acquire(timeout=LOOK_EVERY if impatient else -1):  # handed over by `release`
                with self._lock:
                    if self._has_one(holder):
                        self._forget(waiter)
                        return
        except BaseException:  # interrupted
            with self._lock:
                self._forget(waiter)
            raise

    def _has_one(self, holder: SlotHolder) -> bool:
        """Whether a holder that waits has a slot: handed over meanwhile, or by another of its threads; or the spare one."""
        return holder.held or self._take_spare(holder)

    def _forget(self, waiter: tuple[SlotHolder, threading.Lock]) -> None:
        with contextlib.suppress(ValueError):
            self._waiting.remove(waiter)

    def _take_spare(self, holder: SlotHolder) -> bool:
        if self._free == 0 and any(other.held_for > SPARE_AFTER_S for other in list(self.holders)):
            self._free = -1
            holder.held = True
            return True
        return False

    def release(self, holder: SlotHolder) -> None:
        """Release a slot: hand it to the holder that waits longest."""
        with self._lock:
            if not holder.held:  # given back meanwhile, by another thread of the same attempt
                return
            while self._waiting and self._waiting[0][0].held and self._waiting[0][0] is not holder:
                self._waiting.popleft()[1].release()  # it got one meanwhile, by another of its threads
            if self._waiting and self._free == 0:
                # No call between these: an interrupt of this thread comes before all of them or after. What follows may be
                # another thread of the same holder.
                following, turn = self._waiting[0]
                holder.held, following.held = False, True
                del self._waiting[0]
                turn.release()
            else:
                self._free += 1
                holder.held = False

    @property
    def contended(self) -> bool:
        """Whether a holder waits for a slot."""
        return bool(self._waiting)

    @property
    def free(self) -> int:
        """Number of slots that are not held."""
        return max(self._free, 0)

    def __repr__(self) -> str:
        return f"<SlotGate {self.slots - self._free}/{self.slots} held, {len(self._waiting)} waiting>"


class SlotHolder:
    """One thread's hold on a slot."""

    def __init__(
        self, gate: SlotGate, on_release: Callable[[], None] = lambda: None, on_take: Callable[[], None] = lambda: None
    ) -> None:
        self.gate = gate
        self._on_release = on_release
        self._on_take = on_take
        #: Whether what would go on has begun before: it does not wait for long.
        self.has_begun: Callable[[], object] = lambda: False
        #: Whether the thread itself is blocked by a synchronous wait (its loop, if it has one, is blocked).
        self.blocked = False
        #: Whether it has a slot now. Set by the gate, under its lock.
        self.held = False
        #: When it last took the slot (`time.perf_counter`).
        self.since: float = 0.0
        #: Seconds held, up to the last release; the same in CPU seconds, and when it last took the slot.
        self._busy = 0.0
        self._cpu = self._cpu_since = 0.0
        #: CPU seconds: of the process, where nobody else holds a slot in it, with all threads that the body's libraries use.
        self.cpu_clock: Callable[[], float] = time.process_time
        #: Whether it waits for a slot right now, and since when.
        self.waiting: bool = False
        self._waiting_since = 0.0
        #: Threads that the body started and that wait for an action.
        self._lending = 0
        self._lending_lock = threading.Lock()

    @property
    def lending(self) -> bool:
        """Whether a thread of the body waits for an action."""
        return self._lending > 0

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Give the slot back around a wait of a thread that the body started.

        As long as any of them waits, the slot is not taken again, whatever the others and the lane's own thread do: most wait
        for one another in ways that cannot be seen, and what an action waits for may need the slot.
        """
        with self._lending_lock:
            self._lending += 1
        self.give()
        try:
            yield
        finally:
            with self._lending_lock:
                self._lending -= 1
            if self.held or self._lending:
                self._on_take()
            else:
                self.take()

    def take(self) -> None:
        """Wait for a slot, unless it holds one, or a thread of the body waits for an action."""
        if self.held or self._lending:
            return
        self._wait()
        self._on_take()
        patched.put_back()
        if self.lending:  # since it began to wait, by another thread, which had nothing to give back
            self.give()

    def _wait(self) -> None:
        self._waiting_since = time.perf_counter()
        self.waiting = True
        try:
            self.gate.acquire(self, bool(self.has_begun()))
        finally:
            self.waiting = False
            if self.held:
                self.since, self._cpu_since = time.perf_counter(), self.cpu_clock()
                self.gate.holders.add(self)

    def give(self) -> None:
        """Give the slot back."""
        if self.held:
            self._busy += time.perf_counter() - self.since
            self._cpu += self.cpu_clock() - self._cpu_since
            self.gate.holders.discard(self)
            patched.lift()
            self.gate.release(self)
            self._on_release()

    def share(self) -> None:
        """Let others in, if any wait and the quantum is used up."""
        if self.held and self.gate.contended and time.perf_counter() - self.since > QUANTUM:
            self.give()
            self.take()

    def busy(self) -> float:
        """Seconds it has held a slot so far."""
        return self._busy + (time.perf_counter() - self.since if self.held else 0.0)

    def cpu(self) -> float:
        """CPU seconds while it has held a slot so far."""
        return self._cpu + (self.cpu_clock() - self._cpu_since if self.held else 0.0)

    @property
    def waited_for(self) -> float:
        """Seconds it has waited for a slot so far; 0 if it does not wait."""
        return time.perf_counter() - self._waiting_since if self.waiting else 0.0

    @property
    def held_for(self) -> float:
        """Seconds since it took the slot it holds; 0 if it holds none."""
        return time.perf_counter() - self.since if self.held else 0.0


def adopt(holder: SlotHolder | None) -> None:
    """Make `holder` the one of this thread (None: this thread needs no slot)."""
    _mine.holder = holder
    if holder is not None and holder.gate.slots > 1:
        holder.cpu_clock = thread_clock()


def thread_clock() -> Callable[[], float]:
    """CPU seconds of the calling thread, to be read from any; 0 where a thread's clock can be read by itself only."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return lambda: 0.0
    return functools.partial(time.clock_gettime, time.pthread_getcpuclockid(threading.get_ident()))


def of_this_thread() -> SlotHolder | None:
    """The holder of this thread; None in threads that are no lane's."""
    return getattr(_mine, "holder", None)


def lender() -> SlotHolder | None:
    """The holder of the attempt that the running code belongs to: for threads that its body started."""
    attempt = running()
    return attempt.lane.holder if attempt is not None and attempt.lane is not None else None


@contextlib.contextmanager
def suspended() -> Iterator[None]:
    """Give the slot back around a wait of this thread."""
    holder = of_this_thread()
    if holder is None and (lending := lender()) is not None:
        with lending.lent():
            yield
        return
    if holder is None or not holder.held:
        yield
        return
    holder.blocked = True
    holder.give()
    try:
        yield
    finally:
        holder.blocked = False
        holder.take()


class SlotSelector(selectors.DefaultSelector):
    """A selector that gives the thread's slot back while it waits."""

    #: When a loop that has work looked for events last.
    _looked_at = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """As the base class; releases the slot around a wait."""
        holder = of_this_thread()
        if holder is None and (timeout is None or timeout > 0) and (lending := lender()) is not None:
            if events := super().select(0):
                return events
            with lending.lent():
                return super().select(timeout)
        if holder is None or not holder.held:
            return super().select(timeout)
        if timeout is not None and timeout <= 0:
            holder.share()
            # A system call, and the GIL given away, for each step of each quick action would cost more than these.
            now = time.perf_counter()
            if now - self._looked_at < GLANCE_S:
                return []
            self._looked_at = now
            return super().select(0)
        events = super().select(0)
        if events:
            holder.share()
            return events
        holder.give()
        try:
            return super().select(timeout)
        finally:
            holder.take()


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop that holds a slot only while it runs callbacks."""
    return asyncio.SelectorEventLoop(SlotSelector())


class SlotPolicy(asyncio.DefaultEventLoopPolicy):
    """Has loops that user code makes (``asyncio.run`` in a sync body) give slots back too."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """A slot-aware loop in a lane's thread and in those that a body started, an ordinary one elsewhere."""
        aware = of_this_thread() is not None or lender() is not None
        return new_loop() if aware else super().new_event_loop()


def _ignore(_place: int) -> None:
    pass


class RecordingMeter(Meter):
    """A lane's meter, which notes the action whose turn it is in the black box."""

    __slots__ = ("_box", "_entry")

    def __init__(self, holder: SlotHolder, box: BlackBox | None) -> None:
        super().__init__(holder.busy, holder.cpu)
        self._box = box
        self._entry = box.entry() if box is not None else None

    def turn(self, body: Metered) -> None:
        """An attempt begins a step."""
        super().turn(body)
        self.resumed(body)

    def memory(self) -> int:
        """As of the base class."""
        return process_size()

    def rows(self, run: str, names: bytes, suffix: str) -> Callable[[int], None]:
        """What notes that one of some rows begins, by its place: `BlackBox.rows`."""
        if self._entry is None or self._box is None:
            return _ignore
        return self._box.rows(self._entry, run, names, suffix)

    def paused(self) -> None:
        """The thread gives its slot back, or waits for its turn of the process."""
        if self._entry is not None:
            self._box.clear(self._entry)  # type: ignore[union-attr]

    def resumed(self, body: Metered) -> None:
        """A body that was blocked goes on, without a new turn."""
        if self._entry is not None:
            self._box.turn(self._entry, body.work.run, body.work.action)  # type: ignore[union-attr]

    def close(self) -> None:
        """The lane has ended."""
        entry, self._entry = self._entry, None
        if entry is not None:
            self._box.give_back(entry)  # type: ignore[union-attr]
