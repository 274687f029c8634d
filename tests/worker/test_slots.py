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
