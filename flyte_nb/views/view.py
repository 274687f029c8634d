"""View of one run, kept up to date: as widget, HTML, terminal tree or plain lines. Runs in: engine thread.

The session makes one `View` per run on the engine thread's loop, calls `start`, gives it the browser's commands through
`handle`, and calls `finish` when the run has closed. What is shown, and how, is the work of its `Surface`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO, TypeVar

from flyte_nb.core.history.store import RunRecord
from flyte_nb.views.browser.details import Details
from flyte_nb.views.browser.live_widget import LiveWidget
from flyte_nb.views.browser.replies import Control
from flyte_nb.views.printed.lines import PlainLines
from flyte_nb.views.printed.page import HtmlPage
from flyte_nb.views.run_model import RunModel
from flyte_nb.views.surface import Display, Mode, OnMessage, Surface, choose_mode

logger: logging.Logger = logging.getLogger(__name__)

#: Share of the engine thread's time that a view may use: after a costly update it waits longer.
SHARE = 0.04
#: Bytes a second to the browser.
BYTES_PER_SECOND = 900_000

_F = TypeVar("_F", bound=Callable[..., Any])


def _counted(method: _F) -> _F:
    """Add what a method takes of the engine thread's CPU time to `View.stats`, which `bench/view_cost.py` reads."""

    @functools.wraps(method)
    def counting(self: View, *args: Any, **options: Any) -> Any:
        before = time.thread_time()
        try:
            return method(self, *args, **options)
        finally:
            self.stats["seconds"] += time.thread_time() - before

    return counting  # type: ignore[return-value]


class View:
    """One run, shown in one output or more. All methods run on the engine thread.

    Args:
        record: The run.
        display: Where outputs go; None outside notebooks.
        on_message: Given to ``Widget.on_msg``: the session's ``CommandRouter.on_widget_message``.
        control: Called with (op, args, nonce) for commands that are not the view's own (``cancel_run``, ``retry_action``, ...).
            May return an awaitable; its result, a dict, is the reply. None: `handle` returns False for them.
        details: More about actions than the store knows; None: nothing more.
        mode: How to show it; None: `choose_mode`.
        stream: Where the terminal's tree or lines go; None: ``sys.stderr``.
        clock: Seconds since the epoch.
    """

    def __init__(
        self, record: RunRecord, *, display: Display | None = None, on_message: OnMessage | None = None,
        control: Control | None = None, details: Details | None = None, mode: Mode | None = None,
        stream: TextIO | None = None, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.record = record
        self.model: RunModel = RunModel(record, clock)
        stream = stream if stream is not None else sys.stderr
        self.surface: Surface
        match mode or choose_mode(display, stream):
            case Mode.WIDGET:
                self.surface = LiveWidget(self.model, display, details, on_message, control)
            case Mode.HTML:
                self.surface = HtmlPage(self.model, display)
            case Mode.CONSOLE:
                from flyte_nb.views.printed.console import ConsoleTree

                self.surface = ConsoleTree(self.model, stream)
            case Mode.LINES:
                self.surface = PlainLines(self.model, stream)
            case _:
                self.surface = Surface(self.model)
        self.stats: dict[str, Any] = self.surface.stats
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._finished = False

    def __repr__(self) -> str:
        state = "finished" if self._finished else "live" if self._task is not None else "not started"
        return f"<View {self.record.state.run} [{self.mode.value}, {state}, {sum(self.model.counts)} actions]>"

    @property
    def mode(self) -> Mode:
        """How the run is shown now."""
        return self.surface.mode

    @property
    def uid(self) -> str:
        """Identity of the widget in the browser's commands (``comm_id``); "" without a widget."""
        return self.surface.uid

    # -- life -----------------------------------------------------------------------------------------------------

    @_counted
    def start(self) -> None:
        """Show the run and keep it up to date until `finish`. Needs a running loop; a second call after `finish` reopens it."""
        self._finished = False
        self.surface.open()
        if self._task is None or self._task.done():
            work = self._keep_up()
            self._task = asyncio.get_running_loop().create_task(work, name=f"flyte_nb view of {self.record.state.run}")

    def also(self, display: Display) -> None:
        """Show the run in one more output, as ``%flyte show`` does: the same view, side by side with the others."""
        self.surface.also(display)

    @_counted
    def finish(self) -> None:
        """Show the end: the last patch, and the static page in place of the widget. Idempotent; requests are still answered."""
        if self._finished:
            return
        self._stop()
        try:
            self.surface.close()
        except Exception:
            logger.exception("the view of %s could not show its end", self.record.state.run)

    def _stop(self) -> None:
        self._finished = True
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def pause(self) -> None:
        """On a terminal: make room for what the cell prints now."""
        if not self._finished:
            self.surface.pause()

    def resume(self) -> None:
        """On a terminal: go on after what the cell printed."""
        if not self._finished:
            self.surface.resume()

    def leave(self) -> None:
        """Give a terminal back to the prompt when the cell has ended and the run has not. Elsewhere the view stays."""
        if not self._finished and self.surface.leave():
            self._stop()

    def close(self) -> None:
        """Finish, stop collecting changes and close the widget: browsers fall back to the static page."""
        self.finish()
        self.surface.release()
        self.model.close()

    # -- keeping up -----------------------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        while True:
            before = time.perf_counter()
            sent = 0
            try:
                sent = self.flush()
            except Exception:
                logger.exception("the view of %s skipped an update", self.record.state.run)
            spent = time.perf_counter() - before
            self.stats["worst"] = max(self.stats["worst"], spent)
            try:
                pause = max(self.surface.interval(), spent / SHARE, sent / BYTES_PER_SECOND)
                await asyncio.wait_for(self._wake.wait(), pause)
                await asyncio.sleep(max(0.02, spent / SHARE))
            except TimeoutError:
                pass
            self._wake.clear()
            self._check()

    @_counted
    def flush(self) -> int:
        """Show what changed, now. Returns bytes sent."""
        return self.surface.update()

    @_counted
    def _check(self) -> None:
        self.surface.check()

    @_counted
    def handle(self, op: str, args: Mapping[str, Any], nonce: str) -> bool:
        """Do what the browser asks.

        Args:
            op: "ready", "snapshot", "visible_rows", "query", "detail", "logs", "timeline", "report", "download", "peek", or
                a command for `control`.
            args: With what; nothing in it is trusted.
            nonce: Identity of the command: replies name it.

        Returns:
            False if it is neither the view's own business nor `control` was given: the session's turn.
        """
        self.stats["commands"] += 1
        if op == "visible_rows":
            self._wake.set()
        return self.surface.handle(op, args, nonce)
