"""Decide what follows when an attempt has ended: pure functions, no action taken. Runs in: everywhere."""

from __future__ import annotations

from typing import NamedTuple

from flyte_nb.core.control.work import Outcome
from flyte_nb.core.failures.record import FailureRecord
from flyte_nb.core.history.facts import ErrorNote, Phase
from flyte_nb.core.settings.retry import RetryStrategy

#: Losses in a row of an action's attempts with their workers before they use up retries: the action itself may be the cause.
MAX_LOSSES = 3
#: What a loss counts, by the kind of outcome: 1 for an attempt that computed on the worker when it died; nothing for one that
#: awaited other actions there, or that another one computed beside; something for one of which nothing is known, since code
#: that ends its process from a thread holds no slot.
BLAME = {"lost": 1.0, "unexplained": 0.5, "stranded": 0.0}


class Succeed(NamedTuple):
    """The action has its result."""


class Again(NamedTuple):
    """Execute another attempt."""

    #: Seconds to wait before it.
    after: float
    #: Whether it uses up one of the action's retries (a lost worker does not).
    counts: bool
    note: str


class Fail(NamedTuple):
    """The action ends without a result."""

    phase: Phase
    #: Class in `flyte_nb.errors` that the parent gets; "" = as the error itself says.
    code: str = ""
    message: str = ""


class Cancelled(NamedTuple):
    """It ended because it was asked to."""

    phase: Phase = Phase.ABORTED


Decision = Succeed | Again | Fail | Cancelled


def decide(
    outcome: Outcome, retries: RetryStrategy, used: int, losses: float, *, cancelled: bool, overdue: str = ""
) -> Decision:
    """Decide what follows an attempt.

    Args:
        outcome: How it ended.
        retries: The action's policy.
        used: Retries used up before this attempt.
        losses: Attempts of this action lost with their worker in a row, this one included, each by its `BLAME`.
        cancelled: Whether the action was asked to stop.
        overdue: Name of the timeout error whose limit this attempt broke while it was queued or over all attempts
            ("MaxQueuedTimeExceededError", "DeadlineExceededError"); "" if none.
    """
    if outcome.kind == "ok" and not cancelled:
        return Succeed()
    if overdue == "DeadlineExceededError":
        return Fail(Phase.TIMED_OUT, overdue, "its deadline passed")
    if overdue or outcome.kind == "timeout":
        code = overdue or "MaxRuntimeExceededError"
        why = "it waited longer than max_queued_time" if overdue else "it ran longer than its timeout"
        if used < retries.count and not cancelled:
            return Again(retries.delay_before(used), True, why)
        return Fail(Phase.TIMED_OUT, code, why)
    if cancelled:
        return Cancelled()
    if outcome.kind == "oom":
        if used < retries.count:
            return Again(retries.delay_before(used), True, "out of memory")
        return Fail(Phase.FAILED, "OOMError", "it used more memory than its resources allow")
    if outcome.kind in BLAME:
        if losses >= MAX_LOSSES and used < retries.count:
            return Again(retries.delay_before(used), True, "its worker was lost")
        if losses >= MAX_LOSSES:
            return Fail(Phase.FAILED, outcome.error.code if outcome.error else "WorkerLostError")
        return Again(0.0, False, "its worker was lost")
    if outcome.kind == "cancelled":
        return Cancelled()
    if outcome.error is not None and not outcome.error.recoverable:
        return Fail(Phase.FAILED)
    if used < retries.count:
        return Again(retries.delay_before(used), True, outcome.error.code if outcome.error else "")
    return Fail(Phase.FAILED, "RetriesExhaustedError" if retries.count else "")


def may_park(error: ErrorNote | None) -> bool:
    """Whether a failure may park its action (``on_failure="pause"``): it is the action's own, not one of a child passed on.

    That child was parked with it, and a person has let it fail.
    """
    return error is None or error.record is None or len(FailureRecord.loads(error.record).path) < 2
