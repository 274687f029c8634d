"""An action, found again by name: `flyte.remote.Action`. Runs in: the process that started its run."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, TypeVar

from flyte_nb.core.history import report_page
from flyte_nb.core.history.as_dict import AsDict, action_dict
from flyte_nb.core.history.facts import Action as ActionFacts
from flyte_nb.core.history.facts import ErrorNote, Phase
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.runs.engine import ROOT, WATCH_EVERY
from flyte_nb.core.runs.outputs import ActionOutputs
from flyte_nb.core.runs.run import LOG_OPTIONS, Run
from flyte_nb.core.settings.validate import check_options
from flyte_nb.core.tasks.from_sync import run_coroutine
from flyte_nb.core.tasks.registry import REGISTRY, links_of
from flyte_nb.core.transport.payload import loads
from flyte_nb.core.values.aio import Dual, DualIterator
from flyte_nb.errors import ActionNotFoundError
from flyte_nb.remote.fact import Fact
from flyte_nb.remote.times import PhaseTransitionInfo, transitions_of

T = TypeVar("T")


class _Fact(Fact[ActionFacts, T]):
    """One of the facts of an action."""


class Action(AsDict):
    """One action of a run: what is known of it now, each time it is asked."""

    def __init__(self, run: Run, name: str) -> None:
        self._run = run
        #: Deterministic within its run; "a0" for the root.
        self.name = name

    # -- finding --------------------------------------------------------------------------------------------------

    @Dual
    @staticmethod
    def get(uri: str | None = None, /, run_name: str | None = None, name: str | None = None) -> Action:
        """An action, by name.

        Args:
            uri: "r3/a17", instead of both names.
            run_name: Its run.
            name: Its name, or "a17"; "a0" is the root.

        Raises:
            errors.ActionNotFoundError: There is no such run or action in this process.
        """
        if uri is not None:
            run_name, _, name = uri.rpartition("/")
        if not run_name or not name:
            raise ValueError("Action.get needs run_name= and name=, or 'r3/a17'.")
        run = Run.get(run_name)
        found = _record_of(run).find(name)
        if found is None:
            raise ActionNotFoundError(f"There is no action {name!r} in run {run_name}.")
        return Action(run, found.name)

    @DualIterator
    @staticmethod
    def listall(
        for_run_name: str, in_phase: Any = None, parent_name: str | None = None, **flytes: Any
    ) -> Iterator[Action]:
        """The actions of a run, root first, in order of arrival.

        Args:
            for_run_name: The run.
            in_phase: Only those in this phase, or one of these (`flyte.models.ActionPhase`, or their names).
            parent_name: Only children of this action.
            **flytes: Flyte's other filters, without effect here.

        Raises:
            errors.ActionNotFoundError: There is no such run in this process.
            TypeError: There is no such filter.
        """
        check_options(
            "listall", flytes, ("for_run_name", "in_phase", "parent_name"), ("created_at", "sort_by", "updated_at")
        )
        run = Run.get(for_run_name)
        record = _record_of(run)
        phases = _phases(in_phase)
        names = [
            name
            for name in list(record.numbered)
            if (phases is None or record.actions[name].phase in phases)
            and (parent_name is None or record.actions[name].parent == parent_name)
        ]
        return (Action(run, name) for name in names)

    # -- facts ----------------------------------------------------------------------------------------------------

    @property
    def facts(self) -> ActionFacts:
        """All that is known of it now."""
        return _record_of(self._run).actions[self.name]

    @property
    def run_name(self) -> str:
        """Name of its run."""
        return self._run.name

    id: _Fact[str] = _Fact(lambda facts: facts.id, 'Its short name in this kernel: "a17".')
    task_name: _Fact[str] = _Fact(lambda facts: facts.task, "Full name of its task.")
    parent_name: _Fact[str | None] = _Fact(
        lambda facts: facts.parent or None, "Name of the action that called it; None for the root."
    )
    phase: _Fact[Phase] = _Fact(lambda facts: facts.phase, "Its phase now.")
    kind: _Fact[str] = _Fact(lambda facts: facts.kind, 'What it is: "task", "trace", "condition", "sleep" or "root".')
    group: _Fact[str | None] = _Fact(lambda facts: facts.group or None, "The group it belongs to; None for none.")
    attempts: _Fact[int] = _Fact(lambda facts: facts.attempt.number + 1 if facts.attempt else 0, "Attempts so far.")
    cache_hit: _Fact[bool] = _Fact(lambda facts: facts.cached, "Whether its result came from the cache.")
    error: _Fact[ErrorNote | None] = _Fact(
        lambda facts: facts.error, "How it failed (``.code .message .kind``); None if it did not."
    )
    error_info = error
    error_message: _Fact[str] = _Fact(
        lambda facts: facts.error.message if facts.error else "", 'How it failed, in words; "" if not.'
    )
    start_time: _Fact[dt.datetime] = _Fact(
        lambda facts: dt.datetime.fromtimestamp(facts.started_at or facts.queued_at, dt.UTC),
        "When it began, or was queued; aware, UTC.",
    )

    is_running: _Fact[bool] = _Fact(lambda facts: facts.phase is Phase.RUNNING, "Whether its body runs.")
    phase_durations: _Fact[dict[Phase, dt.timedelta]] = _Fact(
        lambda facts: {each.phase: each.duration for each in transitions_of(facts)},
        "How long its latest attempt was in each phase.",
    )
    queued_time: _Fact[dt.timedelta | None] = _Fact(
        lambda facts: _time_in(facts, Phase.QUEUED), "How long its latest attempt was queued."
    )
    running_time: _Fact[dt.timedelta | None] = _Fact(
        lambda facts: _time_in(facts, Phase.RUNNING), "How long its latest attempt ran; None before it did."
    )
    waiting_for_resources_time: _Fact[dt.timedelta | None] = _Fact(
        lambda facts: _time_in(facts, Phase.WAITING_FOR_RESOURCES), "None: that counts as queued."
    )
    initializing_time: _Fact[dt.timedelta | None] = _Fact(
        lambda facts: _time_in(facts, Phase.INITIALIZING), "None: that counts as queued."
    )

    def get_phase_transitions(self, attempt: int | None = None) -> list[PhaseTransitionInfo]:
        """The phases that an attempt was in (from 1 on; None: the latest), with ``start_time end_time duration``."""
        return transitions_of(self.facts, attempt)

    def to_dict(self) -> dict[str, Any]:
        """What is known of it now, by Flyte's names: ``{"id": ..., "metadata": ..., "status": {"phase": ...}}``."""
        return action_dict(self._run.control.info, self.facts)

    @property
    def runtime(self) -> dt.timedelta:
        """How long it has taken since then, up to its end."""
        facts = self.facts
        end = facts.ended_at or self._run.control.engine.controller.now()
        return dt.timedelta(seconds=max(0.0, end - (facts.started_at or facts.queued_at)))

    @property
    def links(self) -> list[tuple[str, str]]:
        """(name, address) of the links of its task."""
        return links_of(self.facts, self._run.control.info)

    def done(self) -> bool:
        """Whether it has ended."""
        return self.phase.is_terminal

    def inputs(self) -> dict[str, Any]:
        """Its arguments by name, where they are small enough to be kept; else empty."""
        facts = self.facts
        if facts.inputs is None:
            return {}
        args, kwargs = loads(facts.inputs)
        task = REGISTRY.latest(facts.task)
        return task.interface.named(args, kwargs) if task is not None else dict(kwargs)

    def outputs(self) -> ActionOutputs:
        """Its result.

        Raises:
            RuntimeError: It has not succeeded, or its result is too large to be kept.
        """
        facts = self.facts
        if self.name == ROOT:
            return self._run.outputs()
        if facts.output is None:
            raise RuntimeError(
                f"{self.run_name}/{facts.id} {facts.label} is {facts.phase.value}: no result is kept of it."
            )
        return ActionOutputs((loads(facts.output),))

    # -- doing ----------------------------------------------------------------------------------------------------

    @Dual
    def abort(self, reason: str = "aborted") -> None:
        """Cancel it: what awaits it gets `errors.ActionAbortedError`."""
        if self.name == ROOT:
            self._run.abort(reason)
        else:
            engine = self._run.control.engine
            engine.gateway.run_soon(engine.abort_action, self.run_name, self.name, reason)

    @DualIterator
    def get_logs(self, **flytes: Any) -> list[str]:
        """What it printed, line by line. Flyte's options have no effect."""
        check_options("get_logs", flytes, LOG_OPTIONS)
        return [line.text for line in _record_of(self._run).logs.of(self.name)]

    @Dual
    def show_logs(self, **flytes: Any) -> None:
        """Print what it printed. Flyte's options have no effect."""
        check_options("show_logs", flytes, LOG_OPTIONS)
        for line in self.get_logs():
            print(line)  # noqa: T201 - what it is for

    @Dual
    def get_report(self, attempt: int | None = None) -> str:
        """Its report as one HTML page; "" if it made none."""
        return report_page.page_of(_record_of(self._run), self.name)

    async def _wait_aio(self, quiet: bool = False, wait_for: str = "terminal") -> None:
        while not (self.done() or (wait_for == "running" and self.phase is Phase.RUNNING)):  # noqa: ASYNC110 - any thread's
            await asyncio.sleep(WATCH_EVERY)

    def _wait(self, quiet: bool = False, wait_for: str = "terminal") -> None:
        """Wait until it has ended (or, with ``wait_for="running"``, begun); never raises for its failure."""
        run_coroutine(self._wait_aio(quiet, wait_for))

    wait: Dual[..., None] = Dual(_wait, _wait_aio, name="wait")

    async def watch(self, cache_data_on_done: bool = False, wait_for: str = "terminal") -> AsyncIterator[Action]:
        """The action itself, each time its phase has changed, until it has ended."""
        seen = None
        while True:
            if self.phase is not seen:
                seen = self.phase
                yield self
            if self.done():
                return
            await asyncio.sleep(WATCH_EVERY)

    def details(self) -> Action:
        """The action itself; may be awaited, as in Flyte."""
        return self

    sync = details

    def __await__(self) -> Generator[Any, None, Action]:
        yield from ()
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Action) and (self.run_name, self.name) == (other.run_name, other.name)

    def __hash__(self) -> int:
        return hash((self.run_name, self.name))

    def __repr__(self) -> str:
        return repr(self.facts)


def _record_of(run: Run) -> RunRecord:
    # A run that was just launched is known once the engine has processed it.
    control = run.control
    record = control.record or control.engine.gateway.ask(lambda: control.record)
    if record is None:
        raise ActionNotFoundError(f"{run.name} is not kept any more: a process keeps its latest runs only.")
    return record


def _time_in(facts: ActionFacts, phase: Phase) -> dt.timedelta | None:
    found = [each.duration for each in transitions_of(facts) if each.phase is phase]
    return found[-1] if found else None


def _phases(given: Any) -> set[Phase] | None:
    if given is None:
        return None
    each = [given] if isinstance(given, str) else list(given)
    return {Phase(str(phase).rpartition(".")[2].lower()) for phase in each}
