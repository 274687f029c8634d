"""Notebook that a session serves: its cells, their outputs, what its views need. Runs in: kernel; displays from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from flyte_nb.core.history.store import RunRecord
from flyte_nb.kernel.cells.names import CellNames
from flyte_nb.kernel.cells.output import CellOutput
from flyte_nb.kernel.cells.tracker import Cell, CellTracker
from flyte_nb.kernel.cells.unawaited import UnawaitedCalls
from flyte_nb.kernel.debugger.prompt import can_prompt
from flyte_nb.views.browser.details import Details
from flyte_nb.views.display import WIDGET_MIME


class Notebook:
    """Made once by the extension, and given to every session of the kernel.

    Args:
        ip: IPython's shell.
        on_widget_message: Takes the messages of views' widgets.
        details: Makes what a view asks when a reader opens an action, from (session, the run's record).
        buttons: Gives what each button of a view does, by its operation.
    """

    def __init__(
        self, ip: Any, on_widget_message: Callable[..., object], details: Callable[[Any, RunRecord], Details],
        buttons: Callable[[], Mapping[str, Callable[[Any, str, Mapping[str, Any]], Any]]],
    ) -> None:  # fmt: skip
        self.cells = CellTracker(ip)
        self.output = CellOutput(ip)
        self.names = CellNames(ip)
        self.unawaited = UnawaitedCalls(ip, self.names)
        self.on_widget_message = on_widget_message
        self.details = details
        self.buttons = buttons
        self._attended = False
        #: Outputs that were updated between cells, by display id: sent with the next cell (see `CellDisplay.update`).
        self._late: dict[str, Mapping[str, Any]] = {}

    def is_attended(self) -> bool:
        """Whether a person can answer: the front end takes prompts. Off the main thread: as of the last cell."""
        if threading.current_thread() is threading.main_thread():
            self._attended = can_prompt(self.cells.ip)
        return self._attended

    def cell_started(self) -> None:
        """Look again whether a person can answer, and send the outputs that are due."""
        self.is_attended()
        while self._late:
            display_id, bundle = self._late.popitem()
            self.output.update(self.cells.current, bundle, display_id=display_id)

    def update(self, cell: Cell | None, bundle: Mapping[str, Any], display_id: str) -> None:
        """Replace an output of a cell, which may have ended."""
        running = self.cells.current
        if self._attended or running is cell:
            self.output.update(cell, bundle, display_id=display_id)
        elif WIDGET_MIME not in bundle:
            # Runners without a browser (nbclient) drop what is sent for a cell that has ended; the output is found by its
            # ``display_id``, whichever cell the message belongs to. A live view that comes late they would store.
            if running is None:
                self._late[display_id] = bundle
            else:
                self.output.update(running, bundle, display_id=display_id)


class CellDisplay:
    """Outputs of one cell (`flyte_nb.views.display.Display`)."""

    def __init__(self, notebook: Notebook, cell: Cell | None) -> None:
        self._notebook = notebook
        self._cell = cell

    def publish(self, bundle: Mapping[str, Any], display_id: str) -> None:
        """Add an output under the cell."""
        self._notebook.output.display(self._cell, bundle, display_id=display_id)

    def update(self, bundle: Mapping[str, Any], display_id: str) -> None:
        """Replace an output."""
        self._notebook.update(self._cell, bundle, display_id)
