"""Display of a notebook's outputs: what views need of the front end. Runs in: engine thread."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

Bundle = Mapping[str, Any]
#: What ``Widget.on_msg`` calls: (widget, content, buffers), in whichever thread the kernel handles the message.
OnMessage = Callable[[object, object, object], object]

WIDGET_MIME = "application/vnd.jupyter.widget-view+json"


class Display(Protocol):
    """Outputs of one notebook cell. Callable from any thread, also after the cell has ended."""

    def publish(self, bundle: Bundle, display_id: str) -> None:
        """Add an output (``display_data``) under the cell."""
        ...

    def update(self, bundle: Bundle, display_id: str) -> None:
        """Replace an output (``update_display_data``)."""
        ...


class Output:
    """One output that shows a run."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._id = f"flyte-nb-{uuid.uuid4().hex}"
        self._shown = False
        #: Whether it holds the widget (and not only static HTML).
        self.live = False

    def show(self, bundle: Bundle) -> None:
        """Publish the output, or replace it."""
        shown, self._shown = self._shown, True
        self.live = WIDGET_MIME in bundle
        (self._display.update if shown else self._display.publish)(bundle, self._id)


def is_noninteractive() -> bool:
    """Whether ``FLYTE_NB_NONINTERACTIVE`` asks for plain output: no widget, no redrawing."""
    return os.environ.get("FLYTE_NB_NONINTERACTIVE", "").strip().lower() not in ("", "0", "false", "no")
