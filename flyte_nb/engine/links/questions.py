"""Questions and answers over links: any peer may ask any other. Runs in: engine thread; worker loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from flyte_nb.core.control.questions import respond
from flyte_nb.engine.links.wire import Message

Then = Callable[[Any], None]
#: Answers one kind of question: called with a callback for the answer (to be called once), and the question's arguments.
Answer = Callable[..., None]


class Switchboard:
    """One peer's pending questions, and its answers to others."""

    def __init__(self, send: Callable[[str, Message], None]) -> None:
        self._send = send
        self._numbers = itertools.count(1)
        self._pending: dict[int, tuple[str, Then]] = {}
        #: By the question's name. The value is called as ``answer(then, *args)``.
        self.answers: dict[str, Answer] = {}

    def ask(self, peer: str, op: str, args: tuple[Any, ...], then: Then) -> None:
        """Ask a peer; `then` gets its answer, or None if it goes away or does not know."""
        number = next(self._numbers)
        self._pending[number] = (peer, then)
        self._send(peer, ("ask", number, op, args))

    def _on_ask(self, peer: str, number: int, op: str, args: tuple[Any, ...]) -> None:
        def then(value: Any) -> None:
            self._send(peer, ("answer", number, value))

        respond(op, self.answers.get(op), then, then, *args)

    def _on_answer(self, _peer: str, number: int, value: Any) -> None:
        pending = self._pending.pop(number, None)
        if pending is not None:
            pending[1](value)

    def lost(self, peer: str) -> None:
        """A peer disconnected: what it was asked is answered with None."""
        for number, (asked, then) in list(self._pending.items()):
            if asked == peer:
                del self._pending[number]
                then(None)
