"""Take calls, see each through its attempts, tell what happens. Runs in: engine thread (kernel), worker loop (worker).

Theory of operation. A `ActionInFlight` is an action under way. It is driven by callbacks, not by a coroutine of its own: a map of
100,000 actions would spend more on asyncio tasks than on the actions. Every step is of the form *decide, then act*
(`flyte_nb.core.control.decide`). One controller serves the kernel and one serves each worker whose actions call further ones; they
differ only in `emit` and in the executor they are given.

A flight's promise: its caller is told exactly once (`Settled`), its events end with exactly one `ActionEnded`, and that
comes only when nothing of the action executes any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from flyte_nb.core.control.calls import Call, ResumePoint, Settled
from flyte_nb.core.control.decide import Again, Cancelled, Fail, Succeed, decide
from flyte_nb.core.control.flight import ActionInFlight, Cache, Records, Ticket
from flyte_nb.core.control.questions import Home
from flyte_nb.core.control.replay import FarRetained
from flyte_nb.core.control.retained import Retained
from flyte_nb.core.control.work import Clock, Executor, Outcome, Work
from flyte_nb.core.failures.record import FailureRecord
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Attempt, ErrorNote, Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.transport.payload import Payload

#: Results up to this size are kept in the action's record (for replay when its parent is retried); larger ones stay where
#: they were made.
KEEP_OUTPUT_BYTES = 64 * 1024
#: Arguments up to this size are kept in the action's record, for `replay`, `retry` and the detail view.
KEEP_INPUT_BYTES = 64 * 1024
#: Seconds after which a call that waits for an identical one says so.
TELL_WAITING_S = 1.0


class Controller:
    """Sees actions through. Everything in it runs on one thread."""

    def __init__(
        self,
        executor: Executor,
        emit: Callable[[ev.Event], None],
        clock: Clock,
        *,
        cache: Cache | None = None,
        home: Home | None = None,
        retained: Retained | FarRetained | None = None,
    ) -> None:
        self.executor = executor
        self.emit = emit
        self.clock = clock
        self.cache = cache
        #: Where runs keep what must be known in one place: results of children, for a parent that is executed again.
        self.home = home
        #: Calls that failed and large results, for retrying by hand and for parents that are executed again.
        self.retained = retained
        #: Flights by (run, action).
        self.flights: dict[tuple[str, str], ActionInFlight] = {}
        #: Names of unfinished children by (run, parent).
        self.children: dict[tuple[str, str], dict[str, ActionInFlight]] = {}
        #: Flights held back by ``max_action_concurrency``, by (run, parent).
        self._held: dict[tuple[str, str], deque[ActionInFlight]] = {}
        self._active: dict[tuple[str, str], int] = {}

    # -- taking calls ---------------------------------------------------------------------------------------------

    def take(self, ticket: Ticket) -> None:
        """Take a submitted call."""
        if ticket.flight is None:
            ticket.flight = self.submit(ticket.call, ticket.deliver)

    def drop(self, ticket: Ticket, reason: str) -> None:
        """The caller does not wait any more: cancel."""
        if ticket.flight is None:  # cancelled before it was taken: it never existed
            ticket.flight = False
        elif ticket.flight:
            ticket.flight.settle = None
            self.cancel(ticket.flight, reason)

    def drop_all(self, tickets: list[Ticket], reason: str, then: Callable[[], None]) -> None:
        """Cancel the actions of several tickets.

        Args:
            tickets: What their caller does not wait for any more.
            reason: Why.
            then: Called when nothing of them executes any more.
        """
        for ticket in tickets:
            self.drop(ticket, reason)
        going = [ticket.flight for ticket in tickets if ticket.flight and not ticket.flight.ended]
        left = len(going)

        def one_ended() -> None:
            nonlocal left
            left -= 1
            if not left:
                then()

        for flight in going:
            flight.on_end = one_ended
        if not going:
            then()

    def submit(self, call: Call, settle: Callable[[Settled], None]) -> ActionInFlight:
        """Start an action.

        Args:
            call: What to run.
            settle: Told once what came of it.
        """
        flight = ActionInFlight(call, settle)
        if call.record is not None and not isinstance(call.record, ResumePoint) and not call.run.recovers:
            # An earlier attempt of its parent got the result in this run: it stands there as it was.
            flight.ended, flight.settle = True, None
            settle(Settled("ok", call, call.record))
            return flight
        run = call.run.name
        config = call.task.config
        self.emit(
            ev.ActionQueued(
                run,
                call.name,
                call.parent,
                call.task.name,
                call.label,
                call.group,
                self.clock.time(),
                call.kind,
                config.retries.count + 1,
                _small(call.payload, KEEP_INPUT_BYTES),
            )
        )
        self.flights[run, call.name] = flight
        siblings = self.children.get((run, call.parent))
        if siblings is None:
            siblings = self.children[run, call.parent] = {}
        siblings[call.name] = flight
        if isinstance(call.record, ResumePoint):
            # A failed child of a parent that is executed again: it goes on where its last life ended.
            flight.seq, flight.attempt, error = call.record
            self._note(flight, Phase.QUEUED, "")
            if error is not None:  # its owner ended with it, and did not hear
                self._attempt_ended(flight, Outcome(run, call.name, flight.attempt - 1, "oom", error=error))
                return flight
        elif call.record is not None:
            self._end(flight, Phase.RECOVERED, Settled("ok", call, call.record), output=call.record)
            return flight
        if self.retained is not None:
            if call.kind == "root":
                self.retained.keep_call(call)
            if call.custom:
                self.retained.keep_custom(call)
        self._set_out(flight)
        return flight

    def resubmit(self, call: Call, settle: Callable[[Settled], None], *, lived: ResumePoint) -> ActionInFlight:
        """Start an action that has ended once more, under its name.

        Args:
            call: What to run, with the task to run it with.
            settle: Told once what came of it.
            lived: Where its last life ended.
        """
        flight = ActionInFlight(call, settle)
        flight.seq, flight.attempt, _ = lived
        self.flights[call.run.name, call.name] = flight
        self.children.setdefault((call.run.name, call.parent), {})[call.name] = flight
        self._note(flight, Phase.QUEUED, "retried by hand")
        self._set_out(flight)
        return flight

    def _set_out(self, flight: ActionInFlight) -> None:
        call = flight.call
        timeout = call.task.config.timeout
        if timeout.deadline_s is not None:
            late = "ConditionTimedoutError" if call.kind == "condition" else "DeadlineExceededError"
            flight.deadline = self.clock.call_later(timeout.deadline_s, lambda: self._expire(flight, late))
        if call.kind == "condition":  # a person decides: `resolve`
            flight.paused = Fail(Phase.FAILED, "ConditionFailedError", "it was ended without an answer")
            self._note(flight, Phase.PAUSED, "")
            return
        cache = self._cache_for(call)
        if cache is None or call.run.overwrite_cache:
            self._admit(flight)
        else:
            flight.looking = True
            cache.look_up(call, lambda hit: self._looked_up(flight, hit))
            if flight.looking and call.task.config.cache.serialize:
                flight.timer = self.clock.call_later(TELL_WAITING_S, lambda: self._waits_for_another(flight))

    def _waits_for_another(self, flight: ActionInFlight) -> None:
        flight.timer = None
        if flight.looking and not flight.ended:
            self._note(flight, Phase.QUEUED, "an identical call is executing (serialize=True): waits for its result")

    def _cache_for(self, call: Call) -> Cache | None:
        """The cache, if this call takes part in it."""
        return self.cache if call.cache_key else None

    def _looked_up(self, flight: ActionInFlight, hit: Payload | None) -> None:
        flight.looking = False
        if flight.timer is not None:
            flight.timer.cancel()
            flight.timer = None
        if flight.ended:
            if hit is None:
                self._give_up_cache(flight)
            return
        if hit is not None:
            self._end(flight, Phase.SUCCEEDED, Settled("ok", flight.call, hit), cached=True, output=hit)
        elif flight.cancel_reason:
            self._cancelled(flight)
        else:
            if flight.seq:  # what it waited for has come to nothing
                self._note(flight, Phase.QUEUED, "")
            self._admit(flight)

    def _admit(self, flight: ActionInFlight) -> None:
        limit = flight.call.run.max_action_concurrency
        if limit:
            key = (flight.call.run.name, flight.call.parent)
            if self._active.get(key, 0) >= limit:
                self._held.setdefault(key, deque()).append(flight)
                return
            self._active[key] = self._active.get(key, 0) + 1
            flight.admitted = True
        self._execute(flight)

    def _release(self, flight: ActionInFlight) -> None:
        key = (flight.call.run.name, flight.call.parent)
        held = self._held.get(key)
        if not flight.admitted:
            if held and flight in held:
                held.remove(flight)
            return
        self._active[key] -= 1
        while held and self._active[key] < flight.call.run.max_action_concurrency:
            self._active[key] += 1
            following = held.popleft()
            following.admitted = True
            self._execute(following)
        if not held:
            self._held.pop(key, None)
        if not self._active[key]:
            del self._active[key]

    # -- attempts -------------------------------------------------------------------------------------------------

    def _execute(self, flight: ActionInFlight) -> None:
        call = flight.call
        again = flight.attempt > 0 or isinstance(call.record, ResumePoint)
        if self.home is not None and (again or call.run.recovers):
            # Children that completed are not done again: the attempt is given their results.
            self.home.ask(
                call.run, "records", (call.name, again), lambda records: self._recalled(flight, records or ())
            )
        else:
            self._start(flight, ())

    def _recalled(self, flight: ActionInFlight, records: Records) -> None:
        if flight.ended:
            return
        if flight.cancel_reason:
            self._cancelled(flight)
        else:
            self._start(flight, records)

    def _start(self, flight: ActionInFlight, records: Records) -> None:
        call, timeout = flight.call, flight.call.task.config.timeout
        work = flight.work = Work(
            call.run.name, call.name, flight.attempt, call.payload, call.label, call.group, call.custom,
            timeout.runtime_s or 0.0, records, call.parent, call.run.on_failure,
        )  # fmt: skip
        flight.attempt += 1
        if timeout.queued_s is not None:
            flight.timer = self.clock.call_later(timeout.queued_s, lambda: self._queued_too_long(flight, work))
        self.executor.start(call.task, call.run, work, lambda outcome: self._attempt_ended(flight, outcome))

    def started(self, run: str, action: str) -> None:
        """An attempt's body has begun (told only where a ``max_queued_time`` depends on it)."""
        flight = self.flights.get((run, action))
        if flight is not None and flight.timer is not None and flight.work is not None:
            flight.timer.cancel()
            flight.timer = None

    def _queued_too_long(self, flight: ActionInFlight, work: Work) -> None:
        if flight.work is work and not flight.ended:
            flight.overdue = "MaxQueuedTimeExceededError"
            self.executor.cancel(work, "it waited longer than max_queued_time")

    def _expire(self, flight: ActionInFlight, code: str) -> None:
        if flight.ended:
            return
        flight.overdue = code
        if flight.work is not None:
            self.executor.cancel(flight.work, "its deadline passed")
        else:  # backing off, held back, or parked
            self._fail(flight, Fail(Phase.TIMED_OUT, code, "its deadline passed"), None)

    def _attempt_ended(self, flight: ActionInFlight, outcome: Outcome) -> None:
        if flight.ended:
            return
        flight.work = None
        flight.attempted = outcome
        if flight.timer is not None:
            flight.timer.cancel()
            flight.timer = None
        if outcome.started_at:
            flight.untold = Attempt(
                outcome.attempt, outcome.started_at, outcome.ended_at, *outcome.location,
                outcome.ended_at - outcome.started_at, outcome.kind == "ok", outcome.error,
            )  # fmt: skip
        if outcome.kind == "lost":
            flight.losses += 1
        config = flight.call.task.config
        decision = decide(
            outcome, config.retries, flight.used, flight.losses, cancelled=bool(flight.cancel_reason),
            overdue=flight.overdue,
        )  # fmt: skip
        if flight.overdue == "MaxQueuedTimeExceededError":
            flight.overdue = ""
        match decision:
            case Succeed():
                self._succeed(flight, outcome)
            case Again():
                self._again(flight, decision)
            case Fail():
                self._fail(flight, decision, outcome)
            case Cancelled():
                self._cancelled(flight)

    def _succeed(self, flight: ActionInFlight, outcome: Outcome) -> None:
        payload = outcome.value
        assert payload is not None
        cache = self._cache_for(flight.call)
        if cache is not None:
            cache.keep(flight.call, payload)
        self._end(flight, Phase.SUCCEEDED, Settled("ok", flight.call, payload), output=payload, preview=outcome.preview)

    def _again(self, flight: ActionInFlight, decision: Again) -> None:
        flight.used += decision.counts
        note = f"retrying in {decision.after:.1f} s" if decision.after else "retrying"
        if decision.note:
            note += f" ({decision.note})"
        self._note(flight, Phase.QUEUED, note)
        if decision.after > 0:
            flight.timer = self.clock.call_later(decision.after, lambda: self._backed_off(flight))
        else:
            self._execute(flight)

    def _backed_off(self, flight: ActionInFlight) -> None:
        flight.timer = None
        if not flight.ended:
            self._execute(flight)

    def _fail(self, flight: ActionInFlight, decision: Fail, outcome: Outcome | None) -> None:
        error = outcome.error if outcome else None
        if decision.phase is Phase.FAILED and flight.call.run.on_failure == "pause" and _parks(flight, error):
            flight.paused = decision
            self._step_aside(flight)
            self._note(
                flight, Phase.PAUSED, f"{error.code}: {error.message[:200]}" if error else "failed", flight.attempt - 1
            )
            return
        self._give_up_cache(flight)
        if error is None or decision.phase is Phase.TIMED_OUT:
            text = f"{flight.call.label}: {decision.message}" if decision.message else flight.call.label
            error = ErrorNote("user", decision.code or "RuntimeUserError", text)
        settled = Settled("error", flight.call, error=error, code=decision.code)
        self._end(flight, decision.phase, settled, error=error)

    def _cancelled(self, flight: ActionInFlight) -> None:
        self._give_up_cache(flight)
        self._end(flight, Phase.ABORTED, Settled("cancelled", flight.call, message=flight.cancel_reason or "cancelled"))

    def _give_up_cache(self, flight: ActionInFlight) -> None:
        cache = self._cache_for(flight.call)
        if cache is not None:
            cache.give_up(flight.call)

    # -- parked actions -------------------------------------------------------------------------------------------

    def _step_aside(self, flight: ActionInFlight) -> None:
        """A parked action does not count against its parent's ``max_action_concurrency``: its siblings go on."""
        if flight.admitted:
            self._release(flight)
            flight.admitted = False

    def note(self, run: str, action: str, phase: Phase, note: str) -> None:
        """Tell what an action does now, as its worker says: it stands at a breakpoint, say."""
        flight = self.flights.get((run, action))
        if flight is not None and flight.work is not None and not flight.cancel_reason:
            self._note(flight, phase, note, flight.attempt - 1)

    def resolve(
        self, run: str, action: str, op: str, payload: Payload | None = None, task: Any = None,
        renewed: RunInfo | None = None,
    ) -> bool:  # fmt: skip
        """Decide over a parked action.

        Args:
            run: Its run.
            action: Its name.
            op: "retry" (with `task` if given, the redefined one), "resume" (with `payload` as its result) or "raise".
            payload: The result to resume with.
            task: What to retry with; None for the code it had.
            renewed: The run as a retried action is to know it; None: as before.

        Returns:
            Whether such an action was parked here.
        """
        flight = self.flights.get((run, action))
        if flight is None or flight.paused is None:
            return False
        decision, flight.paused = flight.paused, None
        if op == "retry":
            if task is not None:
                self._give_up_cache(flight)
            flight.call.task, flight.call.run = task or flight.call.task, renewed or flight.call.run
            self._note(flight, Phase.QUEUED, "retried by hand")
            self._admit(flight)
            return True
        self._give_up_cache(flight)
        if op == "resume":
            assert payload is not None
            self._end(flight, Phase.SUCCEEDED, Settled("ok", flight.call, payload), output=payload)
        else:
            error = flight.attempted.error if flight.attempted else None
            settled = Settled("error", flight.call, error=error, code=decision.code)
            self._end(flight, decision.phase, settled, error=error)
        return True

    # -- cancelling -----------------------------------------------------------------------------------------------

    def cancel(self, flight: ActionInFlight, reason: str) -> None:
        """Have an action end early; it ends ABORTED once its worker confirmed."""
        if flight.ended or flight.cancel_reason:
            return
        flight.cancel_reason = reason or "cancelled"
        if flight.settle is not None:
            settle, flight.settle = flight.settle, None
            settle(Settled("cancelled", flight.call, message=reason))
        if flight.work is None:  # backing off, held back, parked, or looking into the cache
            if flight.paused is not None or flight.timer is not None or flight.looking or self._is_held(flight):
                self._cancelled(flight)
            return
        self._note(flight, Phase.CANCELLING, reason, flight.attempt - 1)
        self.executor.cancel(flight.work, reason)

    def abort(self, run: str, action: str, reason: str) -> bool:
        """Cancel from outside: the awaiting parent gets `errors.ActionAbortedError`. Returns whether it was found."""
        flight = self.flights.get((run, action))
        if flight is None or flight.ended:
            return False
        if flight.settle is not None:
            settle, flight.settle = flight.settle, None
            settle(Settled("aborted", flight.call, message=reason))
        self.cancel(flight, reason)
        return True

    def close_parent(self, run: str, parent: str, reason: str) -> list[ActionInFlight]:
        """Cancel the unfinished children of an action that has ended; returns those that were still going."""
        orphans = [f for f in self.children.get((run, parent), {}).values() if not f.cancel_reason]
        for flight in orphans:
            self.cancel(flight, reason)
        return orphans

    def cancel_run(self, run: str, reason: str) -> None:
        """Cancel every action of a run that this controller sees through."""
        for flight in self.unfinished(run):
            self.cancel(flight, reason)

    def unfinished(self, run: str) -> list[ActionInFlight]:
        """Flights of a run that have not ended."""
        return [f for (name, _), f in self.flights.items() if name == run]

    def _is_held(self, flight: ActionInFlight) -> bool:
        return any(flight in held for held in self._held.values())

    # -- telling --------------------------------------------------------------------------------------------------

    def _note(self, flight: ActionInFlight, phase: Phase, note: str, attempt: int | None = None) -> None:
        flight.seq += 1
        call = flight.call
        if flight.untold is not None:
            number, started, ended, worker, pid, slot, busy, ok, error = flight.untold
            flight.untold = None
            self.emit(
                ev.AttemptEnded(
                    call.run.name,
                    call.name,
                    number,
                    started or 0.0,
                    ended or 0.0,
                    bool(ok),
                    worker,
                    pid,
                    slot,
                    busy,
                    error,
                )
            )
        number = flight.attempt if attempt is None else attempt
        self.emit(ev.ActionNoted(call.run.name, call.name, flight.seq, phase, self.clock.time(), note, number))

    def _end(
        self, flight: ActionInFlight, phase: Phase, settled: Settled, *, error: ErrorNote | None = None, cached: bool = False,
        output: Payload | None = None, preview: str = "",
    ) -> None:  # fmt: skip
        flight.ended = True
        flight.seq += 1
        call = flight.call
        run = call.run.name
        for handle in (flight.timer, flight.deadline):
            if handle is not None:
                handle.cancel()
        self.emit(
            ev.ActionEnded(
                run,
                call.name,
                flight.seq,
                phase,
                self.clock.time(),
                error,
                cached,
                _small(output, KEEP_OUTPUT_BYTES),
                preview,
                flight.untold,
            )
        )
        if self.retained is not None:
            self._keep(call, phase, output)
        del self.flights[run, call.name]
        siblings = self.children[run, call.parent]
        del siblings[call.name]
        if not siblings:
            del self.children[run, call.parent]
        if call.run.max_action_concurrency:
            self._release(flight)
        if flight.settle is not None:
            settle, flight.settle = flight.settle, None
            settle(settled)
        if flight.on_end is not None:
            flight.on_end()

    def _keep(self, call: Call, phase: Phase, output: Payload | None) -> None:
        assert self.retained is not None
        if output is None:
            self.retained.keep_call(call)
            return
        if phase is Phase.SUCCEEDED and call.kind != "root":
            self.retained.drop_call(call)
        if _small(output, KEEP_OUTPUT_BYTES) is None:
            self.retained.keep_result(call, output)


def _parks(flight: ActionInFlight, error: ErrorNote | None) -> bool:
    """Whether a failed action is worth parking: somebody waits for it, and its error is its own.

    The error of a child that went through was parked there, and let go by somebody.
    """
    if flight.settle is None:
        return False
    return error is None or error.record is None or len(FailureRecord.loads(error.record).path) < 2


def _small(payload: Payload | None, limit: int) -> bytes | None:
    """What of a payload is kept with its action: all of it, or nothing."""
    return payload if type(payload) is bytes and len(payload) <= limit else None
