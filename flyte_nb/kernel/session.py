"""Session: the engine of this process, the runs of its cells, their views. Runs in: kernel main thread.

Made by `%load_ext flyte_nb`, by `flyte_nb.init()`, or by the first `flyte.run` of a script. Everything that touches the store,
controllers or views is posted to the engine thread. What a person can do with a session is in `flyte_nb.kernel.operations`,
above it; `flyte_nb.kernel.extension` attaches it to a notebook.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from contextlib import AbstractContextManager
from typing import Any

import distributed

from flyte_nb.core.attempts import surroundings
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.results.actions import payloads_of
from flyte_nb.core.runs import conditions, run_registry
from flyte_nb.core.runs.engine import aborting
from flyte_nb.core.runs.run_control import RunControl
from flyte_nb.core.tasks import context as ctx
from flyte_nb.core.tasks.context import Context
from flyte_nb.core.tasks.task import Task
from flyte_nb.core.transport.payload import Payload, loads
from flyte_nb.core.transport.task_code import dump_function
from flyte_nb.engine.clusters.cluster import needs_callers_loop
from flyte_nb.engine.clusters.forks import SOURCE
from flyte_nb.engine.dask_client import DaskClients
from flyte_nb.engine.kernel_engine import KernelEngine
from flyte_nb.kernel import PRELOAD
from flyte_nb.kernel.cell_runs import CellRuns
from flyte_nb.kernel.cells.notebook import Notebook
from flyte_nb.kernel.cells.tracker import Cell, CellTracker
from flyte_nb.kernel.interrupts.ctrl_c import CtrlC
from flyte_nb.kernel.interrupts.sigint import held
from flyte_nb.kernel.past import past_of, say_cut_off, stop_recording
from flyte_nb.kernel.shown_values.previews import Reader
from flyte_nb.kernel.shown_values.sheets import Sheets
from flyte_nb.kernel.shown_views import ShownViews
from flyte_nb.worker import entry

#: Seconds that the end of a cell waits for its run to wind up; the run of a cell that left work behind closes later.
WIND_UP = 0.3
#: Seconds of attaching after which it is said what takes them.
SAY_AFTER = 0.7
#: As `WIND_UP`, for a cell that was stopped.
WIND_UP_STOPPED = 0.1
#: As `WIND_UP`, where nobody sits in front of the notebook: a runner saves what it has seen when the cell has ended.
WIND_UP_UNATTENDED = 1.0


class Session:
    """One per process.

    Args:
        **options: Of `KernelEngine.start`: the cluster to attach to (``target``), or how to start one.
    """

    current: Session | None = None
    #: Called with each new session: the extension's, which attaches it to its notebook. None outside a notebook.
    on_created: Callable[[Session], None] | None = None

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.engine: KernelEngine = KernelEngine(entry.__name__)
        self.gateway = self.engine.gateway
        self.store = self.engine.store
        self.replay = self.engine.replay
        self.controller = self.engine.controller
        self.retained = self.engine.retained
        self.home: str = self.engine.network.me
        #: Runs of earlier kernels, and the recording of this one's; None where that is off.
        self.past = past_of(self)
        self._numbering = threading.Lock()
        #: Number of the latest run.
        self._latest = 0
        defaults = {"n_workers": None, "threads_per_worker": 1, "dashboard": False}
        surroundings.begin(here=options.get("target") is None)
        #: For users of Dask itself.
        self.dask = DaskClients(options.get("target"), self._own_client)
        self.starting = self.engine.start(preload=PRELOAD, **defaults | options)
        self.starting.add_done_callback(lambda _future: self.gateway.run_soon(self._started))
        #: None outside a notebook.
        self.notebook: Notebook | None = None
        self.cell_runs: CellRuns = CellRuns(self, self.engine)
        self.shown: ShownViews = ShownViews(
            self.store,
            self.command,
            lambda record: self.notebook.details(self, record) if self.notebook is not None else None,
        )
        #: Reads values of the user's for the views.
        self.reader: Reader = Reader()
        self.sheets: Sheets = Sheets(self.reader, functools.partial(payloads_of, self))
        #: The task that was retried with last, as it travels; hundreds of parked actions may be retried with it.
        self._dumped: tuple[Task[..., Any], bytes] | None = None
        self.engine.before = self.cell_runs.before
        self.store.listeners.append(self._run_changed)
        run_registry.provide("remote", lambda: self)
        conditions.serve(self.engine.answers, self)
        ctrl_c = CtrlC()
        if Session.on_created is None:  # no notebook
            ctrl_c.install()
        # Before the executors of threads shut down, which comes before all of atexit: without them Dask stands still.
        threading._register_atexit(self._finish, ctrl_c)  # type: ignore[attr-defined]  # noqa: SLF001 - the one hook before executors shut down
        atexit.register(self.close)

    def attach(self, notebook: Notebook) -> None:
        """Serve a notebook: its cells have runs, shown under them."""
        self.notebook = self.cell_runs.notebook = self.shown.notebook = notebook
        notebook.is_attended()

    def __repr__(self) -> str:
        if not self.engine.thread.thread.is_alive():
            cluster = "closed"
        elif not self.starting.done():
            cluster = "starting"
        else:
            cluster = "failed" if self.starting.cancelled() or self.starting.exception() else "running"
        known, shown = len(self.store.runs), len(self.shown.views)
        return f"<Session [{known} run{'s' * (known != 1)}, {shown} view{'s' * (shown != 1)}, cluster {cluster}]>"

    @property
    def cells(self) -> CellTracker:
        """The notebook's cells: for what is asked for in one."""
        assert self.notebook is not None
        return self.notebook.cells

    # -- what runs ask of it (`flyte_nb.core.runs.engine.Engine`) --------------------------------------------------------

    def new_run_name(self) -> str:
        """The next of r1, r2, and so on."""
        with self._numbering:
            self._latest += 1
            return f"r{self._latest}"

    def give_back(self, name: str) -> None:
        """Nothing came of a run, as of calls that a cell made and never awaited: the next one has its name."""
        with self._numbering:
            if name == f"r{self._latest}":
                self._latest -= 1

    def info_of(self, run: str) -> RunInfo | None:
        """What a run's actions know of it; None if it is forgotten."""
        return run_registry.info_of(run)

    def launched(self, run: RunControl) -> None:
        """Remember which cell started a run."""
        cell = self.notebook.cells.owner() if self.notebook is not None else None
        if self.notebook is not None and cell is not None:
            self.notebook.waits.launched(cell, run)
            self.cell_runs.launched[run.name] = cell

    def waiting(self, run: RunControl) -> AbstractContextManager[None]:
        """A stop ends the wait of a cell, and the run only if that cell started it; in a script it ends the run."""
        if self.past is not None and self.past.follower.follows(run.name) and self.notebook is None:
            return contextlib.nullcontext()
        cell = self.notebook.cells.owner() if self.notebook is not None else None
        return (
            self.notebook.waits.waiting(cell, run) if self.notebook is not None and cell is not None else aborting(run)
        )

    def is_open(self, run: str) -> bool:
        """Whether a run's cell is still executing and may submit more calls."""
        return self.cell_runs.is_open(run)

    def is_attended(self) -> bool:
        """Whether a person can answer; False outside a notebook."""
        return self.notebook is not None and self.notebook.is_attended()

    def resolve(
        self, run: str, action: str, op: str, payload: Payload | None, task: Task[..., Any] | None, info: RunInfo
    ) -> None:
        """Decide over a parked action, in whichever process its controller is. On the engine thread."""
        if op == "resume" and payload is not None and self._ask_elsewhere(run, "signal", action, loads(payload)):
            return
        if not self.engine.controller.resolve(run, action, op, payload, task, info):
            # The redefined task travels as bytes: a link's own pickle knows nothing of the notebook.
            if task is not None and (self._dumped is None or self._dumped[0] is not task):
                self._dumped = (task, dump_function(task))
            blob = self._dumped[1] if task is not None and self._dumped is not None else None
            self.engine.ask_workers("decide", run, action, op, payload, blob, info)

    def abort_run(self, run: str, reason: str) -> None:
        """Cancel a run from outside: awaiting its actions raises `errors.ActionAbortedError`. On the engine thread."""
        if self._ask_elsewhere(run, "cancel_run"):
            return
        self.engine.controller.batches.cancel_run(run, reason, "aborted")
        for tracked in self.engine.controller.unfinished(run):
            self.engine.controller.abort(run, tracked.call.name, reason)
        self.engine.ask_workers("cancel_run", run, reason)

    def abort_action(self, run: str, action: str, reason: str) -> None:
        """Cancel one action from outside, in whichever process its controller is. On the engine thread."""
        if self._ask_elsewhere(run, "cancel_action", action):
            return
        if not self.engine.controller.abort(run, action, reason):
            self.engine.ask_workers("abort", run, action, reason)

    def _ask_elsewhere(self, run: str, op: str, action: str = "", value: object = None) -> bool:
        """Ask the process that works at a run to do what a button does; returns whether there is another one."""
        args = {"action": action, "value": None if value is None else str(value)}
        return self.past is not None and self.past.follower.ask(run, op, args)

    # -- cells: from the kernel's main thread ---------------------------------------------------------------------

    def cell_started(self) -> None:
        """A cell begins."""
        if self.notebook is not None:
            self.notebook.cell_started()
            say_cut_off(self.past, self.notebook.cells.ip.user_ns)
        self._dumped = None

    def cell_ended(self, cell: Cell, error: BaseException | None) -> None:
        """Have the run of a cell that ended closed once nothing of it executes; wait a moment for that."""
        with self.notebook.ends(cell) if self.notebook is not None else contextlib.nullcontext():
            ended = self.cell_runs.cell_ended(cell, error)
            # Runners without a browser (nbclient) drop what arrives after the cell: give the final picture a moment.
            wait = WIND_UP if self.is_attended() else WIND_UP_UNATTENDED
            if ended is not None and ended.interrupted:
                wait = WIND_UP_STOPPED
            if ended is not None and not ended.closed.wait(wait) and ended.name in self.shown.views:
                with contextlib.suppress(TimeoutError):  # a terminal's prompt must not come before
                    self.gateway.ask(self.shown.views[ended.name].leave, timeout=wait)

    def make_room(self, *, done: bool = False) -> None:
        """Pause the running cell's live tree on a terminal before the cell's value is shown; resume it after (`done`)."""
        running = self.cell_runs.executing(self.cells.current)
        view = self.shown.views.get(running.name) if running is not None else None
        if view is not None:
            self.gateway.ask(view.resume if done else view.pause)

    def show_here(self, run: str) -> None:
        """Show a run under the cell that is executing."""
        cell = self.cells.current
        if cell is not None:
            self.gateway.ask(self.shown.show, run, cell)

    # -- runs and views: on the engine thread ---------------------------------------------------------------------

    def _started(self) -> None:
        for run, record in self.store.runs.items():
            if record.state.note and record.state.ended_at is None:  # not that one of an earlier kernel was cut off
                self.store.append(ev.RunNoted(run, "", self.controller.now()))

    def _run_changed(self, event: ev.Event) -> None:
        if type(event) is ev.RunOpened:
            if not self.starting.done():
                self.store.append(ev.RunNoted(event.run, self.engine.network.starting_text))
            self.shown.show(event.run, self.cell_runs.cell_of(event.run))
        elif type(event) is ev.RunReopened:
            self.shown.reopen(event.run)
        elif type(event) is ev.RunClosed:
            known = run_registry.known(event.run)
            if known is not None:
                known.control.finished.set()
            self.engine.retained.forget_others(set(self.store.runs))
            self.shown.finish(event.run)
            self.engine.executor.pool.forget_run(event.run)
            self.engine.blobs.trim()

    def command(self, run: str, op: str, args: Mapping[str, Any]) -> Any:
        """Do what a view's button asks for."""
        button = self.notebook.buttons().get(op) if self.notebook is not None else None
        if button is None:
            return {"ok": False, "error": f"{op.replace('_', ' ')} is not available here."}
        if run not in self.store.runs:
            return {"ok": False, "error": self.store.missing(run)}
        return button(self, run, args)

    # -- life -----------------------------------------------------------------------------------------------------

    def record_again(self) -> None:
        """Whether runs are recorded, or where, was set anew."""
        if self.past is not None:
            stop_recording(self.past, self)
        self.past = past_of(self)
        if self.notebook is not None:
            say_cut_off(self.past, self.notebook.cells.ip.user_ns)

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait for the cluster; raises what starting it raised."""
        self.starting.result(timeout)

    def wait_attached(self) -> None:
        """Wait for an existing cluster, unless it runs on the loop of this thread: then the first action waits for it."""
        if needs_callers_loop(self.options.get("target")):
            return
        said, network = "", self.engine.network
        while not wait([self.starting], SAY_AFTER).done:
            if said != network.stage:
                said = network.stage
                print(f"flyte_nb: {said} ...")  # noqa: T201 - it takes seconds, and somebody waits
        self.wait_ready()

    def _own_client(self) -> Any:
        if self.options.get("target") is None:
            self.wait_ready()
        else:
            self.wait_attached()
        handle = self.engine.network.handle
        assert handle is not None
        return handle.client

    def _finish(self, ctrl_c: CtrlC) -> None:
        """A script has ended: let the runs end that it started and did not wait for."""
        waiting = list(run_registry.unfinished())
        if waiting and threading.current_thread() is threading.main_thread() and self.notebook is None:
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
        ctrl_c.ignore()
        self.close()

    def close(self) -> None:
        """Cancel what runs, close cluster and thread. Idempotent."""

        def close_views() -> None:
            self.engine.abort_all()
            self.shown.close()

        with held():  # half closed it would serve nobody, and stand in the way of the next one
            atexit.unregister(self.close)
            self.dask.close()
            if self.past is not None:  # first: what is ended now was cut off
                self.past.close()
            if self.engine.thread.thread.is_alive():
                with contextlib.suppress(TimeoutError):
                    self.gateway.ask(close_views, timeout=5)
                self.engine.begin_close(thread=True)  # a stop from now on ends only the wait for that
            self.reader.close()
            run_registry.forget(self)
            if Session.current is self:
                Session.current = None
                run_registry.provide("remote", ensure)  # a later run starts anew
        if self.engine.thread.thread.is_alive():
            self.engine.close()


def ensure(**options: Any) -> Session:
    """The session of this process, made if there is none."""
    if Session.current is None:
        with held():  # half a session would be a cluster that nobody closes
            Session.current = Session(**options)
            if Session.on_created is not None:
                Session.on_created(Session.current)
    return Session.current


def replace(**options: Any) -> Session:
    """A new session with these options, in place of the present one: what runs on its cluster is cancelled."""
    if Session.current is not None:
        with SOURCE.kept():
            Session.current.close()
    return ensure(**options)


def dask_client(*, asynchronous: bool = False) -> Any:
    """A `distributed.Client` of the session's cluster, embedded or attached; that starts if there is none.

    It is Dask's default client from then on, so that ``dask.compute(...)`` and ``df.compute()`` use the cluster. In a task it
    is what Dask's ``get_client()`` gives. It closes with the session.

    Args:
        asynchronous: Whether to get one for the running loop, to be awaited: ``client = await dask_client(asynchronous=True)``.

    Raises:
        errors.NoClusterError: There is no cluster.

    Example:
        >>> flyte_nb.dask_client().submit(sum, [1, 2, 3]).result()
        6
    """
    if ctx.of_task() is not None:
        return distributed.get_client()
    session = ensure()
    return session.dask.connected(asynchronous=True) if asynchronous else session.dask.client()


def fallback() -> Context | None:
    """Context of code outside tasks: the running cell's."""
    session = Session.current
    if session is None and Session.on_created is not None:
        session = ensure()  # `flyte_nb.shutdown()` closed the notebook's: a later call starts anew
    return session.cell_runs.context() if session is not None else None


ctx.set_fallback(fallback)
