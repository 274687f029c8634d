"""An action under way, as its controller holds it. Runs in: controller's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from flyte_nb.core.control.calls import Call, ResumePoint, Settled
from flyte_nb.core.control.decide import Fail
from flyte_nb.core.control.work import Handle, Outcome, Work
from flyte_nb.core.history.facts import Attempt
from flyte_nb.core.transport.payload import Payload

#: (name, result) of every child of an action that succeeded in an earlier attempt of it; of every other child, where it stands.
Records = tuple[tuple[str, "Payload | ResumePoint"], ...]


class Cache(Protocol):
    """Results of earlier calls. All callbacks come on the controller's thread."""

    def look_up(self, call: Call, then: Callable[[Payload | None], None]) -> None:
        """Find the result of an equal call; None if there is none: the caller owns the entry until `keep` or `give_up`."""

    def keep(self, call: Call, payload: Payload) -> None:
        """Keep a result."""

    def give_up(self, call: Call) -> None:
        """The owner of an entry ended without a result: let another take over."""


class ActionInFlight:
    """An action under way."""

    __slots__ = (
        "admitted", "attempt", "attempted", "call", "cancel_reason", "deadline", "ended", "looking", "losses", "on_end",
        "overdue", "paused", "seq", "settle", "timer", "untold", "used", "work",
    )  # fmt: skip

    def __init__(self, call: Call, settle: Callable[[Settled], None] | None) -> None:
        self.call = call
        #: Tells the caller; None once told, or once nobody waits.
        self.settle = settle
        self.seq = 0
        #: Number of the next attempt.
        self.attempt = 0
        #: The attempt that executes now.
        self.work: Work | None = None
        #: Retries used up.
        self.used = 0
        self.losses = 0
        self.cancel_reason = ""
        self.overdue = ""
        #: Called off when the flight ends: backoff or queue timer, and the deadline.
        self.timer: Handle | None = None
        self.deadline: Handle | None = None
        #: The error that parked it (``on_failure="pause"``); None while not parked.
        self.paused: Fail | None = None
        self.attempted: Outcome | None = None
        #: An attempt that ended and that no event has told of yet.
        self.untold: Attempt | None = None
        #: Whether it waits for the cache's answer: a result, or an identical call that executes.
        self.looking = False
        #: Whether it counts against its parent's ``max_action_concurrency``.
        self.admitted = False
        self.ended = False
        #: Called once nothing of it executes any more: a caller that gave it up waits for that.
        self.on_end: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<ActionInFlight {self.call.run.name}/{self.call.name} {self.call.label} attempt {self.attempt}>"


class Ticket:
    """One submitted call, as its caller holds it."""

    __slots__ = ("call", "deliver", "flight")

    def __init__(self, call: Call, deliver: Callable[[Settled], None]) -> None:
        self.call = call
        self.deliver = deliver
        #: The controller's side; None until it has taken the call.
        self.flight: Any = None
