"""The session: one engine, the runs of its cells, their views. The composition root. Runs in: kernel main thread.

Made by `%load_ext flyte_nb`, by `flyte_nb.init()`, or by the first `flyte.run` of a script. Everything that touches the store,
controllers or views is posted to the engine thread.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import dataclasses
import itertools
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from flyte_nb.core.attempts.body import GRACE
from flyte_nb.core.control.orphans import close_lost
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import ErrorNote, Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.runs import cell_run as cellrun
from flyte_nb.core.runs import conditions, engine, retry, run_registry
from flyte_nb.core.runs.engine import cell_context
from flyte_nb.core.steps import on_failure
from flyte_nb.core.tasks import context as ctx
from flyte_nb.core.tasks.context import CallScope, Context
from flyte_nb.core.tasks.task import Task
from flyte_nb.core.transport.payload import Payload
from flyte_nb.core.transport.task_code import dump_function
from flyte_nb.engine.kernel_engine import KernelEngine
from flyte_nb.kernel import operations
from flyte_nb.kernel.cells.names import CellNames
from flyte_nb.kernel.cells.unawaited import Forgotten
from flyte_nb.kernel.debugger.prompt import can_prompt
from flyte_nb.kernel.details import KernelDetails
from flyte_nb.kernel.previews import Reader
from flyte_nb.views.display import WIDGET_MIME
from flyte_nb.views.view import View
from flyte_nb.worker.entry import HostPlugin, run_lane

#: Seconds that the end of a cell waits for its run to wind up; the run of a cell that left work behind closes later.
WIND_UP = 0.3
#: Seconds that a run stays open for actions which workers are ending: their grace period, and some.
WORKERS_PATIENCE = GRACE + 2.0
#: Runs that have ended and keep a live view (a widget of 100 kB, and what the picture remembers); older ones keep their static
#: picture, and `%flyte show` brings them back.
MAX_ENDED_VIEWS = 30


class CellRun:
    """The run of one execution of a cell."""

    def __init__(self, session: Session, cell: Any, info: RunInfo, context: Context) -> None:
        self.cell = cell
        self.info = info
        self.context = context
        #: The same run as an object for the user.
        self.run = cellrun.CellRun(session, info)
        self.opened = False
        #: Set once the final picture has been sent.
        self.closed = threading.Event()
        self.ended = False
        self.error: BaseException | None = None
        self.interrupted = False


class CellDisplay:
    """Outputs of one cell (`flyte_nb.views.display.Display`)."""

    def __init__(self, session: Session, cell: Any) -> None:
        self._session = session
        self._output = session.output
        self._cell = cell

    def publish(self, bundle: Mapping[str, Any], display_id: str) -> None:
        """Add an output under the cell."""
        self._output.display(self._cell, bundle, display_id=display_id)

    def update(self, bundle: Mapping[str, Any], display_id: str) -> None:
        """Replace an output."""
        session, running = self._session, self._session.cells.current
        if session.attended or running is self._cell:
            self._output.update(self._cell, bundle, display_id=display_id)
        elif WIDGET_MIME not in bundle:
            # Runners without a browser (nbclient) drop what is sent for a cell that has ended; the output is found by its
            # ``display_id``, whichever cell the message belongs to. A live view that comes late they would store.
            if running is None:
                session.late[display_id] = bundle
            else:
                self._output.update(running, bundle, display_id=display_id)


class Session:
    """One per process."""

    current: Session | None = None
    #: Gives a new session what the notebook has for it; None outside a notebook.
    furnish: Callable[[Session], None] | None = None

    def __init__(self, **cluster: Any) -> None:
        self.engine = KernelEngine(run_lane, HostPlugin)
        self.gateway = self.engine.gateway
        self.store = self.engine.store
        self.replay = self.engine.replay
        self.controller = self.engine.controller
        self.retained = self.engine.retained
        self.home = self.engine.network.me
        self._names = itertools.count(1)
        self._target = cluster.pop("target", None)
        self._options = {"n_workers": None, "threads_per_worker": 1, "dashboard": False, **cluster}
        self.starting = self.engine.start(self._target, preload="flyte_nb.worker.preload", **self._options)
        self.starting.add_done_callback(lambda _future: self.gateway.run_soon(self._started))
        #: Set by the notebook extension.
        self.cells: Any = None
        self.output: Any = None
        self.router: Any = None
        #: Names cells by their prompts in errors; None outside a notebook.
        self.cell_names: CellNames | None = None
        #: Whether a person can answer prompts, as of the last cell.
        self.attended = False
        #: Outputs that were updated between cells, by display id: sent with the next cell (see `CellDisplay.update`).
        self.late: dict[str, Mapping[str, Any]] = {}
        #: Watches the calls of cells; None outside a notebook.
        self.forgotten: Forgotten | None = None
        #: Views by run, the one shown or ended last at the end.
        self.views: dict[str, View] = {}
        #: Reads values of the user's for the views.
        self.reader = Reader()
        #: The task that was retried with last, as it travels; hundreds of parked actions may be retried with it.
        self._dumped: tuple[Task[..., Any], bytes] | None = None
        self._cell_runs: dict[str, CellRun] = {}
        self._by_cell: dict[int, CellRun] = {}
        self.engine.before = self._before
        self.store.listeners.append(self._run_changed)
        run_registry.provide("remote", lambda: self)
        conditions.serve(self.engine.answers, self)
        # Before the executors of threads shut down, which comes before all of atexit: without them Dask stands still.
        threading._register_atexit(self._finish)  # type: ignore[attr-defined]
        atexit.register(self.close)

    # -- names and contexts ---------------------------------------------------------------------------------------

    def new_run_name(self) -> str:
        """The next of r1, r2, and so on."""
        return f"r{next(self._names)}"

    def context(self) -> Context | None:
        """Context of the running cell; None outside cells (a script: plain Python, as in Flyte)."""
        cell = self.cells.owner() if self.cells is not None else None
        return self.cell_run(cell).context if cell is not None else None

    def cell_run(self, cell: Any) -> CellRun:
        """The run of a cell's execution."""
        found = self._by_cell.get(id(cell))
        if found is None or found.cell is not cell:
            attended = self.is_attended()
            info = RunInfo(
                name=self.new_run_name(),
                home=self.home,
                interactive_mode=attended,
                on_failure=on_failure.way_of(None, attended),
                breakpoint_wait=on_failure.wait_of(None, attended),
            )
            found = CellRun(self, cell, info, cell_context(self, info))
            found.context.scope.watch = self.forgotten
            self._by_cell[id(cell)] = self._cell_runs[info.name] = found
        return found

    def recover(self, cell: Any, older: str) -> int:
        """Have a running cell reuse what succeeded in an earlier run.

        Args:
            cell: A cell that has called no task yet.
            older: Name of the run.

        Returns:
            How many results there are for the cell's own calls.

        Raises:
            RuntimeError: The cell has called tasks already.
        """
        found = self.cell_run(cell)
        if self.gateway.ask(lambda: found.opened):
            raise RuntimeError("the cell has called tasks already: put %%flyte recover into its first line.")
        records = self.gateway.ask(self.replay.recovered, older, engine.ROOT)
        info = dataclasses.replace(found.info, recovers=older)
        context = dataclasses.replace(found.context, run=info, scope=CallScope(dict(records)))
        found.info, found.context, found.run = info, context, cellrun.CellRun(self, info)
        return len(records)

    def info_of(self, run: str) -> RunInfo | None:
        """What a run's actions know of it; None if it is forgotten."""
        known = run_registry.runs().get(run)
        return known._info if known is not None else None

    def is_open(self, run: str) -> bool:
        """Whether a run's cell is still executing."""
        return any(found.info.name == run for found in list(self._by_cell.values()))

    def is_attended(self) -> bool:
        """Whether a person can answer: the front end takes prompts. Off the main thread: as of the last cell."""
        if self.cells is not None and threading.current_thread() is threading.main_thread():
            self.attended = can_prompt(self.cells.ip)
        return self.attended

    def resolve(
        self, run: str, action: str, op: str, payload: Payload | None, task: Task[..., Any] | None, info: RunInfo
    ) -> None:
        """Decide over a parked action, whoever sees it through. On the engine thread."""
        if not self.engine.controller.resolve(run, action, op, payload, task, info):
            # The redefined task travels as bytes: a link's own pickle knows nothing of the notebook.
            if task is not None and (self._dumped is None or self._dumped[0] is not task):
                self._dumped = (task, dump_function(task))
            blob = self._dumped[1] if task is not None and self._dumped is not None else None
            self.engine.ask_workers("decide", run, action, op, payload, blob, info)

    # -- runs of cells --------------------------------------------------------------------------------------------

    def _before(self, event: ev.Event) -> ev.Event:
        """Open a cell's run with its first action. On the engine thread."""
        if type(event) is not ev.ActionQueued:
            return self.cell_names.event(event) if self.cell_names is not None else event
        run = self._cell_runs.get(event.run)
        if run is None or run.opened:
            return event
        run.opened = True
        run_registry.remember(run.run)
        cell = run.cell
        title = getattr(cell, "title", "") or "cell"
        self.store.append(
            ev.RunOpened(
                event.run,
                title,
                "cell",
                event.at,
                getattr(cell, "cell_id", "") or "",
                getattr(cell, "prompt", 0) or 0,
                run.info.recovers,
            )
        )
        self.store.append(ev.ActionQueued(event.run, engine.ROOT, "", title, title, "", event.at, "root"))
        return event

    def cell_ended(self, cell: Any, error: BaseException | None, *, interrupted: bool = False) -> None:
        """A cell ended: close its run once nothing of it executes. From the kernel's main thread."""
        run = self._by_cell.pop(id(cell), None)
        if run is not None:
            run.error, run.interrupted = (
                error,
                interrupted or isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)),
            )
            self.gateway.run_soon(self._wind_up, run)
            # Runners without a browser (nbclient) drop what arrives after the cell: give the final picture a moment.
            if not run.closed.wait(WIND_UP) and run.info.name in self.views:
                with contextlib.suppress(TimeoutError):  # a terminal's prompt must not come before
                    self.gateway.ask(self.views[run.info.name].leave, timeout=WIND_UP)

    def make_room(self, *, done: bool = False) -> None:
        """The running cell is about to show its value, or has: a live tree on a terminal steps aside. On the main thread."""
        cell = self.cells.current if self.cells is not None else None
        run = self._by_cell.get(id(cell)) if cell is not None else None
        view = self.views.get(run.info.name) if run is not None else None
        if view is not None:
            self.gateway.ask(view.resume if done else view.pause)

    def interrupt_on_engine(self, cell: Any) -> None:
        """Stop was pressed: cancel everything of the cell, whatever asyncio would leave running. On the engine thread."""
        run = self._by_cell.get(id(cell))
        if run is not None:
            run.interrupted = True
            self._cancel_run(run.info.name, "stop was pressed")

    def new_epoch(self) -> None:
        """A cell begins: globals may have changed since tasks were last serialized."""
        self.is_attended()
        self._dumped = None
        while self.late:
            display_id, bundle = self.late.popitem()
            self.output.update(self.cells.current, bundle, display_id=display_id)
        self.gateway.run_soon(self.engine.executor.new_epoch)

    def _cancel_run(self, name: str, reason: str) -> None:
        self.engine.controller.cancel_run(name, reason)
        self.engine.ask_workers("cancel_run", name, reason)

    def _wind_up(self, run: CellRun, waited: float = 0.0) -> None:
        name = run.info.name
        if not run.opened:
            run.closed.set()
            self._cell_runs.pop(name, None)
            return
        if run.interrupted and not waited:
            self._cancel_run(name, "stop was pressed")
        record = self.store.runs.get(name)
        ending = record is not None and record.unfinished and waited < WORKERS_PATIENCE
        if self.engine.controller.unfinished(name) or ending:
            # Actions that a failed gather left behind, or background tasks: the run stays open for them; and for those that
            # workers see through, which a parent that ended has cancelled.
            self.engine.thread.loop.call_later(0.02, self._wind_up, run, waited + 0.02)
            return
        if run.run.retried:
            if (record := self.store.runs.get(name)) is not None and record.state.ended_at is None:
                retry.close_cell(self, record)
            run.closed.set()
            self._cell_runs.pop(name, None)
            return
        now = self.engine.controller.now()
        close_lost(self.store.runs[name], self.engine.emit, now)
        phase, note = Phase.SUCCEEDED, None
        if run.interrupted:
            phase = Phase.ABORTED
        elif run.error is not None:
            phase = Phase.FAILED
            note = ErrorNote("user", type(run.error).__name__, str(run.error)[:500])
        self.store.append(ev.ActionEnded(name, engine.ROOT, 1, phase, now, note))
        self.store.append(ev.RunClosed(name, phase, now, note))
        run.closed.set()
        self._cell_runs.pop(name, None)

    # -- views ----------------------------------------------------------------------------------------------------

    def _started(self) -> None:
        for run, record in self.store.runs.items():
            if record.state.note:
                self.store.append(ev.RunNoted(run, ""))

    def _run_changed(self, event: ev.Event) -> None:
        if type(event) is ev.RunOpened:
            # Whatever was redefined before a run is in it: cache keys are made of the code of now as well.
            self.engine.executor.new_epoch()
            cell_run = self._cell_runs.get(event.run)
            cell = cell_run.cell if cell_run else (self.cells.current if self.cells is not None else None)
            if not self.starting.done():
                self.store.append(ev.RunNoted(event.run, "the cluster is starting"))
            self.show(event.run, cell)
        elif type(event) is ev.RunReopened:
            view = self.views.get(event.run)
            if view is not None:
                view.start()
            else:
                self.show(event.run, self.cells.current if self.cells is not None else None)
        elif type(event) is ev.RunClosed:
            known = run_registry.runs().get(event.run)
            if isinstance(known, cellrun.CellRun):
                known.finished()
            self.engine.retained.forget_others(set(self.store.runs))
            view = self.views.pop(event.run, None)
            if view is not None:
                self.views[event.run] = view
                view.finish()
            self._close_old_views()
            self.engine.executor.forget_run(event.run)
            self.engine.blobs.trim()

    def show(self, run: str, cell: Any) -> View:
        """Show a run under a cell, beside the places where it is shown already. On the engine thread."""
        in_notebook = self.output is not None and self.output.in_kernel
        display = CellDisplay(self, cell) if in_notebook else None
        known = self.views.pop(run, None)
        if known is not None and display is not None:
            self.views[run] = known
            known.also(display)
            return known
        if known is not None:
            known.close()
        record = self.store.runs[run]
        view = self.views[run] = View(
            record,
            display=display,
            on_message=self.router.on_widget_message if self.router is not None else None,
            control=lambda op, args, nonce: self.command(run, op, args),
            details=KernelDetails(self, record),
            stream=sys.stderr,
        )
        view.start()
        if record.state.ended_at is not None:
            view.finish()
        self._close_old_views()
        return view

    def show_here(self, run: str) -> None:
        """Show a run under the cell that is executing. From the kernel's main thread."""
        cell = self.cells.current if self.cells is not None else None
        if cell is not None:
            self.gateway.ask(self.show, run, cell)

    def _close_old_views(self) -> None:
        """Close the views of runs that the store has forgotten, and of the oldest that have ended."""
        gone = [name for name in self.views if name not in self.store.runs]
        ended = [
            name for name, view in self.views.items() if name not in gone and view.record.state.ended_at is not None
        ]
        for name in (*gone, *ended[:-MAX_ENDED_VIEWS]):
            self.views.pop(name).close()

    def handle_command(self, command: Any) -> None:
        """A button was pressed, in whichever view. On the engine thread."""
        for view in list(self.views.values()):
            if view.uid and view.uid == command.widget:
                view.handle(command.op, command.args, command.nonce)
                return

    def command(self, run: str, op: str, args: Mapping[str, Any]) -> Any:
        """Do what a view's button asks for. On the engine thread."""
        press = operations.buttons().get(op)
        if press is None:
            return {"ok": False, "error": f"{op.replace('_', ' ')} is not available here."}
        if run not in self.store.runs:
            return {"ok": False, "error": f"{run} is not kept any more: this kernel remembers its latest runs."}
        return press(self, run, args)

    def abort_run(self, run: str, reason: str) -> None:
        """Cancel a run from outside: whoever awaits its actions gets `errors.ActionAbortedError`. On the engine thread."""
        for flight in self.engine.controller.unfinished(run):
            self.engine.controller.abort(run, flight.call.name, reason)
        self.engine.ask_workers("cancel_run", run, reason)

    def abort_action(self, run: str, action: str, reason: str) -> None:
        """Cancel one action from outside. On the engine thread."""
        if not self.engine.controller.abort(run, action, reason):
            self.engine.ask_workers("abort", run, action, reason)

    # -- life -----------------------------------------------------------------------------------------------------

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait for the cluster; raises what starting it raised."""
        self.starting.result(timeout)

    def cluster_text(self) -> str:
        """Which cluster, its workers and slots."""
        if not self.starting.done():
            return "The cluster is starting."
        self.starting.result()
        network = self.engine.network
        handle = network.handle
        assert handle is not None
        if handle.client.scheduler is None:  # Dask's client has closed itself
            return network.lost_text()
        what = "Embedded cluster" if handle.embedded else "Attached to"
        slots = sum(w.nthreads for w in network.roster.values())
        lines = [f"{what} {handle.client.scheduler.address}: {len(network.roster)} workers, {slots} slots"]
        lines += [f"  {w.address}  {w.nthreads} slot{'s' * (w.nthreads > 1)}" for w in network.roster.values()]
        lines += [f"  {address}  cannot be reached from here: {why}" for address, why in network.unreachable.items()]
        return "\n".join(lines)

    def restart_cluster(self) -> Session:
        """Replace the cluster by a fresh one of the same kind; returns the session that took over."""
        return self.replace_cluster(self._target, self._options)

    def replace_cluster(self, target: Any, options: dict[str, Any]) -> Session:
        """Replace the cluster by another; what runs on the old one is cancelled. Returns the session that took over."""
        self.close()
        return ensure(target=target, **options)

    def _finish(self) -> None:
        """A script has ended: let the runs end that it started and did not wait for."""
        waiting = list(run_registry.unfinished())
        if waiting and threading.current_thread() is threading.main_thread() and self.cells is None:
            print(  # noqa: T201 - a script's user must know why it does not end
                f"flyte_nb: waiting for {len(waiting)} unfinished run{'s' * (len(waiting) > 1)} "
                f"({', '.join(r.name for r in waiting)}); Ctrl-C aborts them",
                file=sys.stderr,
            )
            try:
                for run in waiting:
                    run.wait()
            except KeyboardInterrupt:
                pass
        self.close()

    def _close_views(self) -> None:
        self.engine.abort_all()
        for view in self.views.values():
            view.close()

    def close(self) -> None:
        """Cancel what runs, close cluster and thread. Idempotent."""
        atexit.unregister(self.close)
        if self.engine.thread.thread.is_alive():
            try:
                self.gateway.ask(self._close_views, timeout=5)
            except TimeoutError:
                pass
            self.engine.close()
        self.reader.close()
        run_registry.forget(self)
        if Session.current is self:
            Session.current = None
            run_registry.provide("remote", ensure)  # a later run starts anew


def ensure(**options: Any) -> Session:
    """The session of this process, made if there is none."""
    if Session.current is None:
        Session.current = Session(**options)
        if Session.furnish is not None:
            Session.furnish(Session.current)
    return Session.current


def fallback() -> Context | None:
    """Context of code outside tasks: the running cell's."""
    session = Session.current
    if session is None and Session.furnish is not None:
        session = ensure()  # `flyte_nb.shutdown()` closed the notebook's: a later call starts anew
    return session.context() if session is not None and session.cells is not None else None


ctx.set_fallback(fallback)
