"""Replay: results of children from an earlier attempt or run, reused instead of executing them again.

A run's home answers "records": for a parent that is executed again, results of its children in earlier attempts; for a run
that recovers another, also results of the same calls there. Children are found by call site (parent, task, inputs, order), so
a parent whose code was corrected finds them; and they are reused if their own code is unchanged, since that is part of their
names. Runs in: controller's thread.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flyte_nb.core.control.calls import Call, ResumePoint, call_site_of
from flyte_nb.core.control.questions import Answers, Home
from flyte_nb.core.control.retained import Retained
from flyte_nb.core.control.work import Records
from flyte_nb.core.history.facts import Action, Phase
from flyte_nb.core.history.store import RunRecord, RunStore
from flyte_nb.core.transport.payload import Packed, Payload, carried, nbytes

#: Largest result of a nested call that a worker sends to its run's home for the case that the parent is executed again. Larger
#: ones stay with the worker that executes the parent, and are asked for then: sending each twice would double the traffic.
FAR_BYTES = 256 * 1024
#: Bytes of such larger results that one worker keeps, over all parents that it executes; beyond it, the oldest are dropped.
FAR_RETAINED_BYTES = 256 * 1024**2
#: Recovered runs followed back; a cell that was recovered a hundred times is run again in full.
MAX_CHAIN = 100
#: Actions whose losses are counted here.
MAX_BLAMED = 10_000
#: Recovering runs whose exceptions are remembered: as many as the store keeps.
MAX_FORCED = 200

Results = tuple[tuple[str, Payload], ...]


class Replay:
    """Finds results to reuse, at a run's home.

    Args:
        store: Runs and their actions.
        retained: Large results.
        sync: Given a run, a parent and a callback: calls it once the events of earlier attempts, which may still be on
            their way, have arrived, with large results of the parent's children that workers keep.
    """

    def __init__(
        self, store: RunStore, retained: Retained,
        sync: Callable[[str, str, Callable[[Results], None]], None] = lambda _run, _parent, then: then(()),
    ) -> None:  # fmt: skip
        self._store = store
        self._retained = retained
        self._sync = sync
        #: By recovering run: what is executed again although it succeeded.
        self._forced: OrderedDict[str, frozenset[str]] = OrderedDict()
        #: Losses in a row of actions with their worker and with their owner, which otherwise counts them: by (run, action).
        self._losses: OrderedDict[tuple[str, str], int] = OrderedDict()
        #: By recovered run: how many parents it has, and their names by call site.
        self._parents: dict[str, tuple[int, dict[str, str]]] = {}

    def serve(self, answers: Answers) -> None:
        """Answer controllers."""
        answers.serve("records", self._answer)
        answers.serve("keep_result", self._keep)

    def _answer(self, run: str, then: Callable[[Records], None], parent: str, again: bool = True) -> None:
        if again:
            self._sync(run, parent, lambda far: then(self._with(far, self.records(run, parent))))
        else:
            then(self.records(run, parent))

    def _with(self, far: Results, records: Records) -> Records:
        large = dict(far)
        return tuple(
            (name, large.get(name, found) if isinstance(found, ResumePoint) else found) for name, found in records
        )

    def _keep(self, run: str, then: Callable[[Any], None], name: str, payload: Payload) -> None:
        self._retained.keep_result(run, name, payload)
        then(None)

    def force(self, run: str, names: Iterable[str]) -> None:
        """Have a recovering run execute these actions although they succeeded."""
        self._forced[run] = frozenset(names)
        while len(self._forced) > MAX_FORCED:
            self._forced.popitem(last=False)

    def blame(self, run: str, action: str) -> None:
        """An action computed on a worker as it died, together with its owner, which would have counted it."""
        self._losses[run, action] = self._losses.pop((run, action), 0) + 1
        while len(self._losses) > MAX_BLAMED:
            self._losses.popitem(last=False)

    def records(self, run: str, parent: str) -> Records:
        """Results of the children of an action, and states to resume them from."""
        found: dict[str, Payload | ResumePoint] = {}
        forced = self._forced.get(run, frozenset())
        record = self._store.runs.get(run)
        if record is not None and record.state.recovers:
            recovered = self.recovered(record.state.recovers, parent)
            found.update((name, result) for name, result in recovered if name not in forced)
        found.update(self._children(run, parent))
        return tuple(found.items())

    def recovered(self, run: str, parent: str) -> Results:
        """Results of an action's calls in a run that is to be recovered, and in those that it recovered itself."""
        found: dict[str, Payload] = {}
        for record in reversed(list(self._chain(run))):
            name = self._same_site(record, parent)
            results = self._children(record.state.run, name) if name else ()
            found.update((child, result) for child, result in results if not isinstance(result, ResumePoint))
        return tuple(found.items())

    def _chain(self, run: str) -> Iterator[RunRecord]:
        """A run, the one that it recovered, and so on."""
        for _ in range(MAX_CHAIN):
            record = self._store.runs.get(run)
            if record is None:
                return
            yield record
            run = record.state.recovers

    def _same_site(self, record: RunRecord, parent: str) -> str:
        """Name that a parent of the same call site has in another run; "" if there is none."""
        if parent in record.children:
            return parent
        count, parents = self._parents.get(record.state.run, (-1, {}))
        if count != len(record.children):
            if len(self._parents) >= MAX_CHAIN:
                self._parents.clear()
            parents = {call_site_of(name): name for name in record.children}
            self._parents[record.state.run] = (len(record.children), parents)
        return parents.get(call_site_of(parent), "")

    def _children(self, run: str, parent: str) -> Iterator[tuple[str, Payload | ResumePoint]]:
        record = self._store.runs.get(run)
        for name, result in results_of_children(record, parent):
            if record is not None and isinstance(result, ResumePoint):
                yield name, self._beyond_record(record, name, result)
            else:
                yield name, result

    def _beyond_record(self, record: RunRecord, name: str, point: ResumePoint) -> Payload | ResumePoint:
        """What of an action is not in its record: its result, if that is large, else the losses that are counted here."""
        run = record.state.run
        large = None if record.actions[name].task in record.changed_tasks else self._retained.result(run, name)
        if large is not None:
            return large
        if point.error is None:
            return point
        return point._replace(losses=max(self._losses.get((run, name), 0) - 1.0, 0.0))


class FarRetained:
    """Retains large results at a worker: sends those of a moderate size to their run's home, and keeps larger ones.

    A larger one is kept until its parent has succeeded or its run has ended. Failed calls are retained at home only.

    Args:
        home: Of the runs.
        record: Puts a larger one into the history of its run as well, at a place that the home names.
        max_bytes: Bytes of larger ones kept.
    """

    def __init__(
        self, home: Home, record: Callable[[Any, Payload], None] = lambda _place, _result: None,
        max_bytes: int = FAR_RETAINED_BYTES,
    ) -> None:  # fmt: skip
        self._home = home
        self._record = record
        self._max_bytes = max_bytes
        self._nbytes = 0
        #: By (run, parent), then by name.
        self._large: OrderedDict[tuple[str, str], dict[str, Payload]] = OrderedDict()

    def began(self, call: Call) -> None:
        """Nothing is kept of it here."""

    def ended(self, call: Call, phase: Phase, result: Payload | None, large: bool) -> None:
        """Send a large result, or keep it here."""
        if result is None or not large:
            return
        size = nbytes(result)
        if type(result) is not Packed and size <= FAR_BYTES:
            self._home.ask(call.run, "keep_result", (call.name, result), lambda _answer: None)
            return
        kept = result
        self._home.ask(call.run, "history.place", (call.name, size), lambda place: self._record(place, kept))
        if size <= self._max_bytes:
            self._large.setdefault((call.run.name, call.parent), {})[call.name] = result
            self._nbytes += size
            while self._nbytes > self._max_bytes:
                self.forget(*next(iter(self._large)))

    def has(self, run: str, parent: str) -> bool:
        """Whether results of children of this action are kept here. From any thread."""
        return (run, parent) in self._large

    def results(self, run: str, parent: str) -> Results:
        """Results kept of the children of an action, in a form that can be sent."""
        return tuple((name, carried(result)) for name, result in self._large.get((run, parent), {}).items())

    def forget(self, run: str, parent: str = "") -> None:
        """Drop results: of the children of an action that has succeeded, or of a run that has ended."""
        gone = [key for key in self._large if key[0] == run and parent in ("", key[1])]
        for key in gone:
            self._nbytes -= sum(nbytes(result) for result in self._large.pop(key).values())


def results_of_children(record: RunRecord | None, parent: str) -> Records:
    """Results of the children of an action.

    Returns:
        The result of each that succeeded and whose result was kept; for every other one, the state to resume it from, since
        it will be executed again under the same name.
    """
    found: list[tuple[str, Payload | ResumePoint]] = []
    changed = record.changed_tasks if record is not None else frozenset()
    for action in record.children_of(parent) if record is not None else ():
        if action.task in changed:
            found.append((action.name, resume_point(action)))
        elif action.kind == "sleep":  # slept or not, it counts from its first call
            found.append((action.name, pickle.dumps(action.queued_at)))
        elif action.output is not None and action.phase.is_terminal and not action.phase.is_failure:
            found.append((action.name, action.output))
        elif action.kind in {"task", "trace", "condition"}:  # one that has not ended here was lost with its owner
            found.append((action.name, resume_point(action)))
    return tuple(found)


def _was_the_cause(action: Action) -> bool:
    """Whether an action was closed by its home as what ended its worker, or as overdue there; see `orphans`."""
    error = action.error
    return action.phase is Phase.ABANDONED and error is not None and (error.kind == "user" or bool(error.where))


def resume_point(action: Action) -> ResumePoint:
    """The state from which an ended action is executed again."""
    attempts = action.attempt.number + 1 if action.attempt is not None else 0
    return ResumePoint(action.controller_state[0], attempts, action.error if _was_the_cause(action) else None)
