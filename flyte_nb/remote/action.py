"""An action, found again by name: `flyte.remote.Action`. Runs in: the process that started its run."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

from flyte_nb.core.history import report_page
from flyte_nb.core.history.facts import Action as _Facts
from flyte_nb.core.history.facts import ErrorNote, Phase
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.runs.engine import ROOT, WATCH_EVERY
from flyte_nb.core.runs.outputs import ActionOutputs
from flyte_nb.core.runs.run import Run
from flyte_nb.core.tasks import links
from flyte_nb.core.tasks.from_sync import run_coroutine
from flyte_nb.core.tasks.registry import REGISTRY
from flyte_nb.core.transport.payload import loads
from flyte_nb.core.values.aio import Dual, DualIterator
from flyte_nb.errors import ActionNotFoundError


class Action:
    """One action of a run: what is known of it now, each time it is asked."""

    def __init__(self, run: Run, name: str) -> None:
        self._run = run
        self._name = name

    # -- finding --------------------------------------------------------------------------------------------------

    @staticmethod
    def _get(uri: str | None = None, /, run_name: str | None = None, name: str | None = None) -> Action:
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

    @staticmethod
    def _listall(
        for_run_name: str,
        in_phase: Any = None,
        parent_name: str | None = None,
        **_ignored: Any,
    ) -> Iterator[Action]:
        """The actions of a run, root first, in order of arrival.

        Args:
            for_run_name: The run.
            in_phase: Only those in this phase, or one of these (`flyte.models.ActionPhase`, or their names).
            parent_name: Only children of this action.

        Raises:
            errors.ActionNotFoundError: There is no such run in this process.
        """
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

    get = Dual(_get, name="get")
    listall = DualIterator(_listall, name="listall")

    # -- facts ----------------------------------------------------------------------------------------------------

    @property
    def _facts(self) -> _Facts:
        return _record_of(self._run).actions[self._name]

    @property
    def name(self) -> str:
        """Deterministic within its run; "a0" for the root."""
        return self._name

    @property
    def id(self) -> str:
        """Its short name in this kernel: "a17"."""
        return self._facts.id

    @property
    def run_name(self) -> str:
        """Name of its run."""
        return self._run.name

    @property
    def task_name(self) -> str:
        """Full name of its task."""
        return self._facts.task

    @property
    def parent_name(self) -> str | None:
        """Name of the action that called it; None for the root."""
        return self._facts.parent or None

    @property
    def phase(self) -> Phase:
        """Where it stands."""
        return self._facts.phase

    @property
    def kind(self) -> str:
        """What it is: "task", "trace", "condition", "sleep" or "root"."""
        return self._facts.kind

    @property
    def group(self) -> str | None:
        """The group it belongs to; None for none."""
        return self._facts.group or None

    @property
    def attempts(self) -> int:
        """Attempts so far."""
        attempt = self._facts.attempt
        return attempt.number + 1 if attempt is not None else 0

    @property
    def cache_hit(self) -> bool:
        """Whether its result came from the cache."""
        return self._facts.cached

    @property
    def error(self) -> ErrorNote | None:
        """How it failed (``.code .message .kind``); None if it did not."""
        return self._facts.error

    error_info = error

    @property
    def error_message(self) -> str:
        """How it failed, in words; "" if it did not."""
        return self._facts.error.message if self._facts.error else ""

    @property
    def start_time(self) -> dt.datetime:
        """When it began, or was queued; aware, UTC."""
        return dt.datetime.fromtimestamp(self._facts.started_at or self._facts.queued_at, dt.UTC)

    @property
    def runtime(self) -> dt.timedelta:
        """How long it has taken since then, up to its end."""
        facts = self._facts
        end = facts.ended_at or self._run._engine.gateway.now()
        return dt.timedelta(seconds=max(0.0, end - (facts.started_at or facts.queued_at)))

    @property
    def links(self) -> list[tuple[str, str]]:
        """(name, address) of the links of its task."""
        return links.links_of(self._facts, self._run._info)

    def done(self) -> bool:
        """Whether it has ended."""
        return self.phase.is_terminal

    def inputs(self) -> dict[str, Any]:
        """Its arguments by name, where they are small enough to be kept; else empty."""
        facts = self._facts
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
        facts = self._facts
        if self._name == ROOT:
            return self._run.outputs()  # type: ignore[no-any-return]
        if facts.output is None:
            raise RuntimeError(
                f"{self.run_name}/{facts.id} {facts.label} is {facts.phase.value}: no result is kept of it."
            )
        return ActionOutputs((loads(facts.output),))

    # -- doing ----------------------------------------------------------------------------------------------------

    def _abort(self, reason: str = "aborted") -> None:
        """Cancel it: whoever awaits it gets `errors.ActionAbortedError`."""
        engine: Any = self._run._engine
        if self._name == ROOT:
            self._run.abort(reason)
        else:
            engine.gateway.run_soon(engine.abort_action, self.run_name, self._name, reason)

    def _get_logs(self, **_ignored: Any) -> list[str]:
        """What it printed, line by line."""
        return [line.text for line in _record_of(self._run).logs.of(self._name)]

    def _show_logs(self, **_ignored: Any) -> None:
        """Print what it printed."""
        for line in self._get_logs():
            print(line)  # noqa: T201 - what it is for

    def _get_report(self, **_ignored: Any) -> str:
        """Its report as one HTML page; "" if it made none."""
        return report_page.page_of(_record_of(self._run), self._name)

    def _wait(self, quiet: bool = False, wait_for: str = "terminal") -> None:
        """Wait until it has ended (or, with ``wait_for="running"``, begun); never raises for its failure."""
        run_coroutine(self._wait_aio(quiet, wait_for))

    async def _wait_aio(self, quiet: bool = False, wait_for: str = "terminal") -> None:
        while not (self.done() or (wait_for == "running" and self.phase is Phase.RUNNING)):  # noqa: ASYNC110 - any thread's
            await asyncio.sleep(WATCH_EVERY)

    async def watch(self, **_ignored: Any) -> AsyncIterator[Action]:
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

    abort = Dual(_abort, name="abort")
    get_logs = DualIterator(_get_logs, name="get_logs")
    show_logs = Dual(_show_logs, name="show_logs")
    get_report = Dual(_get_report, name="get_report")
    wait = Dual(_wait, _wait_aio, name="wait")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Action) and (self.run_name, self._name) == (other.run_name, other._name)

    def __hash__(self) -> int:
        return hash((self.run_name, self._name))

    def __repr__(self) -> str:
        return repr(self._facts)


def _record_of(run: Run) -> RunRecord:
    # A run that was just launched is known once the engine has come to it.
    record = run._record or run._engine.gateway.ask(lambda: run._record)
    if record is None:
        raise ActionNotFoundError(f"{run.name} is not kept any more: a process remembers its latest 200 runs.")
    return record


def _phases(given: Any) -> set[Phase] | None:
    if given is None:
        return None
    each = [given] if isinstance(given, str) else list(given)
    return {Phase(str(phase).rpartition(".")[2].lower()) for phase in each}
