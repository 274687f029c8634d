"""Time and sleep that a task which is executed again does not start over. Runs in: the task's thread.

The first execution's answer is recorded as a child action of its own kind, and given again to later attempts of the task
(``context.scope.records``), as results of child actions are. A sleep records when it began: what is left of it is slept.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flyte_nb.core.control.calls import ResumePoint
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.tasks.context import Context, current
from flyte_nb.core.transport.payload import Payload, dumps, loads
from flyte_nb.core.values.aio import Dual


def _of_task() -> Context | None:
    context = current()
    return context if context is not None and context.in_task else None


def _name(context: Context, label: str) -> str:
    """Deterministic: the parent, the call, its group, and how often this very call was made."""
    base = hashlib.blake2b(f"{context.action}\0{label}\0{context.group}".encode(), digest_size=10)
    base.update(b"\0%d" % context.scope.next(base.digest()))
    return base.hexdigest()


def _record(context: Context, name: str) -> Payload | None:
    """What an earlier attempt recorded under a name."""
    found = context.scope.records.get(name)
    return None if type(found) is ResumePoint else found


def _queued(context: Context, name: str, label: str, kind: str, at: float) -> ev.ActionQueued:
    task = label.partition("(")[0]
    attempts = context.attempt + 1 if kind == "sleep" else 1
    return ev.ActionQueued(context.run.name, name, context.action, task, label, context.group, at, kind, attempts)


def _recorded(label: str, make: Callable[[], Any]) -> Any:
    context = _of_task()
    if context is None:
        return make()
    name = _name(context, label)
    record = _record(context, name)
    value = make() if record is None else loads(record)
    if record is None or context.attempt == 0:  # of a run that recovers another: its own record gets it too
        payload = dumps(value)
        phase = Phase.SUCCEEDED if record is None else Phase.RECOVERED
        now = clock.time()
        ended = ev.ActionEnded(context.run.name, name, 1, phase, now, output=bytes(payload), preview=repr(value))  # type: ignore[arg-type]
        context.gateway.emit(_queued(context, name, label, "trace", now), ended)
    return value


@contextmanager
def _sleeping(seconds: float) -> Iterator[float]:
    """Seconds that are left to sleep; records that it began, and how it ended."""
    context = _of_task()
    if context is None:
        yield seconds
        return
    run, label = context.run.name, f"durable.sleep({seconds:g})"
    name = _name(context, label)
    record = _record(context, name)
    now = clock.time()
    began = now if record is None else float(loads(record))
    number, sequence = context.attempt, 2 * context.attempt
    context.gateway.emit(_queued(context, name, label, "sleep", began))
    if sequence:
        context.gateway.emit(ev.ActionNoted(run, name, sequence, Phase.QUEUED, now, "sleeps on", number))
    context.gateway.emit(ev.AttemptStarted(run, name, number, now))
    phase = Phase.ABORTED
    try:
        yield began + seconds - now
        phase = Phase.SUCCEEDED
    finally:
        end = clock.time()
        context.gateway.emit(
            ev.AttemptEnded(run, name, number, now, end, phase is Phase.SUCCEEDED),
            ev.ActionEnded(run, name, sequence + 1, phase, end),
        )


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


def _time() -> float:
    """``time.time()``, the same in every execution of the task."""
    return float(_recorded("durable.time()", clock.time))


def _now() -> dt.datetime:
    """``datetime.now()`` (local, naive, as Flyte's), the same in every execution of the task."""
    found: dt.datetime = _recorded("durable.now()", dt.datetime.now)
    return found


sleep = Dual(_sleep, _sleep_aio, name="sleep")
time = Dual(_time, name="time")
now = Dual(_now, name="now")


__all__ = ["now", "sleep", "time"]
