"""Mailboxes between threads and loops, and what goes through them."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from flyte_nb.core.attempts.threads import LoopClock, LoopThread
from flyte_nb.core.control.controller import Controller
from flyte_nb.core.control.gateway import Gateway
from flyte_nb.core.control.questions import Answers, Home
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.transport.mailbox import Mailbox, mailbox_of
from flyte_nb.testing import ScriptedExecutor

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


def gateway_of(thread: LoopThread, home: Home | None, emitted: list[ev.Event]) -> Gateway:
    """A gateway to a controller on a thread's loop."""
    return Gateway(thread.loop, Controller(ScriptedExecutor(), emitted.append, LoopClock(thread.loop), home=home))


def test_events_and_questions_reach_the_controllers_thread(thread: LoopThread) -> None:
    """Events are published in order; a question to the run's home is answered, by any thread that asks."""
    answers = Answers()
    answers.serve("double", lambda run, then, number: then((run, 2 * number, threading.current_thread())))
    emitted: list[ev.Event] = []
    gateway = gateway_of(thread, answers, emitted)

    gateway.emit(ev.RunNoted("r1", "a"), ev.RunNoted("r1", "b"))
    run, doubled, on = gateway.wait_for_home(RunInfo(name="r1"), "double", (21,))

    assert ["a", "b"] == [event.note for event in emitted]  # type: ignore[union-attr]
    assert ("r1", 42) == (run, doubled)
    assert on is not threading.current_thread()
    assert gateway.is_home


def test_without_a_home_every_question_is_answered_with_none(thread: LoopThread) -> None:
    """Nothing waits for an answer that cannot come."""
    gateway = gateway_of(thread, None, [])

    assert gateway.wait_for_home(RunInfo(name="r1"), "double", (21,)) is None
    assert not gateway.is_home
