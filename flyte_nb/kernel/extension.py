"""``%load_ext flyte_nb``: attach the session to the notebook, and detach it again. Runs in: kernel main thread.

The composition root: what a session must not know (details of actions, operations behind buttons) is given to it here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flyte_nb.core.interface import missing_annotations
from flyte_nb.core.runs.run import Run
from flyte_nb.core.settings import notices
from flyte_nb.kernel import operations
from flyte_nb.kernel.cells.await_in_magics import AwaitInMagics
from flyte_nb.kernel.cells.notebook import Notebook
from flyte_nb.kernel.cells.shell_hooks import before_output, install_line_magic
from flyte_nb.kernel.cells.unawaited import silence_python
from flyte_nb.kernel.clicks import CommandRouter
from flyte_nb.kernel.details import KernelDetails
from flyte_nb.kernel.error_display import ErrorDisplay
from flyte_nb.kernel.interrupts.interrupts import Interrupts
from flyte_nb.kernel.interrupts.sigint import held
from flyte_nb.kernel.magics import FlyteMagics, install_completion
from flyte_nb.kernel.operations.nest import NestAdvisor
from flyte_nb.kernel.operations.reports.results import display_run
from flyte_nb.kernel.past import say_cut_off
from flyte_nb.kernel.run_status_lines import run_status, short_name, was_stopped
from flyte_nb.kernel.session import Session, ensure
from flyte_nb.kernel.shown_values.previews import show_figures
from flyte_nb.kernel.shutdown import Shutdown

_undo: list[Callable[[], None]] = []


def load(ip: Any) -> None:
    """Load the extension; harmless if it is loaded. Returns at once: the cluster starts in the background."""
    if _undo:
        return
    router = CommandRouter(_on_session(lambda session, command: session.shown.click(command)), _post)
    notebook = Notebook(ip, router.on_widget_message, KernelDetails, operations.buttons)
    interrupts = Interrupts(notebook.cells, notebook.waits.stopped_again)
    try:
        notebook.cells.install()
        interrupts.install()
    except BaseException:  # a stop
        interrupts.uninstall()
        notebook.cells.uninstall()
        raise
    # Half an extension would be loaded a second time by the next cell, and both would follow its cells.
    with held():
        _load(ip, notebook, router, interrupts)


def _load(ip: Any, notebook: Notebook, router: CommandRouter, interrupts: Interrupts) -> None:
    cells = notebook.cells
    error_display = ErrorDisplay(ip, short_name, run_status, was_stopped)
    advisor = NestAdvisor(cells)
    magics = AwaitInMagics(cells)
    shutdown = Shutdown(cells, lambda: Session.current.engine.begin_close() if Session.current is not None else None)

    missing_annotations.configure(say=print)  # no mistake: not in red
    notices.show_under(lambda run: Session.current.shown.place(run) if Session.current is not None else None)
    router.install(ip)
    Session.on_created = lambda session: session.attach(notebook)
    Session.on_created(ensure())
    notebook.waits.install()
    remove_waits = [cells.on_start(notebook.waits.cell_started), cells.on_end(notebook.waits.cell_ended)]
    remove_unawaited = cells.on_end(notebook.unawaited.cell_ended)
    interrupt = _on_session(lambda session, cell: session.cell_runs.interrupt(cell))
    stop = _on_session(lambda session, cell: session.cell_runs.stop(cell))
    remove_stop = [
        interrupts.on_interrupt(notebook.unawaited.cell_stopped, post=_call),
        interrupts.on_interrupt(stop, post=_call),
        interrupts.on_interrupt(interrupt, post=_post),
    ]
    remove_start = cells.on_start(_on_session(lambda session, _cell: session.cell_started()))
    remove_end = cells.on_end(_on_session(Session.cell_ended))
    error_display.install()
    undo_output = before_output(ip, _on_session(Session.make_room))
    advisor.install()
    magics.install()
    shutdown.install()
    ip.register_magics(FlyteMagics(ip))
    ip.display_formatter.ipython_display_formatter.for_type(Run, display_run)
    show_figures(ip)
    if cells.current is not None:  # loaded from a cell, which a person looks at
        _on_session(lambda session: say_cut_off(session.past, ip.user_ns))()
    _undo[:] = [
        install_line_magic(ip), install_completion(ip), silence_python(), error_display.uninstall, undo_output,
        advisor.uninstall, magics.uninstall, shutdown.uninstall, notebook.waits.uninstall, *remove_waits, remove_unawaited,
        *remove_stop, remove_start, remove_end, router.uninstall, cells.uninstall, interrupts.uninstall,
    ]  # fmt: skip


def unload(ip: Any) -> None:
    """Undo everything `load` did, the cluster included."""
    if Session.current is not None:
        Session.current.close()
    with held():
        Session.on_created = None
        notices.show_under(None)
        ip.display_formatter.ipython_display_formatter.type_printers.pop(Run, None)
        ip.magics_manager.magics["line"].pop("flyte", None)
        ip.magics_manager.magics["cell"].pop("flyte", None)
        ip.extension_manager.loaded.discard("flyte_nb")  # as IPython does, unless the stop that was held comes first
        while _undo:  # last the interrupts: a stop that was held comes from then on
            _undo.pop(0)()


def _on_session(act: Callable[..., object]) -> Callable[..., None]:
    """A callback that acts on the present session; it does nothing between `flyte_nb.shutdown()` and the next call."""

    def callback(*args: Any, **options: Any) -> None:
        if Session.current is not None:
            act(Session.current, *args, **options)

    return callback


def _call(function: Callable[..., object], *args: Any) -> None:
    function(*args)


def _post(function: Callable[..., object], *args: Any) -> None:
    session = Session.current
    if session is not None:
        session.gateway.run_soon(function, *args)  # in the order of calls: a stop is for those made before it
