"""Execute attempts on Dask: lanes are Dask tasks, bundles go to them over links. Runs in: engine thread; worker loop.

The controller hands over attempts one by one and knows nothing of lanes or bundles. Where a lane runs is Dask's decision
(we ask it to prefer the worker with fewest lanes, since a lane that waits is invisible to Dask's own balance); which
attempts go to which lane, and how many at once, is decided in `flyte_nb.engine.lanes`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from flyte_nb.core.attempts.body import GRACE
from flyte_nb.core.control.gc_pacing import MANY, GcPacing
from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.history.facts import ErrorNote, Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.tasks.task import Task
from flyte_nb.core.transport.payload import UnpicklableError
from flyte_nb.core.transport.task_code import dump_function
from flyte_nb.engine.blob_fetch import Fetcher, away
from flyte_nb.engine.lanes import Item, Lane, Shape, lanes_missing, next_bundle
from flyte_nb.engine.replicas import linger_of, replicas_of
from flyte_nb.engine.wire import LaneSpec, Message, WorkerInfo
from flyte_nb.engine.worker_exits import WorkerExit
from flyte_nb.errors import BaseRuntimeError

logger = logging.getLogger("flyte")

#: Seconds a lane without work stays open: the next call of its task finds it warm.
LINGER = 20.0
#: The same for lanes that hold a Dask resource, which others may be waiting for.
LINGER_WITH_RESOURCES = 0.2
#: Seconds after a loss during which a worker opens no lanes on itself, where the actions live that await them: what ended
#: one process may end the next. The lost worker's successor is there by then, if there is one.
WARY = 8.0
#: Seconds that idle lanes have to end when their owner is closed.
CLOSE_PATIENCE = 0.5


class Network(Protocol):
    """What the executor needs of the process it is in."""

    #: This process's name as a peer.
    me: str
    #: Address of the worker this process is; "" in a kernel.
    own_address: str
    #: Workers that are given nothing new, as long as there are others.
    resting: set[str]

    def send(self, address: str, message: Message) -> None:
        """Send to a worker; connects first if need be."""

    def workers(self) -> dict[str, WorkerInfo]:
        """The roster."""

    async def submit_lane(self, spec: LaneSpec, resources: dict[str, float], prefer: str, only: bool) -> Any:
        """Have Dask run a lane, best (or only) on the worker `prefer`; returns its future."""

    def cause(self, address: str, run: RunInfo, then: Callable[[WorkerExit], None]) -> None:
        """Tell why a worker is gone."""


class DaskExecutor:
    """Executes attempts in lanes."""

    def __init__(self, network: Network, fetcher: Fetcher, *, grace: float = GRACE) -> None:
        self.network = network
        self._fetcher = fetcher
        self.grace = grace
        self.shapes: dict[str, Shape] = {}
        self._lanes: dict[str, tuple[Shape, Lane]] = {}
        self._items: dict[tuple[str, str, int], tuple[Shape, Item]] = {}
        self._dirty: dict[str, Shape] = {}
        #: Shapes of the tasks started in this tick: their globals are looked at once.
        self._recent: dict[Task[..., Any], Shape] = {}
        self._told: dict[str, set[str]] = {}
        #: Workers lost last: the roster may name them for a moment longer.
        self._lost: deque[str] = deque(maxlen=64)
        #: When a worker was lost (`time.monotonic`); 0 for never.
        self._lost_at = 0.0
        #: When a shape lost what had begun, by its name.
        self._suspects: dict[str, float] = {}
        self._blobs: WeakKeyDictionary[Task[..., Any], tuple[Any, str, bytes]] = WeakKeyDictionary()
        self._collector = GcPacing()
        self._counter = itertools.count()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._epoch = 0
        #: Set whenever a lane has ended.
        self._dropped = asyncio.Event()
        #: Called with (run, action) when an attempt with a ``max_queued_time`` begins.
        self.on_began: Callable[[str, str], None] = lambda _run, _action: None
        #: Called with (run, action, phase, note) when a worker says what an attempt does now.
        self.on_noted: Callable[[str, str, Phase, str], None] = lambda _run, _action, _phase, _note: None
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    # -- the Executor protocol ------------------------------------------------------------------------------------

    def start(self, task: Task[..., Any], run: RunInfo, work: Work, done: Callable[[Outcome], None]) -> None:
        """Queue an attempt; it is sent with others of the same tick."""
        try:
            shape = self._recent.get(task) or self._shape(task)
        except UnpicklableError as exc:
            from flyte_nb.core.attempts.body import note_of

            note = note_of(exc, task.name, work)._replace(recoverable=False)
            asyncio.get_running_loop().call_soon(done, Outcome(*work[:3], "error", error=note))
            return
        item = Item(run, work, done)
        self._items[work.key] = (shape, item)
        if len(self._items) == MANY:
            self._collector.load(MANY)
        shape.queue.append(item)
        self._touch(shape)

    def cancel(self, work: Work, reason: str) -> None:
        """Take an attempt off the queue, or have its lane end it."""
        found = self._items.get(work.key)
        if found is None:
            return
        shape, item = found
        if item.lane is None:
            try:
                shape.queue.remove(item)
            except ValueError:
                return
            del self._items[work.key]
            asyncio.get_running_loop().call_soon(item.done, Outcome(*work[:3], "cancelled"))
        else:
            self.network.send(item.lane.address, ("cancel", work.key, "cancelled", self.grace))

    # -- shapes ---------------------------------------------------------------------------------------------------

    def new_epoch(self) -> None:
        """Globals may have changed (a new cell began): serialize tasks anew before their next call."""
        self._epoch += 1

    def _shape(self, task: Task[..., Any]) -> Shape:
        stamp = (self._epoch, _globals_of(task))
        known = self._blobs.get(task)
        if known is None or not _same(known[0], stamp):
            blob = dump_function(task)
            resources = dask_resources(task)
            name = hashlib.blake2b(blob + repr(sorted(resources.items())).encode(), digest_size=8).hexdigest()
            self._blobs[task] = known = (stamp, name, blob)
            if name not in self.shapes:
                self.shapes[name] = Shape(name, task.name, blob, task.is_async, resources)
        shape = self.shapes.get(known[1])
        if shape is None:
            shape = self.shapes[known[1]] = Shape(known[1], task.name, known[2], task.is_async, dask_resources(task))
        shape.reuse, shape.environment = task.config.reusable, task.parent_env_name
        self._recent[task] = shape
        return shape

    def _touch(self, shape: Shape) -> None:
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self._pump)
        self._dirty[shape.name] = shape

    # -- dispatch -------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        dirty, self._dirty = self._dirty, {}
        self._recent.clear()
        for shape in dirty.values():
            self._dispatch(shape)

    def _dispatch(self, shape: Shape) -> None:
        if not shape.queue:
            return
        own = self.network.own_address
        shunned = self._resting | ({own} if self._is_wary(shape) else set())
        takers = [x for x in shape.lanes.values() if shape.room(x) > 0 and x.address not in shunned]
        takers.sort(key=lambda lane: (len(lane.items), lane.address == own))
        waiting = len(shape.queue)
        for place, lane in enumerate(takers):
            bundle = next_bundle(shape, lane, len(takers) - place)
            if bundle:
                self._send(lane, bundle)
        if shape.queue and waiting:
            self._open_lanes(shape)

    def _send(self, lane: Lane, bundle: list[Item]) -> None:
        lane.used_at = time.monotonic()
        told = self._told.setdefault(lane.address, set())
        for item in bundle:
            if item.run.name not in told:
                told.add(item.run.name)
                self.network.send(lane.address, ("run", item.run))
        self.network.send(lane.address, ("bundle", lane.id, [item.work for item in bundle]))

    def _open_lanes(self, shape: Shape) -> None:
        workers = self.network.workers()
        shunned = {self.network.own_address, *self._lost} if self._is_wary(shape) else set()
        if shunned:  # none left: `_sweep` looks again
            workers = {address: w for address, w in workers.items() if address not in shunned}
            if not workers:
                return
        slots = sum(w.nthreads for w in workers.values()) or 1
        if shape.reuse is not None:
            workers = replicas_of(shape.environment, shape.reuse.max_replicas, workers)
            slots = len(workers) or 1
        for _ in range(lanes_missing(shape, slots, time.monotonic(), shunned | self._resting)):
            self._open_lane(shape, workers)

    @property
    def _resting(self) -> set[str]:
        return self.network.resting if self.network.workers() else set()

    def _is_wary(self, shape: Shape) -> bool:
        """Whether a shape's lanes are kept off this worker: it may be what ended another, or there is no other just now."""
        own, now = self.network.own_address, time.monotonic()
        if not own or not self._lost_at or now - self._lost_at > WARY:
            return False
        others = self.network.workers().keys() - {own, *self._lost}
        return not others or now - self._suspects.get(shape.name, 0.0) < WARY

    def _open_lane(self, shape: Shape, workers: dict[str, WorkerInfo]) -> None:
        load = dict.fromkeys(workers, 0.0)
        for lane in shape.lanes.values():
            if not lane.blocked and lane.address in load:
                load[lane.address] += 1.0 / max(workers[lane.address].nthreads, 1)
        own = self.network.own_address
        prefer = min(load, key=lambda address: (load[address], address == own), default="")
        lane_id = f"{self.network.me}:{next(self._counter)}-{uuid.uuid4().hex[:6]}"
        lane = Lane(lane_id, prefer, time.monotonic())
        shape.lanes[lane_id] = lane
        self._lanes[lane_id] = (shape, lane)
        spec = LaneSpec(lane_id, self.network.me, shape.blob, shape.task_name, shape.is_async)
        anywhere = bool(shape.resources) and shape.reuse is None
        self._spawn(self._submit(spec, shape, lane, "" if anywhere else prefer))

    async def _submit(self, spec: LaneSpec, shape: Shape, lane: Lane, prefer: str) -> None:
        only = self._is_wary(shape) or shape.reuse is not None
        try:
            lane.future = await self.network.submit_lane(spec, shape.resources, prefer, only)
            loop = asyncio.get_running_loop()
            lane.future.add_done_callback(lambda future: _soon(loop, self._lane_done, lane.id, future))
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            if isinstance(exc, BaseRuntimeError):  # one that says it all: there is no cluster
                note = ErrorNote(exc.kind, exc.code, str(exc), recoverable=False)
            else:
                logger.exception("flyte_nb could not open a lane for %s", shape.task_name)
                note = ErrorNote("system", "RuntimeSystemError", f"no lane could be opened: {exc}")
            self._lane_lost(lane.id, note)

    def _lane_done(self, lane_id: str, future: Any) -> None:
        # A lane that ended by itself has said "closed" before.
        if future.status in {"error", "cancelled", "lost"}:
            error = None
            if future.status == "error":
                exc = getattr(future, "_state", None) and future._state.exception
                error = ErrorNote("system", type(exc).__name__, f"{exc}")
                if type(exc).__name__ == "KilledWorker":
                    error = None
            self._lane_lost(lane_id, error)

    # -- what lanes say -------------------------------------------------------------------------------------------

    def _on_lane(self, address: str, lane_id: str, _state: str) -> None:
        found = self._lanes.get(lane_id)
        if found is None:
            self.network.send(address, ("close", lane_id))
            return
        shape, lane = found
        if lane.opened and lane.items:  # Dask runs it again elsewhere: its worker was lost
            self._lost.append(lane.address)
            self._lost_at = time.monotonic()
            self._suspect(shape, lane)
            self._requeue(shape, lane, None)
            if address == self.network.own_address:
                self.network.send(address, ("close", lane_id))
                self._drop_lane(lane_id)
                return
        lane.sent = lane.started = lane.finished = 0
        lane.busy = 0.0
        lane.address, lane.opened = address, True
        lane.blocked = lane.stalled = False
        lane.used_at = time.monotonic()
        self._touch(shape)

    def _on_ended(self, _address: str, lane_id: str, outcomes: list[Outcome]) -> None:
        shape, lane = self._lanes.get(lane_id, (None, None))
        for outcome in outcomes:
            key = (outcome.run, outcome.action, outcome.attempt)
            if lane is not None:
                lane.items.pop(key, None)
            found = self._items.pop(key, None)
            if found is not None:  # else: told already (lost and found again)
                if away(outcome):
                    self._fetcher.result(outcome, found[1].done)
                else:
                    found[1].done(outcome)
        self._collector.load(len(self._items))
        if shape is not None and lane is not None:
            lane.stalled = False
            lane.used_at = time.monotonic()
            self._touch(shape)

    def _on_returned(self, _address: str, lane_id: str, keys: list[tuple[str, str, int]]) -> None:
        shape, lane = self._lanes.get(lane_id, (None, None))
        if shape is None or lane is None:
            return
        lane.stalled = True
        for key in reversed(keys):
            item = lane.items.pop(key, None)
            if item is not None and key in self._items:
                item.lane = None
                lane.sent -= 1
                shape.queue.appendleft(item)
        self._touch(shape)

    def _on_ready(self, _address: str, lane_id: str) -> None:
        shape, lane = self._lanes.get(lane_id, (None, None))
        if shape is not None and lane is not None:
            lane.stalled = False
            lane.used_at = time.monotonic()
            self._touch(shape)

    def _on_progress(
        self, _address: str, lane_id: str, started: int, finished: int, busy: float, blocked: bool
    ) -> None:
        shape, lane = self._lanes.get(lane_id, (None, None))
        if shape is None or lane is None:
            return
        if started > lane.started or finished > lane.finished:
            lane.stalled = False
        shape.learn(lane, started, finished, busy)
        lane.blocked = blocked
        self._touch(shape)

    def _on_waiting(self, _address: str, lane_id: str, waiting: int) -> None:
        shape, lane = self._lanes.get(lane_id, (None, None))
        if shape is not None and lane is not None:
            lane.waiting = waiting
            self._touch(shape)

    def _on_closed(self, _address: str, lane_id: str) -> None:
        self._drop_lane(lane_id)

    def _on_began(self, _address: str, key: tuple[str, str, int]) -> None:
        self.on_began(key[0], key[1])

    def _on_noted(self, _address: str, key: tuple[str, str, int], phase: Phase, note: str) -> None:
        self.on_noted(key[0], key[1], phase, note)

    # -- losses ---------------------------------------------------------------------------------------------------

    def worker_lost(self, address: str) -> None:
        """A worker is gone: what it had not reported runs elsewhere, or fails where its action was what ended it."""
        self._told.pop(address, None)
        self._lost.append(address)
        self._lost_at = time.monotonic()
        begun: list[Item] = []
        for lane_id, (shape, lane) in list(self._lanes.items()):
            if lane.address == address:
                self._suspect(shape, lane)
                begun += self._salvage(shape, lane)
                self._lane_lost(lane_id, None)
        if begun:
            self.network.cause(address, begun[0].run, lambda death: self._explain(begun, death))

    def _suspect(self, shape: Shape, lane: Lane) -> None:
        now = time.monotonic()
        self._suspects = {name: at for name, at in self._suspects.items() if now - at < WARY}
        if lane.items:
            self._suspects[shape.name] = now

    def _salvage(self, shape: Shape, lane: Lane) -> list[Item]:
        """Take what had not begun back to the queue; returns what had, as far as the lane had told."""
        begun = max(1, lane.started - lane.finished) if shape.is_async else 1
        items, lane.items = list(lane.items.values()), {}
        for item in reversed(items[begun:]):
            item.lane = None
            shape.queue.appendleft(item)
        return items[:begun]

    def _explain(self, lost: list[Item], death: WorkerExit) -> None:
        """Tell the controller what was lost with a worker, and why; it decides whether to try again."""
        # Of several that computed there it is not known which one used the memory: they are tried again.
        suspects = death.culprits or frozenset(item.work.key[:2] for item in lost)
        blamed = suspects if death.for_memory and len(suspects) == 1 else frozenset()
        code = "OOMError" if death.for_memory else "WorkerLostError"
        error = ErrorNote("user" if death.for_memory else "system", code, str(death), death.worker)
        for item in lost:
            if self._items.pop(item.work.key, None) is not None:
                kind = "oom" if item.work.key[:2] in blamed else "lost"
                item.done(Outcome(*item.work[:3], kind, error=error, location=(death.worker, 0, "")))

    def _lane_lost(self, lane_id: str, error: ErrorNote | None) -> None:
        found = self._lanes.get(lane_id)
        if found is None:
            return
        shape, lane = found
        never_opened = not lane.opened
        self._drop_lane(lane_id)
        self._requeue(shape, lane, error)
        if never_opened and error is not None and shape.queue and not any(x.usable for x in shape.lanes.values()):
            # No lane can be opened: whoever waits must hear why.
            waiting, shape.queue = list(shape.queue), type(shape.queue)()
            for item in waiting:
                self._items.pop(item.work.key, None)
                item.done(Outcome(*item.work[:3], "error", error=error))
        self._touch(shape)

    def _requeue(self, shape: Shape, lane: Lane, error: ErrorNote | None) -> None:
        """Tell the controller what was lost with a lane; it decides whether to try again."""
        items, lane.items = list(lane.items.values()), {}
        for item in items:
            self._items.pop(item.work.key, None)
            item.done(Outcome(*item.work[:3], "lost", error=error, location=(lane.address, 0, "")))

    def fail_all(self, error: ErrorNote) -> None:
        """The cluster is gone: every attempt ends with `error`."""
        for shape in self.shapes.values():
            shape.lanes.clear()
        self._lanes.clear()
        self.give_up(error)

    def give_up(self, error: ErrorNote) -> None:
        """Every attempt ends with `error`, whatever lanes still do."""
        for shape in self.shapes.values():
            shape.queue.clear()
        items, self._items = list(self._items.values()), {}
        for _, item in items:
            item.done(Outcome(*item.work[:3], "error", error=error._replace(recoverable=False)))

    def _drop_lane(self, lane_id: str) -> None:
        shape, lane = self._lanes.pop(lane_id, (None, None))
        self._dropped.set()
        if shape is not None and lane is not None:
            shape.lanes.pop(lane_id, None)
            if lane.items:
                self._requeue(shape, lane, None)
            if lane.future is not None:
                lane.future.release()
            if shape.queue:
                self._touch(shape)

    # -- upkeep ---------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Close lanes that have had nothing to do for a while, and forget shapes without lanes."""
        while True:
            await asyncio.sleep(0.2)
            now = time.monotonic()
            for shape in list(self.shapes.values()):
                linger = LINGER_WITH_RESOURCES if shape.resources else LINGER
                if shape.reuse is not None:
                    linger = linger_of(shape.reuse)
                for lane in list(shape.lanes.values()):
                    if lane.usable and not lane.items and not shape.queue and now - lane.used_at > linger:
                        lane.closing = True
                        self.network.send(lane.address, ("close", lane.id))
                if not shape.lanes and not shape.queue:
                    del self.shapes[shape.name]
                elif shape.queue:
                    self._touch(shape)

    def look_again(self) -> None:
        """The roster changed: there may be room for what waits."""
        for shape in self.shapes.values():
            if shape.queue:
                self._touch(shape)

    def tell_again(self, run: str) -> None:
        """What a run's actions are to know of it has changed: workers are told with the next bundle."""
        for told in self._told.values():
            told.discard(run)

    def forget_run(self, run: str) -> None:
        """The run is over: its workers may drop what they keep for it."""
        for address, told in self._told.items():
            if run in told:
                told.discard(run)
                self.network.send(address, ("forget", run))

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close_idle(self) -> None:
        """Close the lanes that have nothing to do, and wait for their end, a moment at most.

        A lane's Dask task that is cancelled while it runs makes its worker complain on the user's terminal.
        """
        idle = [lane for _, lane in self._lanes.values() if lane.usable and not lane.items]
        for lane in idle:
            lane.closing = True
            self.network.send(lane.address, ("close", lane.id))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_PATIENCE):
                while any(lane.id in self._lanes for lane in idle):
                    self._dropped.clear()
                    await self._dropped.wait()

    async def close(self) -> None:
        """Close all lanes and stop; lanes that are still at work are given up."""
        self._sweeper.cancel()
        self._collector.release()
        for task in list(self._tasks):
            task.cancel()
        await self.close_idle()
        for _, lane in list(self._lanes.values()):
            if lane.opened:
                self.network.send(lane.address, ("close", lane.id))
            if lane.future is not None:
                lane.future.release()


def _soon(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: Any) -> None:
    """Dask calls back from a thread of its own, also after the loop has been closed."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)


def dask_resources(task: Task[..., Any]) -> dict[str, float]:
    """Dask resources that a task's lanes hold: a worker started with ``--resources GPU=1`` offers one."""
    resources = task.config.resources
    gpu = getattr(resources, "gpu", None)
    if not gpu:
        return {}
    quantity = gpu if isinstance(gpu, int) else getattr(gpu, "quantity", None)
    if quantity is None:
        quantity = int(str(gpu).rpartition(":")[2]) if str(gpu).rpartition(":")[2].isdigit() else 1
    return {"GPU": float(quantity)}


def _globals_of(task: Task[..., Any]) -> tuple[Any, ...]:
    """The values of the globals that a task's code names directly: a cheap sign that it must be serialized anew."""
    func = task.func
    code = getattr(func, "__code__", None)
    space = getattr(func, "__globals__", {})
    return tuple(space.get(name) for name in code.co_names) if code is not None else ()


def _same(a: Any, b: Any) -> bool:
    return bool(a[0] == b[0] and len(a[1]) == len(b[1]) and all(x is y for x, y in zip(a[1], b[1], strict=True)))
