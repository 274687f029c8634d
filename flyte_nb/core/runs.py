"""``flyte.run`` and what it returns: a `Run`. Runs in: the calling code.

`Engine` is what a run needs of the place it runs in: this process (`flyte_nb.core.local.LocalEngine`), or a kernel with a
cluster (`flyte_nb.kernel.session.Session`).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import os
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from typing import Any, Protocol

from flyte_nb.core import dual, initialized, onfailure, rerun
from flyte_nb.core import events as ev
from flyte_nb.core.call import Call, Settled, cache_key_of, label_of
from flyte_nb.core.context import Context, Frame, RunInfo, current
from flyte_nb.core.dual import DualIterator
from flyte_nb.core.errors import RuntimeUserError
from flyte_nb.core.model import Action, Phase
from flyte_nb.core.notices import announce_defined
from flyte_nb.core.port import Port
from flyte_nb.core.recall import Recall
from flyte_nb.core.registry import REGISTRY
from flyte_nb.core.report import page_of
from flyte_nb.core.scratch import session_folder
from flyte_nb.core.serial import dumps
from flyte_nb.core.store import RunRecord, RunStore
from flyte_nb.core.task import Task
from flyte_nb.core.trace import close_lost

#: Looks (20 ms apart) at a run whose root has ended after which a step that still seems to run was lost with its process.
LOST_STEPS_AFTER = 15
#: Name of the action that a run begins with.
ROOT = rerun.ROOT
#: Seconds between two looks of `Run.watch`.
WATCH_EVERY = 0.05


class Engine(Protocol):
    """Where runs run."""

    port: Port
    store: RunStore
    recall: Recall

    def new_run_name(self) -> str:
        """A name that no other run here has."""

    def info_of(self, run: str) -> RunInfo | None:
        """What a run's actions know of it; None if it is forgotten."""

    def is_open(self, run: str) -> bool:
        """Whether the cell of a run is still at it: more calls may come."""

    def is_attended(self) -> bool:
        """Whether a person can decide over parked actions and attach to breakpoints."""

    def resolve(self, run: str, action: str, op: str, payload: Any, task: Any, info: RunInfo) -> None:
        """Decide over a parked action, whoever sees it through: `Controller.resolve`. On the controller's thread."""


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


class ActionOutputs(tuple[Any, ...]):  # noqa: SLOT001 - as Flyte's
    """Outputs of a run: a tuple, one value for each output; `o0`, `o1`, ... (the fields of a NamedTuple) name them."""

    _names: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: tuple[Any, ...], names: tuple[str, ...]) -> ActionOutputs:
        """Values under their names."""
        made = cls(values)
        made._names = names
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, tuple) and len(self) == 1:
            return bool(self[0] == other)
        return tuple.__eq__(self, other) if isinstance(other, tuple) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            if name in self._names:
                return self[self._names.index(name)]
            if name[:1] == "o" and name[1:].isdigit() and int(name[1:]) < len(self):
                return self[int(name[1:])]
        raise AttributeError(f"these outputs have no {name!r}: {self!r}")

    @property
    def named_outputs(self) -> dict[str, Any]:
        """Values by name."""
        names = self._names or tuple(f"o{i}" for i in range(len(self)))
        return dict(zip(names, self, strict=False))

    def __repr__(self) -> str:
        return "ActionOutputs(" + ", ".join(f"{name}={value!r}" for name, value in self.named_outputs.items()) + ")"

    def __reduce__(self) -> tuple[Any, ...]:
        return ActionOutputs.of, (tuple(self), self._names)


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
        remember(self)
        assert self._task is not None
        announce_defined(self._task.config)
        info, port = self._info, self._engine.port
        payload = dumps(self._bound, port.blobs)
        label = label_of(self._task.short_name, self._bound, self._task.input_names)
        call = Call(
            self._task, info, ROOT, "", payload, label, "", self._custom, kind="root",
            cache_key=cache_key_of(self._task, info, self._bound),
        )  # fmt: skip
        opened = ev.RunOpened(info.name, title, "run", info.started_at.timestamp(), recovers=info.recovers)
        port.run_soon(port.controller.emit, opened)
        port.submit(call, self._settle)

    _custom: tuple[tuple[str, str], ...] = ()

    def _settle(self, settled: Settled) -> None:
        # On the controller's thread; the root's end is folded, its stragglers may still be ending.
        self._settled = settled
        self._close_when_quiet()

    def _close_when_quiet(self, tries: int = 0) -> None:
        port, run = self._engine.port, self._info.name
        record = self._engine.store.runs.get(run)
        if record is not None and tries == LOST_STEPS_AFTER:
            close_lost(record, port.controller.emit, port.controller.clock.time())
        if record is not None and record.unfinished and tries < 200:
            port.loop.call_later(0.02 if tries < 20 else 0.05, self._close_when_quiet, tries + 1)
            return
        root = record.actions.get(ROOT) if record else None
        phase = root.phase if root is not None and root.phase.is_terminal else Phase.ABORTED
        port.controller.emit(ev.RunClosed(run, phase, port.controller.clock.time(), root.error if root else None))
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
            with self._engine.port.blocking():
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
        return self._engine.port.open(self._settled)

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
        from flyte_nb.core.errors import RunNotDoneError

        if not self.done():
            raise RunNotDoneError(f"run {self.name} is {self.phase.value}: call wait() first")
        self._value()

    raise_for_status = Dual(_raise_for_status)

    def _abort(self, reason: str = "aborted") -> None:
        port = self._engine.port
        port.run_soon(port.controller.abort, self.name, ROOT, reason)

    abort = Dual(_abort)
    cancel = Dual(_abort)

    def _get_logs(self, **_ignored: Any) -> list[str]:
        record = self._engine.port.ask(lambda: self._record)
        return [line.text for _, line in record.logs.merged()] if record else []

    get_logs = DualIterator(_get_logs)

    def _get_report(self, **_ignored: Any) -> str:
        """The report of its root as one HTML page; where that has none, those of all its actions; "" if there are none."""
        record = self._record
        return self._engine.port.ask(page_of, record, ROOT) or self._engine.port.ask(page_of, record) if record else ""

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
        if self._engine.port.loop.is_closed():
            raise LookupError(f"{self.name} ran on a cluster that was closed since: run its cell again.")
        return self._engine.port.ask(function, *args)

    def _find(self, action: Action | str) -> Action:
        name = action if isinstance(action, str) else action.name
        record = self._record
        found = record.find(name.rpartition("/")[2]) if record else None
        if found is None:
            raise LookupError(f"{self.name} has no action {name!r}; `run.actions` lists them.")
        return found

    def _decide(self, action: Action, op: str, payload: Any) -> None:
        if not rerun.is_parked(action):
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
            task, info = REGISTRY.latest(action.task), rerun.renewed_run(record, info)
        self._engine.resolve(self.name, action.name, op, payload, task, info)

    def _retry(self, only: Action | None) -> None:
        """Retry what is parked, or else what has ended. On the controller's thread."""
        record = self._record
        if record is None:
            raise LookupError(f"{self.name} is not kept any more: this kernel remembers its latest 200 runs.")
        wanted = [only] if only is not None else [record.actions[name] for name in record.numbered]
        parked = [action for action in wanted if rerun.is_parked(action)]
        for action in parked:
            self._resolve(action, "retry")
        if parked:
            return
        if record.state.ended_at is None and (record.state.kind != "cell" or self._engine.is_open(self.name)):
            raise RuntimeError(
                f"{self.name} is still running; what failed can be retried when it has ended. Under on_failure='pause' a "
                "failed action waits to be retried while its run goes on."
            )
        made = rerun.plan(self._engine, record, only)
        if any(not action.phase.is_terminal for action in made.actions):
            raise RuntimeError(f"{made.actions[0].id} {made.actions[0].label} is still {made.actions[0].phase.value}.")
        self._begin_again()
        rerun.start(self._engine, made, self._settle_again)

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
        found = self._ask(rerun.results_of, self._engine, record, group, task)
        return rerun.open_results(found, self.name, return_exceptions=return_exceptions)

    results = Dual(_results)

    get = dual.Dual(lambda name: _find(name), name="get")  # noqa: PLW0108 - it is defined below
    listall = dual.DualIterator(lambda **wanted: _listed(**wanted), name="listall")  # noqa: PLW0108 - as above

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.to_thread(self._value).__await__()


class _Runner:
    """``with_runcontext(...)``: how to run, and `run`."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    def _run(self, task: Any, *args: Any, **kwargs: Any) -> Run:
        if not isinstance(task, Task):
            raise TypeError(
                f"On Flyte tasks can be run, not generic functions or methods: {task!r}. Decorate it with @env.task."
            )
        bound = task.interface.bind(args, kwargs)
        context = current()
        inside = context.run.mode if context is not None and context.in_task else ""
        mode = self._options.get("mode") or inside or default_mode()
        if mode != "local" and inside:
            from flyte_nb.core import farrun

            if farrun.is_far(context):
                return farrun.start(context, task, bound, self._options)  # type: ignore[arg-type]
        engine = engine_for(mode)
        namesake = known(self._options.get("name") or "")
        if namesake is not None and namesake._engine is engine:
            raise RuntimeUserError(
                "RunAlreadyExistsError",
                f"there is a run {self._options['name']!r} already. Choose another name, or leave it out.",
            )
        info = _info(engine, mode, self._options)
        run = Run(engine, info, task, bound)
        run._custom = tuple((self._options.get("custom_context") or {}).items())
        run._launch(task.name)
        if mode == "local":
            run._value()
        else:
            _remember(run)
        return run

    run = Dual(_run)

    def _rerun(self, run_name: str, action_name: str = ROOT, **options: Any) -> Run:
        from flyte_nb.core.recover import rerun_with

        return rerun_with(self._options, run_name, action_name, **options)

    rerun = Dual(_rerun)


#: Runs that `runs()` knows, at most as many as the store keeps.
MAX_KNOWN = 200

_known: OrderedDict[str, Run] = OrderedDict()
_live: dict[str, Run] = {}
_engines: dict[str, Callable[[], Engine]] = {}
_local: list[Engine] = []


def _remember(run: Run) -> None:
    for name in [name for name, old in _live.items() if old.done()]:
        del _live[name]
    _live[run.name] = run


def remember(run: Run) -> None:
    """Have `runs` and `last_run` know a run."""
    _known[run.name] = run
    while len(_known) > MAX_KNOWN:
        _known.popitem(last=False)


def _find(name: str) -> Run:
    """A run of this process, by name.

    Raises:
        errors.ActionNotFoundError: There is none, or it is forgotten.
    """
    from flyte_nb.core.errors import ActionNotFoundError

    found = _known.get(name)
    context = current()
    if found is None and context is not None and context.in_task:
        from flyte_nb.core import farrun

        if farrun.is_far(context):
            return farrun.find(context, name)
    if found is None:
        latest = ", ".join(list(_known)[-5:]) or "none"
        raise ActionNotFoundError(f"There is no run {name!r} in this process; the latest are: {latest}.")
    return found


def known(name: str) -> Run | None:
    """A run of this process; None if there is none of that name, or it is forgotten."""
    return _known.get(name)


def _listed(*, in_phase: Any = None, task_name: str | None = None, limit: int = 100, **_ignored: Any) -> Iterator[Run]:
    """Runs of this process, oldest first.

    Args:
        in_phase: Only those in this phase, or one of these.
        task_name: Only those of this task.
        limit: Most runs to give: the latest.
    """
    phases = {str(phase) for phase in ([in_phase] if isinstance(in_phase, str) else in_phase)} if in_phase else None
    found = [
        run
        for run in list(_known.values())
        if (phases is None or str(run.phase) in phases)
        and (task_name is None or (run._task is not None and run._task.name == task_name))
    ]
    return iter(found[-limit:])


def forget(engine: Engine) -> None:
    """An engine was closed: its runs are not found any more."""
    for name in [name for name, run in _known.items() if run._engine is engine]:
        _known.pop(name)._finished.set()  # its thread closes no run any more


def runs() -> dict[str, Run]:
    """The runs of this process by name, oldest first: those of cells that awaited tasks, and those of `run`.

    Example:
        >>> await flyte_nb.runs()["r3"].retry_failed()
    """
    return dict(_known)


def last_run() -> Run:
    """The run that began last: of a cell that awaited tasks, or of `run`.

    Raises:
        LookupError: There is none yet.
    """
    if not _known:
        raise LookupError("there is no run yet: await a task in a cell, or call flyte_nb.run(task, ...)")
    return next(reversed(_known.values()))


def unfinished() -> Iterator[Run]:
    """Runs started with `run` that have not ended."""
    return (run for run in list(_live.values()) if not run.done())


def provide(mode: str, engine: Callable[[], Engine]) -> None:
    """Say who runs runs of a mode."""
    _engines[mode] = engine


def default_mode() -> str:
    """The mode of a plain `run`: "remote" where a cluster can be had, "local" otherwise."""
    return "remote" if "remote" in _engines else "local"


def engine_for(mode: str) -> Engine:
    """The engine of a mode ("local", "remote" or "hybrid").

    Raises:
        ValueError: There is no such mode.
    """
    if mode in {"remote", "hybrid"} and "remote" in _engines:
        return _engines["remote"]()
    if mode not in {"local", "remote", "hybrid"}:
        raise ValueError(f"mode must be 'local', 'remote' or 'hybrid', not {mode!r}")
    if not _local:
        from flyte_nb.core.local import LocalEngine

        _local.append(LocalEngine())
    return _local[0]


def _info(engine: Engine, mode: str, options: dict[str, Any]) -> RunInfo:
    limit = options.get("max_action_concurrency") or 0
    if limit < 0:
        raise ValueError(f"max_action_concurrency must be 0 or more, not {limit}")
    interactive = options.get("interactive_mode")
    if interactive is None:
        interactive = mode != "local" and engine.is_attended()
    interactive = bool(interactive)
    started = options.get("run_start_time") or dt.datetime.now(dt.UTC)
    return RunInfo(
        name=options.get("name") or engine.new_run_name(),
        home=getattr(engine, "home", "local"),
        started_at=started,
        mode="local" if mode == "local" else "remote",
        project=options.get("project") or initialized.project(),
        domain=options.get("domain") or initialized.domain(),
        version=options.get("version") or "",
        raw_data_path=_place(options.get("raw_data_path")),
        run_base_dir=options.get("run_base_dir") or "",
        interactive_mode=interactive,
        disable_run_cache=bool(options.get("disable_run_cache")),
        overwrite_cache=bool(options.get("overwrite_cache")),
        env_vars=tuple((options.get("env_vars") or {}).items()),
        labels=tuple((options.get("labels") or {}).items()),
        annotations=tuple((options.get("annotations") or {}).items()),
        max_action_concurrency=limit,
        on_failure=onfailure.way_of(options.get("on_failure"), interactive),
        breakpoint_wait=onfailure.wait_of(options.get("breakpoint_wait"), interactive),
        strict_sync=bool(options.get("strict_sync")),
    )


def _place(path: Any) -> str:
    """Where a run's large data goes: a path, or Flyte's `RawDataPath`."""
    path = getattr(path, "path", path)
    return os.fspath(path) if path else session_folder()


def with_runcontext(mode: str | None = None, **options: Any) -> _Runner:
    """Say how to run: ``flyte.with_runcontext(mode="local").run(task, ...)``.

    Args:
        mode: "local" (this process; blocks, and raises the task's error), "remote" (the cluster), None = the cluster where
            there is one.
        **options: ``name version env_vars labels annotations project domain raw_data_path run_base_dir run_start_time
            custom_context disable_run_cache overwrite_cache interactive_mode max_action_concurrency on_failure`` and, without
            effect here, ``copy_style dry_run log_level log_format queue notifications ...``.
    """
    if mode not in {None, "local", "remote", "hybrid"}:
        raise ValueError(f"mode must be 'local', 'remote' or 'hybrid', not {mode!r}")
    return _Runner({"mode": mode, **options})


class _Run:
    """``flyte.run``; `aio` is its asynchronous form."""

    def __call__(self, task: Any, *args: Any, **kwargs: Any) -> Run:
        """Run a task as a run of its own; on a cluster, returns at once.

        Args:
            task: The task.
            *args: Its arguments.
            **kwargs: Its arguments.

        Raises:
            TypeError: `task` is no task.
            errors.ArgumentError: The arguments do not fit.
        """
        return _Runner({})._run(task, *args, **kwargs)

    async def aio(self, task: Any, *args: Any, **kwargs: Any) -> Run:
        """As `run`, without blocking the loop."""
        return await asyncio.to_thread(_Runner({})._run, task, *args, **kwargs)


run = _Run()


def cell_context(engine: Engine, info: RunInfo) -> Context:
    """The context of a notebook cell: its calls are children of an implicit root."""
    return Context(port=engine.port, run=info, action=ROOT, frame=Frame(), in_task=False)


__all__ = ["ROOT", "ActionOutputs", "Engine", "Run", "cell_context", "run", "with_runcontext"]
