"""Views of runs that are shown: opened with a run, shown again on request, closed when old. Runs in: engine thread."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from flyte_nb.core.history.store import RunRecord, RunStore
from flyte_nb.kernel.cells.notebook import CellDisplay, Notebook
from flyte_nb.kernel.cells.tracker import Cell
from flyte_nb.kernel.clicks import Command
from flyte_nb.views.browser.cluster_view import ClusterView
from flyte_nb.views.browser.details import Details
from flyte_nb.views.view import View

#: Runs that have ended and keep a live view (a widget of 100 kB, and what the picture remembers); older ones keep their static
#: picture, and `%flyte show` brings them back.
MAX_ENDED_VIEWS = 30
#: Outputs of `%flyte cluster` that are kept up to date.
MAX_CLUSTER_VIEWS = 3


class ShownViews:
    """One view for each run that is shown, in one place or more.

    Args:
        store: The runs.
        command: Does what a button asks for: (run, operation, its arguments).
        details: Makes what a view asks when a reader opens an action of a run.
    """

    def __init__(
        self, store: RunStore, command: Callable[[str, str, Mapping[str, Any]], Any],
        details: Callable[[RunRecord], Details | None],
    ) -> None:  # fmt: skip
        #: None outside a notebook: runs are shown on the terminal.
        self.notebook: Notebook | None = None
        #: By run, the one shown or ended last at the end.
        self.views: dict[str, View] = {}
        #: The cell that each was shown under last.
        self.cells: dict[str, Cell | None] = {}
        #: What shows the cluster: the latest few.
        self._clusters: list[ClusterView] = []
        self._store = store
        self._command = command
        self._details = details

    def show(self, run: str, cell: Cell | None) -> View:
        """Show a run under a cell, beside the places where it is shown already."""
        notebook = self.notebook
        self.cells[run] = cell
        display = CellDisplay(notebook, cell) if notebook is not None and notebook.output.in_kernel else None
        known = self.views.pop(run, None)
        if known is not None and display is not None:
            self.views[run] = known
            known.also(display)
            return known
        if known is not None:
            known.close()
        record = self._store.runs[run]
        view = self.views[run] = View(
            record, display=display, on_message=notebook.on_widget_message if notebook is not None else None,
            control=lambda op, args, _nonce: self._command(run, op, args), details=self._details(record),
            stream=sys.stderr,
        )  # fmt: skip
        view.model.before = self._before(record)
        view.start()
        if record.state.ended_at is not None:
            view.finish()
        self.close_old()
        return view

    def show_cluster(self, cell: Cell | None, look: Callable[[], Awaitable[dict[str, Any]]], text: str) -> None:
        """Show the workers under a cell, live; `text` is what is saved of it."""
        assert self.notebook is not None
        shown = ClusterView(CellDisplay(self.notebook, cell), self.notebook.on_widget_message, look, text)
        self._clusters.append(shown)
        while len(self._clusters) > MAX_CLUSTER_VIEWS:
            self._clusters.pop(0).close()

    def place(self, run: str | None) -> contextvars.Context:
        """What is printed in a copy of this context appears under the cell of a run, else under the one that executes now."""
        cell = self.cells.get(run or "")
        if cell is None and self.notebook is not None:
            cell = self.notebook.cells.current
        return cell.variables if cell is not None else contextvars.Context()  # where Jupyter takes the latest cell

    def _before(self, record: RunRecord) -> str:
        """The latest run of the same cell before a run; "" for none."""
        cell, names = record.state.cell, list(self._store.runs)
        if not cell:
            return ""
        earlier = names[: names.index(record.state.run)]
        return next((name for name in reversed(earlier) if self._store.runs[name].state.cell == cell), "")

    def reopen(self, run: str) -> None:
        """A run goes on that had ended: show it where it was, or under the cell that executes now."""
        view = self.views.get(run)
        if view is not None:
            view.start()
        else:
            self.show(run, self.notebook.cells.current if self.notebook is not None else None)

    def finish(self, run: str) -> None:
        """A run has ended: its view becomes the static picture."""
        view = self.views.pop(run, None)
        if view is not None:
            self.views[run] = view
            view.finish()
        self.close_old()

    def click(self, command: Command) -> None:
        """Give a click to the view that it was made in."""
        for shown in self._clusters:
            if shown.uid and shown.uid == command.widget:
                shown.handle(command.op, command.nonce)
                return
        for view in list(self.views.values()):
            if view.uid and view.uid == command.widget:
                view.handle(command.op, command.args, command.nonce)
                return

    def close_old(self) -> None:
        """Close the views of runs that the store has evicted, and of the oldest that have ended."""
        gone = [name for name in self.views if name not in self._store.runs]
        left = ((name, view.record.state) for name, view in self.views.items() if name not in gone)
        ended = [name for name, state in left if state.ended_at is not None]
        for name in (*gone, *ended[:-MAX_ENDED_VIEWS]):
            self.views.pop(name).close()
            self.cells.pop(name, None)

    def close(self) -> None:
        """Close all views."""
        for view in self.views.values():
            view.close()
        for shown in self._clusters:
            shown.close()
