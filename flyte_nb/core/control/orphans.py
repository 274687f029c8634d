"""Orphaned actions: those a lost worker was executing or owned, and how their run closes them. Runs in: home.

A worker whose action awaits others owns these: its controller drives them. When it dies, their home closes them, so that no
run shows what does not happen. What computed on it as it died may be the cause, not the parents, which only waited there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Action, Phase
from flyte_nb.core.history.store import RunRecord, RunStore


def _open(store: RunStore) -> Iterator[RunRecord]:
    return (record for record in store.runs.values() if record.state.ended_at is None)


def computing(store: RunStore, worker: str) -> list[tuple[RunRecord, Action]]:
    """Running actions of a worker that awaited no other action."""
    return [
        (record, action)
        for record in _open(store)
        for action in record.actions.unended()
        if action.phase is Phase.RUNNING
        and action.attempt is not None
        and action.attempt.worker == worker
        and action.attempt.ok is None
        and all(child.phase.is_terminal for child in record.children_of(action.name))
    ]


def own(store: RunStore, event: ev.ActionQueued | ev.CallsQueued, worker: str) -> None:
    """Note that a worker's controller drives an action, or some: it has announced them."""
    record = store.runs.get(event.run)
    if isinstance(event, ev.CallsQueued):
        if record is not None:
            record.owned(event, worker)
        return
    action = record.actions.get(event.action) if record is not None else None
    if action is not None and worker not in action.owners:
        action.owners = (*action.owners, worker)


def waiting(store: RunStore, worker: str) -> frozenset[tuple[str, str]]:
    """(run, action) of those that may be on a worker and await actions there, or had got a result of one since they began."""
    found = set()
    for record in _open(store):
        for name in record.children:
            action = record.actions.get(name)
            if action is None or action.phase.is_terminal:
                continue
            attempt = action.attempt if action.attempt is not None and action.attempt.ok is None else None
            began = attempt.started_at if attempt is not None else None
            if attempt is not None and attempt.worker != worker:  # executed anew already, under the same number
                waited = any(worker in child.owners for child in record.children_of(name))
            else:
                waited = record.awaits(name) or (began is not None and _has_got(record, name, began))
            if waited:
                found.add((record.state.run, name))
    return frozenset(found)


def _has_got(record: RunRecord, name: str, began: float) -> bool:
    """Whether an action that began then has got a result of a child."""
    return any(child.ended_at is not None and child.ended_at > began for child in record.children_of(name))


def orphans(store: RunStore, worker: str) -> list[tuple[RunRecord, Action]]:
    """Unfinished actions that a lost worker owned, and nobody else does.

    Where their parent's attempts were is no sign: an attempt that its owner takes for one that had not begun is executed
    again under the same number, before this is asked.
    """
    found = []
    for record in _open(store):
        for action in list(record.actions.objects.values()):
            if worker not in action.owners:
                continue
            action.owners = tuple(owner for owner in action.owners if owner != worker)
            if not (action.owners or action.phase.is_terminal or action.number < 0):
                found.append((record, action))
        for columns in record.columns.values():
            if worker in columns.owners:
                columns.owners.remove(worker)
                found += [(record, action) for action in columns.unended() if not (columns.owners or action.owners)]
    return found


def close_lost(record: RunRecord, emit: Callable[[ev.Event], None], now: float) -> None:
    """Close steps, sleeps and conditions whose parent has ended: they were lost with a process, and not executed again.

    On the controller's thread, at home. `now` is in seconds since the epoch.
    """
    for action in list(record.actions.objects.values()):
        parent = record.actions.get(action.parent)
        if action.kind not in {"trace", "sleep", "condition"} or action.phase.is_terminal:
            continue
        if parent is not None and parent.phase.is_terminal:
            emit(ev.ActionEnded(action.run, action.name, action.next_seq, Phase.ABANDONED, now))
