"""Fold events into actions: the only place where a phase is decided. Runs in: everywhere.

Theory of operation. An action has two kinds of author: its controller (queued, noted, ended; numbered by ``seq``) and the
workers that execute its attempts (started, ended; numbered by attempt). Their events race through different pipes, so
nothing here depends on the order of arrival: per action we keep the controller's *last* state and what is known of each
attempt, and `phase_of` is a table over the two. ``fold(shuffle(events)) == fold(events)``, numbers of arrival aside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import (
    BY_HAND,
    CONTROLLER_DECIDES,
    MAX_NOTES,
    Action,
    Attempt,
    Phase,
    Progress,
)

_QUEUED = (0, Phase.QUEUED, 0)


def phase_of(controller_state: tuple[int, Phase, int], attempt: Attempt | None) -> Phase:
    """The phase, from the controller's last state and the latest attempt."""
    _, phase, refers_to = controller_state
    if phase in CONTROLLER_DECIDES:
        return phase
    if attempt is None or attempt.number < refers_to:
        return Phase.QUEUED
    # An attempt that ended leaves its action RUNNING until the controller has decided what follows.
    return Phase.RUNNING


def _queued(action: Action, event: ev.ActionQueued) -> None:
    (_, _, action.parent, action.task, action.label, action.group, action.queued_at, action.kind,
     action.max_attempts, action.inputs, action.links) = event  # fmt: skip
    if action.controller_state[0] < 0:
        action.controller_state = _QUEUED
    action.phase = phase_of(action.controller_state, action.attempt)


def _noted(action: Action, event: ev.ActionNoted) -> None:
    note = (event.seq, event.at, event.phase, event.note == BY_HAND)
    action.notes = tuple(sorted((*action.notes, note))[-MAX_NOTES:])
    if event.seq > action.controller_state[0]:
        action.controller_state = (event.seq, event.phase, event.attempt)
        action.note = event.note
        action.phase = phase_of(action.controller_state, action.attempt)
        # It may have ended before: a retry by hand starts it again.
        action.ended_at = action.error = action.output = None
        action.cached, action.preview = False, ""


def _ended(action: Action, event: ev.ActionEnded) -> None:
    _, _, seq, phase, at, error, cached, output, preview, attempt = event
    if attempt is not None:
        _with_attempt(action, attempt)
    if seq > action.controller_state[0]:
        action.controller_state, action.phase, action.note = (seq, phase, 0), phase, ""
        action.ended_at, action.error = at, error
        action.cached, action.output, action.preview = cached, output, preview


def _started(action: Action, event: ev.AttemptStarted) -> None:
    _, _, number, at, worker, pid, slot = event
    _with_attempt(action, Attempt(number, at, None, worker, pid, slot))


def _attempt_ended(action: Action, event: ev.AttemptEnded) -> None:
    _, _, number, started_at, at, ok, worker, pid, slot, busy, error, used = event
    _with_attempt(action, Attempt(number, started_at, at, worker, pid, slot, busy, ok, error, used))


def _progressed(action: Action, event: ev.Progressed) -> None:
    if action.progress is None or event[2:4] > action.progress[:2]:
        action.progress = Progress(*event[2:])


def _with_attempt(action: Action, new: Attempt) -> None:
    latest = action.attempt
    if latest is None:
        action.attempt = new
        action.started_at = new.started_at
    elif new.number == latest.number:
        action.attempt = _fuller(latest, new)
    else:
        known = {a.number: a for a in (*action.earlier, latest)}
        known[new.number] = _fuller(known[new.number], new) if new.number in known else new
        *earlier, action.attempt = (known[n] for n in sorted(known))
        action.earlier = tuple(earlier)
        action.started_at = earlier[0].started_at
    action.phase = phase_of(action.controller_state, action.attempt)


def _fuller(a: Attempt, b: Attempt) -> Attempt:
    """Of two reports on one attempt, the one that knows its end."""
    return a if a.ok is not None else b


_FOLDS: dict[type, Callable[[Action, Any], None]] = {
    ev.ActionQueued: _queued,
    ev.ActionNoted: _noted,
    ev.ActionEnded: _ended,
    ev.AttemptStarted: _started,
    ev.AttemptEnded: _attempt_ended,
    ev.Progressed: _progressed,
}


def fold(action: Action | None, event: ev.Event) -> Action:
    """Fold an event into an action, in place.

    Args:
        action: The action so far, None if unheard of.
        event: One of the action events; order of arrival does not matter.

    Returns:
        `action`, or a new one if there was none.

    Raises:
        KeyError: The event is not about an action's state.
    """
    if action is None:
        # Number -1: not yet shown, as long as only a worker's events of it have arrived.
        action = Action(event.run, event.action, -1, "", "", "", "", "task", Phase.QUEUED, 0.0)  # type: ignore[union-attr]
    _FOLDS[type(event)](action, event)
    return action
