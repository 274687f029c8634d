"""Durable time and sleep: a task that is executed again does not start them over. Runs in: the task's thread.

The first execution's answer is recorded as a step (`flyte_nb.core.steps.step`), and replayed to later attempts of the task. A
sleep records when it began: what is left of it is slept.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flyte_nb.core.history.facts import Phase
from flyte_nb.core.steps.step import Step, name_step
from flyte_nb.core.tasks.context import current, of_task
from flyte_nb.core.transport.payload import dumps, loads
from flyte_nb.core.values.aio import Dual


def _recorded(label: str, make: Callable[[], Any]) -> Any:
    context = of_task()
    if context is None:
        return make()
    step = Step(context, name_step(context, label), label.partition("(")[0], label)
    record = step.record
    value = make() if record is None else loads(record)
    if record is None or context.attempt == 0:  # of a run that recovers another: its own record gets it too
        now = clock.time()
        step.queue(now)
        phase = Phase.SUCCEEDED if record is None else Phase.RECOVERED
        step.end(phase, now, output=bytes(dumps(value)), preview=repr(value))  # type: ignore[arg-type]
    return value


@contextmanager
def _sleeping(seconds: float) -> Iterator[float]:
    """Seconds that are left to sleep; records that it began, and how it ended."""
    context = of_task()
    if context is None:
        yield seconds
        return
    label = f"durable.sleep({seconds:g})"
    step = Step(context, name_step(context, label), "durable.sleep", label, "sleep")
    now = clock.time()
    first = now if step.record is None else float(loads(step.record))
    step.queue(first, context.attempt + 1)
    if context.attempt:
        step.resume(now, 2 * context.attempt, context.attempt, "sleeps on")
    step.begin(now)
    phase = Phase.ABORTED
    try:
        yield first + seconds - now
        phase = Phase.SUCCEEDED
    finally:
        step.end(phase, clock.time())


def _sleep(seconds: float) -> None:
    """Sleep; when the task is executed again, the time counts from the first call.

    Args:
        seconds: How long in all.
    """
    context = current()
    with _sleeping(seconds) as left:
        if left <= 0:
            return
        if context is None:
            clock.sleep(left)
        else:
            with context.gateway.blocking():
                clock.sleep(left)


async def _sleep_aio(seconds: float) -> None:
    with _sleeping(seconds) as left:
        if left > 0:
            await asyncio.sleep(left)


sleep: Dual[[float], None] = Dual(_sleep, _sleep_aio, name="sleep")


@Dual
def time() -> float:
    """``time.time()``, the same in every execution of the task."""
    return float(_recorded("durable.time()", clock.time))


@Dual
def now() -> dt.datetime:
    """``datetime.now()`` (local, naive, as Flyte's), the same in every execution of the task."""
    found: dt.datetime = _recorded("durable.now()", dt.datetime.now)
    return found


__all__ = ["now", "sleep", "time"]
