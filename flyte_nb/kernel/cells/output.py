"""Output under a given cell, also after it has ended. Runs in: any thread of the kernel."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from typing import Any

from flyte_nb.kernel.cells.tracker import Cell, parent_header


class CellOutput:
    """Sends display data under a given cell, from any thread, also after the cell has ended.

    In a kernel the message carries the cell's own parent header: only that decides where output lands. Where there is no
    kernel (terminal IPython), or while ``%%capture`` collects a cell's output, IPython's display system takes it.

    Args:
        ip: The `IPython.InteractiveShell`.
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
