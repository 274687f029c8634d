"""Notebook that a session serves: its cells, their outputs, what its views need. Runs in: kernel; displays from any thread."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flyte_nb.core.history.store import RunRecord
from flyte_nb.kernel.cells.names import CellNames
from flyte_nb.kernel.cells.tracker import Cell, CellTracker, parent_header
from flyte_nb.kernel.cells.unawaited import UnawaitedCalls
from flyte_nb.kernel.debugger.prompt import can_prompt
from flyte_nb.kernel.interrupts.waits import Waits
from flyte_nb.views.browser.details import Details
from flyte_nb.views.surface import WIDGET_MIME


class CellOutput:
    """Sends display data under a given cell, from any thread, also after the cell has ended.

    In a kernel the message carries the cell's own parent header: only that decides where output lands. Where there is no
    kernel (terminal IPython), or while ``%%capture`` collects a cell's output, IPython's display system takes it.
    """

    def __init__(self, ip: Any) -> None:
        self._ip = ip

    @property
    def in_kernel(self) -> bool:
        """Whether output goes to a Jupyter front end, which can replace what was displayed."""
        kernel = getattr(self._ip, "kernel", None)
        return getattr(kernel, "session", None) is not None and getattr(kernel, "iopub_socket", None) is not None

    def display(self, cell: Cell | None, data: Mapping[str, Any], *, display_id: str) -> None:
        """Show a MIME bundle under ``cell`` (None: under whatever runs now); `update` replaces it by its ``display_id``."""
        from IPython.core.displaypub import CapturingDisplayPublisher

        if not self.in_kernel or isinstance(self._ip.display_pub, CapturingDisplayPublisher):
            transient = {"display_id": display_id} if self.in_kernel else {}
            self._ip.display_pub.publish(dict(data), {}, transient=transient)
            return
        if threading.current_thread() is threading.main_thread():
            # What the cell printed so far comes first. Elsewhere a flush would wait for the output thread.
            sys.stdout.flush()
            sys.stderr.flush()
        self._send("display_data", cell, data, display_id)

    def update(self, cell: Cell | None, data: Mapping[str, Any], *, display_id: str) -> None:
        """Replace what `display` showed under ``display_id``, in every place it is shown and in the saved notebook.

        In a terminal this does nothing: a terminal can't replace what was printed.
        """
        if self.in_kernel:
            self._send("update_display_data", cell, data, display_id)

    def _send(self, kind: str, cell: Cell | None, data: Mapping[str, Any], display_id: str) -> None:
        kernel = self._ip.kernel
        content = {"data": dict(data), "metadata": {}, "transient": {"display_id": display_id}}
        # `iopub_socket` hands the message to ipykernel's output thread, so any thread may call this.
        parent = dict(cell.parent) if cell is not None and cell.parent else parent_header(self._ip)
        kernel.session.send(kernel.iopub_socket, kind, content, parent=parent, ident=kind.encode())


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
        self.cells: CellTracker = CellTracker(ip)
        self.output: CellOutput = CellOutput(ip)
        self.names: CellNames = CellNames(ip)
        self.unawaited: UnawaitedCalls = UnawaitedCalls(ip, self.names)
        self.waits: Waits = Waits(ip)
        self.on_widget_message = on_widget_message
        self.details = details
        self.buttons = buttons
        self._attended = False
        #: The cell that has ended while its idle message has not gone out: a runner still takes what is sent for it.
        self._ending: Cell | None = None
        #: Outputs that were updated between cells, by display id: sent with the next cell (see `CellDisplay.update`).
        self._late: dict[str, Mapping[str, Any]] = {}

    def is_attended(self) -> bool:
        """Whether a person can answer: the front end takes prompts. Off the main thread: as of the last cell."""
        if threading.current_thread() is threading.main_thread():
            self._attended = can_prompt(self.cells.ip)
        return self._attended

    def cell_started(self) -> None:
        """Look again whether a person can answer, and send the outputs that are due."""
        self._restore_names()
        self.is_attended()
        while self._late:
            display_id, bundle = self._late.popitem()
            self.output.update(self.cells.current, bundle, display_id=display_id)

    @contextlib.contextmanager
    def ends(self, cell: Cell) -> Iterator[None]:
        """What is shown in this block still belongs to a cell that has ended."""
        self._ending = cell
        try:
            yield
        finally:
            self._ending = None

    def _restore_names(self) -> None:
        """Put back what a notebook is lost without, where ``del`` has taken all of its variables away."""
        names = self.cells.ip.user_ns
        names.setdefault("__name__", "__main__")
        names.setdefault("__spec__", None)
        if "_oh" not in names and hasattr(self.cells.ip, "init_user_ns"):
            self.cells.ip.init_user_ns()

    def update(self, cell: Cell | None, bundle: Mapping[str, Any], display_id: str) -> None:
        """Replace an output of a cell, which may have ended."""
        running = self.cells.current or self._ending
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
    """Outputs of one cell (`flyte_nb.views.surface.Display`)."""

    def __init__(self, notebook: Notebook, cell: Cell | None) -> None:
        self._notebook = notebook
        self._cell = cell

    def publish(self, bundle: Mapping[str, Any], display_id: str) -> None:
        """Add an output under the cell."""
        self._notebook.output.display(self._cell, bundle, display_id=display_id)

    def update(self, bundle: Mapping[str, Any], display_id: str) -> None:
        """Replace an output."""
        self._notebook.update(self._cell, bundle, display_id)
