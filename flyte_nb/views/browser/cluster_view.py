"""Cluster in the browser: an output that shows the workers as they are, and asks for it while somebody looks.

Nothing is sent unless the browser asks: what is scrolled away, or in a hidden page, costs nothing. Runs in: engine thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from html import escape

from flyte_nb.views.browser.live_widget import make_widget
from flyte_nb.views.browser.rows import Json
from flyte_nb.views.surface import Display, OnMessage, Output


class ClusterView:
    """One output with the workers.

    Args:
        display: Where it goes.
        on_message: Takes the widget's messages, in any thread.
        look: What the workers do now.
        text: The same as text, for whoever has no live view: in the saved notebook.
    """

    def __init__(
        self, display: Display, on_message: OnMessage, look: Callable[[], Awaitable[Json]], text: str
    ) -> None:  # fmt: skip
        self._look = look
        self._widget = make_widget(on_message, {"cluster": True})
        self._answering: set[asyncio.Future[None]] = set()
        page = f"<pre>{escape(text)}</pre>"
        plain = {"text/plain": text, "text/html": page}
        Output(display).show(self._widget.bundle(page, text) if self._widget is not None else plain)

    @property
    def uid(self) -> str:
        """Identity of the widget in the browser's commands; "" without a widget."""
        return str(self._widget.uid) if self._widget is not None else ""

    def handle(self, op: str, nonce: str) -> None:
        """Answer what the browser asks."""
        if op == "cluster":
            task = asyncio.ensure_future(self._answer(nonce))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self, nonce: str) -> None:
        try:
            content = await self._look()
        except Exception as error:
            content = {"error": f"{type(error).__name__}: {error}"[:500]}
        if self._widget is not None:
            self._widget.send({"kind": "reply", "to": nonce, **content})

    def close(self) -> None:
        """Close the widget: the browser keeps what it showed last."""
        widget, self._widget = self._widget, None
        if widget is not None:
            widget.close()

    def __repr__(self) -> str:
        return f"<ClusterView {self.uid[:8] or 'text only'}>"
