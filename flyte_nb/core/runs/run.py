"""A run as an object: wait for it, look at it, retry what failed, decide over parked actions. Runs in: the calling code."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from typing import Any, ClassVar

from flyte_nb.core.control.calls import Call, Settled
from flyte_nb.core.control.orphans import close_lost
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Action, Phase
from flyte_nb.core.history.report_page import page_of
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.runs import retry
from flyte_nb.core.runs.engine import ROOT, WATCH_EVERY, Engine
from flyte_nb.core.runs.outputs import ActionOutputs
from flyte_nb.core.tasks.prepare import cache_key_of, label_of
from flyte_nb.core.tasks.registry import REGISTRY, announce_defined
from flyte_nb.core.tasks.task import Task
from flyte_nb.core.transport.payload import dumps
from flyte_nb.core.values.aio import DualIterator

#: Looks (20 ms apart) at a run whose root has ended after which a step that still seems to run was lost with its process.
LOST_STEPS_AFTER = 15


class Dual:
    """A method that blocks, with an ``.aio`` form that awaits: Flyte's convention."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        functools.update_wrapper(self, function)  # type: ignore[arg-type]

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        bound = functools.partial(self._function, instance)

        async def aio(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(bound, *args, **kwargs)

        bound.aio = aio  # type: ignore[attr-defined]
        return bound


class _Watching:
    """What ``run.watch()`` gives: for ``for`` and for ``async for``."""

    def __init__(self, plain: Callable[[], Iterator[Run]], aio: Callable[[], AsyncIterator[Run]]) -> None:
        self._plain = plain
        self._aio = aio

    def __iter__(self) -> Iterator[Run]:
        return self._plain()

    def __aiter__(self) -> AsyncIterator[Run]:
        return self._aio()


class DualWatch:
    """A method that gives values as they come, to ``for`` or, as ``.aio`` or not, to ``async for``."""

    def __init__(self, plain: Callable[..., Iterator[Run]], aio: Callable[..., AsyncIterator[Run]]) -> None:
        self._plain = plain
        self._aio = aio

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self

        def watch(**options: Any) -> _Watching:
            return _Watching(
                functools.partial(self._plain, instance, **options), functools.partial(self._aio, instance, **options)
            )

        watch.aio = watch  # type: ignore[attr-defined]
        return watch


class Run:
    """One run. ``await run`` gives the value of its task."""

    def __init__(self, engine: Engine, info: RunInfo, task: Task[..., Any] | None, bound: Any) -> None:
        self._engine = engine
        self._info = info
        self._task = task
        self._bound = bound
        self._settled: Settled | None = None
        self._finished = threading.Event()

    # -- life -----------------------------------------------------------------------------------------------------

    def _launch(self, title: str) -> None:
        assert self._task is not None
        announce_defined(self._task.config)
        info, gateway = self._info, self._engine.gateway
        payload = dumps(self._bound, gateway.blobs)
        label = label_of(self._task.short_name, self._bound, self._task.input_names)
        call = Call(
            self._task, info, ROOT, "", payload, label, "", self._custom, kind="root",
            cache_key=cache_key_of(self._task, info, self._bound),
        )  # fmt: skip
        opened = ev.RunOpened(info.name, title, "run", info.started_at.timestamp(), recovers=info.recovers)
        gateway.emit(opened)
        gateway.submit(call, self._settle)

    _custom: tuple[tuple[str, str], ...] = ()

    def _settle(self, settled: Settled) -> None:
        # On the controller's thread; the root's end is folded, its stragglers may still be ending.
        self._settled = settled
        self._close_when_quiet()

    def _close_when_quiet(self, tries: int = 0) -> None:
        gateway, run = self._engine.gateway, self._info.name
        record = self._engine.store.runs.get(run)
        if record is not None and tries == LOST_STEPS_AFTER:
            close_lost(record, self._engine.controller.emit, self._engine.controller.now())
        if record is not None and record.unfinished and tries < 200:
            gateway.loop.call_later(0.02 if tries < 20 else 0.05, self._close_when_quiet, tries + 1)
            return
        root = record.actions.get(ROOT) if record else None
        phase = root.phase if root is not None and root.phase.is_terminal else Phase.ABORTED
        self._engine.controller.emit(
            ev.RunClosed(run, phase, self._engine.controller.now(), root.error if root else None)
        )
        self._finished.set()

    # -- facts ----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Unique in this process."""
        return self._info.name

    @property
    def url(self) -> str:
        """Where it is shown: in the notebook."""
        return f"flyte-nb://{self.name}"

    @property
    def _record(self) -> RunRecord | None:
        """What is known of it; None before it has opened, and once it is forgotten."""
        return self._engine.store.runs.get(self.name)

    @property
    def phase(self) -> Phase:
        """Where it stands."""
        record = self._record
        return record.state.phase if record is not None else Phase.QUEUED

    @property
    def action(self) -> Action | None:
        """Its root action."""
        record = self._record
        return record.actions.get(ROOT) if record else None

    @property
    def actions(self) -> list[Action]:
        """Its actions, root first, in order of arrival."""
        record = self._record
        return [record.actions[name] for name in list(record.numbered)] if record else []

    def done(self) -> bool:
        """Whether nothing of it executes any more."""
        return self._finished.is_set()

    def __repr__(self) -> str:
        return f"<Run {self.name} {self._task.name if self._task else ''} {self.phase.name}>"

    # -- waiting --------------------------------------------------------------------------------------------------

    def _wait(self, quiet: bool = False, wait_for: str = "terminal", **_ignored: Any) -> None:
        try:
            with self._engine.gateway.blocking():
                while not self._finished.wait(WATCH_EVERY if wait_for == "running" else None):
                    if self.phase is not Phase.QUEUED:
                        return
        except BaseException:  # KeyboardInterrupt: stop means stop
            self.abort(reason="interrupted")
            raise

    wait = Dual(_wait)

    def _value(self) -> Any:
        self._wait()
        assert self._settled is not None
        return self._settled.result()

    def _outputs(self) -> ActionOutputs:
        value = self._value()
        outputs = self._task.interface.outputs if self._task else {"o0": None}
        names = tuple(outputs) or ("o0",)
        if (len(outputs) > 1 or hasattr(value, "_fields")) and isinstance(value, tuple | list):
            return ActionOutputs.of(tuple(value), names)
        return ActionOutputs.of((value,), names)

    outputs = Dual(_outputs)

    def _inputs(self) -> Mapping[str, Any]:
        assert self._task is not None
        return self._task.interface.named(*self._bound)

    inputs = Dual(_inputs)

    def _raise_for_status(self) -> None:
        from flyte_nb.errors import RunNotDoneError

        if not self.done():
            raise RunNotDoneError(f"run {self.name} is {self.phase.value}: call wait() first")
        self._value()

    raise_for_status = Dual(_raise_for_status)

    def _abort(self, reason: str = "aborted") -> None:
        gateway = self._engine.gateway
        gateway.abort(self.name, ROOT, reason)

    abort = Dual(_abort)
    cancel = Dual(_abort)

    def _get_logs(self, **_ignored: Any) -> list[str]:
        record = self._engine.gateway.ask(lambda: self._record)
        return [line.text for _, line in record.logs.merged()] if record else []

    get_logs = DualIterator(_get_logs)

    def _get_report(self, **_ignored: Any) -> str:
        """The report of its root as one HTML page; where that has none, those of all its actions; "" if there are none."""
        record = self._record
        return (
            self._engine.gateway.ask(page_of, record, ROOT) or self._engine.gateway.ask(page_of, record)
            if record
            else ""
        )

    get_report = Dual(_get_report)

    def _watch(self, **_ignored: Any) -> Iterator[Run]:
        """The run itself, each time its phase has changed, until it has ended."""
        seen = None
        while not self.done():
            if self.phase is not seen:
                seen = self.phase
                yield self
            time.sleep(WATCH_EVERY)
        yield self

    async def _watch_aio(self, **_ignored: Any) -> AsyncIterator[Run]:
        seen = None
        while not self.done():
            if self.phase is not seen:
                seen = self.phase
                yield self
            await asyncio.sleep(WATCH_EVERY)
        yield self

    watch = DualWatch(_watch, _watch_aio)

    def _show_logs(self, **_ignored: Any) -> None:
        for line in self._get_logs():
            print(line)  # noqa: T201 - what it is for

    show_logs = Dual(_show_logs)

    def _details(self) -> Run:
        return self

    details = Dual(_details)

    def _first_failure(self) -> Any:
        from types import SimpleNamespace

        failed = [a for a in self.actions if a.phase.is_failure]
        failed.sort(key=lambda a: (a.name == ROOT, a.ended_at or 0.0))
        if not failed:
            return None
        first = failed[0]
        message = first.error.message if first.error else ""
        return SimpleNamespace(task_name=first.task, error_message=message, name=first.name, action=first)

    first_failure = Dual(_first_failure)

    # -- retrying, and deciding over parked actions ---------------------------------------------------------------

    def retry_failed(self) -> Run:
        """Run what failed again, with the code that its tasks have now; what succeeded is not computed again.

        Actions that were cancelled (siblings in a `TaskGroup`) count as failed. Parked actions are retried as well.

        Returns:
            The run itself: ``await run.retry_failed()`` waits, and gives what `results` gives.

        Raises:
            LookupError: Nothing failed, or the arguments are not kept any more.
            RuntimeError: Its cell is still running, and nothing of it is parked.
        """
        self._ask(self._retry, None)
        return self

    def retry(self, action: Action | str) -> Run:
        """Run one failed or parked action again, with the code of now.

        Args:
            action: The action, or its name: "a17".

        Raises:
            LookupError: There is no such action, or its arguments are not kept any more.
            RuntimeError: It is neither parked nor has it ended.
        """
        self._ask(self._retry, self._find(action))
        return self

    def resume(self, action: Action | str, value: Any) -> None:
        """Let a parked action succeed with a value, as if its task had returned it.

        Args:
            action: The action, or its name: "a17".
            value: What whoever awaits it gets.

        Raises:
            LookupError: There is no such action.
            RuntimeError: It is not parked.
            errors.RuntimeDataValidationError: The value is not what the task returns.
        """
        found = self._find(action)
        task = REGISTRY.latest(found.task)
        if task is not None:
            value = task.interface.check_outputs(value)
        self._decide(found, "resume", dumps(value))

    def fail(self, action: Action | str) -> None:
        """Let a parked action fail with the error that parked it.

        Args:
            action: The action, or its name: "a17".

        Raises:
            LookupError: There is no such action.
            RuntimeError: It is not parked.
        """
        self._decide(self._find(action), "raise", None)

    def _ask(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function on the controller's thread.

        Raises:
            LookupError: The run's cluster was closed.
        """
        if self._engine.gateway.loop.is_closed():
            raise LookupError(f"{self.name} ran on a cluster that was closed since: run its cell again.")
        return self._engine.gateway.ask(function, *args)

    def _find(self, action: Action | str) -> Action:
        name = action if isinstance(action, str) else action.name
        record = self._record
        found = record.find(name.rpartition("/")[2]) if record else None
        if found is None:
            raise LookupError(f"{self.name} has no action {name!r}; `run.actions` lists them.")
        return found

    def _decide(self, action: Action, op: str, payload: Any) -> None:
        if not retry.is_parked(action):
            note = f" ({action.note})" if action.phase is Phase.PAUSED else ""
            raise RuntimeError(
                f"{self.name}/{action.id} {action.label} is {action.phase.value}{note}, not parked: cannot {op} it."
            )
        self._ask(self._resolve, action, op, payload)

    def _resolve(self, action: Action, op: str, payload: Any = None) -> None:
        record, info = self._record, self._info
        assert record is not None
        task = None
        if op == "retry":
            task, info = REGISTRY.latest(action.task), retry.renewed_run(record, info)
        self._engine.resolve(self.name, action.name, op, payload, task, info)

    def _retry(self, only: Action | None) -> None:
        """Retry what is parked, or else what has ended. On the controller's thread."""
        record = self._record
        if record is None:
            raise LookupError(f"{self.name} is not kept any more: this kernel remembers its latest 200 runs.")
        wanted = [only] if only is not None else [record.actions[name] for name in record.numbered]
        parked = [action for action in wanted if retry.is_parked(action)]
        for action in parked:
            self._resolve(action, "retry")
        if parked:
            return
        if record.state.ended_at is None and (record.state.kind != "cell" or self._engine.is_open(self.name)):
            raise RuntimeError(
                f"{self.name} is still running; what failed can be retried when it has ended. Under on_failure='pause' a "
                "failed action waits to be retried while its run goes on."
            )
        made = retry.plan(self._engine, record, only)
        if any(not action.phase.is_terminal for action in made.actions):
            raise RuntimeError(f"{made.actions[0].id} {made.actions[0].label} is still {made.actions[0].phase.value}.")
        self._begin_again()
        retry.start(self._engine, made, self._settle_again)

    def _begin_again(self) -> None:
        self._settled = None
        self._finished.clear()

    def _settle_again(self, _call: Call) -> Callable[[Settled], None]:
        return self._settle

    def _results(self, *, return_exceptions: bool = False, group: str = "", task: str = "") -> list[Any]:
        """What the calls that its cell (or its first task) made gave, in call order: what a gather over all of them gives.

        Args:
            return_exceptions: Put the error of a failed call in its place, as ``gather`` does; else the first is raised.
            group: Only calls of this group.
            task: Only calls of this task, by its full name or the function's.

        Raises:
            errors.BaseRuntimeError: A call failed.
            LookupError: A result is too large to have been kept.
        """
        self._wait()
        record = self._record
        if record is None:
            raise LookupError(f"{self.name} is not kept any more: this kernel remembers its latest 200 runs.")
        found = self._ask(retry.results_of, self._engine, record, group, task)
        return retry.open_results(found, self.name, return_exceptions=return_exceptions)

    results = Dual(_results)

    #: Find runs by name: set by `flyte_nb.core.runs.run_registry`, which knows them.
    get: ClassVar[Any]
    listall: ClassVar[Any]

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.to_thread(self._value).__await__()
