"""Show one run where the user looks, and keep it right: widget, HTML, terminal tree or plain lines. Runs in: engine thread.

The session makes one `View` per run on the engine thread's loop, calls `start`, gives it the browser's commands through
`handle`, and calls `finish` when the run has closed. A view that nothing answers within `ANSWER_WITHIN` (nbclient, papermill, a
server without anywidget) goes on as HTML updated in place. `finish` leaves static HTML and text in the notebook: the only
form that is right after reopening, export, and in untrusted notebooks. A browser that is still there keeps its live picture by
mounting it over the static one.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import inspect
import logging
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TextIO, TypeVar

from flyte_nb.core.history.facts import Phase
from flyte_nb.core.history.store import RunRecord
from flyte_nb.views import html, text
from flyte_nb.views.details import Details, StoreDetails, failure_text
from flyte_nb.views.display import WIDGET_MIME, Bundle, Display, is_noninteractive
from flyte_nb.views.picture import Message, Picture
from flyte_nb.views.replies import Replies, answer_of
from flyte_nb.views.words import plain

logger = logging.getLogger(__name__)

#: Seconds between two patches at least.
PATCH_EVERY = 0.1
#: Seconds between two updates of the HTML at least: each replaces the whole output.
HTML_EVERY = 0.5
#: Seconds between two redraws of the terminal's tree at least.
DRAW_EVERY = 0.125
#: Seconds after which a run that goes on gets its live view; before, and for quick runs of one action, a line of HTML will do:
#: a widget costs 100 kB per cell.
LIVE_AFTER = 0.12
#: Seconds after the end of a run before its static picture gets a live view over it: the cell has surely ended then.
LATE_AFTER = 0.5
#: Seconds in which a browser must answer.
ANSWER_WITHIN = 2.0
#: Seconds after which a widget of an ended run that nothing answered for is given up.
GIVE_UP_AFTER = 60.0
#: Seconds without news after which the header is sent again while a run is open (throughput, time left).
BEAT_EVERY = 1.0
#: Share of the engine thread's time that a view may use: after a costly flush it waits longer.
SHARE = 0.04
#: Bytes a second to the browser.
BYTES_PER_SECOND = 900_000
#: Times a view changes from HTML back to the widget because a slow browser answered after all.
MAX_RETURNS = 3
#: Places that show one run at once; the oldest beyond it keeps what it shows.
MAX_PLACES = 20

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])


def _counted(method: _F) -> _F:
    """Count what a method takes of the engine thread's CPU time in `View.stats`: `bench/view_cost.py` tells it."""

    @functools.wraps(method)
    def counting(self: View, *args: Any, **options: Any) -> Any:
        before = time.thread_time()
        try:
            return method(self, *args, **options)
        finally:
            self.stats["seconds"] += time.thread_time() - before

    return counting  # type: ignore[return-value]


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
    if display is not None:
        return Mode.HTML if is_noninteractive() else Mode.WIDGET
    if stream is not None and not is_noninteractive() and stream.isatty():
        return Mode.CONSOLE
    return Mode.LINES


class _Place:
    """One output that shows the run."""

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


class View:
    """One run, shown in one place or more. All methods run on the engine thread, `on_message` excepted.

    Args:
        record: The run.
        display: Where outputs go; None outside notebooks.
        on_message: Given to ``Widget.on_msg``: the session's ``CommandRouter.on_widget_message``. None: the view takes messages
            itself.
        control: Called with (op, args, nonce) for commands that are not the view's own (``cancel_run``, ``retry_action``, ...).
            May return an awaitable; its result, a dict, is the reply. None: `handle` returns False for them.
        details: More about actions than the store knows.
        mode: How to show it; None: `choose_mode`.
        stream: Where the terminal's tree or lines go; None: ``sys.stderr``.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        record: RunRecord,
        *,
        display: Display | None = None,
        on_message: Callable[[object, object, object], object] | None = None,
        control: Callable[[str, Mapping[str, Any], str], Any] | None = None,
        details: Details | None = None,
        mode: Mode | None = None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.record = record
        self.picture = Picture(record, clock)
        self.stream = stream if stream is not None else sys.stderr
        self.mode = mode or choose_mode(display, self.stream)
        #: Identity of the widget in the browser's commands (``comm_id``); "" without a widget.
        self.uid = ""
        #: Commands handled, messages and bytes sent, CPU seconds spent, worst flush: for tests and benchmarks.
        self.stats = {"commands": 0, "messages": 0, "bytes": 0, "seconds": 0.0, "worst": 0.0}
        self._places = [_Place(display)] if display is not None else []
        self._on_message = on_message
        self._control = control
        self._replies = Replies(self.picture, details or StoreDetails(record), self._send)
        self._widget: Any = None
        self._console: Any = None
        self._lines: text.PlainLines | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self._wake = asyncio.Event()
        self._answered = False
        #: How often a browser said `ready`.
        self._readies = 0
        self._offered_at: float | None = None
        self._returns = 0
        self._due = 0.0
        self._beat = 0.0
        self._finished = False
        self._seen: dict[str, None] = {}

    # -- life -----------------------------------------------------------------------------------------------------

    @_counted
    def start(self) -> None:
        """Show the run and keep it up to date until `finish`. Needs a running loop; a second call after `finish` reopens it."""
        self._loop = asyncio.get_running_loop()
        reopened, self._finished = self._finished, False
        if self._places and self.mode in (Mode.WIDGET, Mode.HTML):
            self._publish(reopened)
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._keep_up(), name=f"flyte_nb view of {self.record.state.run}")

    def _publish(self, reopened: bool) -> None:
        if reopened and self._answered:
            return  # The browser still shows its live picture over the static one.
        self.picture.take()
        if self._many and self.record.state.ended_at is None:
            self._offer()
        else:
            self._show_static()

    def also(self, display: Display) -> None:
        """Show the run in one more place, as ``%flyte show`` does: the same view, side by side with the others."""
        place = _Place(display)
        self._places = [*self._places[1 - MAX_PLACES :], place]
        if self._finished or self._widget is None:
            self.picture.take()
            place.show(self._bundle(live=False))
            if self._finished and self.mode is Mode.WIDGET:
                self._spawn(self._offer_late([place]))
        else:
            place.show(self._bundle(live=True))

    @property
    def _many(self) -> bool:
        """Whether a live view is worth having at once."""
        return self.mode is Mode.WIDGET and sum(self.picture.counts) > 1

    def _offer(self, places: list[_Place] | None = None) -> None:
        """Show the live view, in place of the first line of HTML if there is one."""
        self._offered_at = time.monotonic()
        if self._widget is None:
            self._make_widget()
        bundle = self._bundle(live=self._widget is not None)
        for place in places or self._places:
            place.show(bundle)

    def _show_static(self, *, only_live: bool = False) -> None:
        bundle = self._bundle(live=False)
        for place in self._places:
            # Replacing a static picture by itself would make browsers that live on over it flicker.
            if place.live or not only_live:
                place.show(bundle)

    def _make_widget(self) -> None:
        try:
            from flyte_nb.views.widget import RunWidget

            header = self.picture.header()
            self._widget = RunWidget(self._on_message or self.on_message, header)
            self.uid = self._widget.uid
        except Exception:
            # Without anywidget, or outside a kernel that can open comms, the HTML says the same.
            logger.debug("no widget", exc_info=True)
            self.mode = Mode.HTML

    def _bundle(self, *, live: bool) -> dict[str, Any]:
        page, words = html.render(self.picture, self._replies.failures, self.uid), text.screen(self.picture)
        if live and self._widget is not None:
            bundle: dict[str, Any] = self._widget.bundle(page, words)
            return bundle
        return {"text/plain": words, "text/html": page}

    @_counted
    def finish(self) -> None:
        """Show the end: the last patch, and the static snapshot in place of the widget. Idempotent; the view still answers."""
        if self._finished:
            return
        self._finished = True
        if self._task is not None:
            self._task.cancel()
            self._task = None
        try:
            self._flush_last()
        except Exception:
            logger.exception("the view of %s could not show its end", self.record.state.run)

    def pause(self) -> None:
        """On a terminal: make room for what the cell prints now."""
        if self.mode is Mode.CONSOLE and not self._finished:
            self._console_tree().pause()

    def resume(self) -> None:
        """On a terminal: that has been printed."""
        if self.mode is Mode.CONSOLE and not self._finished:
            self._console_tree().resume()

    def leave(self) -> None:
        """The cell is over and the run goes on: a terminal is the prompt's again. Elsewhere the view stays."""
        if self.mode is not Mode.CONSOLE or self._finished:
            return
        self._finished = True
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._console_tree().leave()

    def _flush_last(self) -> None:
        if self.mode is Mode.WIDGET:
            if self._answered:
                self._patch(last=True)
                self._send({"kind": "final"}, [])
            else:
                self.picture.catch_up()
                if self._worth_a_widget:
                    self._spawn(self._offer_late(self._places))
        if self._places and self.mode in (Mode.WIDGET, Mode.HTML):
            self.picture.catch_up()
            self._note_failures()
            self._show_static()
        elif self.mode is Mode.CONSOLE:
            self._console_tree().finish()
        elif self.mode is Mode.LINES:
            self._print_lines()

    def _note_failures(self) -> None:
        """Read what the snapshot shows of failures: of the first of each kind."""
        for fold in self.picture.errors.most(html.MAX_FOLDS):
            error = fold.first.error
            if error is not None and error.record is not None and fold.first.name not in self._replies.failures:
                text = failure_text(error.record)
                if text:
                    self._replies.failures[fold.first.name] = {"text": text}

    @property
    def _worth_a_widget(self) -> bool:
        """Whether there is more to see than a line."""
        failed = any(phase.is_failure for phase, n in zip(Phase, self.picture.counts, strict=True) if n)
        return failed or sum(self.picture.counts) > 1 or self.record.logs.total > html.MAX_LOG_LINES

    async def _offer_late(self, places: list[_Place]) -> None:
        """Give a run that ended before a browser answered its live view after all, over the static picture.

        A runner without a browser (nbclient) takes no updates after the cell has ended: there the static picture stays.
        """
        # No event tells that the cell's idle message has gone out; what is sent before it, nbclient would store.
        await asyncio.sleep(LATE_AFTER)
        before = self._readies
        self._offer(places)
        await asyncio.sleep(ANSWER_WITHIN)
        if self._readies > before or not self._finished:
            return
        self._show_static(only_live=True)
        # A browser under load may still be loading the widget; when it says `ready` it mounts it over the static picture.
        await asyncio.sleep(GIVE_UP_AFTER)
        if not self._answered:
            self._drop_widget()

    def close(self) -> None:
        """Finish, stop watching and let go of the widget: browsers fall back to the static snapshot."""
        self.finish()
        for task in tuple(self._background):
            task.cancel()
        self.picture.close()
        self._drop_widget()

    def _drop_widget(self) -> None:
        widget, self._widget = self._widget, None
        if widget is not None:
            widget.close()

    # -- keeping up -----------------------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        while True:
            before = time.perf_counter()
            sent = 0
            try:
                sent = self.flush()
            except Exception:
                logger.exception("the view of %s skipped an update", self.record.state.run)
            spent = time.perf_counter() - before
            self.stats["worst"] = max(self.stats["worst"], spent)
            pause = max(self._every, spent / SHARE, sent / BYTES_PER_SECOND)
            waiting = self.mode is Mode.WIDGET and self._offered_at is None
            if waiting:
                pause = max(0.0, min(pause, started + LIVE_AFTER - loop.time()))
            try:
                await asyncio.wait_for(self._wake.wait(), pause)
                await asyncio.sleep(max(0.02, spent / SHARE))
            except TimeoutError:
                pass
            self._wake.clear()
            if self.mode is Mode.WIDGET and not self._answered:
                self._mind_the_browser(loop.time() - started)

    @_counted
    def _mind_the_browser(self, open_for: float) -> None:
        """Offer the live view when it is time, give it up when nothing answers."""
        if self._offered_at is None:
            self.picture.take()
            if self._many or open_for >= LIVE_AFTER:
                self._offer()
        elif time.monotonic() - self._offered_at > ANSWER_WITHIN:
            self._fall_back()

    @property
    def _every(self) -> float:
        return {Mode.HTML: HTML_EVERY, Mode.CONSOLE: DRAW_EVERY}.get(self.mode, PATCH_EVERY)

    @_counted
    def flush(self) -> int:
        """Show what changed, now. Returns bytes sent."""
        match self.mode:
            case Mode.WIDGET:
                return self._patch() if self._answered else 0
            case Mode.HTML:
                if self.picture.changed or time.monotonic() > self._beat:
                    self._beat = time.monotonic() + 2 * BEAT_EVERY
                    self.picture.take()
                    self._show_static()
            case Mode.CONSOLE:
                self._console_tree().flush()
            case Mode.LINES:
                self._print_lines()
            case _:
                self.picture.take()
        return 0

    def _patch(self, *, last: bool = False) -> int:
        now = time.monotonic()
        message = self.picture.patch(force=now > self._beat and self.record.state.ended_at is None, last=last)
        if message is None:
            return 0
        self._beat = now + BEAT_EVERY
        return self._send_message(message)

    def _fall_back(self) -> None:
        """Nothing answered: go on as HTML. A browser that answers later gets the widget back."""
        self.mode = Mode.HTML
        self._beat = 0.0

    def _console_tree(self) -> Any:
        if self._console is None:
            from flyte_nb.views.console import ConsoleTree

            self._console = ConsoleTree(self.picture, self.stream)
        return self._console

    def _print_lines(self) -> None:
        if self._lines is None:
            self._lines = text.PlainLines(self.picture)
        out = "".join(f"{plain(line)}\n" for line in self._lines.flush())
        if out:
            try:
                self.stream.write(out)
                self.stream.flush()
            except (OSError, ValueError):  # The reader of the pipe has gone, or the stream was closed at exit.
                self.mode = Mode.SILENT

    # -- the browser ----------------------------------------------------------------------------------------------

    def on_message(self, _widget: object, content: object, _buffers: object = None) -> None:
        """Take a message from the browser, in any thread, where no session routes them."""
        if isinstance(content, dict) and self._loop is not None:
            self._loop.call_soon_threadsafe(self._take_message, content)

    def _take_message(self, content: Mapping[str, Any]) -> None:
        nonce, args = str(content.get("nonce", "")), content.get("args")
        if nonce in self._seen:
            return
        self._seen[nonce] = None
        while len(self._seen) > 1_000:
            del self._seen[next(iter(self._seen))]
        self.handle(str(content.get("op", "")), args if isinstance(args, dict) else {}, nonce)

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
        if op == "ready":
            self._ready()
            return True
        if op in ("snapshot", "visible_rows") or self._replies.answers(op):
            answer = self._replies.handle(op, args, nonce)
            if answer is not None:
                self._spawn(answer)
            if op == "snapshot":
                self._send_message(self.picture.snapshot())
            elif op == "visible_rows":
                self._touch()
            return True
        if self._control is None:
            return False
        try:
            result = self._control(op, args, nonce)
        except Exception as error:
            logger.exception("%s failed", op)
            result = {"error": f"{op.replace('_', ' ')} failed: {type(error).__name__}: {error}"[:500]}
        if inspect.isawaitable(result):
            self._spawn(self._replies.relay(nonce, result))
        else:
            self.reply(nonce, answer_of(result))
        return True

    def _ready(self) -> None:
        self._answered = True
        self._readies += 1
        fell_back = self.mode is Mode.HTML and self._widget is not None and not self._finished
        if fell_back and self._returns < MAX_RETURNS:
            self._returns += 1
            self.mode = Mode.WIDGET
            self._offer()
        self._send_message(self.picture.snapshot())
        if self._finished:
            self._send({"kind": "final"}, [])
            self._show_static(only_live=True)

    def _touch(self) -> None:
        if self._finished:
            self._patch()
        else:
            self._wake.set()

    def reply(self, nonce: str, content: Mapping[str, Any]) -> None:
        """Answer a command of the browser: ``{"error": text}`` is shown as an error, ``{"text": text}`` as news."""
        self._send({"kind": "reply", "to": nonce, **content}, [])

    def say(self, words: str, *, error: bool = False) -> None:
        """Show a short notice in the view."""
        self._send({"kind": "notice", "text": words, "error": error}, [])

    def _send_message(self, message: Message) -> int:
        self._send(message.content, message.buffers)
        return message.size

    def _send(self, content: Mapping[str, Any], buffers: list[bytes]) -> None:
        if self._widget is None:
            return
        self.stats["messages"] += 1
        self.stats["bytes"] += sum(map(len, buffers))
        self._widget.send(content, buffers or None)

    def _spawn(self, work: Awaitable[_T]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
