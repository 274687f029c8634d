"""Live view in the browser: offers the widget, sends patches to it, falls back to static HTML. Runs in: engine thread.

A browser answers with ``ready``; a view that nothing answers within `ANSWER_WITHIN` (nbclient, papermill, a server without
anywidget) goes on as a page updated in place. Once a browser has answered, the output holds the static page, renewed while the
run goes on: the only form that is right whenever the file is saved, after reopening, export, and in untrusted notebooks. The
browser mounts its live view over the page, also after it was loaded again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from flyte_nb.core.history.facts import PHASES
from flyte_nb.views.browser.details import Details
from flyte_nb.views.browser.patches import Message, PatchStream
from flyte_nb.views.browser.replies import Control, Replies
from flyte_nb.views.browser.rows import Json
from flyte_nb.views.printed import html
from flyte_nb.views.printed.page import HtmlPage
from flyte_nb.views.run_model import RunModel
from flyte_nb.views.surface import UPDATE_EVERY, Display, Mode, OnMessage, Output

logger: logging.Logger = logging.getLogger(__name__)

#: Seconds after which an open run gets its live view; before, and for quick runs of one action, a line of HTML will do:
#: a widget costs 100 kB per cell.
LIVE_AFTER = 0.12
#: Seconds after the end of a run before its static page gets a live view over it: the cell has surely ended then.
LATE_AFTER = 0.5
#: Seconds in which a browser must answer.
ANSWER_WITHIN = 2.0
#: Seconds after which a widget of an ended run is given up if no browser answered.
GIVE_UP_AFTER = 60.0
#: Seconds without news after which the header is sent again while a run is open (throughput, time left).
BEAT_EVERY = 1.0
#: Seconds between two renewals of the page below a live view: what a file that is saved meanwhile shows.
RENEW_EVERY = 5.0
#: Times a view changes from HTML back to the widget because a slow browser answered after all.
MAX_RETURNS = 3


def make_widget(on_message: OnMessage | None, header: Json) -> Any:
    """A new widget; None where there can be none, without anywidget or outside a kernel that can open comms."""
    try:
        from flyte_nb.views.browser.widget import RunWidget

        return RunWidget(on_message, header)
    except Exception:
        logger.debug("no widget", exc_info=True)
        return None


class LiveWidget(HtmlPage):
    """The widget while a browser answers (`Mode.WIDGET`), else the page (`Mode.HTML`).

    Args:
        model: The run.
        display: Where the first output goes; None: nowhere yet.
        details: What the session knows of actions beyond the store.
        on_message: Takes the widget's messages, in any thread.
        control: Does commands that are not the view's own; None: `handle` returns False for them.
    """

    def __init__(
        self, model: RunModel, display: Display | None, details: Details | None,
        on_message: OnMessage | None = None, control: Control | None = None,
    ) -> None:  # fmt: skip
        super().__init__(model, display)
        self.mode = Mode.WIDGET
        self.patches: PatchStream = PatchStream(model)
        self._replies = Replies(self.patches, details, self._send)
        self._on_message = on_message
        self._control = control
        self._widget: Any = None
        #: When the widget is offered if it has not been, and given up if it has and nothing answers; monotonic clock.
        self._deadline = 0.0
        #: How often a browser sent `ready`.
        self._answers = 0
        self._returns = 0
        #: Whether the outputs hold the page below the live view; whether it is outdated, and when it is renewed.
        self._paged = self._outdated = False
        self._renew_at = 0.0
        self._closed = False
        self._background: set[asyncio.Future[Any]] = set()

    def __repr__(self) -> str:
        offered = "offered" if self._widget is not None else "no widget"
        state = "page only" if self.mode is Mode.HTML else "answered" if self._answers else offered
        outputs = f"{len(self.outputs)} output{'s' * (len(self.outputs) != 1)}"
        return f"<LiveWidget {self.model.record.state.run} [{state}, {outputs}]>"

    # -- what is shown --------------------------------------------------------------------------------------------

    def interval(self) -> float:
        """Seconds to the next update at least: until the widget is offered, no longer than that."""
        if self.mode is Mode.HTML:
            return super().interval()
        if self._widget is None and not self._answers:
            return max(0.0, min(UPDATE_EVERY, self._deadline - time.monotonic()))
        return UPDATE_EVERY

    def open(self) -> None:
        """Show the widget where there is something to see at once, else the page."""
        reopened, self._closed = self._closed, False
        if self._widget is None:
            self._deadline = time.monotonic() + LIVE_AFTER
        if reopened and self._answers:
            return  # The browser still shows its live view over the page.
        self.model.take()
        if self._several and self.model.record.state.ended_at is None:
            self.offer()
        else:
            self.show_page()

    @property
    def _several(self) -> bool:
        """Whether a live view is worth having at once."""
        return self.mode is Mode.WIDGET and sum(self.model.counts) > 1

    def offer(self, outputs: Sequence[Output] = ()) -> None:
        """Show the live view, in place of the page if it is shown."""
        if self._widget is None:
            self._widget = make_widget(self._on_message, self.patches.header())
            if self._widget is None:
                self.mode = Mode.HTML
            else:
                self.uid: Any = self._widget.uid
        self._deadline = time.monotonic() + ANSWER_WITHIN
        bundle = self._bundle()
        for output in outputs or self.outputs:
            output.show(bundle)

    def _bundle(self) -> Mapping[str, Any]:
        """The mime bundle of the widget, the page's if there is none."""
        page = self.page()
        if self._widget is None:
            return page
        bundle: Mapping[str, Any] = self._widget.bundle(page["text/html"], page["text/plain"])
        return bundle

    def update(self) -> int:
        """Send what changed."""
        if self.mode is Mode.HTML:
            return super().update()
        if not self._answers:
            return 0
        sent = self._patch()
        self._outdated |= sent > 0
        if self._paged and self._outdated and time.monotonic() >= self._renew_at:
            self._put_page()
        return sent

    def _put_page(self, *, only_live: bool = False) -> None:
        self._paged, self._outdated, self._renew_at = True, False, time.monotonic() + RENEW_EVERY
        self._read_failures()
        self.show_page(only_live=only_live)

    def check(self) -> None:
        """Offer the live view when it is time, fall back to the page when nothing answers."""
        if self.mode is Mode.HTML or self._answers:
            return
        late = time.monotonic() >= self._deadline
        if self._widget is None:
            self.model.take()
            if self._several or late:
                self.offer()
        elif late:
            # A browser that answers later gets the widget back.
            self.mode = Mode.HTML
            self.refresh_at = 0.0

    def also(self, display: Display) -> None:
        """Show the run in one more output, side by side with the others."""
        if not self._closed and self._widget is not None:
            self.add_output(display).show(self._bundle())
            return
        super().also(display)
        if self._closed and self.mode is Mode.WIDGET:
            self._spawn(self._offer_late(self.outputs[-1:]))

    def close(self) -> None:
        """Send the last patch, and leave the page."""
        self._closed = True
        if self.mode is Mode.WIDGET and self._answers:
            self._patch(last=True)
            self._send({"kind": "final"})
        elif self.mode is Mode.WIDGET:
            self.model.take(last=True)
            if self._worth_a_widget:
                self._spawn(self._offer_late(self.outputs))
        super().close()

    @property
    def _worth_a_widget(self) -> bool:
        """Whether there is more to see than a line."""
        counts = self.model.counts
        failed = any(counts[phase.code] for phase in PHASES if phase.is_failure)
        return failed or sum(counts) > 1 or self.model.record.logs.total > html.MAX_LOG_LINES

    async def _offer_late(self, outputs: list[Output]) -> None:
        """Offer the live view of a run that ended before a browser answered, over the page.

        A runner without a browser (nbclient) takes no updates after the cell has ended: there the page stays.
        """
        # No event marks that the cell's idle message has gone out; what is sent before it, nbclient would store.
        await asyncio.sleep(LATE_AFTER)
        before = self._answers
        self.offer(outputs)
        await asyncio.sleep(ANSWER_WITHIN)
        if self._answers > before or not self._closed:
            return
        self.show_page(only_live=True)
        # A browser under load may still be loading the widget; when it sends `ready` it mounts it over the page.
        await asyncio.sleep(GIVE_UP_AFTER)
        if not self._answers:
            self._drop_widget()

    def release(self) -> None:
        """Close the widget: browsers fall back to the page."""
        for task in tuple(self._background):
            task.cancel()
        self._drop_widget()

    def _drop_widget(self) -> None:
        widget, self._widget = self._widget, None
        if widget is not None:
            widget.close()

    # -- the browser ----------------------------------------------------------------------------------------------

    def handle(self, op: str, args: Mapping[str, Any], nonce: str) -> bool:
        """Do what the browser asks; False if that is neither the view's own business nor there is a `control` for it."""
        answer: Awaitable[None] | None = None
        if op == "ready":
            self._ready(page=bool(args.get("page")))
        elif op == "snapshot":
            self._send_message(self.patches.snapshot())
        elif self._replies.answers(op):
            answer = self._replies.handle(op, args, nonce)
            if op == "visible_rows" and self._closed:
                self._patch()
        elif self._control is not None:
            answer = self._replies.command(self._control, op, args, nonce)
        else:
            return False
        if answer is not None:
            self._spawn(answer)
        return True

    def _ready(self, *, page: bool) -> None:
        self._answers += 1
        fell_back = self.mode is Mode.HTML and self._widget is not None and not self._closed
        if fell_back and self._returns < MAX_RETURNS:
            self._returns += 1
            self.mode: Mode = Mode.WIDGET
            self.offer()
        self._send_message(self.patches.snapshot())
        if self._closed or page:
            self._send({"kind": "final"})
            self._put_page(only_live=True)

    def _patch(self, *, last: bool = False) -> int:
        now = time.monotonic()
        force = now > self.refresh_at and self.model.record.state.ended_at is None
        message = self.patches.patch(force=force, last=last)
        if message is None:
            return 0
        self.refresh_at: float = now + BEAT_EVERY
        return self._send_message(message)

    def _send_message(self, message: Message) -> int:
        self._send(message.content, message.buffers)
        return message.size

    def _send(self, content: Mapping[str, Any], buffers: Sequence[bytes] = ()) -> None:
        if self._widget is None:
            return
        self.stats["messages"] += 1
        self.stats["bytes"] += sum(map(len, buffers))
        self._widget.send(content, buffers or None)

    def _spawn(self, work: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
