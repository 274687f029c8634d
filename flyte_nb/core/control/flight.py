"""An action in flight, as its controller holds it. Runs in: controller's thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from flyte_nb.core.control.calls import Call, ResumePoint, Settled
from flyte_nb.core.control.decide import Fail
from flyte_nb.core.control.work import Handle, Outcome, Work
from flyte_nb.core.history.facts import Attempt
from flyte_nb.core.transport.payload import Payload

#: Called once with how a call was settled.
Deliver = Callable[[Settled], None]


class Cache(Protocol):
    """Results of earlier calls. All callbacks come on the controller's thread."""

    def look_up(self, call: Call, then: Callable[[Payload | None], None]) -> None:
        """Find the result of an equal call; None if there is none: the caller owns the entry until `keep` or `give_up`."""

    def keep(self, call: Call, payload: Payload) -> None:
        """Keep a result."""

    def give_up(self, call: Call) -> None:
        """The owner of an entry ended without a result: let another take over."""


class ActionInFlight:
    """An action that has not ended."""

    __slots__ = (
        "admitted", "attempt", "attempted", "cache", "call", "called_nothing", "cancel_reason", "deadline", "deliver", "ended",
        "looking", "losses", "on_end", "overdue", "paused", "seq", "timer", "unreported", "used", "work",
    )  # fmt: skip

    def __init__(self, call: Call, deliver: Deliver | None, cache: Cache | None = None) -> None:
        self.call: Call = call
        #: Gives the caller its result; None once it has one, or does not wait any more.
        self.deliver = deliver
        #: The cache, if the call takes part in it.
        self.cache: Cache | None = cache if call.cache_key else None
        #: Sequence number of the last event that the controller published of it.
        self.seq: int = 0
        #: Number of the next attempt.
        self.attempt: int = 0
        #: The attempt that executes now.
        self.work: Work | None = None
        #: Retries used up.
        self.used: int = 0
        #: Losses in a row with its worker, each by what it counts (`decide.BLAME`).
        self.losses: float = 0.0
        self.cancel_reason: str = ""
        self.overdue: str = ""
        #: Backoff or queue timer; cancelled when the action ends, as the deadline is.
        self.timer: Handle | None = None
        self.deadline: Handle | None = None
        #: The error that parked it (``on_failure="pause"``); None while not parked.
        self.paused: Fail | None = None
        #: How its last attempt ended.
        self.attempted: Outcome | None = None
        #: Whether no attempt so far has called anything, as far as is known.
        self.called_nothing: bool = not isinstance(call.record, ResumePoint)
        #: An attempt that ended and that no event has reported yet.
        self.unreported: Attempt | None = None
        #: Whether it waits for the cache's answer: a result, or an identical call that executes.
        self.looking: bool = False
        #: Whether it counts against its parent's ``max_action_concurrency``.
        self.admitted: bool = False
        self.ended: bool = False
        #: Called once nothing of it executes any more: for a caller that dropped it and awaits its end.
        self.on_end: Callable[[], None] | None = None

    def settle(self, settled: Settled) -> None:
        """Give the caller its result, unless it has one or does not wait any more."""
        deliver, self.deliver = self.deliver, None
        if deliver is not None:
            deliver(settled)

    def stop_timer(self) -> None:
        """Cancel its backoff or queue timer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def give_up_cache(self) -> None:
        """Let another call own the cache's entry: this one has no result."""
        if self.cache is not None:
            self.cache.give_up(self.call)

    def __repr__(self) -> str:
        return f"<ActionInFlight {self.call.run.name}/{self.call.name} {self.call.label} attempt {self.attempt}>"


@dataclass(slots=True, eq=False, repr=False)
class Ticket:
    """One submitted call, as its caller holds it."""

    call: Call
    deliver: Deliver
    #: The controller's side: None until it has taken the call; False if the call was cancelled before.
    flight: Any = None
