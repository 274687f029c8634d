"""Worker exits: killed for memory, by a signal, with an exit status; and what ran there. Runs in: engine thread.

A link that closes shows that a worker is lost, not why. Dask's nannies know: one that ends its worker for memory publishes that
through the scheduler, and those of the embedded cluster, which live in this process, report the exit status too.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from dask.utils import format_bytes

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Action, LogLine, Phase
from flyte_nb.core.history.store import RunRecord, RunStore
from flyte_nb.engine.clusters.black_box import BROKEN, CANNOT_GO_ON, BlackBox

#: Dask's topic for workers that their nanny ended for memory.
MEMORY_TOPIC = "worker-restart-memory"
#: Seconds after a loss until its cause is settled: nannies have reported it by then, if they will.
CAUSE_AFTER_S = 0.4
#: Exits remembered; the oldest beyond are forgotten.
MAX_EXITS = 1_000
#: What each cause begins with: in the log of an action, it tells a former loss from what the action said itself.
OPENING = "its worker "
#: Actions that are named in an error.
MAX_NAMED = 5
#: Actions that get a line in their log.
MAX_LOGGED = 200
#: Last log lines of the actions on a lost worker that an error quotes, and the longest of them, in characters.
LAST_LINES, LINE_CHARS = 3, 200


class WorkerExit(NamedTuple):
    """What is known of a worker's end."""

    #: Address of the worker.
    worker: str
    #: Whether its nanny ended it because it used too much memory.
    for_memory: bool = False
    #: Its exit status, negative for a signal; None if unknown.
    exitcode: int | None = None
    #: Whether it was ended because it did not end an attempt that it was told to, and for how many seconds it had not answered.
    ended: bool = False
    silent: float = 0.0
    #: Whether there was a nanny that could end it.
    nanny: bool = True
    #: What it wrote down before it ended itself.
    last_words: str = ""
    #: Bytes it used when last seen; 0 if unknown.
    memory: int = 0
    #: Bytes it could use; 0 for no limit.
    limit: int = 0
    #: (run, action) of those that computed there; empty if nobody knows.
    culprits: frozenset[tuple[str, str]] = frozenset()
    #: Whether its black box could be read.
    boxed: bool = False
    #: (run, action) of those that had begun there, as far as their home knows.
    begun: frozenset[tuple[str, str]] = frozenset()
    #: Those that awaited actions, or had got results of some, as far as their home knows: they are not to blame.
    waiting: frozenset[tuple[str, str]] = frozenset()
    #: The actions that ran there, as people know them.
    ran: tuple[str, ...] = ()
    #: Their last log lines.
    last_lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        ran = f"; it ran {', '.join(self.ran)}" if self.ran else ""
        lines = "".join(f"\n  {line}" for line in self.last_lines)
        return self.cause + ran + (f"; their last lines:{lines}" if lines else "")

    def is_out_of_time(self, action: tuple[str, str], verdict: str) -> bool:
        """Whether one whose time was up when its worker was lost had begun at all, so that it was its time."""
        return verdict == "cancelled" or (verdict == "timeout" and (not self.boxed or action in self.begun))

    def ends(self, action: tuple[str, str]) -> str:
        """The kind of outcome of a (run, action) that was lost there: how far it may be to blame (`decide.BLAME`)."""
        if action in self.waiting or (self.culprits and action not in self.culprits):
            return "stranded"
        return "unexplained" if self.boxed and not self.culprits else "lost"

    @property
    def cause(self) -> str:
        """How it ended, in words."""
        used = f"{format_bytes(self.memory)}" if self.memory else ""
        if self.for_memory:
            limit = f" of {format_bytes(self.limit)}" if self.limit else ""
            return f"its worker was ended because it used {used or 'too much memory'}{limit}"
        if self.last_words:
            return f"its worker ended itself: {self.last_words}"
        if self.ended:
            return self._why_ended
        how = "its worker went away"
        if self.exitcode == BROKEN:
            how = f"its worker ended itself: {CANNOT_GO_ON}, code there has broken what it needs (modules, pickle, sockets)"
        elif self.exitcode is not None:
            verb = "was " if self.exitcode < 0 else ""
            how = f"its worker {verb}{how_it_ended(self.exitcode)}"
        return how + (f" (it used {used} when last seen)" if used else "")

    @property
    def _why_ended(self) -> str:
        if not self.silent:
            return "its worker was replaced because it did not end what had been stopped"
        why = "code held Python's interpreter lock, or the process stood still"
        how = f"its worker did not answer for {self.silent:.0f} s ({why})"
        return (
            f"{how} and was replaced"
            if self.nanny
            else f"{how}, and has no nanny that could replace it: it was given up"
        )


def how_it_ended(exitcode: int) -> str:
    """An exit status in words: "killed by SIGKILL", "ended with exit status 1"."""
    if exitcode >= 0:
        return f"ended with exit status {exitcode}"
    try:
        return f"killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"killed by signal {-exitcode}"


class WorkerExits:
    """Collects what nannies and the scheduler report about ended workers, and settles the cause of each loss."""

    def __init__(self) -> None:
        #: Whether the cluster closes: those that end now have no successors.
        self.closing = False
        #: By address.
        self._known: dict[str, WorkerExit] = {}
        self._memory: dict[str, tuple[int, int]] = {}
        self._settled: dict[str, WorkerExit] = {}
        #: Of the workers on this machine that live.
        self._boxes: dict[str, BlackBox] = {}
        #: Called once for each exit, when its cause is known; what it returns is passed on.
        self.settle: Callable[[WorkerExit], WorkerExit] = lambda lost: lost

    def seen(self, worker: str, memory: int, limit: int) -> None:
        """A worker is alive and uses so many bytes."""
        self._memory[worker] = (memory, limit)

    def has_box(self, worker: str, path: str | None) -> None:
        """A worker is linked, and has its black box at this path on its machine."""
        with contextlib.suppress(OSError):
            if path and worker not in self._settled:
                self._boxes[worker] = BlackBox(Path(path))

    def computing(self) -> dict[str, frozenset[tuple[str, str]]]:
        """What computes on each worker of this machine, by its address: (run, action) of those that hold a slot."""
        return {worker: box.computing() for worker, box in self._boxes.items()}

    def killed_for_memory(self, event: tuple[float, dict[str, Any]]) -> None:
        """Take an event of `MEMORY_TOPIC`."""
        _, what = event
        worker = str(what.get("worker") or "")
        self._note(worker, for_memory=True, memory=int(what.get("rss") or 0))

    def exited(self, worker: str | None, exitcode: int) -> None:
        """A worker process of the embedded cluster ended."""
        if worker:
            self._note(worker, exitcode=exitcode)

    def end_asked(self, worker: str, silent: float, nanny: bool = True) -> None:
        """A worker is to be ended: it did not end an attempt, and has not answered for so many seconds."""
        self._note(worker, ended=True, silent=silent, nanny=nanny)

    def cut_off(self, worker: str) -> None:
        """A worker has lost its link, though its process lives: it is ended."""
        self._note(worker, last_words="code there closed the connections of its process")

    def _note(self, worker: str, **facts: Any) -> None:
        self._known[worker] = self._of(worker)._replace(**facts)
        while len(self._known) > MAX_EXITS:
            del self._known[next(iter(self._known))]

    def _of(self, worker: str) -> WorkerExit:
        memory, limit = self._memory.get(worker, (0, 0))
        return self._known.get(worker) or WorkerExit(worker, memory=memory, limit=limit)

    def cause(self, worker: str, then: Callable[[WorkerExit], None]) -> None:
        """Call `then` with the cause of a worker's exit, once all reports of it have arrived."""
        asyncio.get_running_loop().call_later(CAUSE_AFTER_S, self._settle, worker, then)

    def _settle(self, worker: str, then: Callable[[WorkerExit], None]) -> None:
        lost = self._settled.get(worker)
        if lost is None:
            lost = self._of(worker)
            if (box := self._boxes.pop(worker, None)) is not None:
                lost = lost._replace(boxed=True, culprits=box.computing(), last_words=box.words() or lost.last_words)
                box.close()
            lost = self._settled[worker] = self.settle(lost)
            self._memory.pop(worker, None)
            while len(self._settled) > MAX_EXITS:
                del self._settled[next(iter(self._settled))]
        then(lost)


def examine(
    store: RunStore, emit: Callable[[ev.Event], None], lost: WorkerExit, waiting: frozenset[tuple[str, str]]
) -> WorkerExit:
    """Add to an exit the actions that ran there and their last log lines, and write its cause into the logs of those actions.

    Args:
        store: All runs.
        emit: Takes events.
        lost: What is known so far.
        waiting: (run, action) of those on the worker that awaited others.
    """
    lost = lost._replace(culprits=lost.culprits - waiting, waiting=waiting)
    ran = _running_on(store, lost.worker)
    suspects = (
        _named(store, lost.culprits)
        or [each for each in ran if (each[0].state.run, each[1].name) not in waiting]
        or ran
    )
    names = [f"{action.id} {action.label}" for _, action in suspects]
    if len(names) > MAX_NAMED:
        names = [*names[:MAX_NAMED], f"and {len(names) - MAX_NAMED} more"]
    lines = [
        f"{action.id}: {line.text[:LINE_CHARS]}"
        for record, action in suspects[:MAX_NAMED]
        for line in [line for line in record.logs.of(action.name) if not line.text.startswith(OPENING)][-LAST_LINES:]
    ]
    begun = lost.culprits | {(record.state.run, action.name) for record, action in ran}
    lost = lost._replace(begun=begun, ran=tuple(names), last_lines=tuple(lines[-LAST_LINES:]))
    now = time.time()
    for record, action in ran[:MAX_LOGGED]:
        line = LogLine(now, "warning", str(lost._replace(last_lines=())))
        number = action.attempt.number if action.attempt is not None else 0
        emit(ev.Logged(record.state.run, action.name, number, (line,)))
    return lost


def _named(store: RunStore, names: frozenset[tuple[str, str]]) -> list[tuple[RunRecord, Action]]:
    """Actions that have not ended, by run and name."""
    found = []
    for run, name in sorted(names):
        record = store.runs.get(run)
        action = record.actions.get(name) if record is not None else None
        if record is not None and action is not None and not action.phase.is_terminal:
            found.append((record, action))
    return found


def _running_on(store: RunStore, worker: str) -> list[tuple[RunRecord, Action]]:
    """Actions whose latest attempt was under way on a worker, of all open runs."""
    return [
        (record, action)
        for record in store.runs.values()
        if record.state.ended_at is None
        for action in record.actions.unended()
        if action.attempt is not None
        and action.attempt.worker == worker
        and action.attempt.ok is None
        and action.phase in {Phase.RUNNING, Phase.CANCELLING, Phase.PAUSED}
    ]
