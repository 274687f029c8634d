"""What follows when an attempt has ended: a pure decision, no action taken. Runs in: everywhere."""

from __future__ import annotations

from typing import NamedTuple

from flyte_nb.core.control.work import Outcome
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.settings.retry import RetryStrategy

#: Times an attempt may be lost with its worker before that uses up retries: one is bad luck, three in a row is the action.
MAX_LOSSES = 3


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
    outcome: Outcome, retries: RetryStrategy, used: int, losses: int, *, cancelled: bool, overdue: str = ""
) -> Decision:
    """Decide what follows an attempt.

    Args:
        outcome: How it ended.
        retries: The action's policy.
        used: Retries used up before this attempt.
        losses: Attempts of this action lost with their worker so far, this one included.
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
            return Again(_delay(retries, used), True, why)
        return Fail(Phase.TIMED_OUT, code, why)
    if cancelled:
        return Cancelled()
    if outcome.kind == "oom":
        if used < retries.count:
            return Again(_delay(retries, used), True, "out of memory")
        return Fail(Phase.FAILED, "OOMError", "it used more memory than its resources allow")
    if outcome.kind == "lost":
        if losses >= MAX_LOSSES and used < retries.count:
            return Again(_delay(retries, used), True, "its worker was lost")
        if losses >= MAX_LOSSES:
            return Fail(Phase.FAILED, outcome.error.code if outcome.error else "WorkerLostError")
        return Again(0.0, False, "its worker was lost")
    if outcome.kind == "cancelled":
        return Cancelled()
    if outcome.error is not None and not outcome.error.recoverable:
        return Fail(Phase.FAILED)
    if used < retries.count:
        return Again(_delay(retries, used), True, outcome.error.code if outcome.error else "")
    return Fail(Phase.FAILED, "RetriesExhaustedError" if retries.count else "")


def _delay(retries: RetryStrategy, used: int) -> float:
    return retries.backoff.compute_delay(used).total_seconds() if retries.backoff else 0.0
