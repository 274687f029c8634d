"""Start a run: ``flyte.run`` and ``flyte.with_runcontext``. Runs in: the calling code."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from flyte_nb.core.runs import run_proxy
from flyte_nb.core.runs.defaults import info_for
from flyte_nb.core.runs.engine import ROOT
from flyte_nb.core.runs.rerun import rerun_with
from flyte_nb.core.runs.run import Run
from flyte_nb.core.runs.run_control import RunControl
from flyte_nb.core.runs.run_registry import default_mode, detached, engine_for, known, launch
from flyte_nb.core.settings.options import check_run_options
from flyte_nb.core.tasks.context import of_task
from flyte_nb.core.tasks.task import Task
from flyte_nb.core.values.aio import blocking
from flyte_nb.errors import RuntimeUserError

P = ParamSpec("P")
T = TypeVar("T")


class Start(Protocol):
    """`run`, as type checkers see it: the arguments are the task's, and awaiting the run gives what the task does."""

    @overload
    def __call__(self, task: Task[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Run[T]: ...
    @overload
    def __call__(self, task: Task[P, T], *args: P.args, **kwargs: P.kwargs) -> Run[T]: ...
    def __call__(self, task: Any, *args: Any, **kwargs: Any) -> Run[Any]:
        """Run a task."""

    @overload
    async def aio(self, task: Task[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Run[T]: ...
    @overload
    async def aio(self, task: Task[P, T], *args: P.args, **kwargs: P.kwargs) -> Run[T]: ...
    async def aio(self, task: Any, *args: Any, **kwargs: Any) -> Run[Any]:
        """The same, awaited."""


class _Runner:
    """``with_runcontext(...)``: how to run, and `run`."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    @blocking
    def run(self, task: Any, *args: Any, **kwargs: Any) -> Run:
        """Run a task with these options: `flyte_nb.run`."""
        if not isinstance(task, Task):
            raise TypeError(
                f"On Flyte tasks can be run, not generic functions or methods: {task!r}. Decorate it with @env.task."
            )
        bound = task.interface.bind(args, kwargs)
        context = of_task()
        mode = self._options.get("mode") or (context.run.mode if context is not None else default_mode())
        if self._options.get("detach"):
            if mode == "local" or context is not None:
                where = "in local mode" if context is None else "by a task: its run has a home already"
                raise ValueError(
                    f"A run cannot be detached {where}. Start it from the notebook or script, on a cluster."
                )
            engine_for(mode)
            return detached(task, bound, self._options)
        if mode != "local" and (remote := run_proxy.remote_context()) is not None:
            return Run(run_proxy.start(remote, task, bound, self._options))
        engine = engine_for(mode)
        namesake = known(self._options.get("name") or "")
        if namesake is not None and namesake.control.engine is engine:
            raise RuntimeUserError(
                "RunAlreadyExistsError",
                f"there is a run {self._options['name']!r} already. Choose another name, or leave it out.",
            )
        custom = tuple((self._options.get("custom_context") or {}).items())
        return launch(RunControl(engine, info_for(engine, mode, self._options), task, bound, custom))

    @blocking
    def rerun(self, run_name: str, action_name: str = ROOT, **options: Any) -> Run:
        """Run an earlier run again with these options: `flyte_nb.rerun`."""
        return rerun_with(self._options, run_name, action_name, **options)


def with_runcontext(mode: str | None = None, **options: Any) -> _Runner:
    """Say how to run: ``flyte.with_runcontext(mode="local").run(task, ...)``.

    Args:
        mode: "local" (this process; blocks, and raises the task's error), "remote" (the cluster), None = the cluster where
            there is one.
        **options: ``name version env_vars labels annotations project domain raw_data_path run_base_dir run_start_time
            custom_context disable_run_cache overwrite_cache interactive_mode max_action_concurrency on_failure``;
            ``detach=True`` (the run has a process of its own, outlives this one, and is seen from any kernel); and, without
            effect here (said once each), ``copy_style dry_run log_level log_format queue notifications ...``.

    Raises:
        TypeError: There is no such option, or it is of a wrong type.
        ValueError: An option is out of range.
    """
    if mode not in {None, "local", "remote", "hybrid"}:
        raise ValueError(f"mode must be 'local', 'remote' or 'hybrid', not {mode!r}")
    check_run_options(options)
    return _Runner({"mode": mode, **options})


if TYPE_CHECKING:
    #: Run a task as a run of its own; on a cluster, returns at once.
    run: Start
else:

    @blocking
    def run(task: Any, *args: Any, **kwargs: Any) -> Run:
        """Run a task as a run of its own; on a cluster, returns at once.

        Args:
            task: The task.
            *args: Its arguments.
            **kwargs: Its arguments.

        Raises:
            TypeError: `task` is no task.
            errors.ArgumentError: The arguments do not fit.
        """
        return _Runner({}).run(task, *args, **kwargs)
