"""What a worker that died was doing: the actions it ran, and what they said last. Runs in: engine thread of the kernel."""

from __future__ import annotations

import time
from collections.abc import Callable

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Action, LogLine, Phase
from flyte_nb.core.history.store import RunRecord, RunStore
from flyte_nb.engine.worker_exits import WorkerExit

#: Actions that are named in an error.
MAX_NAMED = 5
#: Actions that get a line in their log.
MAX_TOLD = 200
#: Lines that are quoted of what an action said last.
LAST_LINES = 3
#: Longest line that is quoted, in characters.
LINE_CHARS = 200


def examine(store: RunStore, emit: Callable[[ev.Event], None], death: WorkerExit) -> WorkerExit:
    """Add to a death what ran there, and have the logs of those actions say it.

    Args:
        store: All runs.
        emit: Takes events.
        death: What is known so far.

    Returns:
        The death, with the names of the actions and their last lines.
    """
    ran = running_on(store, death.worker)
    names = [f"{action.id} {action.label}" for _, action in ran]
    if len(names) > MAX_NAMED:
        names = [*names[:MAX_NAMED], f"and {len(names) - MAX_NAMED} more"]
    said = [line for record, action in ran[:MAX_NAMED] for line in _last_lines(record, action)]
    death = death._replace(ran=tuple(names), said=tuple(said[-LAST_LINES:]))
    now = time.time()
    for record, action in ran[:MAX_TOLD]:
        line = LogLine(now, "warning", str(death._replace(said=())))
        number = action.attempt.number if action.attempt is not None else 0
        emit(ev.Logged(record.state.run, action.name, number, (line,)))
    return death


def running_on(store: RunStore, worker: str) -> list[tuple[RunRecord, Action]]:
    """Actions whose latest attempt was under way on a worker, of all open runs."""
    return [
        (record, action)
        for record in store.runs.values()
        if record.state.ended_at is None
        for action in record.actions.values()
        if action.attempt is not None
        and action.attempt.worker == worker
        and action.attempt.ok is None
        and action.phase in {Phase.RUNNING, Phase.CANCELLING, Phase.PAUSED}
    ]


def _last_lines(record: RunRecord, action: Action) -> list[str]:
    lines = list(record.logs.of(action.name))[-LAST_LINES:]
    return [f"{action.id}: {line.text[:LINE_CHARS]}" for line in lines]
