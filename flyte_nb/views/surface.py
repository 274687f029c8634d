"""Surface: what all ways to show a run have in common, the choice between them, their outputs. Runs in: engine thread."""

from __future__ import annotations

import enum
import os
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO

from flyte_nb.views.run_model import RunModel

#: Seconds between two updates at least.
UPDATE_EVERY = 0.1

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
        self.live: bool = False

    def show(self, bundle: Bundle) -> None:
        """Publish the output, or replace it."""
        shown, self._shown = self._shown, True
        self.live = WIDGET_MIME in bundle
        (self._display.update if shown else self._display.publish)(bundle, self._id)


class Mode(enum.Enum):
    """How a run is shown."""

    #: Live in the browser.
    WIDGET = "widget"
    #: HTML updated in place.
    HTML = "html"
    #: A live tree on a terminal.
    CONSOLE = "console"
    #: A line per notable change.
    LINES = "lines"
    #: Not at all.
    SILENT = "silent"


def choose_mode(display: Display | None, stream: TextIO | None) -> Mode:
    """Widget where there is a notebook, tree on a terminal, lines elsewhere; ``FLYTE_NB_NONINTERACTIVE=1``: HTML or lines."""
    plain = os.environ.get("FLYTE_NB_NONINTERACTIVE", "").strip().lower() not in ("", "0", "false", "no")
    if display is not None:
        return Mode.HTML if plain else Mode.WIDGET
    if stream is not None and not plain and stream.isatty():
        return Mode.CONSOLE
    return Mode.LINES


class Surface:
    """One way to show a run. This one shows nothing (`Mode.SILENT`); others override what they need."""

    mode = Mode.SILENT

    def __init__(self, model: RunModel) -> None:
        self.model = model
        #: Identity of the widget in the browser's commands (``comm_id``); "" without a widget.
        self.uid = ""
        #: Commands handled, messages and bytes sent, CPU seconds spent, worst update: for tests and benchmarks.
        self.stats: dict[str, Any] = {"commands": 0, "messages": 0, "bytes": 0, "seconds": 0.0, "worst": 0.0}

    def interval(self) -> float:
        """Seconds to the next update at least."""
        return UPDATE_EVERY

    def open(self) -> None:
        """Show the run, for the first time or after it was reopened."""

    def update(self) -> int:
        """Show what changed. Returns bytes sent to a browser."""
        self.model.take()
        return 0

    def check(self) -> None:
        """Do what is due between two updates."""

    def close(self) -> None:
        """Show the run's end."""

    def also(self, display: Display) -> None:
        """Show the run in one more output."""

    def pause(self) -> None:
        """Make room for what the cell prints now."""

    def resume(self) -> None:
        """Go on after what the cell printed."""

    def leave(self) -> bool:
        """Give the terminal back to the prompt, the run still open. Returns whether this ends the view."""
        return False

    def handle(self, op: str, args: Mapping[str, Any], nonce: str) -> bool:
        """Do what the browser asks. Returns whether this was for the surface."""
        del op, args, nonce
        return False

    def release(self) -> None:
        """Close what the front end has open."""
