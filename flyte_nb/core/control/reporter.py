"""Reporter: publish what a controller decides as events, numbered per action. Runs in: controller's thread."""

from __future__ import annotations

from collections.abc import Callable

from flyte_nb.core.control.flight import ActionInFlight
from flyte_nb.core.control.work import Clock, Outcome
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Attempt, ErrorNote, Phase
from flyte_nb.core.transport.payload import small


class Reporter:
    """Publishes the events of actions in flight."""

    def __init__(self, emit: Callable[[ev.Event], None], clock: Clock) -> None:
        self.emit = emit
        self._clock = clock

    def queued(self, flight: ActionInFlight) -> None:
        """An action is taken."""
        call = flight.call
        self.emit(
            ev.ActionQueued(
                call.run.name, call.name, call.parent, call.task.name, call.label, call.group, self._clock.time(), call.kind,
                call.task.config.retries.count + 1, small(call.payload), call.links,
            )
        )  # fmt: skip

    def noted(self, flight: ActionInFlight, phase: Phase, note: str, attempt: int | None = None) -> None:
        """Its phase has changed without ending it; `attempt` is the one that the phase refers to, None the next one."""
        flight.seq += 1
        run, name = flight.call.run.name, flight.call.name
        if flight.unreported is not None:
            number, started, ended, worker, pid, slot, busy, ok, error, used = flight.unreported
            flight.unreported = None
            times = (started or 0.0, ended or 0.0)
            self.emit(ev.AttemptEnded(run, name, number, *times, bool(ok), worker, pid, slot, busy, error, used))
        number = flight.attempt if attempt is None else attempt
        self.emit(ev.ActionNoted(run, name, flight.seq, phase, self._clock.time(), note, number))

    def attempt_ended(self, flight: ActionInFlight, outcome: Outcome) -> None:
        """An attempt has ended: reported with the event that follows, `noted` or `ended`."""
        if outcome.started_at:
            flight.unreported = Attempt(
                outcome.attempt, outcome.started_at, outcome.ended_at, *outcome.location,
                outcome.busy, outcome.kind == "ok", outcome.error, outcome.used,
            )  # fmt: skip

    def ended(
        self, flight: ActionInFlight, phase: Phase, error: ErrorNote | None, cached: bool, output: bytes | None, preview: str
    ) -> None:  # fmt: skip
        """It has ended: with an error, or with a result (given if it is small) of which `preview` is a bounded text."""
        flight.seq += 1
        call = flight.call
        self.emit(
            ev.ActionEnded(
                call.run.name, call.name, flight.seq, phase, self._clock.time(), error, cached, output, preview,
                flight.unreported,
            )
        )  # fmt: skip
