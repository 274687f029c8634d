"""Start a run: ``flyte.run`` and ``flyte.with_runcontext``. Runs in: the calling code."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
from typing import Any

from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.runs import defaults, on_failure
from flyte_nb.core.runs.engine import ROOT, Engine
from flyte_nb.core.runs.run import Dual, Run
from flyte_nb.core.runs.run_registry import default_mode, engine_for, keep_until_done, known
from flyte_nb.core.tasks.context import CallScope, Context, current
from flyte_nb.core.tasks.task import Task
from flyte_nb.core.transport.process_folder import session_folder
from flyte_nb.errors import RuntimeUserError


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
            from flyte_nb.core.runs import worker_run

            if worker_run.is_far(context):
                return worker_run.start(context, task, bound, self._options)  # type: ignore[arg-type]
        engine = engine_for(mode)
        namesake = known(self._options.get("name") or "")
        if namesake is not None and namesake._engine is engine:
            raise RuntimeUserError(
                "RunAlreadyExistsError",
                f"there is a run {self._options['name']!r} already. Choose another name, or leave it out.",
            )
        info = info_for(engine, mode, self._options)
        run = Run(engine, info, task, bound)
        run._custom = tuple((self._options.get("custom_context") or {}).items())
        run._launch(task.name)
        if mode == "local":
            run._value()
        else:
            keep_until_done(run)
        return run

    run = Dual(_run)

    def _rerun(self, run_name: str, action_name: str = ROOT, **options: Any) -> Run:
        from flyte_nb.core.runs.rerun import rerun_with

        return rerun_with(self._options, run_name, action_name, **options)

    rerun = Dual(_rerun)


def info_for(engine: Engine, mode: str, options: dict[str, Any]) -> RunInfo:
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
        project=options.get("project") or defaults.project(),
        domain=options.get("domain") or defaults.domain(),
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
        on_failure=on_failure.way_of(options.get("on_failure"), interactive),
        breakpoint_wait=on_failure.wait_of(options.get("breakpoint_wait"), interactive),
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
    return Context(gateway=engine.gateway, run=info, action=ROOT, scope=CallScope(), in_task=False)
