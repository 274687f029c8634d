"""Preview of a user's value: text, a table, or the picture it offers; all bounded. Runs in: kernel, on a thread of its own.

Unpickling a value and asking it for its ``repr`` runs the user's code, which may be slow, wait for ever, or kill nothing but
itself. So it is done only when a reader opens an action, never on the engine thread (whose loop decides over actions) and
never on the main thread (which a cell may hold): `Reader` has a thread for it, and goes on without it when it takes too long.
"""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from flyte_nb.core.values import redact
from flyte_nb.core.values.bounded import BoundedText, FullError
from flyte_nb.core.values.describe import describe
from flyte_nb.core.values.tables import table_of

logger: logging.Logger = logging.getLogger("flyte")

#: Seconds that the values of one action may take; beyond it they are shown as unread.
WITHIN = 5.0
#: Threads that were given up and still run; beyond it nothing is read until one of them ends.
MAX_STUCK = 3
#: Longest text of one value, in characters: several screens.
MAX_TEXT = 20_000
#: Items of a container that are looked at: more are not read in a panel.
MAX_ITEMS = 200
#: Largest picture or page, in bytes before encoding: what goes to the browser within a second.
MAX_MEDIA = 700_000

Shown = dict[str, Any]
_T = TypeVar("_T")


def show(value: object, name: str = "") -> Shown:
    """What a panel shows of a value: ``text`` always; ``table``, ``png`` (base64) or ``html`` where the value offers it.

    Args:
        value: Anything. Its methods are called: ``repr``, ``_repr_png_``, ``_repr_html_``.
        name: What it goes by: a name such as ``password`` hides it.
    """
    if name and redact.hides(name, value):
        return {"text": "<redacted: its name looks like a secret's>"}
    table = table_of(value)
    if table is not None:
        return {"text": describe(value), "table": table}
    png = _png(value)
    if png is not None:
        return {"text": describe(value), "png": base64.b64encode(png).decode()}
    page = _page(value)
    if page is not None:
        return {"text": describe(value), "html": page}
    return {"text": text_of(value)}


def text_of(value: object) -> str:
    """A value's ``repr``, laid out over lines and cut."""
    if type(value) in (str, bytes) and len(value) > MAX_TEXT:  # type: ignore[arg-type]
        return redact.scrub(repr(value[:MAX_TEXT])) + f"… ({len(value):,} in all)"  # type: ignore[index,arg-type]
    from IPython.lib import pretty

    out = BoundedText(MAX_TEXT)
    try:
        printer = pretty.RepresentationPrinter(out, max_width=78, max_seq_length=MAX_ITEMS)
        printer.pretty(value)
        printer.flush()
    except FullError:
        return redact.scrub(out.getvalue()) + "…"
    except Exception as exc:  # A repr of the user's.
        return f"<{describe(value)}: its repr raised {type(exc).__name__}: {str(exc)[:200]}>"
    return redact.scrub(out.getvalue())


def _png(value: Any) -> bytes | None:
    made: Any = None
    try:
        if type(value).__module__ == "matplotlib.figure" and hasattr(value, "savefig"):
            from matplotlib.backends.backend_agg import FigureCanvasAgg

            stream = io.BytesIO()
            FigureCanvasAgg(value)
            value.savefig(stream, format="png", bbox_inches="tight")
            made = stream.getvalue()
        elif (offer := getattr(type(value), "_repr_png_", None)) is not None:
            made = offer(value)
            made = made[0] if isinstance(made, tuple) else made
            made = base64.b64decode(made) if isinstance(made, str) else made
    except Exception:
        logger.debug("no picture of a %s", type(value), exc_info=True)
    return made if isinstance(made, bytes) and made.startswith(b"\x89PNG") and len(made) <= MAX_MEDIA else None


def show_figures(ip: Any) -> None:
    """Show a figure that is a cell's last expression as a picture, also where pyplot, which sees to it, was not imported."""
    formatter = ip.display_formatter.formatters["image/png"]
    known = any(getattr(kind, "__name__", "") == "Figure" for kind in formatter.type_printers)
    if not known and ("matplotlib.figure", "Figure") not in formatter.deferred_printers:
        formatter.for_type_by_name("matplotlib.figure", "Figure", _png)


def _page(value: Any) -> str | None:
    offer = getattr(type(value), "_repr_html_", None)
    if offer is None or isinstance(value, type):
        return None
    try:
        made = offer(value)
    except Exception:
        logger.debug("no page of a %s", type(value), exc_info=True)
        return None
    return made if isinstance(made, str) and made and len(made) <= MAX_MEDIA else None


class Reader:
    """Runs functions that may run the user's code, one after another, on a thread that it can do without."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] | None = None
        #: Threads that were given up.
        self._stuck: list[threading.Thread] = []
        self._thread: threading.Thread | None = None

    async def read(self, function: Callable[[], _T], otherwise: Callable[[str], _T]) -> _T:
        """The function's value; `otherwise` of a sentence if it takes longer than `WITHIN` or none can be read now.

        Args:
            function: Called on the thread. It must not raise.
            otherwise: Called here.
        """
        self._stuck = [thread for thread in self._stuck if thread.is_alive()]
        if len(self._stuck) >= MAX_STUCK:
            return otherwise(f"not read: {len(self._stuck)} earlier values are still being read")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_T] = loop.create_future()

        def work() -> None:
            value = function()
            loop.call_soon_threadsafe(lambda: None if answer.done() else answer.set_result(value))

        thread = self._put(work)
        try:
            return await asyncio.wait_for(answer, WITHIN)
        except TimeoutError:
            if thread is self._thread:
                self._give_up()
            return otherwise(f"not read: it took longer than {WITHIN:.0f} s")

    def _put(self, work: Callable[[], None]) -> threading.Thread:
        if self._work is None or self._thread is None or not self._thread.is_alive():
            self._work = queue.SimpleQueue()
            self._thread = threading.Thread(target=_serve, args=(self._work,), name="flyte-reader", daemon=True)
            self._thread.start()
        self._work.put(work)
        return self._thread

    def _give_up(self) -> None:
        """Leave the thread to what it does; the next value gets another one."""
        assert self._thread is not None
        self._stuck.append(self._thread)
        self.close()

    def close(self) -> None:
        """End the thread when it has done what it was given."""
        if self._work is not None:
            self._work.put(None)
        self._work = self._thread = None


def _serve(work: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (one := work.get()) is not None:
        figures = _figures()
        try:
            one()
        except RuntimeError:  # The engine's loop is closed: the answer is not awaited any more.
            return
        finally:
            for number in set(_figures()) - set(figures):
                # An unpickled figure registers itself; the inline backend would show it under whatever cell runs next.
                _figures().pop(number, None)


def _figures() -> dict[int, Any]:
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    return getattr(getattr(helpers, "Gcf", None), "figs", {})
