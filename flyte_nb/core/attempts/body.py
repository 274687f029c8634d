"""Body of one attempt: set its context, execute it, make its outcome. Runs in: the thread of a lane.

The caller (a worker's lane, the local executor) chooses thread and loop; what an attempt consists of is decided here.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import pickle
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Coroutine, Generator
from dataclasses import replace
from types import CoroutineType
from typing import Any, Protocol

from flyte_nb import errors
from flyte_nb.core.attempts import output, seeds
from flyte_nb.core.attempts.family import OWNER, Family, Lane, leave_child, running
from flyte_nb.core.attempts.isolation import Isolation, Place
from flyte_nb.core.attempts.meter import Meter
from flyte_nb.core.attempts.output import OUTPUT, Output, Sink
from flyte_nb.core.attempts.surroundings import applied, thread_options
from flyte_nb.core.attempts.surroundings.thread_options import LOADED
from flyte_nb.core.control.gateway import Gateway
from flyte_nb.core.control.work import Location, Outcome, Work
from flyte_nb.core.history.columns import PREVIEW_CHARS, preview_of
from flyte_nb.core.history.facts import MAX_MESSAGE, NOTHING_USED, ErrorNote, Used
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.settings.config import MAX_INLINE_IO_BYTES
from flyte_nb.core.streams.outlet import Outlet
from flyte_nb.core.tasks import context as ctx
from flyte_nb.core.tasks.context import CallScope, Context
from flyte_nb.core.tasks.prepare import too_large
from flyte_nb.core.tasks.task import Task
from flyte_nb.core.transport.patched import InPlace
from flyte_nb.core.transport.payload import Payload, UnpicklableError, dumps, inline_bytes, nbytes, rebuilt, small
from flyte_nb.core.values.by_value.classes import CLASSES
from flyte_nb.core.values.describe import brief

NONE = pickle.dumps(None, 5)
#: In the pickle of a value that is more than built-in ones (``STACK_GLOBAL``).
NAMES_CLASS = b"\x93"
_NO_ITEMS = pickle.dumps([], 5)

#: How the names of our own context variables begin: they are the calling code's, and not its action's.
OURS = "flyte_nb_"
#: Seconds that a cancelled body has for its clean-up before it is interrupted harder; then its caller is settled without it,
#: and a worker process that it still occupies is replaced.
GRACE = 3.0


class PreviewStore(Protocol):
    """Keeps what a reader may want to see of large values: a worker's."""

    def put_inputs(self, key: tuple[str, str], named: dict[str, Any], payload: Payload) -> None:
        """Take the arguments of (run, action), as values and as they came."""

    def put(self, key: tuple[str, str], value: object, payload: Payload) -> None:
        """Take the result of (run, action)."""


class Steps(Coroutine[Any, Any, Any]):
    """The coroutine of an async body, or one of those that it starts: each step is its attempt's turn.

    The thread's `Meter` is told of it, and the process is brought into the attempt's state.
    """

    __slots__ = ("__name__", "__qualname__", "_activate", "_body", "_coroutine", "_isolation", "_patches", "_turn")

    def __init__(self, body: Body, coroutine: Any = None) -> None:
        self._body = body
        made: Any = body.run_async() if coroutine is None else coroutine
        self._coroutine = made
        self._turn = body.meter.turn
        self._activate = body.activate
        self._isolation = body.isolation
        self._patches = body.patches
        if coroutine is not None:
            self.__name__, self.__qualname__ = made.__name__, made.__qualname__

    def send(self, value: Any) -> Any:
        """As a coroutine's."""
        self._turn(self._body)
        if self._activate is not None:
            self._activate()
        if self._isolation is not None and self._isolation.current is not self._body:
            self._isolation.turn(self._body)
        send = self._coroutine.send
        if LOADED:
            found = self._with_thread(send, value)
        else:
            found = send(value) if self._patches is None else self._patches.during(send, value)
        if seeds.SEEDED and self._isolation is not None:
            self._isolation.pause(self._body)
        return found

    def throw(self, *error: Any) -> Any:
        """As a coroutine's."""
        self._turn(self._body)
        if self._activate is not None:
            self._activate()
        if self._isolation is not None and self._isolation.current is not self._body:
            self._isolation.turn(self._body)
        throw = self._coroutine.throw
        if LOADED:
            return self._with_thread(throw, *error)
        return throw(*error) if self._patches is None else self._patches.during(throw, *error)

    def _with_thread(self, step: Any, *args: Any) -> Any:
        """A step, with the settings of its thread that are the attempt's own."""
        body = self._body
        thread_options.put(body.of_thread)
        try:
            return step(*args) if self._patches is None else self._patches.during(step, *args)
        finally:
            body.of_thread = thread_options.take()

    def close(self) -> None:
        """As a coroutine's."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Outcome]:
        return self._coroutine.__await__()  # type: ignore[no-any-return]

    # For asyncio's and our own stacks. (A ``__getattr__`` would slow each step down.)
    cr_await: property = property(lambda self: self._coroutine.cr_await)
    cr_code: property = property(lambda self: self._coroutine.cr_code)
    cr_frame: property = property(lambda self: self._coroutine.cr_frame)
    cr_running: property = property(lambda self: self._coroutine.cr_running)
    cr_suspended: property = property(lambda self: self._coroutine.cr_suspended)


def task_factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """Asyncio tasks that a body starts: their steps are its turns, too."""
    body = running()
    if body is not None and type(coroutine) is CoroutineType:
        coroutine = Steps(body, coroutine)
    return asyncio.Task(coroutine, loop=loop, **options)


#: Held while a context is made.
_making = threading.Lock()


class Body:
    """One attempt, from its arguments to its outcome."""

    __slots__ = (
        "__weakref__", "_context", "_family", "_gateway", "activate", "busy", "code", "cpu", "generators", "isolation",
        "lane", "loading", "location", "memory", "meter", "of_thread", "outcome", "outlet", "output", "patches",
        "place", "previews", "progress", "run", "started_at", "stop", "task", "unpacking", "variables", "work",
    )  # fmt: skip

    def __init__(
        self, task: Task[..., Any], run: RunInfo, work: Work, gateway: Gateway, sink: Callable[[Work], Sink],
        location: Location, previews: PreviewStore | None = None, meter: Meter | None = None,
        activate: Callable[[], None] | None = None, isolation: Isolation | None = None, lane: Lane | None = None,
        inherited: contextvars.Context | None = None,
    ) -> None:  # fmt: skip
        if work.on_failure and work.on_failure != run.on_failure:
            run = replace(run, on_failure=work.on_failure)
        self.task: Task[..., Any] = task
        #: Makes imports those of its version of the code, at each of its turns; None if all versions share them.
        self.activate: Callable[[], None] | None = activate
        self.run: RunInfo = run
        self.work: Work = work
        self.location: Location = location
        #: Receives values that are too large to be kept with their action, so that they can be shown all the same.
        self.previews: PreviewStore | None = previews
        #: Why it was asked to end ("cancelled" or "timeout"); "" while it was not.
        self.stop: str = ""
        self.started_at: float = 0.0
        #: Of the thread it runs on; without one, all of its time counts.
        self.meter: Meter = meter if meter is not None else Meter(time.perf_counter)
        #: Slot time and CPU time, up to its last turn.
        self.busy: float = 0.0
        self.cpu: float = 0.0
        #: The other parts of a `flyte_nb.core.history.facts.Usage`.
        self.memory: int = 0
        self.loading: float = 0.0
        self.unpacking: float = 0.0
        self.output: Output = Output(self._sink(sink))
        #: Of the process; None where the attempts are not kept apart: in the user's own process.
        self.isolation: Isolation | None = isolation
        self.place: Place | None = None
        #: What it is executed by; None in local mode.
        self.lane: Lane | None = lane
        #: What was set on its thread, between its steps.
        self.of_thread: list[Any] = []
        #: Generators of random numbers among its arguments, with their states.
        self.generators: list[tuple[Any, bytes]] = []
        self._family: Family | None = None
        #: Where its task was taken from, a worker's matter (`flyte_nb.worker.process.task_state`).
        self.code: Any = None
        #: Of libraries, while it is at its turn (`flyte_nb.core.transport.patched`).
        self.patches: InPlace | None = None
        self.outcome: Outcome | None = None
        self._gateway = gateway
        self._context: Context | None = None
        #: Where what it yields goes, if it does.
        self.outlet: Outlet | None = None
        #: How far it is (`flyte_nb.core.attempts.progress.Progress`); None where nothing tells.
        self.progress: Any = None
        #: The `contextvars.Context` in which everything of the body runs.
        self.variables: contextvars.Context = contextvars.Context()
        self.variables.run(self._enter, inherited)

    @property
    def context(self) -> Context:
        """What its calls, and whoever asks, know of it; made when first asked for, by whichever thread."""
        if self._context is None:
            work = self.work
            with _making:
                if self._context is None:
                    self._context = Context(
                        gateway=self._gateway, run=self.run, action=work.action, scope=CallScope(dict(work.records)),
                        task=self.task.name, attempt=work.attempt, own_group=work.group, custom=work.custom,
                        is_async=self.task.is_async,
                    )  # fmt: skip
            if self.outcome is not None:  # by what it has left behind
                self._context.scope.attachments["closed"] = True
        return self._context

    @property
    def has_called(self) -> bool:
        """Whether it has called anything so far."""
        return self._context is not None and self._context.scope.has_called

    @property
    def family(self) -> Family:
        """Threads and processes that it has started."""
        if self._family is None:
            self._family = Family(keep=self.task.config.reusable is not None)
        return self._family

    @property
    def drawing(self) -> Any:
        """Its thread that draws a display, as rich's bars do; None if it has none."""
        return self._family.drawing if self._family is not None else None

    def _sink(self, make: Callable[[Work], Sink]) -> Callable[[], Sink]:
        return functools.partial(make, self.work)

    def _enter(self, inherited: contextvars.Context | None) -> None:
        for variable, value in inherited.items() if inherited is not None else ():
            if not variable.name.startswith(OURS):
                variable.set(value)
        base = self.isolation.begin() if self.isolation is not None else None
        if self.run.surroundings:  # what the notebook has set up
            taken = applied(self.run.surroundings, base)
            if taken.enter is not None:
                taken.enter()
            base = taken.state
        if base is not None:
            self.place = Place(base, self.lane.computes_elsewhere) if self.lane is not None else Place(base)
        ctx.enter(self)
        classes = self.task.classes
        CLASSES.set(classes)
        if classes is not None and classes.variables:
            for variable, value in classes.variables.items():
                variable.set(value)
        OUTPUT.set(self.output)
        OWNER.set(weakref.ref(self))

    def run_sync(self) -> Outcome:
        """Execute a plain ``def`` body on this thread."""
        self.meter.turn(self)
        if self.activate is not None:
            self.activate()
        restore = self.begin()
        try:
            return self.variables.run(self._whole)
        except BaseException as exc:
            return self.variables.run(self._raised, exc)
        finally:
            self.finish(restore)

    def _whole(self) -> Outcome:
        args, kwargs = self._arguments()
        value = self.task.func(*args, **kwargs)
        if self.outlet is not None:
            self.outlet.send_all(value)
            return self._yielded(self.outlet)
        return self._returned(value)

    async def run_async(self) -> Outcome:
        """Execute an ``async def`` body on the running loop; the asyncio task must use `variables` as its context."""
        restore = self.begin()
        try:
            args, kwargs = self._arguments()
            if self.outlet is not None:
                await self.outlet.send_all_aio(self.task.func(*args, **kwargs))
                return self._yielded(self.outlet)
            value = await self.task.func(*args, **kwargs)
            return self._returned(value)
        except BaseException as exc:
            return self._raised(exc)
        finally:
            self.finish(restore)

    def begin(self) -> Callable[[], None] | None:
        """Take the process over, with the environment variables of the attempt; returns what restores them, for `finish`."""
        self.started_at = time.time()
        if self.isolation is not None and self.isolation.current is not self:
            self.isolation.turn(self)
        own = self.task.config.env_vars
        # In the user's own process another attempt's may be there.
        numbered = self.work.attempt or (self.isolation is None and "FLYTE_ATTEMPT_NUMBER" in os.environ)
        of_lane = self.lane.environment if self.lane is not None else None
        if not (numbered or own or of_lane or self.run.env_vars):
            return None
        env = {**(of_lane or {}), **dict(self.run.env_vars), **(own or {})}
        if numbered:
            env["FLYTE_ATTEMPT_NUMBER"] = str(self.work.attempt)
        if self.isolation is None:
            return set_environment(env)
        os.environ.update(env)
        return None

    def finish(self, restore: Callable[[], None] | None) -> None:
        """Release what the attempt holds, however its body ended."""
        if output.in_child:  # a child process that the body forked, and did not end
            leave_child(self.outcome is not None and self.outcome.kind == "ok")
        if restore is not None:
            restore()
        if self._context is not None:
            attachments = self._context.scope.attachments
            for close in attachments.pop("on_end", ()):
                close()
            attachments["closed"] = True
        self.leave_process()
        if self.isolation is not None and self.isolation.before_end is not None:
            self.isolation.before_end()
        self.output.close()

    def leave_process(self) -> None:
        """End what it started, and undo what it changed. Idempotent: an interrupt may have come in between."""
        if self._family is not None:
            self._family.end()
        if self.isolation is not None and self.isolation.has(self):
            self.isolation.end(self)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        # In the body's context, by which its classes are found.
        payload = self.work.payload
        before = time.perf_counter()
        args, kwargs = rebuilt(payload, "{} was not started: its arguments", self.task.name)
        self.unpacking = time.perf_counter() - before
        if nbytes(payload) > seeds.SMALLEST:
            self.generators = seeds.generators((*args, *kwargs.values()))
        if self.previews is not None and small(payload) is None:
            named = self.task.interface.named(args, kwargs)
            self.previews.put_inputs((self.work.run, self.work.action), named, payload)
        return args, kwargs

    def _returned(self, value: Any) -> Outcome:
        if self.stop:
            return self._ended(self.stop)
        value = self.task.interface.check_outputs(value)
        return self._ended("ok", NONE) if value is None else self._sent(value, self._serialized(value))

    def _serialized(self, value: Any) -> Payload:
        try:
            return dumps(value, self._gateway.blobs.results)
        except UnpicklableError as exc:
            raise UnpicklableError(
                f"the result of {self.task.name} cannot be sent back: {exc}. Return what it is made from instead."
            ) from exc.__cause__

    def _sent(self, value: Any, payload: Payload) -> Outcome:
        limit = self.task.config.max_inline_io_bytes
        if limit != MAX_INLINE_IO_BYTES and inline_bytes(payload) > limit:
            raise too_large(self.task, f"the result of {self.task.name}", value, inline_bytes(payload))
        if self.previews is not None and small(payload) is None:
            self.previews.put((self.work.run, self.work.action), value, payload)
        if self.work.row is not None and type(payload) is bytes and NAMES_CLASS not in payload:
            return self._ended("ok", payload)  # plain: who looks makes the text of it
        return self._ended("ok", payload, preview=brief(value, PREVIEW_CHARS))

    def _yielded(self, outlet: Outlet) -> Outcome:
        """All items are yielded, or nobody wants more: the owner has them, and makes the record."""
        if self.stop and not outlet.left:
            return self._ended(self.stop)
        return self._ended("ok", _NO_ITEMS, preview=outlet.summary)

    def _raised(self, exc: BaseException) -> Outcome:
        if self.outcome is not None:  # decided already, by `fails_with`
            return self.outcome
        if self.outlet is not None and self.outlet.left and isinstance(exc, asyncio.CancelledError):
            return self._yielded(self.outlet)
        if self.stop:
            return self._ended(self.stop)
        if isinstance(exc, asyncio.CancelledError):
            return self._ended("cancelled")
        try:
            note = note_of(exc, self.task.name, self.work, self.location[0])
        except Exception as fault:
            note = broken(fault)
        return self._ended("error", error=note)

    def made(self, variables: contextvars.Context) -> bool:
        """Whether a context is this body's, or a copy of it: that of a callback or an asyncio task that it made."""
        found = ctx.of(variables)
        return found is not None and (found.run.name, found.action) == self.work[:2]

    def fails_with(self, error: BaseException) -> None:
        """End it with an error that its own code raised elsewhere: in a callback of its loop."""
        self._raised(error)

    def _ended(self, kind: str, value: Any = None, error: ErrorNote | None = None, preview: str = "") -> Outcome:
        run, action, attempt = self.work[:3]
        busy = self.meter.end(self)
        # A row that was too quick to be looked at has not been measured; one that was is told of by itself, with its text.
        used = NOTHING_USED if not self.memory and self.work.row is not None else self._used(value)
        if used is not NOTHING_USED and self.work.row is not None and type(value) is bytes:
            preview = preview or preview_of(value)
        self.outcome = Outcome(
            run, action, attempt, kind, value, error, self.started_at, time.time(), preview, self.location, busy, used,
            kind != "ok" and not self.has_called,
        )  # fmt: skip
        return self.outcome

    def _used(self, value: Payload | None) -> Used:
        """What it has used."""
        memory = max(self.memory, self.meter.memory()) if self.memory else 0
        given = nbytes(value) if value is not None else 0
        return self.cpu, memory, nbytes(self.work.payload), given, self.loading, self.unpacking


def broken(exc: BaseException) -> ErrorNote:
    """The note of a fault of ours, where even the failure record could not be made: it must not look like a cancellation."""
    text = "".join(traceback.format_exception(exc))
    message = f"flyte_nb failed while running the task: {text}"[-MAX_MESSAGE:]
    return ErrorNote("system", "RuntimeSystemError", message, recoverable=False)


def note_of(exc: BaseException, task: str, work: Work, worker: str = "") -> ErrorNote:
    """The small note, with its failure record, of an exception that ended an attempt."""
    from flyte_nb.core.failures.capture import capture

    record = capture(exc, task=task, action=work.action, label=work.label, attempt=work.attempt, worker=worker)
    recoverable = not isinstance(exc, errors.NonRecoverableError)
    return ErrorNote(record.kind, record.code, record.message[:MAX_MESSAGE], record.where, record.dumps(), recoverable)


def set_environment(env: dict[str, str]) -> Callable[[], None]:
    """Set environment variables of this process; returns what puts the old values back."""
    before = {name: os.environ.get(name) for name in env}
    os.environ.update(env)

    def restore() -> None:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    return restore
