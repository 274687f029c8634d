"""What views need of the place they are shown in. Runs in: engine thread."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol

Bundle = Mapping[str, Any]

WIDGET_MIME = "application/vnd.jupyter.widget-view+json"


class Display(Protocol):
    """Outputs of one notebook cell. Callable from any thread, also after the cell has ended."""

    def publish(self, bundle: Bundle, display_id: str) -> None:
        """Add an output (``display_data``) under the cell."""
        ...

    def update(self, bundle: Bundle, display_id: str) -> None:
        """Replace an output (``update_display_data``)."""
        ...


def is_noninteractive() -> bool:
    """Whether ``FLYTE_NB_NONINTERACTIVE`` asks for plain output: no widget, no redrawing."""
    return os.environ.get("FLYTE_NB_NONINTERACTIVE", "").strip().lower() not in ("", "0", "false", "no")
