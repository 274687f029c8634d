"""Questions and answers over links: any peer may ask any other. Runs in: engine thread; worker loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from flyte_nb.core.control.questions import respond
from flyte_nb.engine.wire import Message

Then = Callable[[Any], None]
#: Answers one kind of question: called with whom to tell (once), and the question's arguments.
Answer = Callable[..., None]


class Switchboard:
    """One peer's questions under way, and its answers to others."""

    def __init__(self, send: Callable[[str, Message], None]) -> None:
        self._send = send
        self._numbers = itertools.count(1)
        self._asked: dict[int, tuple[str, Then]] = {}
        #: By the question's name. The value is called as ``answer(then, *args)``.
        self.answers: dict[str, Answer] = {}

    def ask(self, peer: str, op: str, args: tuple[Any, ...], then: Then) -> None:
        """Ask a peer; `then` gets its answer, or None if it goes away or does not know."""
        number = next(self._numbers)
        self._asked[number] = (peer, then)
        self._send(peer, ("ask", number, op, args))

    def handle(self, peer: str, message: Message) -> bool:
        """Take a message; False if it is neither a question nor an answer."""
        if message[0] == "ask":
            _, number, op, args = message

            def then(value: Any) -> None:
                self._send(peer, ("answer", number, value))

            respond(op, self.answers.get(op), then, then, *args)
            return True
        if message[0] == "answer":
            _, number, value = message
            asked = self._asked.pop(number, None)
            if asked is not None:
                asked[1](value)
            return True
        return False

    def lost(self, peer: str) -> None:
        """A peer is gone: what it was asked is answered with None."""
        for number, (asked, then) in list(self._asked.items()):
            if asked == peer:
                del self._asked[number]
                then(None)
