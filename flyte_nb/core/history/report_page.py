"""HTML page of the reports that actions made. Runs in: engine thread."""

from __future__ import annotations

import html
from collections.abc import Iterable

from flyte_nb.core.history.store import RunRecord

#: Name of the tab that `log` and `replace` write to.
MAIN = "main"


def page(tabs: Iterable[tuple[str, str]]) -> str:
    """Tabs, as (name, HTML) pairs, as one HTML page; "" if nothing is in them."""
    filled = [(name, text) for name, text in tabs if text]
    if not filled:
        return ""
    if len(filled) == 1 and filled[0][0] == MAIN:
        body = filled[0][1]
    else:
        body = "".join(f"<section><h2>{html.escape(name)}</h2>\n{text}\n</section>\n" for name, text in filled)
    return f'<!DOCTYPE html>\n<html><head><meta charset="utf-8"></head><body>\n{body}\n</body></html>'


def page_of(record: RunRecord, action: str = "") -> str:
    """The reports kept of a run, or of the action of this name, as one HTML page; "" if there are none."""
    tabs = []
    for (name, tab), text in record.reports.items():
        if not action:
            tabs.append((f"{record.actions[name].label}: {tab}" if name in record.actions else tab, text))
        elif name == action:
            tabs.append((tab, text))
    return page(tabs)
