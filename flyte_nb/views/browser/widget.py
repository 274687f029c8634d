"""Widget of a live view: one per run, a pipe for messages, no state of its own. Runs in: engine thread.

State lives in the `PatchStream`; the browser asks for it. Custom messages sent before the browser's view has rendered are lost,
so the browser sends ``ready`` and gets a replay; patches carry a sequence number; on a gap it asks for a snapshot. Nothing is
synced through traits: after one ``save_changes`` from the browser, ipykernel 7.4 stops taking any.
"""

from __future__ import annotations

import pathlib
import uuid
from typing import Any

import anywidget
import traitlets

from flyte_nb.views.browser.rows import PROTOCOL, Json
from flyte_nb.views.surface import WIDGET_MIME, OnMessage

STATIC = pathlib.Path(__file__).parent.parent / "static"


class RunWidget(anywidget.AnyWidget):
    """One run in the browser.

    Args:
        on_message: Takes what the browser sends; called in any thread, must only hand over.
        first: The header's content, so that something is right before the replay arrives.
    """

    # As traits, and all of them here: else anywidget makes a class for each widget, which outlives it.
    _esm = traitlets.Unicode((STATIC / "widget.js").read_text("utf-8")).tag(sync=True)
    _css = traitlets.Unicode((STATIC / "widget.css").read_text("utf-8")).tag(sync=True)
    _anywidget_id = traitlets.Unicode(f"{__name__}.RunWidget").tag(sync=True)

    uid = traitlets.Unicode().tag(sync=True)
    protocol = traitlets.Int(PROTOCOL).tag(sync=True)
    first = traitlets.Dict().tag(sync=True)

    def __init__(self, on_message: OnMessage | None, first: Json | None = None) -> None:
        super().__init__(uid=uuid.uuid4().hex, first=first or {})
        if on_message is not None:
            self.on_msg(on_message)

    def add_traits(self, **traits: Any) -> None:
        """Add those that the class has not: anywidget adds its own to each widget."""
        missing = {name: trait for name, trait in traits.items() if not self.has_trait(name)}
        if missing:
            super().add_traits(**missing)

    def close(self) -> None:
        """Close it with all that was made for it: its layout is a widget too, with a comm of its own."""
        if self.comm is not None:
            self.layout.close()
        super().close()

    def bundle(self, html: str, text: str) -> dict[str, Any]:
        """The mime bundle to display: the live view, and what front ends without it show."""
        view = {"version_major": 2, "version_minor": 1, "model_id": self.model_id}
        return {"text/plain": text, "text/html": html, WIDGET_MIME: view}

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        word = f"flyte_nb run {self.first.get('run', '')}"
        return self.bundle(f"<span>{word}</span>", word), {}
