"""The HTML report of an action: tabs that it fills while it runs, sent on with every flush. Runs in: the task's thread.

A flush sends each changed tab whole (`events.Reported`), so that views show it before the action ends; what was not flushed
by then is flushed at its end. Outside a task everything works on a report that is not shown.
"""

from __future__ import annotations

import datetime as dt
import html
from dataclasses import dataclass, field

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.report_page import MAIN, page
from flyte_nb.core.settings import validate
from flyte_nb.core.tasks.context import Context, of_task
from flyte_nb.core.values.aio import Dual

#: Longest HTML of one tab that is sent, in characters: the store keeps no more.
MAX_TAB = 2_000_000
#: Tabs of one report that are sent: more cannot be looked at.
MAX_TABS = 50
#: Characters of a long value that unfold (`abbreviate`).
MAX_UNFOLDED = 20_000


@dataclass
class Tab:
    """One page of a report.

    Args:
        name: What is written on the tab.
    """

    name: str
    #: Pieces of HTML, in order.
    content: list[str] = field(default_factory=list, init=False)
    _changed: bool = field(default=False, init=False, repr=False, compare=False)

    def log(self, content: str) -> None:
        """Add HTML: a fragment, not a whole document."""
        self.content.append(content)
        self._changed = True

    def replace(self, content: str) -> None:
        """Replace what the tab holds."""
        self.content = [content]
        self._changed = True

    def get_html(self) -> str:
        """The tab's HTML."""
        return "\n".join(self.content)

    def take_changed(self) -> bool:
        """Whether it has changed since this was last asked: then a flush sends it."""
        changed, self._changed = self._changed, False
        return changed


@dataclass
class Report:
    """The tabs of one action.

    Args:
        name: Name of the task.
    """

    name: str
    #: By name; "main" is always there.
    tabs: dict[str, Tab] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tabs.setdefault(MAIN, Tab(MAIN))

    def get_tab(self, name: str, create_if_missing: bool = True) -> Tab:
        """A tab.

        Args:
            name: Its name.
            create_if_missing: Whether it is made if there is none.

        Raises:
            ValueError: There is none, and none is to be made.
        """
        if name not in self.tabs:
            if not create_if_missing:
                raise ValueError(f"Tab {name} does not exist; the report has: {', '.join(self.tabs)}.")
            self.tabs[name] = Tab(validate.name("The name of a report's tab", name))
        return self.tabs[name]

    def has_content(self) -> bool:
        """Whether anything was written."""
        return any(tab.content for tab in self.tabs.values())

    def get_final_report(self) -> str:
        """All tabs as one HTML page."""
        return page((name, tab.get_html()) for name, tab in self.tabs.items())


def report_of(context: Context) -> Report:
    """The report of an attempt, made when it is first asked for."""
    attachments = context.scope.attachments
    report = attachments.get("report")
    if report is None:
        report = attachments["report"] = Report(context.task)
        attachments.setdefault("on_end", []).append(lambda: _send(context, report))
    return report


def _send(context: Context, report: Report) -> None:
    for tab in list(report.tabs.values())[:MAX_TABS]:
        if tab.take_changed():
            context.gateway.emit(ev.Reported(context.run.name, context.action, tab.name, tab.get_html()[:MAX_TAB]))


def current_report() -> Report:
    """The running action's report; outside a task, one that is not shown."""
    context = of_task()
    return report_of(context) if context is not None else Report("dummy")


def get_tab(name: str, /, create_if_missing: bool = True) -> Tab:
    """A tab of the running action's report.

    Args:
        name: Its name.
        create_if_missing: Whether it is made if there is none.

    Raises:
        ValueError: There is none, and none is to be made.
    """
    return current_report().get_tab(name, create_if_missing)


@Dual
def flush() -> None:
    """Show what was written so far, while the action executes."""
    context = of_task()
    if context is not None and not context.scope.attachments.get("closed"):
        _send(context, report_of(context))


@Dual
def log(content: str, do_flush: bool = False) -> None:
    """Add HTML to the main tab.

    Args:
        content: A fragment, not a whole document.
        do_flush: Whether it is shown at once, instead of with the next flush.
    """
    get_tab(MAIN).log(content)
    if do_flush:
        flush()


@Dual
def replace(content: str, do_flush: bool = False) -> None:
    """Replace what the main tab holds.

    Args:
        content: A fragment, not a whole document.
        do_flush: Whether it is shown at once, instead of with the next flush.
    """
    get_tab(MAIN).replace(content)
    if do_flush:
        flush()


def abbreviate(value: object, limit: int = 300) -> str:
    """Text of a value as HTML: whole if it is short, else its beginning, which unfolds.

    Args:
        value: Any value; None is "".
        limit: Characters shown before it is unfolded.
    """
    text = "" if value is None else str(value)
    if len(text) <= limit:
        return html.escape(text)
    more = len(text) - limit
    whole = html.escape(text[:MAX_UNFOLDED]) + ("\n..." if len(text) > MAX_UNFOLDED else "")
    return f"<details><summary>{html.escape(text[:limit])}... (+{more:,})</summary><pre>{whole}</pre></details>"


def duration_ms(start_iso: str | None, end_iso: str | None) -> str:
    """The time between two ISO 8601 times, as "12 ms"; "" if one is missing or is none."""
    try:
        start, end = dt.datetime.fromisoformat(start_iso or ""), dt.datetime.fromisoformat(end_iso or "")
        return f"{(end - start).total_seconds() * 1000:.0f} ms"
    except (ValueError, TypeError):
        return ""


class Timeline:
    """Rows in a tab of the running action's report, one below the other.

    Args:
        tab_name: The tab.
    """

    def __init__(self, tab_name: str = MAIN) -> None:
        self._tab = tab_name

    def heading(self, text: object) -> None:
        """Add a heading."""
        get_tab(self._tab).log(f"<h3>{html.escape(str(text))}</h3>")

    def row(
        self, *, icon: str = "•", label: object = "", meta: str = "", detail: str = "", error: object = None
    ) -> None:
        """Add a row.

        Args:
            icon: Shown first.
            label: In bold.
            meta: In grey after it.
            detail: HTML after that.
            error: In red at the end.
        """
        parts = [html.escape(icon), f"<b>{html.escape(str(label))}</b>"]
        if meta:
            parts.append(f'<span style="opacity:.6">{html.escape(meta)}</span>')
        if detail:
            parts.append(detail)
        if error:
            parts.append(f'<span style="color:#c33">{abbreviate(error, 200)}</span>')
        get_tab(self._tab).log(f"<div>{' '.join(parts)}</div>")


__all__ = [
    "Report", "Tab", "Timeline", "abbreviate", "current_report", "duration_ms", "flush", "get_tab", "log", "replace",
]  # fmt: skip
