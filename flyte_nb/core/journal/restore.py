"""Restore runs of earlier kernels: as records in the store, and as runs that can be looked at, retried and recovered.

What such a run returned is bytes until somebody asks for it (`Past.ready`): then classes of the notebook are those of now, and
what changed code had computed is left out. Runs in: the thread that asks.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from dataclasses import fields
from typing import Any

from flyte_nb.core.cache import rebind
from flyte_nb.core.control.calls import Settled
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Action, ErrorNote, Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.history.store import RunRecord, RunStore
from flyte_nb.core.journal.follower import Follower
from flyte_nb.core.journal.format import plain
from flyte_nb.core.journal.history import History, PastRun, is_past_name
from flyte_nb.core.journal.journal import Journal
from flyte_nb.core.runs import run_registry
from flyte_nb.core.runs.engine import ROOT, Engine
from flyte_nb.core.runs.retry import call_of, changed_tasks
from flyte_nb.core.runs.run import Run
from flyte_nb.core.runs.run_control import CellRunControl, RunControl
from flyte_nb.core.tasks.registry import REGISTRY
from flyte_nb.core.transport.payload import Payload, loads, opened
from flyte_nb.errors import ActionNotFoundError

#: Runs that were recovered one from another, read together.
MAX_CHAIN = 20


class Past:
    """Runs of earlier kernels, as an engine's runs.

    Args:
        engine: Where they are looked at, and go on when they are retried.
        journal: Records the runs of this kernel.
        history: Reads those of earlier ones.
    """

    def __init__(self, engine: Engine, journal: Journal, history: History) -> None:
        self.journal = journal
        self.history = history
        self._engine = engine
        #: Whether the variables of the notebook were asked which notebook it is.
        self.placed = False
        #: Runs that were read, by name.
        self._read: dict[str, PastRun] = {}
        #: Large results that cannot be opened here.
        self._closed: set[tuple[str, str]] = set()
        #: Sees the runs that other processes work at.
        self.follower = Follower(history, self._happened, self._cut_off)
        engine.retained.keeper = journal
        engine.retained.shelf = self._value

    def __repr__(self) -> str:
        return f"<Past {self.history!r} [{len(self._read)} read]>"

    def close(self) -> None:
        """Write what has happened, and look no more at what goes on elsewhere."""
        self.follower.close()
        self.journal.close()

    def runs(self, *, everywhere: bool = False, limit: int = 100) -> list[PastRun]:
        """The latest runs of earlier kernels of this notebook, or of every kernel but this one; oldest first."""
        self.journal.flush()  # some of them may go on here
        return self.history.runs("" if everywhere else self.journal.notebook, limit, self.journal.kernel)

    def find(self, name: str) -> PastRun:
        """The run of this name, in a state that can be read.

        Raises:
            errors.ActionNotFoundError: There is none, or it was dropped.
        """
        found = self.history.find(name)
        if found is None:
            raise ActionNotFoundError(f"There is no run {name}; `%flyte runs --all` lists those that are kept.")
        if found.dropped:
            raise ActionNotFoundError(f"Nothing is kept of {name} ({found.title}) any more: {found.dropped}.")
        return found

    def is_elsewhere(self, run: PastRun) -> bool:
        """Whether another living process is the home of a run."""
        return run.lives and run.kernel != self.journal.kernel

    def load(self, name: str) -> RunRecord:
        """Read a run into the store, with those that it recovered; follow it if another process works at it.

        Raises:
            errors.ActionNotFoundError: As of `find`.
        """
        record = self._engine.store.runs.get(name)
        if record is not None:
            return record
        run = self.find(name)
        record, batch = restored(self.history, run)
        older, chain = record.state.recovers, 0
        self._adopt(run, record)
        if record.state.ended_at is None:
            self.follower.follow(run, batch)
        while older and older not in self._engine.store.runs and chain < MAX_CHAIN:
            try:
                found = self.find(older)
            except ActionNotFoundError:
                break
            before, _ = restored(self.history, found)
            self._adopt(found, before)
            older, chain = before.state.recovers, chain + 1
        return record

    def _adopt(self, run: PastRun, record: RunRecord) -> None:
        engine, name = self._engine, run.name
        customs = self.history.customs(run)

        def adopt() -> None:
            self._read[name] = run
            for action, custom in customs.items():
                engine.retained.put_custom(name, action, custom)
            engine.store.adopt(record)
            if not self.is_elsewhere(run):
                self.journal.continued(name, run.row)

        engine.gateway.ask(adopt)
        if run_registry.known(name) is None:
            run_registry.register(self.run(run), earlier=True)

    def run(self, run: PastRun) -> Run:
        """The run as an object; it is read when more is asked than its name."""
        info = _info(run, self._engine.home)
        return Run((EarlierCell if run.kind == "cell" else EarlierRun)(self._engine, info, run, self))

    def get(self, name: str) -> Run | None:
        """The run of this name, read; None for a name of another form.

        Raises:
            errors.ActionNotFoundError: As of `find`.
        """
        if not is_past_name(name):
            return None
        self.load(name)
        return run_registry.known(name) or self.run(self.find(name))

    # -- what goes on in other processes --------------------------------------------------------------------------

    def _happened(self, events: list[ev.Event]) -> None:
        with contextlib.suppress(RuntimeError):  # the session is closed
            self._engine.gateway.run_soon(self._engine.store.extend, events)

    def _cut_off(self, run: PastRun) -> None:
        def cut_off() -> None:
            record = self._engine.store.runs.get(run.name)
            if record is not None and record.state.ended_at is None:
                self._engine.store.extend(_ends(record, run))
                record.update(note=run.cut_off_text)

        with contextlib.suppress(RuntimeError):
            self._engine.gateway.run_soon(cut_off)

    def take_over(self, name: str) -> None:
        """A run is about to go on here: record what follows.

        Raises:
            errors.ActionNotFoundError: Another process is its home.
        """
        run = self.find(name)
        if self.is_elsewhere(run):
            raise ActionNotFoundError(
                f"{name} ({run.title}) has its home in another process that is alive: retry it there."
            )
        self._engine.gateway.ask(self.journal.continued, name, run.row)

    # -- what it computed -----------------------------------------------------------------------------------------

    def _value(self, run: str, action: str, what: str) -> Payload | None:
        found = self._read.get(run)
        if found is None or (run, action) in self._closed:
            return None
        return self.history.value(found, action, what)

    def ready(self, name: str) -> list[str]:
        """Make what a run returned usable here, and that of those it recovered.

        Returns:
            Names of its tasks whose code has changed since: what they returned is not used.
        """
        store, first = self._engine.store, name
        while (record := store.runs.get(name)) is not None:
            run = self._read.get(name)
            if run is not None:
                record.versions = self.history.versions(run)
                for action in list(record.actions.values()):
                    if any(data is not None and rebind.has_globals(data) for data in (action.inputs, action.output)):
                        action = record.actions.own(action.name)  # noqa: PLW2901 - what it holds changes
                    self._rebind(name, action)
                    if action.parent in ("", ROOT) and action.inputs is not None and rebind.has_globals(action.inputs):
                        # What a retry may begin with. (Where it cannot be opened here, the call says so.)
                        renewed = rebind.renewed(action.inputs)
                        action.inputs = renewed if isinstance(renewed, bytes) else action.inputs
            name = record.state.recovers
        return changed_tasks(store, first)

    def _rebind(self, run: str, action: Action) -> None:
        """Have what an action returned hold the notebook's classes of now; without it where it cannot be opened here."""
        if action.output is not None:
            if rebind.has_globals(action.output):
                renewed = rebind.renewed(action.output)
                action.output = renewed if isinstance(renewed, bytes) else None
        elif action.phase.is_success and (large := self._value(run, action.name, "result")) is not None:
            if not rebind.has_globals(bytes(opened(large)[0])):
                return
            renewed = rebind.renewed(large)
            if renewed is None:
                self._closed.add((run, action.name))
            elif renewed is not large:
                self._engine.gateway.ask(self._engine.retained.put_result, run, action.name, renewed)


def restored(history: History, run: PastRun) -> tuple[RunRecord, int]:
    """A run as it is in its record, and the number of the latest batch of events; one that was cut off ends there.

    Raises:
        errors.ActionNotFoundError: Its record cannot be read.
    """
    store = RunStore()
    try:
        batch, events = history.events_after(run, 0)
        store.extend(events)
        record = store.runs[run.name]
    except Exception as exc:
        raise ActionNotFoundError(f"{run.name} cannot be read: {type(exc).__name__}: {exc}") from exc
    if record.state.ended_at is None and not run.lives:
        store.extend(_ends(record, run))
    if run.cut_off:
        record.update(note=run.cut_off_text)
    return record, batch


def _ends(record: RunRecord, run: PastRun) -> list[ev.Event]:
    """How what was under way ends when its kernel does."""
    error = ErrorNote("system", "CutOffError", f"{run.cut_off_text}: its kernel ended before it did")
    ends: list[ev.Event] = []
    for action in record.actions.unended():
        if action.number >= 0:
            began = action.started_at is not None and action.name != ROOT
            phase = Phase.ABANDONED if began else Phase.ABORTED
            ends.append(ev.ActionEnded(run.name, action.name, action.next_seq, phase, run.last_at, error))
    return [*ends, ev.RunClosed(run.name, Phase.ABORTED, run.last_at, error)]


def _info(run: PastRun, home: str) -> RunInfo:
    kept: dict[str, Any] = dict(plain(run.info)) if run.info is not None else {}
    known = {field.name for field in fields(RunInfo)}
    given = {name: value for name, value in kept.items() if name in known and value not in ("", None)}
    if "started_at" in given:
        given["started_at"] = dt.datetime.fromtimestamp(given["started_at"], dt.UTC)
    return RunInfo(**{**given, "name": run.name, "home": home})


class _Earlier(RunControl):
    """A run of an earlier kernel: read when it is looked at."""

    def __init__(self, engine: Engine, info: RunInfo, run: PastRun, past: Past) -> None:
        super().__init__(engine, info)
        self._run = run
        self._past = past
        if run.ended is not None or not past.is_elsewhere(run):
            self.finished.set()
        if run.kind != "cell":
            self.task: Any = REGISTRY.latest(run.title)

    @property
    def record(self) -> RunRecord | None:
        """What is known of it."""
        return self.engine.store.runs.get(self.name) or self._past.load(self.name)

    @property
    def phase(self) -> Phase:
        """Its phase now."""
        record = self.engine.store.runs.get(self.name)
        if record is not None:
            return record.state.phase
        if self._run.ended is None:
            return Phase.RUNNING if self._past.is_elsewhere(self._run) else Phase.ABORTED
        return Phase(self._run.phase)

    def wait(self, wait_for: str = "terminal") -> None:
        """Block until it is done, or with ``wait_for="running"`` has begun."""
        self._past.load(self.name)
        known = run_registry.known(self.name)
        if known is None or known.control is self:
            super().wait(wait_for)
        else:  # this one was made for a list
            known.control.wait(wait_for)

    def abort(self, reason: str) -> None:
        """Cancel it, also where another process works at it."""
        if not self._past.follower.ask(self.name, "cancel_run", {}):
            super().abort(reason)

    def retry(self, action: Action | str | None) -> None:
        """Run a failed action, or all of them, again with the code of now: from here on, this kernel is its home."""
        self._past.take_over(self.name)
        super().retry(action)

    def make_ready(self) -> None:
        """What it returned is about to be used."""
        self._past.load(self.name)
        self._past.ready(self.name)


class EarlierCell(_Earlier, CellRunControl):
    """The run of a cell in an earlier kernel."""

    def __init__(self, engine: Engine, info: RunInfo, run: PastRun, past: Past) -> None:
        super().__init__(engine, info, run, past)
        self.retried, self._retrying = False, 0


class EarlierRun(_Earlier):
    """A run that ``flyte.run`` started in an earlier kernel."""

    def called(self) -> tuple[Any, Any]:
        """Its task as it is now, and the bound arguments of it."""
        root = self.known().actions[ROOT]
        call = self.ask(call_of, self.engine, self.known(), root)
        return call.task, loads(call.payload)

    def value(self) -> Any:
        """What its task returned; raises what it raised."""
        self.wait()
        if self.settled is None:
            self.make_ready()
            root = self.known().actions[ROOT]
            payload = root.output if root.output is not None else self.engine.retained.result(self.name, ROOT)
            if root.phase.is_success and payload is not None:
                return Settled("ok", None, payload).result()
            why = self._past.history.missing(self._run).get(ROOT, "it cannot be read here")
            lost = ErrorNote("system", "RuntimeSystemError", f"the result of {self.name} is not kept: {why}")
            return Settled("error", None, error=root.error or lost).result()
        return self.settled.result()


def when(run: PastRun) -> str:
    """When a run began, in a few words: "03:12", with the day unless it was today."""
    then, now = time.localtime(run.started), time.localtime()
    return time.strftime("%H:%M" if then[:3] == now[:3] else "%d %b %H:%M", then)
