"""Mailboxes between threads and loops."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from flyte_nb.core.attempts.threads import LoopThread
from flyte_nb.core.transport.mailbox import Mailbox, mailbox_of

#: Seconds after which something counts as never happening.
NEVER = 20.0


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    """A loop in a thread."""
    made = LoopThread("mailbox")
    yield made
    made.stop()


def test_a_callback_that_fails_holds_up_no_other(thread: LoopThread) -> None:
    """What was posted with it is called all the same, and the failure is logged."""
    box = Mailbox(thread.loop)
    called = threading.Event()

    def fail() -> None:
        raise ValueError("a fault of ours")

    def post_both() -> None:
        box.post(fail)
        box.post(called.set)

    thread.post(post_both)
    assert called.wait(NEVER)


def test_a_loop_that_has_ended_is_not_kept() -> None:
    """Nor what is posted to it later: ``asyncio.run`` in an action makes a loop each time."""

    async def post() -> tuple[weakref.ref[asyncio.AbstractEventLoop], Mailbox]:
        loop = asyncio.get_running_loop()
        box = mailbox_of(loop)
        await asyncio.sleep(0)
        return weakref.ref(loop), box

    loop, box = asyncio.run(post())
    gc.collect()
    assert loop() is None
    value = type("Value", (), {})()
    kept = weakref.ref(value)
    box.post(print, value)
    box.post(print, value)
    del value
    gc.collect()
    assert kept() is None
