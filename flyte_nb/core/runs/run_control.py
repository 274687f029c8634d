"""Control of a run in its home: launch it, close it once nothing of it executes, retry and decide. Runs in: the run's home.

`Run` is the users' side of it. The run of a notebook cell has no task of its own, and closes otherwise: `CellRunControl`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from flyte_nb.core.control.calls import Call, Settled
from flyte_nb.core.control.orphans import close_lost
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Action, Phase
from flyte_nb.core.history.report_page import page_of
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.runs import retry
from flyte_nb.core.runs.engine import ROOT, WATCH_EVERY, Engine
from flyte_nb.core.runs.outputs import open_results, results_of
from flyte_nb.core.settings.label import label_of_call
from flyte_nb.core.streams.inlet import Inlet, read_all
from flyte_nb.core.streams.stream import Reading
from flyte_nb.core.streams.stream_task import StreamTask
from flyte_nb.core.tasks.context import current
from flyte_nb.core.tasks.prepare import cache_key_of, call_payload, code_of, taken_along
from flyte_nb.core.tasks.registry import REGISTRY, announce_defined, links_given
from flyte_nb.core.tasks.task import Task
from flyte_nb.core.transport.payload import dumps

#: Looks (20 ms apart) at a run whose root has ended after which a step that still seems to run was lost with its process.
LOST_STEPS_AFTER = 15


class RunControl:
    """One run, as its home controls it.

    Args:
        engine: Where it runs.
        info: What its actions know of it.
        task: Its task; None for the run of a cell.
        bound: The task's arguments.
        custom: Its custom context.
    """

    def __init__(
        self, engine: Engine, info: RunInfo, task: Task[..., Any] | None = None, bound: Any = ((), {}),
        custom: tuple[tuple[str, str], ...] = (),
    ) -> None:  # fmt: skip
        self.engine = engine
        self.info = info
        self.task = task
        self.bound = bound
        self.custom = custom
        #: What its task came to; None until it has ended.
        self.settled: Settled | None = None
        #: Items of its task, if that yields.
        self.stream: Inlet | None = None
        self._reading: Reading[Any] | None = None
        #: Set while nothing of it executes.
        self.finished: threading.Event = threading.Event()

    # -- life -----------------------------------------------------------------------------------------------------

    def launch(self) -> None:
        """Open the run, and submit its root action."""
        assert self.task is not None
        self.engine.launched(self)
        announce_defined(self.task.config)
        info, gateway = self.info, self.engine.gateway
        payload = call_payload(self.task, self.bound, gateway.blobs)
        label = label_of_call(self.task, *self.bound)
        code = code_of(gateway, self.task)
        call = Call(
            self.task, info, ROOT, "", payload, label, "", self.custom, kind="root",
            cache_key=cache_key_of(self.task, info, self.bound, code), code=taken_along(gateway, code),
            links=links_given(self.task, info, ROOT),
        )  # fmt: skip
        if isinstance(self.task, StreamTask):
            call.stream = self.stream = self.task.collector()
            call.stream.gateway = gateway
        opened = ev.RunOpened(info.name, label, "run", info.started_at.timestamp(), recovers=info.recovers)
        gateway.run_soon(self.engine.controller.emit, opened)
        ticket = gateway.submit(call, self.settle)
        if call.stream is not None:
            call.stream.ticket = ticket

    def settle(self, settled: Settled) -> None:
        """The root has ended, and its end is folded; its stragglers may still be ending. On the controller's thread."""
        self.settled = settled
        if self.stream is not None:
            self.stream.deliver(settled)
            if self._reading is None and settled.kind == "ok":
                self.stream = None  # its value has them all
        self.close_when_quiet()

    def close_when_quiet(self, looks: int = 0) -> None:
        """Close the run once all its actions have ended; `looks` so far found that some had not. On the controller's thread."""
        controller, record = self.engine.controller, self.record
        if record is not None and looks == LOST_STEPS_AFTER:
            close_lost(record, controller.emit, controller.clock.time())
        if record is not None and record.unfinished and looks < 200:
            delay = 0.02 if looks < 20 else 0.05
            self.engine.gateway.loop.call_later(delay, self.close_when_quiet, looks + 1)
            return
        root = record.actions.get(ROOT) if record else None
        phase = root.phase if root is not None and root.phase.is_terminal else Phase.ABORTED
        controller.emit(ev.RunClosed(self.name, phase, controller.clock.time(), root.error if root else None))
        self.finished.set()

    def done(self) -> bool:
        """Whether nothing of it executes any more."""
        return self.finished.is_set()

    def wait(self, wait_for: str = "terminal") -> None:
        """Block until it is done, or with ``wait_for="running"`` has begun."""
        with self.waiting(), self.engine.gateway.blocking():
            while not self.finished.wait(WATCH_EVERY if wait_for == "running" else None):
                if self.phase is not Phase.QUEUED:
                    return

    def waiting(self) -> AbstractContextManager[None]:
        """A wait for it: what becomes of it when the wait is broken off is its engine's matter."""
        return self.engine.waiting(self)

    def abort(self, reason: str) -> None:
        """Cancel it."""
        self.engine.gateway.run_soon(self.engine.controller.abort, self.name, ROOT, reason)

    # -- facts ----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Unique in this process."""
        return self.info.name

    @property
    def record(self) -> RunRecord | None:
        """What is known of it; None before it has opened, and once it is forgotten."""
        return self.engine.store.runs.get(self.info.name)

    def known(self) -> RunRecord:
        """What is known of it.

        Raises:
            LookupError: It is forgotten.
        """
        record = self.record
        if record is None:
            raise LookupError(f"{self.name} is not kept any more: this kernel remembers its latest 200 runs.")
        return record

    @property
    def phase(self) -> Phase:
        """Its phase now."""
        record = self.record
        return record.state.phase if record is not None else Phase.QUEUED

    @property
    def action(self) -> Action | None:
        """Its root action."""
        record = self.record
        return record.actions.get(ROOT) if record else None

    @property
    def actions(self) -> list[Action]:
        """Its actions, root first, in order of arrival."""
        record = self.record
        return [record.actions[name] for name in list(record.numbered)] if record else []

    def called(self) -> tuple[Task[..., Any] | None, Any]:
        """Its task, and the bound arguments of it; no task: it is the run of a cell."""
        return self.task, self.bound

    def value(self) -> Any:
        """Wait, and return what its task returned; raise what it raised."""
        stream = self.stream  # None from one moment to the next, where it ends
        if stream is not None and stream.ticket is not None and self._reading is None:
            self.engine.gateway.run_soon(read_all, self.engine.controller, stream.ticket)
        self.wait()
        assert self.settled is not None
        return self.settled.result()

    def reading(self) -> Reading[Any] | None:
        """Its items as they come, one pass for all who ask; None where they are known as a whole only.

        Raises:
            TypeError: Its task does not yield.
        """
        if not getattr(self.called()[0], "is_stream", False):
            raise TypeError(f"run {self.name} is no stream, its task does not yield: `await run` gives its value.")
        stream = self.stream
        if self._reading is None and stream is not None:
            self._reading = Reading(self.task, self.bound, stream)
        return self._reading

    def results(self, *, return_exceptions: bool = False, group: str = "", task: str = "") -> list[Any]:
        """Wait, and return what the calls of its cell, or of its first task, gave: `Run.results`."""
        self.wait()
        self.make_ready()
        found = self.ask(results_of, self.engine, self.known(), group, task)
        return open_results(found, self.name, return_exceptions=return_exceptions)

    def logs(self) -> list[str]:
        """What its actions printed, line by line."""
        record = self.engine.gateway.ask(lambda: self.record)
        return [line.text for _, line in record.logs.merged()] if record else []

    def report(self) -> str:
        """The report of its root as one HTML page; where that has none, those of all its actions; "" if there are none."""
        record, ask = self.record, self.engine.gateway.ask
        return (ask(page_of, record, ROOT) or ask(page_of, record)) if record else ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.name, self.task.name if self.task else "", self.phase.name)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}{', done' * self.done()}>"

    # -- retrying, and deciding over parked actions ---------------------------------------------------------------

    def ask(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function on the controller's thread.

        Raises:
            LookupError: The run's cluster was closed.
        """
        if self.engine.gateway.loop.is_closed():
            raise LookupError(f"{self.name} ran on a cluster that was closed since: run its cell again.")
        return self.engine.gateway.ask(function, *args)

    def make_ready(self) -> None:
        """What it returned is about to be used: nothing has to be done for a run of this kernel."""

    def retry(self, action: Action | str | None) -> None:
        """Run a failed or parked action, or all of them, again with the code of now: `Run.retry`, `Run.retry_failed`."""
        self.make_ready()
        self.ask(self._retry, self._find(action) if action is not None else None)

    def decide(self, action: Action | str, op: str, value: Any = None) -> None:
        """Let a parked action succeed with a value ("resume") or fail with its error ("raise"): `Run.resume`, `Run.fail`."""
        found = self._find(action)
        task = REGISTRY.latest(found.task) if op == "resume" else None
        if task is not None:
            value = task.interface.check_outputs(value)
        if not retry.is_parked(found):
            note = f" ({found.note})" if found.phase is Phase.PAUSED else ""
            raise RuntimeError(
                f"{self.name}/{found.id} {found.label} is {found.phase.value}{note} and waits for no decision: cannot {op} it."
            )
        payload = dumps(value) if op == "resume" else None
        self.ask(self.engine.resolve, self.name, found.name, op, payload, None, self.info)

    def _find(self, action: Action | str) -> Action:
        name = action if isinstance(action, str) else action.name
        record = self.record
        found = record.find(name.rpartition("/")[2]) if record else None
        if found is None:
            raise LookupError(f"{self.name} has no action {name!r}; `run.actions` lists them.")
        return found

    def _retry(self, only: Action | None) -> None:
        """Retry what is parked, or else what has ended. On the controller's thread."""
        record = self.known()
        wanted = [only] if only is not None else [record.actions[name] for name in record.numbered]
        parked = [action for action in wanted if retry.is_parked(action)]
        if parked:
            info = retry.with_aliases(record, self.info)
            for action in parked:
                self.engine.resolve(self.name, action.name, "retry", None, REGISTRY.latest(action.task), info)
            return
        if record.state.ended_at is None and (record.state.kind != "cell" or self.engine.is_open(self.name)):
            raise RuntimeError(
                f"{self.name} is still running; what failed can be retried when it has ended. Under on_failure='pause' a "
                "failed action waits to be retried while its run goes on."
            )
        plan = retry.plan(self.engine, record, only)
        if any(not action.phase.is_terminal for action in plan.actions):
            raise RuntimeError(f"{plan.actions[0].id} {plan.actions[0].label} is still {plan.actions[0].phase.value}.")
        retry.resubmit(self.engine, plan, self.begin_again(len(plan.calls)))

    def begin_again(self, _calls: int) -> Callable[[Settled], None]:
        """Calls of the run, which has ended, are about to be retried. On the controller's thread.

        Returns:
            What is called, on the same thread, when such a call has settled.
        """
        self.settled = None
        self.finished.clear()
        self.stream = self._reading = None
        return self.settle


class CellRunControl(RunControl):
    """The run of a cell that awaited tasks; `flyte_nb.kernel.session` opens it, and closes it when the cell has ended."""

    def __init__(self, engine: Engine, info: RunInfo) -> None:
        super().__init__(engine, info)
        #: Whether actions of it were retried: then their phases say how it ended, and not the cell's error.
        self.retried: bool = False
        #: Retried calls that have not settled.
        self._retrying = 0

    def wait(self, wait_for: str = "terminal") -> None:
        """Block until it is done, or with ``wait_for="running"`` has begun.

        Raises:
            RuntimeError: It is the run of the very cell that is executing.
        """
        here = current()
        if here is not None and not here.in_task and here.run.name == self.name and not self.done():
            raise RuntimeError(
                f"{self.name} is the run of this very cell, which cannot wait for itself. Await its calls, or look at it from "
                "the next cell."
            )
        super().wait(wait_for)

    def value(self) -> Any:
        """The results of its calls, in order."""
        return self.results()

    def abort(self, reason: str) -> None:
        """Cancel all its actions."""
        self.engine.gateway.run_soon(self.engine.abort_run, self.name, reason)

    def close_when_quiet(self, looks: int = 0) -> None:
        """Close the run once its retried actions have ended. On the controller's thread."""
        record = self.record
        if record is None or record.state.ended_at is not None or self._retrying:
            return
        if self.engine.controller.is_busy(self.name) or self.engine.is_open(self.name):
            self.engine.gateway.loop.call_later(0.02, self.close_when_quiet, looks + 1)
            return
        retry.close_cell(self.engine, record)
        self.finished.set()

    def begin_again(self, calls: int) -> Callable[[Settled], None]:
        """Calls of the run are about to be retried: it closes when they have settled. On the controller's thread."""
        self.retried = True
        self.finished.clear()
        self._retrying += calls
        return self.settle

    def settle(self, _settled: Settled) -> None:
        """A retried call has settled, and its end is folded. On the controller's thread."""
        self._retrying -= 1
        if not self._retrying:  # the cell's first end, if that is still to come, closes the run
            self.close_when_quiet()
