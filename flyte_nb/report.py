"""``flyte.report``: HTML that an action shows beside itself, while it runs. Runs in: everywhere."""

from __future__ import annotations

from flyte_nb.core.report import (
    Report,
    Tab,
    Timeline,
    abbreviate,
    current_report,
    duration_ms,
    flush,
    get_tab,
    log,
    replace,
)

__all__ = [
    "Report",
    "Tab",
    "Timeline",
    "abbreviate",
    "current_report",
    "duration_ms",
    "flush",
    "get_tab",
    "log",
    "replace",
]
