"""Controller: take calls and drive each action through its attempts to its end. Runs in: engine thread, worker loop.

Theory of operation. An `ActionInFlight` is driven by callbacks, not by a coroutine of its own: a map of 100,000 actions would
spend more on asyncio tasks than on the actions. Every step is of the form *decide, then act* (`flyte_nb.core.control.decide`).
One controller serves the kernel and one serves each worker whose actions call further ones; they differ only in `emit` and in
the executor they are given. Transitions are here; `Admission` holds actions back, `Reporter` publishes what is decided.

Invariant of an action in flight: its caller is settled exactly once (`Settled`), its events end with exactly one `ActionEnded`,
and that comes only when nothing of the action executes any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from flyte_nb.core.control.admission import Admission
from flyte_nb.core.control.calls import Call, ResumePoint, Settled
from flyte_nb.core.control.decide import BLAME, Again, Cancelled, Fail, Succeed, decide, may_park
from flyte_nb.core.control.flight import ActionInFlight, Cache, Deliver, Ticket
from flyte_nb.core.control.questions import Home
from flyte_nb.core.control.reporter import Reporter
from flyte_nb.core.control.retained import Retains
from flyte_nb.core.control.rows import NAMED, Batches, Rows
from flyte_nb.core.control.work import Clock, Executor, Outcome, Records, Work
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.columns import preview_of
from flyte_nb.core.history.facts import BY_HAND, ErrorNote, Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.transport.payload import Payload, small

#: How an attempt ended that was lost with its owner, by the code of its error; "lost" for any other.
KIND_OF = {"OOMError": "oom", "MaxRuntimeExceededError": "timeout"}
#: Seconds after which a call that waits for an identical one notes so.
NOTE_WAITING_S = 1.0


class Controller:
    """Drives actions to their end. Everything in it runs on one thread."""

    def __init__(
        self, executor: Executor, emit: Callable[[ev.Event], None], clock: Clock, *, cache: Cache | None = None,
        home: Home | None = None, retained: Retains | None = None,
    ) -> None:  # fmt: skip
        self.executor = executor
        self.emit = emit
        self.clock = clock
        #: Seconds since the epoch.
        self.now: Callable[[], float] = clock.time
        self.cache = cache
        #: Where runs keep what must be known in one place: results of children, for a parent that is executed again.
        self.home = home
        #: Failed calls and large results, for retries by hand and for parents that are executed again.
        self.retained = retained
        #: Actions in flight by (run, action).
        self.flights: dict[tuple[str, str], ActionInFlight] = {}
        #: The same by (run, parent), then by name.
        self.children: dict[tuple[str, str], dict[str, ActionInFlight]] = {}
        self.reporter: Reporter = Reporter(emit, clock)
        self.admission: Admission = Admission(self._execute)
        #: Actions that are no flights of their own.
        self.batches: Batches = Batches(self)

    def __repr__(self) -> str:
        parked = sum(flight.paused is not None for flight in self.flights.values())
        return f"<Controller [{len(self.flights)} in flight, {len(self.admission)} held, {parked} parked]>"

    # -- taking calls ---------------------------------------------------------------------------------------------

    def take(self, ticket: Ticket) -> None:
        """Take a submitted call."""
        if ticket.flight is not None:
            return
        call = ticket.call
        if isinstance(call.record, ResumePoint) and (old := self.flights.get((call.run.name, call.name))) is not None:
            self._take_after(old, ticket, call.record)
        else:
            ticket.flight = self.submit(call, ticket.deliver)

    def _take_after(self, old: ActionInFlight, ticket: Ticket, point: ResumePoint) -> None:
        """Take a call once its action, which an earlier attempt of its parent has left, has ended."""
        then = old.on_end

        def ended() -> None:
            if then is not None:
                then()
            ticket.call.record = point._replace(seq=old.seq, attempts=old.attempt)
            self.take(ticket)

        old.on_end = ended

    def drop(self, ticket: Ticket, reason: str) -> None:
        """Cancel the action of a ticket; its result is not delivered any more."""
        if ticket.flight is None:  # cancelled before it was taken: it never existed
            ticket.flight = False
        elif ticket.flight:
            ticket.flight.deliver = None
            self.cancel(ticket.flight, reason)

    def drop_all(
        self, tickets: list[Ticket], reason: str, then: Callable[[], None], batches: Iterable[Rows] = ()
    ) -> None:
        """Cancel the actions of several tickets, and rows; `then` is called when nothing of them executes any more."""
        for ticket in tickets:
            self.drop(ticket, reason)
        for rows in batches:
            self.batches.drop(rows, reason)
        going: list[ActionInFlight | Rows] = [
            ticket.flight for ticket in tickets if ticket.flight and not ticket.flight.ended
        ]
        going += [rows for rows in batches if rows.left]
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

    def submit(self, call: Call, deliver: Deliver) -> ActionInFlight:
        """Start an action; `deliver` is called once with how it was settled."""
        flight = ActionInFlight(call, deliver, self.cache)
        record = call.record
        if record is not None and not isinstance(record, ResumePoint) and not call.run.recovers:
            # An earlier attempt of its parent got the result in this run, where its events are: nothing to publish.
            flight.ended = True
            flight.settle(Settled("ok", call, record))
            return flight
        self.reporter.queued(flight)
        self._register(flight)
        if isinstance(record, ResumePoint):  # a failed child of a parent that is executed again
            flight.seq, flight.attempt, error, flight.losses = record
            self.reporter.noted(flight, Phase.QUEUED, "")
            if error is not None:  # its owner was lost with it, and did not decide
                kind = KIND_OF.get(error.code, "lost")
                self._attempt_ended(flight, Outcome(call.run.name, call.name, flight.attempt - 1, kind, error=error))
                return flight
        elif record is not None:
            self._end(flight, Phase.RECOVERED, Settled("ok", call, record), output=record, preview=_said(record))
            return flight
        if self.retained is not None:
            self.retained.began(call)
        self._begin(flight)
        return flight

    def adopt(self, call: Call, deliver: Deliver) -> tuple[ActionInFlight, Work, Callable[[Outcome], None]]:
        """Drive an action whose first attempt is under way: it was a row. What the executor needs of it comes with it."""
        flight = ActionInFlight(call, deliver)
        self._register(flight)
        work = flight.work = self._work(flight, ())
        flight.attempt = 1
        return flight, work, lambda outcome: self._attempt_ended(flight, outcome)

    def _register(self, flight: ActionInFlight) -> None:
        call = flight.call
        self.flights[call.run.name, call.name] = flight
        siblings = self.children.get((call.run.name, call.parent))
        if siblings is None:
            siblings = self.children[call.run.name, call.parent] = {}
        siblings[call.name] = flight

    def resubmit(self, call: Call, deliver: Deliver, *, point: ResumePoint) -> ActionInFlight:
        """Execute an ended action again, under its name, from `point` on; `deliver` is called once with how it was settled."""
        call.stream = None  # who iterated over it has gone
        flight = ActionInFlight(call, deliver, self.cache)
        flight.seq, flight.attempt = point[:2]
        flight.called_nothing = False
        self._register(flight)
        self.reporter.noted(flight, Phase.QUEUED, BY_HAND)
        self._begin(flight)
        return flight

    # -- attempts -------------------------------------------------------------------------------------------------

    def _begin(self, flight: ActionInFlight) -> None:
        call = flight.call
        timeout = call.task.config.timeout
        if timeout.deadline_s is not None:
            late = "ConditionTimedoutError" if call.kind == "condition" else "DeadlineExceededError"
            flight.deadline = self.clock.call_later(timeout.deadline_s, lambda: self._expire(flight, late))
        if call.kind == "condition":  # a person decides: `resolve`
            flight.paused = Fail(Phase.FAILED, "ConditionFailedError", "it was ended without an answer")
            self.reporter.noted(flight, Phase.PAUSED, "")
        elif flight.cache is None or call.run.overwrite_cache:
            self.admission.admit(flight)
        else:
            flight.looking = True
            flight.cache.look_up(call, lambda hit: self._looked_up(flight, hit))
            if flight.looking and call.task.config.cache.serialize:
                waits = "an identical call is executing (serialize=True): waits for its result"
                flight.timer = self.clock.call_later(
                    NOTE_WAITING_S, lambda: self.reporter.noted(flight, Phase.QUEUED, waits)
                )

    def _looked_up(self, flight: ActionInFlight, hit: Payload | None) -> None:
        flight.looking = False
        flight.stop_timer()
        if flight.ended:
            if hit is None:
                flight.give_up_cache()
        elif hit is not None:
            settled = Settled("ok", flight.call, hit)
            self._end(flight, Phase.SUCCEEDED, settled, cached=True, output=hit, preview=_said(hit))
        elif flight.cancel_reason:
            self._cancelled(flight)
        else:
            if flight.seq:  # the identical call ended without a result
                self.reporter.noted(flight, Phase.QUEUED, "")
            self.admission.admit(flight)

    def _execute(self, flight: ActionInFlight) -> None:
        call = flight.call
        before = flight.attempt > 0 or isinstance(call.record, ResumePoint)
        again = before and not flight.called_nothing
        if self.home is None or not (again or call.run.recovers):
            self._start(flight, ())
            return

        def replay(records: Records | None) -> None:
            if flight.ended:
                return
            if flight.cancel_reason:
                self._cancelled(flight)
            else:
                self._start(flight, records or ())

        # Children that completed are not executed again: the attempt is given their results.
        self.home.ask(call.run, "records", (call.name, again), replay)

    def _work(self, flight: ActionInFlight, records: Records) -> Work:
        call = flight.call
        return Work(
            call.run.name, call.name, flight.attempt, call.payload, call.label, call.group, call.custom,
            call.task.config.timeout.runtime_s or 0.0, records, call.parent, call.run.on_failure,
            call.code.id if call.code is not None else "",
        )  # fmt: skip

    def _start(self, flight: ActionInFlight, records: Records) -> None:
        call, timeout = flight.call, flight.call.task.config.timeout
        work = flight.work = self._work(flight, records)
        flight.attempt += 1

        def queued_too_long() -> None:
            flight.overdue = "MaxQueuedTimeExceededError"
            self.executor.cancel(work, "it waited longer than max_queued_time")

        if timeout.queued_s is not None:
            flight.timer = self.clock.call_later(timeout.queued_s, queued_too_long)
        self.executor.start(call.task, call.run, work, lambda outcome: self._attempt_ended(flight, outcome), call.code)

    def started(self, run: str, action: str) -> None:
        """Stop the queue timer: an attempt's body has begun (reported only where a ``max_queued_time`` depends on it)."""
        flight = self.flights.get((run, action))
        if flight is not None and flight.work is not None:
            flight.stop_timer()

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
        flight.called_nothing = flight.called_nothing and outcome.called_nothing
        flight.stop_timer()
        self.reporter.attempt_ended(flight, outcome)
        if outcome.kind in BLAME:  # one that awaited others, or that was beside the cause, was not at its end
            flight.losses = flight.losses + BLAME[outcome.kind] if BLAME[outcome.kind] else 0.0
        decision = decide(
            outcome, flight.call.task.config.retries, flight.used, flight.losses, cancelled=bool(flight.cancel_reason),
            overdue=flight.overdue,
        )  # fmt: skip
        if flight.overdue == "MaxQueuedTimeExceededError":
            flight.overdue = ""
        match decision:
            case Succeed():
                stream = flight.call.stream
                payload = outcome.value if stream is None else stream.record()
                if payload is None:
                    flight.give_up_cache()
                elif flight.cache is not None:
                    flight.cache.keep(flight.call, payload)
                settled = Settled("ok", flight.call, payload)
                self._end(flight, Phase.SUCCEEDED, settled, output=payload, preview=outcome.preview)
            case Again():
                self._again(flight, decision)
            case Fail():
                self._fail(flight, decision, outcome)
            case Cancelled():
                self._cancelled(flight)

    def _again(self, flight: ActionInFlight, decision: Again) -> None:
        flight.used += decision.counts
        note = f"retrying in {decision.after:.1f} s" if decision.after else "retrying"
        if decision.note:
            note += f" ({decision.note})"
        self.reporter.noted(flight, Phase.QUEUED, note)
        if decision.after <= 0:
            self._execute(flight)
            return

        def backed_off() -> None:
            flight.timer = None
            self._execute(flight)

        flight.timer = self.clock.call_later(decision.after, backed_off)

    def _fail(self, flight: ActionInFlight, decision: Fail, outcome: Outcome | None) -> None:
        call, error = flight.call, outcome.error if outcome else None
        parkable = decision.phase is Phase.FAILED and call.run.on_failure == "pause" and flight.deliver is not None
        if parkable and may_park(error):
            flight.paused = decision
            self.admission.release(flight)  # lets its siblings execute
            note = f"{error.code}: {error.message[:200]}" if error else "failed"
            self.reporter.noted(flight, Phase.PAUSED, note, flight.attempt - 1)
            return
        flight.give_up_cache()
        if error is None or decision.phase is Phase.TIMED_OUT:
            text = f"{call.label}: {decision.message}" if decision.message else call.label
            error = ErrorNote("user", decision.code or "RuntimeUserError", text)
        self._end(flight, decision.phase, Settled("error", call, error=error, code=decision.code), error=error)

    def _cancelled(self, flight: ActionInFlight) -> None:
        flight.give_up_cache()
        self._end(flight, Phase.ABORTED, Settled("cancelled", flight.call, message=flight.cancel_reason or "cancelled"))

    def _end(
        self, flight: ActionInFlight, phase: Phase, settled: Settled, *, error: ErrorNote | None = None, cached: bool = False,
        output: Payload | None = None, preview: str = "",
    ) -> None:  # fmt: skip
        flight.ended = True
        call = flight.call
        run = call.run.name
        flight.stop_timer()
        if flight.deadline is not None:
            flight.deadline.cancel()
        recorded = small(output)
        self.reporter.ended(flight, phase, error, cached, recorded, preview)
        if self.retained is not None:
            self.retained.ended(call, phase, output, recorded is None)
        del self.flights[run, call.name]
        siblings = self.children[run, call.parent]
        del siblings[call.name]
        if not siblings:
            del self.children[run, call.parent]
        if call.run.max_action_concurrency:
            self.admission.release(flight)
        call.code = None  # a call that is kept for a retry by hand must not keep the large globals of its moment
        flight.settle(settled)
        on_end, flight.on_end = flight.on_end, None  # of a row, it leads back here
        if on_end is not None:
            on_end()

    # -- asked from outside ---------------------------------------------------------------------------------------

    def note(self, run: str, action: str, phase: Phase, note: str) -> None:
        """Publish what a running action does now, as its worker reports it: it waits at a breakpoint, say."""
        flight = self.flights.get((run, action)) or self.batches.find(run, action)
        if flight is not None and flight.work is not None and not flight.cancel_reason:
            self.reporter.noted(flight, phase, note, flight.attempt - 1)

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
        call = flight.call
        if op == "retry":
            if task is not None:
                flight.give_up_cache()
                call.replace_task(task)
                flight.cache = self.cache if call.cache_key else None
            # What its block (`on_failure`) says of failures holds for the retry, too.
            call.run = replace(renewed, on_failure=call.run.on_failure) if renewed is not None else call.run
            self.reporter.noted(flight, Phase.QUEUED, BY_HAND)
            self.admission.admit(flight)
            return True
        flight.give_up_cache()
        if op == "resume":
            assert payload is not None
            self._end(flight, Phase.SUCCEEDED, Settled("ok", call, payload), output=payload, preview=_said(payload))
        else:
            error = flight.attempted.error if flight.attempted else None
            self._end(flight, decision.phase, Settled("error", call, error=error, code=decision.code), error=error)
        return True

    def cancel(self, flight: ActionInFlight, reason: str) -> None:
        """Have an action end early; it ends ABORTED once its worker confirmed."""
        if flight.ended or flight.cancel_reason:
            return
        flight.cancel_reason = reason or "cancelled"
        flight.settle(Settled("cancelled", flight.call, message=reason))
        if flight.work is not None:
            self.reporter.noted(flight, Phase.CANCELLING, reason, flight.attempt - 1)
            self.executor.cancel(flight.work, reason)
        elif flight.paused is not None or flight.timer is not None or flight.looking or self.admission.holds(flight):
            self._cancelled(flight)
        # Else results of its children are being fetched: it ends when they come.

    def abort(self, run: str, action: str, reason: str) -> bool:
        """Cancel from outside: the awaiting parent gets `errors.ActionAbortedError`. Returns whether it was found."""
        flight = self.flights.get((run, action)) or self.batches.find(run, action)
        if flight is None or flight.ended:
            return False
        flight.settle(Settled("aborted", flight.call, message=reason))
        self.cancel(flight, reason)
        return True

    def close_parent(self, run: str, parent: str, reason: str) -> tuple[int, list[str]]:
        """Cancel the unfinished children of an action that has ended.

        Returns:
            How many were not being cancelled, and the labels of some.
        """
        # (A stream that its consumer has left ends by itself.)
        orphans = [
            f
            for f in self.children.get((run, parent), {}).values()
            if not (f.cancel_reason or (f.call.stream is not None and f.call.stream.closed))
        ]
        count, labels = self.batches.unfinished(run, parent)
        for flight in orphans:
            self.cancel(flight, reason)
        self.batches.cancel_run(run, reason, parent=parent)
        return count + len(orphans), [flight.call.label for flight in orphans[:NAMED]] + labels

    def cancel_run(self, run: str, reason: str) -> None:
        """Cancel every action of a run that is in flight here."""
        self.batches.cancel_run(run, reason)
        for flight in self.unfinished(run):
            self.cancel(flight, reason)

    def is_busy(self, run: str) -> bool:
        """Whether an action of a run is in flight here."""
        return any(name == run for name, _ in self.flights) or self.batches.is_busy(run)

    def parents(self) -> set[tuple[str, str]]:
        """Runs and actions that await others of which one is in flight here."""
        return {*self.children, *((rows.run.name, rows.parent) for rows in self.batches.by_number.values())}

    def unfinished(self, run: str) -> list[ActionInFlight]:
        """Actions of a run that are in flight here, rows aside."""
        return [f for (name, _), f in self.flights.items() if name == run]


def _said(payload: Payload) -> str:
    """A bounded text of a result that no attempt has described: of plain values."""
    return preview_of(payload) if isinstance(payload, bytes) else ""
