"""The engine of a kernel: links to all workers, roster, losses; and the controller on top. Runs in: engine thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import itertools
import logging
import threading
from collections.abc import Callable
from typing import Any, ClassVar

from flyte_nb.core.attempts.threads import LoopClock, LoopThread
from flyte_nb.core.cache.service import CacheClient, CacheService
from flyte_nb.core.control import orphans
from flyte_nb.core.control.controller import Controller
from flyte_nb.core.control.gateway import Gateway
from flyte_nb.core.control.questions import Answers
from flyte_nb.core.control.replay import Replay, Results
from flyte_nb.core.control.retained import Retained
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Action, ErrorNote, Phase
from flyte_nb.core.history.store import RunStore
from flyte_nb.core.history.worker_names import name_of
from flyte_nb.core.runs import run_answers
from flyte_nb.core.runs.engine import ROOT
from flyte_nb.core.streams.inlet import arrived
from flyte_nb.core.tasks.registry import version_sent
from flyte_nb.core.transport import process_folder
from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.code_versions import CodeVersions
from flyte_nb.core.transport.mailbox import OneShot
from flyte_nb.engine.clusters.caretaker import CARETAKER
from flyte_nb.engine.clusters.forks import SOURCE
from flyte_nb.engine.clusters.worker_exits import WorkerExit, examine
from flyte_nb.engine.dispatch.executor import DaskExecutor
from flyte_nb.engine.dispatch.reasons import why_queued
from flyte_nb.engine.links.blob_fetch import Fetcher
from flyte_nb.engine.links.pulse import SILENT_S
from flyte_nb.engine.links.wire import AboutRows, Key, ToHome, ToOwner, handlers_of
from flyte_nb.engine.machine import Machine
from flyte_nb.engine.roster import KernelNetwork

logger: logging.Logger = logging.getLogger("flyte")

#: Seconds to wait for a worker's last events; after it, an action is executed again without them.
SETTLE_S = 5.0
#: Seconds to wait for workers to acknowledge the close.
CLOSE_ACK_S = 0.2
#: Seconds to wait until nothing of this kernel is left on workers of a cluster that goes on.
LEAVE_S = 5.0
#: Seconds that whoever closes the engine waits for it.
CLOSE_S = 15.0


class KernelEngine:
    """Controller, store and cluster of a kernel, on a thread of their own.

    Args:
        entry: Module by which a worker becomes a host.
    """

    #: The end of the latest one that was closed: the next one's cluster waits for it.
    _ending: ClassVar[concurrent.futures.Future[None] | None] = None

    def __init__(self, entry: str) -> None:
        self.thread = LoopThread("flyte-engine")
        self.store = RunStore()
        #: What keeps runs waiting, as owners of their actions say, by the owner.
        self._waits: dict[str, dict[str, str]] = {}
        #: Called on the engine thread with every event before it is folded: what it returns is.
        self.before: Callable[[ev.Event], ev.Event] = lambda event: event
        self.gateway: Gateway
        self.network: KernelNetwork
        self.executor: DaskExecutor
        self.controller: Controller
        self.machine: Machine
        self._starting: concurrent.futures.Future[None]
        self._start_task: asyncio.Task[Any] | None = None
        self._closing: concurrent.futures.Future[None] | None = None
        self._closing_lock = threading.Lock()
        self._closed = OneShot()
        #: Whether the thread ends when all is closed.
        self._ends_itself = False
        self.call(self._build, entry)

    async def _build(self, entry: str) -> None:
        loop = asyncio.get_running_loop()
        self.network = network = KernelNetwork(entry)
        #: Answers what controllers and tasks of this kernel's runs ask, here and on workers.
        self.answers: Answers = Answers()
        run_answers.serve(self.answers, loop)
        self.switchboard = network.questions
        self.blobs: Blobs = Blobs(network.me)
        versions = CodeVersions(self.blobs)
        self.switchboard.answers["home"] = lambda then, run, op, args: self.answers.answer(run, op, args, then)
        network.exits.settle = self._settle_exit
        self.answers.serve("worker_exit", lambda _run, then, address: network.exits.cause(address, then))
        self.executor = DaskExecutor(network, Fetcher(self.switchboard, self.blobs), versions)
        self.retained: Retained = Retained()
        self.replay: Replay = Replay(self.store, self.retained, self._settle)
        self.replay.serve(self.answers)
        self.cache: CacheService = CacheService(self.thread.post, self.store)
        self.cache.serve(self.answers)
        self.controller = Controller(
            self.executor, self.emit, LoopClock(loop), home=self.answers, retained=self.retained,
            cache=CacheClient(self.answers, network.me),
        )  # fmt: skip
        self.executor.rows.drives(self.controller.batches)
        self.executor.on_began = self.controller.started
        self.executor.on_noted = self.controller.note
        self.executor.on_items = functools.partial(arrived, self.controller)
        self.gateway = Gateway(loop, self.controller, self.blobs, code=versions)
        self.machine = Machine(network)
        network.handlers.update(
            handlers_of(self.executor, ToOwner) | handlers_of(self.executor.rows, AboutRows) | handlers_of(self, ToHome)
        )
        network.on_lost = self._worker_lost
        network.at_home = lambda run, op, args: self.answers.answer(run, op, args, lambda _answer: None)
        self.answers.serve("end_worker", self._end_worker)
        self.answers.serve("expect", self._expect)
        network.on_roster = self.executor.roster_changed
        self.executor.pool.on_busy = network.set_busy
        network.on_scheduler_lost = self._scheduler_lost
        self.answers.serve("waits", self._say_why_it_waits)

    def emit(self, event: ev.Event) -> None:
        """Fold an event."""
        event = self.before(event)
        if type(event) is ev.ActionQueued or type(event) is ev.CallsQueued:
            record = self.store.runs.get(event.run)
            if record is not None and event.task not in record.versions:
                record.versions[event.task] = version_sent(event.task)
        self.store.append(event)

    def _say_why_it_waits(self, run: str, then: Callable[[Any], None], owner: str, why: str) -> None:
        """Note at a run what keeps actions of an owner from starting; "" for nothing any more."""
        said = {peer: text for peer, text in self._waits.pop(run, {}).items() if peer != owner}
        if why:
            said[owner] = f"waiting: {why}"
        if said:
            self._waits[run] = said
        note = next(iter(said.values()), "")
        if run in self.store.runs and self.store.runs[run].state.note != note:
            self.emit(ev.RunNoted(run, note))
        then(None)

    def _on_events(self, peer: str, events: list[ev.Event]) -> None:
        for event in events:
            self.emit(event)
            if type(event) is ev.ActionQueued or type(event) is ev.CallsQueued:
                orphans.own(self.store, event, peer)

    def _settle_exit(self, lost: WorkerExit) -> WorkerExit:
        """Note which actions computed on a lost worker, and close the orphans: those awaited there and nowhere else."""
        overdue = self.executor.watch.out_of_time(lost.worker)
        lost = examine(self.store, self.emit, lost, orphans.waiting(self.store, lost.worker))
        if lost.for_memory:
            computing = orphans.computing(self.store, lost.worker)
            lost = lost._replace(culprits=frozenset((record.state.run, action.name) for record, action in computing))
        for record, action in orphans.orphans(self.store, lost.worker):
            if (record.state.run, action.name) in self.controller.flights:
                continue  # retried by hand, from here
            run, now = record.state.run, self.controller.now()
            self._watch_orphan(run, action, lost.worker)
            error = ErrorNote("system", "WorkerLostError", f"lost with the worker that awaited it: {lost}")
            if (run, action.name) in overdue:
                late = f"{action.label}: it ran longer than its timeout, and {lost.cause}"
                error = ErrorNote("user", "MaxRuntimeExceededError", late)
            elif (run, action.name) in lost.culprits and lost.for_memory and len(lost.culprits) == 1:
                error = ErrorNote("user", "OOMError", str(lost), name_of(lost.worker))
            elif (run, action.name) in lost.culprits:
                self.replay.blame(run, action.name)
                error = ErrorNote("system", "WorkerLostError", str(lost), name_of(lost.worker))
            self.emit(ev.ActionEnded(run, action.name, action.next_seq, Phase.ABANDONED, now, error))
        return lost

    def _watch_orphan(self, run: str, action: Action, lost: str) -> None:
        """Nobody else sees to the end of an action whose owner is lost: where it executes, or at any silent worker."""
        attempt = action.attempt if action.attempt is not None and action.attempt.ok is None else None
        number = attempt.number if attempt is not None else 0
        for worker in [attempt.worker] if attempt is not None else list(self.network.silent):
            if worker != lost:
                self.executor.watch.expect((run, action.name, number), None, 0.0, "cancelled", worker)

    def _end_worker(self, _run: str, then: Callable[[Any], None], address: str, silent: float) -> None:
        """A worker asks that another one be ended: silent, as far as it knows, or answering and stubborn."""
        if not silent or self.network.quiet.get(address, 0.0) >= SILENT_S:
            self.network.end_worker(address, None, silent)
        then(None)

    def _expect(self, _run: str, then: Callable[[Any], None], worker: str, key: Key, seconds: float) -> None:
        """A worker has an attempt with a timeout executed by itself: if its loop stood still, it could not end it."""
        if worker in self.network.links:
            self.executor.watch.expect(key, None, seconds, "timeout", worker)
        then(None)

    def _worker_lost(self, address: str) -> None:
        self.executor.pool.worker_lost(address)
        self.network.exits.cause(address, lambda _lost: None)  # settled even if nothing was lost there
        self.cache.peer_lost(address)
        for run in [run for run, said in self._waits.items() if address in said]:
            self._say_why_it_waits(run, lambda _none: None, address, "")
        process_folder.sweep()

    def _settle(self, run: str, parent: str, then: Callable[[Results], None]) -> None:
        """Call back once all events that workers have sent are folded: each answers behind its events, on the same link.

        With the answers come large results of the parent's children that the workers keep.
        """
        self.ask_all("sync", (run, parent), lambda found: then(tuple(itertools.chain(*found))), SETTLE_S)

    def why_queued(self, action: Action, then: Callable[[str], None]) -> None:
        """Call `then` with why an action does not run yet, as a clause; "" if nothing is known. Its owner is asked."""
        owner = next((each for each in reversed(action.owners) if each in self.network.links), None)
        if not self.network.ready.done():
            then(self.network.starting_text)
        elif owner is not None:
            self.switchboard.ask(owner, "why", (action.run, action.name), lambda found: then(found or ""))
        else:
            then(why_queued(self.controller, self.network, self.executor.groups.values(), action.run, action.name))

    def ask_workers(self, op: str, *args: Any) -> None:
        """Ask every worker, and ignore the answers: have those that it concerns do something."""
        self.ask_all(op, args, lambda _answers: None)

    def ask_all(
        self, op: str, args: tuple[Any, ...], then: Callable[[list[Any]], None], within: float | None = None
    ) -> None:
        """Ask every worker, and call `then` with all the answers together; those that are None are left out.

        A worker that is lost meanwhile answers None.

        Args:
            op: The question.
            args: Its arguments.
            then: Called once.
            within: Seconds after which `then` gets the answers that have arrived; None = it waits for all.
        """
        asked = list(self.network.links)
        pending = len(asked)
        answers: list[Any] = []
        timer: asyncio.TimerHandle | None = None

        def finish() -> None:
            nonlocal pending
            pending = 0
            if timer is not None:
                timer.cancel()
            then(answers)

        def take(answer: Any) -> None:
            nonlocal pending
            if not pending:
                return  # too late
            if answer is not None:
                answers.append(answer)
            pending -= 1
            if not pending:
                finish()

        if not asked:
            then(answers)
        elif within is not None:
            timer = self.thread.loop.call_later(within, finish)
        for address in asked:
            self.switchboard.ask(address, op, args, take)

    def _scheduler_lost(self) -> None:
        self.executor.fail_all(ErrorNote("system", "SchedulerLostError", self.network.lost_text(), recoverable=False))

    def call(self, coroutine_function: Callable[..., Any], *args: Any, timeout: float | None = None) -> Any:
        """Run a coroutine function on the engine thread and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine_function(*args), self.thread.loop).result(timeout)

    def start(self, target: Any = None, **options: Any) -> Any:
        """Open the cluster in the background; returns a `concurrent.futures.Future`."""
        CARETAKER.start([str(root) for root in process_folder.roots()], process_folder.prefix())
        self._starting = asyncio.run_coroutine_threadsafe(self._start(target, options), self.thread.loop)
        return self._starting

    async def _start(self, target: Any, options: dict[str, Any]) -> None:
        self._start_task = asyncio.current_task()
        if KernelEngine._ending is not None:
            await asyncio.wait([asyncio.wrap_future(KernelEngine._ending)], timeout=CLOSE_S)
        try:
            await self.network.start(target, **options)
        except Exception as exc:
            self.executor.fail_all(ErrorNote("system", "NoClusterError", str(exc), recoverable=False))
            raise

    def begin_close(self, *, thread: bool = False) -> concurrent.futures.Future[None]:
        """Cancel everything and close the cluster, in the background. Idempotent.

        Args:
            thread: Whether the thread is to end then, too.
        """
        self._ends_itself = self._ends_itself or thread
        with self._closing_lock:
            if self._closing is None:
                self._closing = asyncio.run_coroutine_threadsafe(self._close(), self.thread.loop)
                KernelEngine._ending = self._closing
        return self._closing

    def close(self) -> None:
        """Cancel everything, close the cluster, stop the thread."""
        closing = self.begin_close(thread=True)
        logger.addFilter(_is_no_fault)
        try:
            # Not by the future's own `result`: a stop between two lines of that would leave it locked.
            with contextlib.suppress(TimeoutError):
                self._closed.get(CLOSE_S)
            self._closed.put(None)  # for whoever else closes it
            self.thread.stop()
            closing.result(0)
        finally:
            logger.removeFilter(_is_no_fault)

    async def _close(self) -> None:
        self.network.exits.closing = True
        try:
            await self._close_all()
        finally:
            self._closed.put(None)
            if self._ends_itself:
                self.thread.loop.call_soon(self.thread.loop.stop)

    async def _close_all(self) -> None:
        self.abort_all()
        if not self._starting.done():
            self._starting.cancel()
            if self._start_task is not None:
                await asyncio.wait([self._start_task])
        self.cache.close()
        # Our own lanes, and those of actions on workers; one whose GIL is held answers to neither.
        await asyncio.gather(self.executor.close(), self._have_all("close_idle", CLOSE_ACK_S))
        if self.network.handle is not None and not self.network.handle.embedded:
            await self._have_all("leave", LEAVE_S)
        await self.network.close()
        SOURCE.end()
        process_folder.sweep()  # those of workers that were killed

    async def _have_all(self, op: str, within: float) -> None:
        """Have every worker do something, and wait until they have, or so many seconds are over."""
        done = asyncio.get_running_loop().create_future()
        self.ask_all(op, (), done.set_result, within)
        await done

    def abort_all(self) -> None:
        """End every await with an error, and close all runs; workers stop when their links close. Idempotent."""
        why = "its cluster was closed"
        self.controller.batches.all_alone()
        for run, action in list(self.controller.flights):
            self.controller.abort(run, action, why)
        error = ErrorNote("system", "ActionAbortedError", why)
        self.executor.give_up(error)
        now = self.controller.now()
        for record in [record for record in self.store.runs.values() if record.state.ended_at is None]:
            run = record.state.run
            for one in [one for one in record.actions.unended() if one.number >= 0]:
                phase = Phase.ABORTED if one.name == ROOT else Phase.ABANDONED  # awaited on workers
                self.emit(ev.ActionEnded(run, one.name, one.next_seq, phase, now, error))
            self.emit(ev.RunClosed(run, Phase.ABORTED, now, error))

    def __repr__(self) -> str:
        handle = self.network.handle
        where = handle.description if handle is not None else "cluster that starts"
        counts = f"{len(self.network.links)} workers, {len(self.controller.flights)} in flight"
        return f"<KernelEngine on {where} [{counts}]>"


def _is_no_fault(record: logging.LogRecord) -> bool:
    # What fails while everything is closed says nothing to anybody.
    return not record.exc_info
