"""Registry of the runs and engines of this process. Runs in: the user's process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from flyte_nb.core.history import facts
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.runs import run_proxy
from flyte_nb.core.runs.engine import Engine
from flyte_nb.core.runs.run import Run
from flyte_nb.core.runs.run_control import RunControl
from flyte_nb.core.settings.validate import check_options
from flyte_nb.core.values import aio
from flyte_nb.errors import ActionNotFoundError

#: Runs that `runs()` knows, at most as many as the store keeps; the oldest is forgotten first.
MAX_KNOWN = 200
#: Runs whose home is this process, by name, in order of their start.
KNOWN: OrderedDict[str, Run] = OrderedDict()
#: Runs that were started with `run` and had not ended when the latest one was: they are referenced until they have.
UNFINISHED: dict[str, Run] = {}
_engines: dict[str, Callable[[], Engine]] = {}
_local: list[Engine] = []
_detach: list[Callable[[Any, Any, dict[str, Any]], Run]] = []
_earlier: list[tuple[Callable[[str], Run | None], Callable[[int], list[Run]]]] = []


def launch(control: RunControl) -> Run:
    """Register a run and launch it. In local mode, block until it has ended, and raise what its task raised."""
    run = Run(control)
    register(run)
    control.launch()
    if control.info.mode == "local":
        control.value()
    else:
        for name in [name for name, old in UNFINISHED.items() if old.done()]:
            del UNFINISHED[name]
        UNFINISHED[run.name] = run
    return run


def detach_with(start: Callable[[Any, Any, dict[str, Any]], Run]) -> None:
    """Say what starts a run in a process of its own: given its task, bound arguments and options."""
    _detach[:] = [start]


def detached(task: Any, bound: Any, options: dict[str, Any]) -> Run:
    """Start a run in a process of its own."""
    return _detach[0](task, bound, options)


def register(run: Run, *, earlier: bool = False) -> None:
    """Have `runs` and `last_run` find a run; one of an `earlier` kernel comes before those of this one."""
    KNOWN[run.name] = run
    if earlier:
        KNOWN.move_to_end(run.name, last=False)
    while len(KNOWN) > MAX_KNOWN:
        KNOWN.popitem(last=False)


def find_earlier_with(find: Callable[[str], Run | None], listed: Callable[[int], list[Run]]) -> None:
    """Say what finds runs of earlier kernels: one by name, and the latest so many, oldest first."""
    _earlier[:] = [(find, listed)]


def find(name: str) -> Run:
    """A run of this process by name, or of an earlier kernel: "k41.r7".

    Raises:
        errors.ActionNotFoundError: There is none, or it is forgotten.
    """
    found = KNOWN.get(name) or next((run for find, _ in _earlier if (run := find(name)) is not None), None)
    if found is None and (context := run_proxy.remote_context()) is not None:
        return Run(run_proxy.find(context, name))
    if found is None:
        latest = ", ".join(list(KNOWN)[-5:]) or "none"
        raise ActionNotFoundError(f"There is no run {name!r} in this process; the latest are: {latest}.")
    return found


def known(name: str) -> Run | None:
    """A run of this process; None if there is none of that name, or it is forgotten."""
    return KNOWN.get(name)


def listed(*, in_phase: Any = None, task_name: str | None = None, limit: int = 100, **flytes: Any) -> Iterator[Run]:
    """Runs of this process, and of earlier kernels of the notebook, oldest first.

    Args:
        in_phase: Only those in this phase, or one of these.
        task_name: Only those of this task.
        limit: Most runs to give: the latest.
        **flytes: Flyte's other filters, without effect here.

    Raises:
        TypeError: There is no such filter.
    """
    check_options("listall", flytes, ("in_phase", "task_name", "limit"), _FLYTES_FILTERS)
    phases = {str(phase) for phase in ([in_phase] if isinstance(in_phase, str) else in_phase)} if in_phase else None
    found = [
        run
        for run in _all(limit)
        if (phases is None or str(run.phase) in phases)
        and (task_name is None or ((task := run.control.task) is not None and task.name == task_name))
    ]
    return iter(found[-limit:])


def _all(limit: int) -> list[Run]:
    earlier = [KNOWN.get(run.name, run) for _, listed in _earlier for run in listed(limit)]
    names = {run.name for run in earlier}
    return [*earlier, *(run for run in list(KNOWN.values()) if run.name not in names)]


_FLYTES_FILTERS = (
    "created_at", "created_by_subject", "domain", "paused_actions_only", "project", "sort_by", "task_version", "updated_at",
    "with_label_keys", "with_labels",
)  # fmt: skip


def forget(engine: Engine) -> None:
    """Forget the runs of an engine that was closed."""
    for name in [name for name, run in KNOWN.items() if run.control.engine is engine]:
        KNOWN.pop(name).control.finished.set()  # its thread closes no run any more


def info_of(name: str) -> RunInfo | None:
    """What the actions of a run of this process know of it; None if it is forgotten."""
    found = KNOWN.get(name)
    return found.control.info if found is not None else None


def runs() -> dict[str, Run]:
    """The runs of this process by name, oldest first: those of cells that awaited tasks, and those of `run`.

    Example:
        >>> await flyte_nb.runs()["r3"].retry_failed()
    """
    return dict(KNOWN)


def last_run() -> Run:
    """The run that began last: of a cell that awaited tasks, or of `run`.

    Raises:
        LookupError: There is none yet.
    """
    if not KNOWN:
        raise LookupError("there is no run yet: await a task in a cell, or call flyte_nb.run(task, ...)")
    return next(reversed(KNOWN.values()))


def unfinished() -> Iterator[Run]:
    """Runs started with `run` that have not ended."""
    return (run for run in list(UNFINISHED.values()) if not run.done())


def provide(mode: str, engine: Callable[[], Engine]) -> None:
    """Say what makes the engine of a mode, or gives the one that there is."""
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
        _local.append(_engines["local"]())
    return _local[0]


def _command(action: facts.Action, op: str, *args: Any) -> None:
    found = KNOWN.get(action.run)
    if found is None:
        raise LookupError(f"{action.run} is not kept any more: this kernel remembers its latest runs.")
    getattr(found, op)(action, *args)


facts.command_with(_command)
Run.get = aio.Dual(find, name="get")
Run.listall = aio.DualIterator(listed, name="listall")
