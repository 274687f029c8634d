"""Questions to a run's home: the process with its store and its cache, where decisions are made once. Runs in: everywhere.

Every run has one home (the kernel, or this process in local mode). A controller on a worker, and code inside a task, ask it
with `Home.ask`; the answer comes as a callback on the asking controller's thread. At home an `Answers` answers at once; on a
worker `flyte_nb.engine.links.peers` carries the question over the link.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from flyte_nb.core.history.run_info import RunInfo

logger: logging.Logger = logging.getLogger("flyte")

Then = Callable[[Any], None]
#: Answers one kind of question: called with the run's name, a callback for the answer, and the question's arguments.
Answer = Callable[..., None]


class Home(Protocol):
    """Where questions go. All calls and callbacks are on the controller's thread."""

    def ask(self, run: RunInfo, op: str, args: tuple[Any, ...], then: Then) -> None:
        """Ask the run's home; `then` gets the answer, or None if the home is unreachable or has no such question."""


class Answers:
    """Answers questions at home.

    Example:
        >>> answers.serve("double", lambda run, then, number: then(2 * number))
    """

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}

    def serve(self, op: str, answer: Answer) -> None:
        """Register the answer to a kind of question: ``answer(run_name, then, *args)``."""
        self._answers[op] = answer

    def ask(self, run: RunInfo, op: str, args: tuple[Any, ...], then: Then) -> None:
        """Answer a question of this process."""
        self.answer(run.name, op, args, then)

    def answer(self, run: str, op: str, args: tuple[Any, ...], then: Then) -> None:
        """Answer a question; an unknown one, or one whose answer fails, is answered with None."""
        respond(op, self._answers.get(op), then, run, then, *args)


def respond(op: str, answer: Callable[..., None] | None, then: Then, *args: Any) -> None:
    """Answer a question with a function; without one, or if it fails, `then` gets None."""
    if answer is None:
        logger.error("flyte_nb: nobody answers %r here", op)
        then(None)
        return
    try:
        answer(*args)
    except Exception:
        logger.exception("flyte_nb could not answer %r", op)
        then(None)
