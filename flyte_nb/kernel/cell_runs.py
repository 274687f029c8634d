"""Runs of cells: opened with the cell's first action, closed when nothing of it executes. Runs in: main and engine thread."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import itertools
import threading
import time
from typing import Protocol

from flyte_nb.core.attempts import surroundings
from flyte_nb.core.attempts.body import GRACE
from flyte_nb.core.control.orphans import close_lost
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import ErrorNote, Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.runs import retry, run_registry
from flyte_nb.core.runs.engine import ROOT, Engine, cell_context
from flyte_nb.core.runs.run import Run
from flyte_nb.core.runs.run_control import CellRunControl
from flyte_nb.core.steps import on_failure
from flyte_nb.core.tasks.context import CallScope, Context
from flyte_nb.engine.kernel_engine import KernelEngine
from flyte_nb.kernel.cells.notebook import Notebook
from flyte_nb.kernel.cells.statement import executing
from flyte_nb.kernel.cells.tracker import Cell, cut_title
from flyte_nb.kernel.interrupts.clean_up import refuses

#: Seconds that a run stays open for actions which workers are ending: their grace period, and some.
WORKERS_PATIENCE = GRACE + 2.0
#: Seconds between two looks whether a cell has changed its surroundings: fewer than an action takes.
LOOK_AROUND_EVERY = 0.0004
#: Seconds between two looks whether a run can be closed.
LOOK_EVERY = 0.02
#: Actions of a stopped cell that are cancelled in one go, and seconds between two.
CANCELLED_AT_ONCE, CANCEL_EVERY = 300, 0.005


class CellExecution:
    """One execution of a cell, with its run."""

    def __init__(self, cell: Cell, info: RunInfo, context: Context, control: CellRunControl) -> None:
        self.cell = cell
        self.info = info
        self.context = context
        #: The run as an object for the user.
        self.control = control
        self.opened = False
        #: What the run is called.
        self.title: str = cell.title
        #: Set once the final picture has been sent.
        self.closed: threading.Event = threading.Event()
        self.error: BaseException | None = None
        self.interrupted = False
        #: Whether all that it had called was cancelled: what it calls since is clean-up, which may outlast it.
        self.stopped = False
        #: What its run's surroundings were taken from.
        self.seen: surroundings.Seen = surroundings.Seen()
        self.seen_at: float = time.perf_counter()

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.info.name


class _Session(Engine, Protocol):
    def give_back(self, name: str) -> None:
        """Nothing came of a run."""


class CellRuns:
    """The runs of cells that execute, or whose actions have not all ended.

    Args:
        session: The engine that user objects of the runs refer to.
        engine: Controller and store.
    """

    def __init__(self, session: _Session, engine: KernelEngine) -> None:
        #: None outside a notebook: there are no cells.
        self.notebook: Notebook | None = None
        self._session = session
        self._engine = engine
        self._lock = threading.Lock()
        self._by_name: dict[str, CellExecution] = {}
        self._by_cell: dict[int, CellExecution] = {}
        #: Cells that have started runs which have not opened yet: the next one may execute by then.
        self.launched: dict[str, Cell] = {}
        #: The cell that was stopped last, by its number.
        self._stopped = 0

    def context(self) -> Context | None:
        """Context of the running cell; None outside cells (a script: plain Python, as in Flyte)."""
        cell = self.notebook.cells.owner() if self.notebook is not None else None
        if cell is None:
            return None
        found = self.of(cell)
        # Several times for each call, and once for each of a gather's.
        now = time.perf_counter()
        if now - found.seen_at > LOOK_AROUND_EVERY and threading.current_thread() is threading.main_thread():
            found.seen_at = now
            if not found.seen.same():
                self._look_around(found)
        return found.context

    def _look_around(self, found: CellExecution) -> None:
        """The cell has changed its surroundings since its last call: they hold for the next one."""
        found.seen, data = surroundings.Seen(), surroundings.capture()
        if data != found.info.surroundings:
            found.info = dataclasses.replace(found.info, surroundings=data)
            found.context = dataclasses.replace(found.context, run=found.info)
            found.control.info = found.info
            self._session.gateway.run_soon(self._engine.executor.tell_again, found.name)

    def of(self, cell: Cell) -> CellExecution:
        """The run of a cell's execution, begun if there is none."""
        found = self._by_cell.get(id(cell))
        if found is not None and found.cell is cell:
            return found
        with self._lock:  # threads of a cell may call its first tasks at once
            return self._begun(cell)

    def _begun(self, cell: Cell) -> CellExecution:
        found = self._by_cell.get(id(cell))
        if found is None or found.cell is not cell:
            session, attended = self._session, self._session.is_attended()
            info = RunInfo(
                name=session.new_run_name(), home=session.home, interactive_mode=attended,
                on_failure=on_failure.way_of(None, attended), breakpoint_wait=on_failure.wait_of(None, attended),
                surroundings=surroundings.capture(),
            )  # fmt: skip
            found = CellExecution(cell, info, cell_context(session, info), CellRunControl(session, info))
            found.title = self._title(cell)
            if cell.serial == self._stopped:
                found.context.scope.stopped = functools.partial(refuses, cell.serial)
            found.context.scope.watch = self.notebook.unawaited if self.notebook is not None else None
            self._by_cell[id(cell)] = self._by_name[info.name] = found
        return found

    def _title(self, cell: Cell) -> str:
        """What its run is called: as its author has named the cell, else by the statement that makes the first call."""
        # Where cells have no ids they are known by their titles.
        if cell.named or not cell.cell_id or self.notebook is None:
            return cell.title
        return cut_title(executing(self.notebook.cells.ip.user_ns, cell.task)) or cell.title

    def executing(self, cell: Cell | None) -> CellExecution | None:
        """The run of a cell that executes now; None if it has called no task."""
        return self._by_cell.get(id(cell))

    def cell_of(self, run: str) -> Cell | None:
        """The cell that a run which opens is shown under: its own, or else the one that executes now."""
        found, cell = self._by_name.get(run), self.launched.pop(run, None)
        if found is not None:
            return found.cell
        return cell or (self.notebook.cells.current if self.notebook is not None else None)

    def is_open(self, run: str) -> bool:
        """Whether a run's cell is still executing and may submit more calls."""
        return any(found.name == run for found in list(self._by_cell.values()))

    def recover(self, cell: Cell, older: str) -> int:
        """Have a running cell reuse what succeeded in an earlier run.

        Args:
            cell: A cell that has called no task yet.
            older: Name of the run.

        Returns:
            How many results there are for the cell's own calls.

        Raises:
            RuntimeError: The cell has called tasks already.
        """
        found, gateway = self.of(cell), self._session.gateway
        if gateway.ask(lambda: found.opened):
            raise RuntimeError("the cell has called tasks already: put %%flyte recover into its first line.")
        records = gateway.ask(self._session.replay.recovered, older, ROOT)
        found.info = dataclasses.replace(found.info, recovers=older)
        found.context = dataclasses.replace(found.context, run=found.info, scope=CallScope(dict(records)))
        found.control = CellRunControl(self._session, found.info)
        return len(records)

    # -- on the engine thread -------------------------------------------------------------------------------------

    def before(self, event: ev.Event) -> ev.Event:
        """Open a cell's run before its first action is folded, and name cells by their prompts in errors."""
        if type(event) is not ev.ActionQueued and type(event) is not ev.CallsQueued:
            return self.notebook.names.event(event) if self.notebook is not None else event
        found = self._by_name.get(event.run)
        if found is not None and not found.opened:
            self._open(found, event.at)
        return event

    def _open(self, execution: CellExecution, now: float) -> None:
        execution.opened = True
        run_registry.register(Run(execution.control))
        cell, name = execution.cell, execution.name
        title = execution.title or "cell"
        store, recovers = self._engine.store, execution.info.recovers
        store.append(ev.RunOpened(name, title, "cell", now, cell.cell_id or "", cell.prompt or 0, recovers))
        store.append(ev.ActionQueued(name, ROOT, "", title, title, "", now, "root"))

    def stop(self, cell: Cell) -> None:
        """Have a cell that was stopped start nothing more but its clean-up. In the signal handler."""
        self._stopped = cell.serial
        found = self._by_cell.get(id(cell))
        if found is not None:
            found.context.scope.stopped = functools.partial(refuses, cell.serial)

    def was_stopped(self, cell: Cell | None) -> bool:
        """Whether a cell was stopped."""
        return cell is not None and cell.serial == self._stopped

    def interrupt(self, cell: Cell) -> None:
        """Cancel everything of a cell that was stopped, whatever asyncio would leave running."""
        found = self._by_cell.get(id(cell))
        if found is not None:
            found.interrupted = found.stopped = True
            self._cancel(found)

    def _cancel(self, execution: CellExecution) -> None:
        engine, why = self._engine, "stop was pressed"
        engine.ask_workers("cancel_run", execution.name, why)
        engine.controller.batches.cancel_run(execution.name, why)
        left = iter(engine.controller.unfinished(execution.name))
        engine.executor.withdraw(execution.name)

        def some() -> None:
            """Cancel a few: the kernel's main thread, which shows that the cell has ended, waits for the GIL."""
            batch = list(itertools.islice(left, CANCELLED_AT_ONCE))
            for flight in batch:
                engine.controller.cancel(flight, why)
            if batch:
                engine.thread.loop.call_later(CANCEL_EVERY, some)

        some()

    # -- when a cell has ended ------------------------------------------------------------------------------------

    def cell_ended(self, cell: Cell, error: BaseException | None) -> CellExecution | None:
        """Have a cell's run closed once nothing of it executes. From the kernel's main thread."""
        found = self._by_cell.pop(id(cell), None)
        if found is not None:
            found.error = error
            found.interrupted = isinstance(error, asyncio.CancelledError | KeyboardInterrupt)
            self._session.gateway.run_soon(self._wind_up, found)
        return found

    def _wind_up(self, execution: CellExecution, waited: float = 0.0) -> None:
        engine, name = self._engine, execution.name
        if execution.opened:
            if execution.interrupted and not (waited or execution.stopped):
                self._cancel(execution)
            record = engine.store.runs.get(name)
            ending = record is not None and record.unfinished and waited < WORKERS_PATIENCE
            if engine.controller.is_busy(name) or ending:
                # Actions that a failed gather left behind, or background tasks: the run stays open for them; and for those that
                # workers see through, which a parent that ended has cancelled.
                engine.thread.loop.call_later(LOOK_EVERY, self._wind_up, execution, waited + LOOK_EVERY)
                return
            if not execution.control.retried:
                self._close(execution)
            elif record is not None and record.state.ended_at is None:
                retry.close_cell(self._session, record)
        self._by_name.pop(name, None)
        if not execution.opened:
            self._session.give_back(name)  # another cell may have it from now on
        execution.closed.set()

    def _close(self, execution: CellExecution) -> None:
        engine, name, now = self._engine, execution.name, self._engine.controller.now()
        close_lost(engine.store.runs[name], engine.emit, now)
        phase, note = Phase.SUCCEEDED, None
        if execution.interrupted:
            phase = Phase.ABORTED
        elif (error := execution.error) is not None:
            phase, note = Phase.FAILED, ErrorNote("user", type(error).__name__, str(error)[:500])
        engine.store.append(ev.ActionEnded(name, ROOT, 1, phase, now, note))
        engine.store.append(ev.RunClosed(name, phase, now, note))
