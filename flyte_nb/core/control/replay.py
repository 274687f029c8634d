"""What was computed before is not computed again: results given to a task that is retried, or that recovers an earlier run.

A run's home answers "records": for a parent that is executed again, what became of its children in an earlier attempt; for a
run that recovers another, also what the same calls gave there. Children are found by their place (parent, task, inputs, order),
so a parent whose code was mended finds them; and they are reused if their own code is unchanged, since that is part of their
names. Runs in: controller's thread.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from flyte_nb.core.control.calls import Call, ResumePoint, place_of
from flyte_nb.core.control.questions import Answers, Home
from flyte_nb.core.control.retained import Retained
from flyte_nb.core.history.facts import Action, Phase
from flyte_nb.core.history.store import RunRecord, RunStore
from flyte_nb.core.transport.payload import Packed, Payload, carried, nbytes

#: Largest result of a nested call that a worker sends to its run's home for the case that the parent is executed again. Larger
#: ones stay with the worker that executes the parent, and are asked for then: sending each twice would double the traffic.
FAR_BYTES = 256 * 1024
#: Bytes of such larger results that one worker keeps, over all parents that it executes; what came first goes first.
FAR_KEPT_BYTES = 256 * 1024**2
#: Recovered runs followed back; a cell that was recovered a hundred times is run again in full.
MAX_CHAIN = 100
#: Recovering runs whose exceptions are remembered: as many as the store keeps.
MAX_FORCED = 200

#: (name, result) of each child that succeeded; of the others, where their numbers stand.
Records = tuple[tuple[str, Payload | ResumePoint], ...]
Results = tuple[tuple[str, Payload], ...]


class _Named(NamedTuple):
    name: str


class _Place(NamedTuple):
    """Run and name of an action, in a call's form."""

    run: _Named
    name: str


class Replay:
    """The authority at home.

    Args:
        store: Runs and their actions.
        kept: Large results.
        settle: Given a run, a parent and a callback: calls it once the events of earlier attempts, which may still be on
            their way, have arrived, with large results of the parent's children that workers keep.
    """

    def __init__(
        self,
        store: RunStore,
        kept: Retained,
        settle: Callable[[str, str, Callable[[Results], None]], None] = lambda _run, _parent, then: then(()),
    ) -> None:
        self._store = store
        self._kept = kept
        self._settle = settle
        #: By recovering run: what is executed again although it succeeded.
        self._forced: OrderedDict[str, frozenset[str]] = OrderedDict()
        #: By recovered run: how many parents it has, and their names by place.
        self._parents: dict[str, tuple[int, dict[str, str]]] = {}

    def serve(self, answers: Answers) -> None:
        """Answer controllers."""
        answers.serve("records", self._answer)
        answers.serve("keep_result", self._keep)

    def _answer(self, run: str, then: Callable[[Records], None], parent: str, again: bool = True) -> None:
        if again:
            self._settle(run, parent, lambda far: then(self._with(far, self.records(run, parent))))
        else:
            then(self.records(run, parent))

    def _with(self, far: Results, records: Records) -> Records:
        large = dict(far)
        return tuple(
            (name, large.get(name, found) if isinstance(found, ResumePoint) else found) for name, found in records
        )

    def _keep(self, run: str, then: Callable[[Any], None], name: str, payload: Payload) -> None:
        self._kept.keep_result(_Place(_Named(run), name), payload)  # type: ignore[arg-type]  # all it asks a call for
        then(None)

    def force(self, run: str, names: Iterable[str]) -> None:
        """Have a recovering run execute these actions although they succeeded."""
        self._forced[run] = frozenset(names)
        while len(self._forced) > MAX_FORCED:
            self._forced.popitem(last=False)

    def records(self, run: str, parent: str) -> Records:
        """What is known of the children of an action."""
        found: dict[str, Payload | ResumePoint] = {}
        forced = self._forced.get(run, frozenset())
        record = self._store.runs.get(run)
        if record is not None and record.state.recovers:
            recovered = self.recovered(record.state.recovers, parent)
            found.update((name, result) for name, result in recovered if name not in forced)
        found.update(self._children(run, parent))
        return tuple(found.items())

    def recovered(self, run: str, parent: str) -> Results:
        """What the calls of an action gave in a run that is to be recovered, and in those that it recovered itself."""
        found: dict[str, Payload] = {}
        for record in reversed(list(self._chain(run))):
            name = self._at_place(record, parent)
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

    def _at_place(self, record: RunRecord, parent: str) -> str:
        """Name that a parent of the same place has in another run; "" if there is none."""
        if parent in record.children:
            return parent
        count, parents = self._parents.get(record.state.run, (-1, {}))
        if count != len(record.children):
            if len(self._parents) >= MAX_CHAIN:
                self._parents.clear()
            parents = {place_of(name): name for name in record.children}
            self._parents[record.state.run] = (len(record.children), parents)
        return parents.get(place_of(parent), "")

    def _children(self, run: str, parent: str) -> Iterator[tuple[str, Payload | ResumePoint]]:
        for name, result in results_of_children(self._store.runs.get(run), parent):
            large = self._kept.result(run, name) if isinstance(result, ResumePoint) else None
            yield name, (result if large is None else large)


class FarRetained:
    """A worker's stand-in for its runs' homes' `Kept`: sends results of a moderate size there, and keeps larger ones.

    A larger one is kept until its parent has succeeded or its run is over.
    """

    def __init__(self, home: Home, max_bytes: int = FAR_KEPT_BYTES) -> None:
        self._home = home
        self._max_bytes = max_bytes
        self._nbytes = 0
        #: By (run, parent), then by name.
        self._large: OrderedDict[tuple[str, str], dict[str, Payload]] = OrderedDict()

    def keep_call(self, call: Call) -> None:
        """Calls are kept at home only."""

    def keep_custom(self, call: Call) -> None:
        """Custom contexts are kept at home only."""

    def custom(self, run: str, action: str) -> tuple[tuple[str, str], ...]:
        """Empty: see `keep_custom`."""
        return ()

    def drop_call(self, call: Call) -> None:
        """Nothing to drop."""

    def keep_result(self, call: Call, result: Payload) -> None:
        """Send it, or keep it here."""
        size = nbytes(result)
        if type(result) is not Packed and size <= FAR_BYTES:
            self._home.ask(call.run, "keep_result", (call.name, result), lambda _answer: None)
        elif size <= self._max_bytes:
            self._large.setdefault((call.run.name, call.parent), {})[call.name] = result
            self._nbytes += size
            while self._nbytes > self._max_bytes:
                self.forget(*next(iter(self._large)))

    def call(self, run: str, action: str) -> Call | None:
        """None: calls are kept at home only."""
        return None

    def result(self, run: str, action: str) -> Payload | None:
        """None: results are asked for by parent (`results`)."""
        return None

    def has(self, run: str, parent: str) -> bool:
        """Whether results of children of this action are kept here. From any thread."""
        return (run, parent) in self._large

    def results(self, run: str, parent: str) -> Results:
        """What is kept of the children of an action, in a form that can be sent."""
        return tuple((name, carried(result)) for name, result in self._large.get((run, parent), {}).items())

    def forget(self, run: str, parent: str = "") -> None:
        """An action has succeeded, or a run is over."""
        gone = [key for key in self._large if key[0] == run and parent in ("", key[1])]
        for key in gone:
            self._nbytes -= sum(nbytes(result) for result in self._large.pop(key).values())


def results_of_children(record: RunRecord | None, parent: str) -> Records:
    """What became of the children of an action.

    Returns:
        The result of each that succeeded and whose result was kept; of every other task, where its numbers stand, since it
        will be executed again under the same name.
    """
    found: list[tuple[str, Payload | ResumePoint]] = []
    for action in record.children_of(parent) if record is not None else ():
        if action.kind == "sleep":  # slept or not, it counts from its first call
            found.append((action.name, pickle.dumps(action.queued_at)))
        elif action.output is not None and action.phase.is_terminal and not action.phase.is_failure:
            found.append((action.name, action.output))
        elif action.kind in {"task", "trace", "condition"}:  # one that still seems to run was lost with its owner
            found.append((action.name, resume_point(action)))
    return tuple(found)


def _ran_out(action: Action) -> bool:
    return action.phase is Phase.ABANDONED and action.error is not None and action.error.code == "OOMError"


def resume_point(action: Action) -> ResumePoint:
    """Where the numbers of an action stand that has ended."""
    attempts = action.attempt.number + 1 if action.attempt is not None else 0
    return ResumePoint(action.controller_state[0], attempts, action.error if _ran_out(action) else None)
