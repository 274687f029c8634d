"""``%load_ext flyte_nb``: put the session behind the notebook, and take it away again. Runs in: kernel main thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flyte_nb.kernel.cells import cell_magic_line
from flyte_nb.kernel.cells.names import CellNames
from flyte_nb.kernel.cells.output import CellOutput
from flyte_nb.kernel.cells.terminal import before_output
from flyte_nb.kernel.cells.tracker import Cell, CellTracker
from flyte_nb.kernel.cells.unawaited import Forgotten
from flyte_nb.kernel.clicks import CommandRouter
from flyte_nb.kernel.error_display import ErrorDisplay
from flyte_nb.kernel.interrupts.interrupts import Interrupts
from flyte_nb.kernel.magics import FlyteMagics
from flyte_nb.kernel.nest import NestAdvisor
from flyte_nb.kernel.run_status_lines import standing
from flyte_nb.kernel.session import Session, ensure

_undo: list[Callable[[], None]] = []


def load(ip: Any) -> None:
    """Load the extension; harmless if it is loaded. Returns at once: the cluster starts in the background."""
    if _undo:
        return
    cells = CellTracker(ip)
    cells.install()
    interrupts = Interrupts(cells)
    interrupts.install()
    router = CommandRouter(lambda command: _session().handle_command(command), _post)
    router.install(ip)
    cell_names, output = CellNames(ip), CellOutput(ip)
    forgotten = Forgotten(ip, cell_names)

    def furnish(session: Session) -> None:
        session.cells, session.output, session.router = cells, output, router
        session.cell_names, session.forgotten = cell_names, forgotten
        session.is_attended()

    Session.furnish = furnish
    furnish(ensure())
    remove_forgotten = cells.on_end(forgotten.cell_ended)
    remove_stop = interrupts.on_interrupt(lambda cell: _session().interrupt_on_engine(cell), post=_post)
    remove_start = cells.on_start(_cell_started)
    remove_end = cells.on_end(_cell_ended)
    errors_shown = ErrorDisplay(ip, short_name, lambda action: standing(Session.current, action))
    errors_shown.install()
    undo_output = before_output(ip, _make_room)
    advisor = NestAdvisor(cells)
    advisor.install()
    ip.register_magics(FlyteMagics(ip))
    _undo.append(cell_magic_line.install(ip))
    _undo.extend(
        [
            errors_shown.uninstall,
            undo_output,
            advisor.uninstall,
            remove_forgotten,
            remove_stop,
            remove_start,
            remove_end,
            router.uninstall,
            interrupts.uninstall,
            cells.uninstall,
        ]
    )


def unload(ip: Any) -> None:
    """Undo everything `load` did, the cluster included."""
    Session.furnish = None
    session = Session.current
    if session is not None:
        session.close()
    while _undo:
        _undo.pop(0)()
    ip.magics_manager.magics["line"].pop("flyte", None)
    ip.magics_manager.magics["cell"].pop("flyte", None)


def _session() -> Session:
    assert Session.current is not None
    return Session.current


def _post(function: Callable[..., object], *args: Any) -> None:
    session = Session.current
    if session is not None:
        session.gateway.loop.call_soon_threadsafe(function, *args)


def _cell_started(_cell: Cell) -> None:
    if Session.current is not None:  # else `flyte_nb.shutdown()` closed it
        Session.current.new_epoch()


def _make_room(*, done: bool) -> None:
    if Session.current is not None:
        Session.current.make_room(done=done)


def _cell_ended(cell: Cell, error: BaseException | None) -> None:
    if Session.current is not None:
        Session.current.cell_ended(cell, error)


def short_name(action: str) -> str:
    """The short name ("a17") for an action's full name, in the latest run that has it; "" if none has."""
    session = Session.current
    if session is None:
        return ""
    for record in reversed(list(session.store.runs.values())):
        found = record.actions.get(action)
        if found is not None:
            return found.id
    return ""
