"""Public helpers for testing code that uses tasks: a cell without a notebook, a clock that jumps, an executor in this process.

The contract tests run the same programs on `InlineExecutor` and on a real Dask cluster, which holds the fake to the truth.
Runs in: test processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from flyte_nb.core.attempts import surroundings
from flyte_nb.core.attempts.body import GRACE
from flyte_nb.core.attempts.inline import InlineExecutor
from flyte_nb.core.control.controller import Controller
from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.runs import engine as runs_engine
from flyte_nb.core.runs import run_registry
from flyte_nb.core.runs.engine import cell_context
from flyte_nb.core.runs.local import LocalEngine
from flyte_nb.core.tasks import context as ctx

T = TypeVar("T")

__all__ = ["FakeClock", "InlineExecutor", "LocalEngine", "ScriptedExecutor", "record", "run_cell"]


class _Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Call it off."""
        self.callback = None


class FakeClock:
    """A clock that moves by `advance` only."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now: float = now
        self._timers: list[tuple[float, int, _Timer]] = []
        self._order = itertools.count()

    def time(self) -> float:
        """Seconds since the epoch."""
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> _Timer:
        """Call back once `advance` has gone past `delay` seconds."""
        timer = _Timer(callback)
        heapq.heappush(self._timers, (self.now + delay, next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Move on by `seconds`, calling what falls due on the way."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heapq.heappop(self._timers)
            self.now = due
            if timer.callback is not None:
                timer.callback()
        self.now = end


class ScriptedExecutor:
    """An executor whose attempts end when `end` is called, and how that says."""

    def __init__(self) -> None:
        #: Attempts started and not ended, in order.
        self.pending: list[tuple[Work, Callable[[Outcome], None]]] = []
        #: Attempts that were asked to end early, with the reason.
        self.cancelled: list[tuple[Work, str]] = []

    def start(self, task: Any, run: RunInfo, work: Work, done: Callable[[Outcome], None], code: Any = None) -> None:
        """Remember an attempt."""
        self.pending.append((work, done))

    def cancel(self, work: Work, reason: str) -> None:
        """Remember the request; end it with `end(kind="cancelled")`."""
        self.cancelled.append((work, reason))

    def took(self, work: Work, count: int) -> None:
        """Nothing to do: nothing is executed."""

    def tell_again(self, run: str) -> None:
        """Nothing to do: nothing is executed."""

    def end(self, kind: str = "ok", **fields: Any) -> Work:
        """End the oldest pending attempt. Returns it."""
        work, done = self.pending.pop(0)
        done(Outcome(*work[:3], kind, **fields))
        return work


@contextlib.contextmanager
def record() -> Iterator[list[ev.Event]]:
    """Collect the events of runs on the local engine (``mode="local"``) while the block runs."""
    engine = run_registry.engine_for("local")
    events: list[ev.Event] = []
    original = engine.store.append

    def append(event: ev.Event) -> None:
        events.append(event)
        original(event)

    engine.store.append = append  # type: ignore[method-assign]
    controller = engine.controller
    controller.emit = controller.reporter.emit = append
    try:
        yield events
    finally:
        controller.emit = controller.reporter.emit = original
        del engine.store.append


def run_cell(function: Callable[[], Awaitable[T]], *, mode: str = "remote") -> T:
    """Run an async function as the body of a notebook cell: its task calls become actions. Blocks.

    Args:
        function: An ``async def`` without parameters.
        mode: "remote" (the cluster of `flyte_nb.init`, an embedded one by default) or "local" (this process).

    Returns:
        What the function returns; what it raises is raised.
    """
    engine: Any = run_registry.engine_for(mode)
    info = RunInfo(
        name=engine.new_run_name(), home=engine.home, mode="local" if mode == "local" else "remote",
        surroundings=surroundings.capture(),
    )  # fmt: skip
    gateway = engine.gateway
    started = info.started_at.timestamp()
    gateway.emit(
        ev.RunOpened(info.name, getattr(function, "__name__", "cell"), "cell", started),
        ev.ActionQueued(info.name, runs_engine.ROOT, "", "cell", "cell", "", started, "root"),
    )

    async def body() -> T:
        with ctx.using(cell_context(engine, info)):
            return await function()

    error: BaseException | None = None
    try:
        return asyncio.run(body())
    except BaseException as exc:
        error = exc
        raise
    finally:
        _close(engine, info.name, error)


def _close(engine: runs_engine.Engine, run: str, error: BaseException | None) -> None:
    """Close a cell's run once nothing of it executes."""
    gateway = engine.gateway
    quiet = asyncio.run_coroutine_threadsafe(_quiet(engine.controller, engine.store.runs.get(run), run), gateway.loop)
    quiet.result(30)
    phase, now = (Phase.FAILED if error is not None else Phase.SUCCEEDED), gateway.now()
    gateway.emit(ev.ActionEnded(run, runs_engine.ROOT, 1, phase, now), ev.RunClosed(run, phase, now))
    gateway.ask(lambda: None)  # they are folded


async def _quiet(controller: Controller, record: Any, run: str) -> None:
    controller.cancel_run(run, "its cell ended")
    while controller.is_busy(run):  # noqa: ASYNC110 - there is no event for it; a few turns
        await asyncio.sleep(0.01)
    # Actions that workers' controllers drive end there, cancelled by a parent that has ended.
    until = time.monotonic() + GRACE + 2.0
    while record is not None and record.unfinished and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
