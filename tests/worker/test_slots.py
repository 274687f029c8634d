"""Slots under interrupts: a cancelled action may be waiting for its slot, and must not take it along."""

from __future__ import annotations

import asyncio
import threading
import time

from flyte_nb.core.attempts.threads import interrupt_thread
from flyte_nb.worker.slots import SlotGate, SlotHolder

#: Seconds after which something counts as never happening.
NEVER = 20.0


def until_waiting(holder: SlotHolder) -> None:
    """Return once it waits for a slot."""
    end = time.monotonic() + NEVER
    while not holder.waiting or not holder.gate.contended:
        assert time.monotonic() < end
        time.sleep(0.001)


class Waiter:
    """A thread that takes a slot and gives it back."""

    def __init__(self, gate: SlotGate) -> None:
        self.holder = SlotHolder(gate)
        self.said = ""
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        until_waiting(self.holder)

    def _run(self) -> None:
        try:
            self.holder.take()
            self.said = "took"
        except asyncio.CancelledError:
            self.said = "interrupted"
        self.holder.give()

    def interrupt(self) -> None:
        """Cancel what it does: delivered when its wait ends."""
        assert self.thread.ident is not None
        interrupt_thread(self.thread.ident, asyncio.CancelledError)


def test_an_interrupt_while_waiting_loses_no_slot() -> None:
    """A thread that is interrupted as its turn comes gives the slot back; who waits behind it gets it."""
    gate = SlotGate(1)
    first = SlotHolder(gate)
    first.take()
    interrupted = Waiter(gate)
    behind = Waiter(gate)
    interrupted.interrupt()
    first.give()
    for waiter in (interrupted, behind):
        waiter.thread.join(NEVER)
        assert not waiter.thread.is_alive()
    assert (interrupted.said, behind.said) == ("interrupted", "took")
    assert gate.free == 1
    assert not gate.holders


def test_an_interrupted_thread_that_waits_impatiently_leaves_the_queue() -> None:
    """Its turn does not come any more, so that the slot goes to the next."""
    gate = SlotGate(1)
    first = SlotHolder(gate)
    first.take()
    gone = SlotHolder(gate)
    gone.has_begun = lambda: True
    first.since = time.perf_counter() + NEVER  # not for long yet: the spare slot stays
    said: list[str] = []

    def run() -> None:
        try:
            gone.take()
        except asyncio.CancelledError:
            said.append("interrupted")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    until_waiting(gone)
    assert thread.ident is not None
    interrupt_thread(thread.ident, asyncio.CancelledError)
    thread.join(NEVER)
    assert not thread.is_alive()
    assert said == ["interrupted"]
    assert not gate.contended
    first.give()
    assert gate.free == 1


def _until(said: str, gate: SlotGate) -> None:
    end = time.monotonic() + NEVER
    while said not in repr(gate):
        assert time.monotonic() < end, gate
        time.sleep(0.001)


def _ended(threads: list[threading.Thread]) -> bool:
    for thread in threads:
        thread.join(NEVER)
    return not any(thread.is_alive() for thread in threads)


def test_threads_of_one_body_that_wait_for_its_slot_lose_none() -> None:
    """One gets it and gives it back, while the other waits still; then it is free again."""
    gate = SlotGate(1)
    other, body = SlotHolder(gate), SlotHolder(gate)

    def wait() -> None:
        body.take()
        body.give()

    for _ in range(20):
        other.take()
        threads = [threading.Thread(target=wait, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        _until("3 waiting", gate)
        other.give()
        assert _ended(threads)
        assert (gate.free, body.held) == (1, False)


def test_a_body_does_not_keep_a_slot_while_a_thread_of_it_waits_for_an_action() -> None:
    """Whatever began first: another one's wait for the slot, or that for the action, which may need it."""
    gate = SlotGate(1)
    other, body, child = SlotHolder(gate), SlotHolder(gate), SlotHolder(gate)
    settled = threading.Event()

    def awaits() -> None:
        with body.lent():
            settled.wait(NEVER)

    other.take()
    goes_on = threading.Thread(target=body.take, daemon=True)
    goes_on.start()
    _until("1 waiting", gate)
    waits = threading.Thread(target=awaits, daemon=True)
    waits.start()
    while not body.lending:
        time.sleep(0.001)
    other.give()
    executes = threading.Thread(target=child.take, daemon=True)
    executes.start()
    assert _ended([goes_on, executes])
    assert (child.held, body.held) == (True, False)
    settled.set()
    child.give()
    assert _ended([waits])
    assert body.held
