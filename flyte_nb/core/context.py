"""What the running code is part of: one immutable value in one ContextVar. Runs in: everywhere.

`Context` is what our own code reads (which controller, which parent action, which group). `TaskContext` is the view of it
that users get from ``flyte.ctx()``.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib
import itertools
import uuid
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flyte_nb.core import aliases
from flyte_nb.core.scratch import session_folder

if TYPE_CHECKING:
    from flyte_nb.core.port import Port


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What every action of a run knows about it; sent to each worker once per run."""

    #: Short name, unique in its kernel: "r3".
    name: str
    #: Peer that owns the run's store ("local" without a cluster).
    home: str = "local"
    #: Aware UTC time, the same for the whole run.
    started_at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    #: "remote" on a cluster, "local" in this process.
    mode: str = "remote"
    project: str = "flyte_nb"
    domain: str = "development"
    org: str = ""
    version: str = ""
    #: Folder (any fsspec address) below which large data of the run may be put.
    raw_data_path: str = field(default_factory=session_folder)
    interactive_mode: bool = False
    disable_run_cache: bool = False
    overwrite_cache: bool = False
    #: Environment variables for all tasks of the run.
    env_vars: tuple[tuple[str, str], ...] = ()
    #: Actions of one parent that may be in flight at once; 0 = no bound.
    max_action_concurrency: int = 0
    #: "raise" or "pause": what a failed action does.
    on_failure: str = "raise"
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    run_base_dir: str = ""
    #: Name of the run whose succeeded actions this one re-uses; "" for none.
    recovers: str = ""
    #: Whether calling a sync task plainly from async code is an error, as in Flyte, instead of a warning.
    strict_sync: bool = False
    #: Whether ``import flyte`` means this package (`flyte_nb.install_as_flyte`), even where the real one is installed.
    as_flyte: bool = field(default_factory=aliases.is_installed)
    #: Seconds that `breakpoint()` inside an action waits for somebody to attach; 0 = it does not stop.
    breakpoint_wait: float = 0.0
    #: Identities of tasks redefined since the run began: (now, then). Set when actions are retried by hand.
    aliases: tuple[tuple[str, str], ...] = ()

    @property
    def base_dir(self) -> str:
        """Folder for files of this run alone."""
        if self.run_base_dir:
            return self.run_base_dir.rstrip("/")
        # The time tells runs of the same name apart, where several kernels keep their data in one place.
        return f"{self.raw_data_path.rstrip('/')}/{self.name}-{self.started_at:%Y%m%dT%H%M%S}"


class Frame:
    """The mutable side of one attempt (or cell): how often it made which call, and what it shares with its code."""

    __slots__ = ("_sequences", "attachments", "records", "watch")

    def __init__(self, records: dict[str, Any] | None = None) -> None:
        self._sequences: dict[bytes, itertools.count[int]] = {}
        #: Results of children that completed in an earlier attempt, by action name (see SEMANTICS of replay in `controller`).
        self.records: dict[str, Any] = records or {}
        #: ``ctx().data`` and the like.
        self.attachments: dict[str, Any] = {}
        #: Sees to it that no call of a cell is forgotten (`flyte_nb.kernel.forgotten.Forgotten`); None in tasks.
        self.watch: Any = None

    @property
    def has_called(self) -> bool:
        """Whether anything was called so far."""
        return bool(self._sequences)

    def next(self, key: bytes) -> int:
        """How often this call was made so far, from 1."""
        counter = self._sequences.get(key)
        if counter is None:
            counter = self._sequences.setdefault(key, itertools.count(1))
        return next(counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where the running code stands. Never mutated: a change is a new value set in the ContextVar."""

    #: How to reach the controller of this process.
    port: Port
    run: RunInfo
    #: Name of the running action: "a0" in a cell.
    action: str
    frame: Frame
    #: Name of the running task; "" in a cell.
    task: str = ""
    attempt: int = 0
    #: Group that calls made now belong to.
    group: str = ""
    #: Group that this action itself belongs to.
    own_group: str = ""
    custom: tuple[tuple[str, str], ...] = ()
    #: Name of the enclosing ``@trace`` function; "" outside.
    trace: str = ""
    #: Whether this is the body of a task (else: a cell).
    in_task: bool = True
    #: Whether the running body is an ``async def`` task.
    is_async: bool = False


_CURRENT: ContextVar[Context | None] = ContextVar("flyte_nb_context", default=None)
_fallback: Callable[[], Context | None] | None = None


def current() -> Context | None:
    """The context of the running code: that of its task, else that of the notebook cell, else None."""
    context = _CURRENT.get()
    if context is None and _fallback is not None:
        return _fallback()
    return context


def set_fallback(provider: Callable[[], Context | None] | None) -> None:
    """Say who provides a context outside tasks (the notebook session: its current cell)."""
    global _fallback
    _fallback = provider


@contextlib.contextmanager
def using(context: Context | None) -> Iterator[None]:
    """Run a block under `context`."""
    token = _CURRENT.set(context)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # closed from another Context (a generator finalised elsewhere)
            _CURRENT.reset(token)


def enter(context: Context | None) -> None:
    """Set the context for the rest of the current `contextvars.Context`."""
    _CURRENT.set(context)


@contextlib.contextmanager
def group(name: str) -> Iterator[None]:
    """Tag the actions started inside the block with a group name; the innermost name wins.

    Purely organisational: it shows in views and is part of an action's identity. Outside a task and a notebook cell it does
    nothing. A call joins the group that is current when its coroutine *first runs* (or is made into an asyncio task).

    Args:
        name: What to call the group.

    Example:
        >>> with flyte.group("features"):
        ...     await asyncio.gather(*(feature(c) for c in columns))
    """
    context = current()
    if context is None:
        yield
        return
    with using(replace(context, group=name)):
        yield


@contextlib.contextmanager
def custom_context(**values: str) -> Iterator[None]:
    """Overlay key-value pairs that travel with every action started inside the block, and show in the current code.

    Args:
        **values: Text values; they replace equal keys of the surrounding context.

    Raises:
        TypeError: A value is not text.
    """
    for key, value in values.items():
        if not isinstance(value, str):
            raise TypeError(
                f"custom_context takes text: {key}={value!r} is {type(value).__name__}. Use {key}=str(...)."
            )
    context = current()
    if context is None:
        yield
        return
    merged = tuple({**dict(context.custom), **values}.items())
    with using(replace(context, custom=merged)):
        yield


def get_custom_context() -> dict[str, str]:
    """The custom context of the running code; empty outside a task."""
    context = current()
    return dict(context.custom) if context else {}


class ActionID(NamedTuple):
    """Identity of an action."""

    name: str
    run_name: str
    project: str | None = None
    domain: str | None = None
    org: str | None = None


class GroupData(NamedTuple):
    """The group an action belongs to."""

    name: str


class RawDataPath(NamedTuple):
    """Where a run may put large data."""

    path: str

    def get_random_remote_path(self, file_name: str | None = None) -> str:
        """A fresh address below the path; on a disk, the folder around it is made.

        Args:
            file_name: Last part of the address; a random one by default.
        """
        parent = self.path.rstrip("/")
        name = uuid.uuid4().hex
        path = f"{parent}/{name}" + (f"/{file_name}" if file_name else "")
        if "://" not in path:
            Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path


class CheckpointPaths(NamedTuple):
    """Where an attempt keeps its checkpoint, and where the one before it did."""

    checkpoint_path: str
    prev_checkpoint_path: str | None = None


#: What a field is outside a task, where its type says nothing of it: as in Flyte, whose programs do not ask each time.
_NOTHING: Any = None


class TaskContext:
    """What ``flyte.ctx()`` returns: read-only facts about the running action; falsy, its fields None, outside a task."""

    __slots__ = ("_context",)

    def __init__(self, context: Context | None) -> None:
        object.__setattr__(self, "_context", context)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"ctx() is read-only: cannot set {name!r}")

    def __bool__(self) -> bool:
        return self._context is not None

    def __repr__(self) -> str:
        c = self._context
        return f"<TaskContext {c.run.name}/{c.action} attempt {c.attempt}>" if c else "<TaskContext outside a task>"

    def is_in_cluster(self) -> bool:
        """Whether the code runs on a Dask worker."""
        return bool(self.mode == "remote")

    @property
    def action(self) -> ActionID:
        """The running action (inside ``@trace``: the trace's own)."""
        c = self._context
        return ActionID(c.trace or c.action, c.run.name, c.run.project, c.run.domain, c.run.org) if c else _NOTHING

    @property
    def task_action(self) -> ActionID:
        """The running task's action, inside a trace too."""
        c = self._context
        return ActionID(c.action, c.run.name, c.run.project, c.run.domain, c.run.org) if c else _NOTHING

    @property
    def attempt_number(self) -> int:
        """Counts from 0."""
        return self._context.attempt if self._context else _NOTHING  # type: ignore[no-any-return]

    @property
    def group_data(self) -> GroupData | None:
        """The current group, None outside one."""
        name = self._context and (self._context.group or self._context.own_group)
        return GroupData(name) if name else None

    @property
    def custom_context(self) -> dict[str, str]:
        """A copy of the custom context."""
        return dict(self._context.custom) if self._context else _NOTHING

    @property
    def raw_data_path(self) -> RawDataPath:
        """Where the run may put large data."""
        if self._context is None:
            return _NOTHING  # type: ignore[no-any-return]
        return RawDataPath(self._context.run.raw_data_path)

    @property
    def data(self) -> dict[str, Any]:
        """A dictionary that lives as long as the attempt."""
        return self._context.frame.attachments if self._context else _NOTHING  # type: ignore[no-any-return]

    @property
    def report(self) -> Any:
        """The action's report (see ``flyte.report``)."""
        from flyte_nb.core.report import report_of

        return report_of(self._context) if self._context else _NOTHING

    @property
    def checkpoint(self) -> Any:
        """What an attempt saves for the next one, should it fail (see `flyte_nb.io.checkpoint`)."""
        return self._checkpoints.of(self._context) if self._context else _NOTHING

    @property
    def checkpoint_paths(self) -> CheckpointPaths:
        """Where this attempt's checkpoint is, and where that of the one before it."""
        return self._checkpoints.paths_of(self._context) if self._context else _NOTHING  # type: ignore[no-any-return]

    @property
    def _checkpoints(self) -> Any:
        # By name: they need fsspec, which the core does not import.
        return importlib.import_module("flyte_nb.io.checkpoint")

    @property
    def run_base_dir(self) -> str:
        """A folder for files of the run, the same for all its actions; made where it is on a disk."""
        if self._context is None:
            return _NOTHING  # type: ignore[no-any-return]
        path = self._context.run.base_dir
        if "://" not in path:
            Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
        return path  # type: ignore[no-any-return]

    @property
    def output_path(self) -> str:
        """A folder for the action's own files."""
        c = self._context
        return f"{c.run.base_dir}/{c.action}" if c else _NOTHING

    def __getitem__(self, key: str) -> Any:
        """An entry of `data`; None if there is none."""
        return self._context.frame.attachments.get(key) if self._context else _NOTHING

    @property
    def run_start_time(self) -> dt.datetime:
        """Aware UTC time, the same for the whole run."""
        return self._context.run.started_at if self._context else _NOTHING  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        # The rest are facts of the run, or fields of Flyte's that have no counterpart on Dask (None).
        if name not in _RUN_FIELDS and name not in _ABSENT:
            raise AttributeError(f"TaskContext has no attribute {name!r}")
        if self._context is None or name in _ABSENT:
            return None
        return getattr(self._context.run, name)


_RUN_FIELDS = frozenset({"version", "mode", "interactive_mode", "disable_run_cache", "project", "domain"})
_ABSENT = frozenset(
    {
        "input_path",
        "code_bundle",
        "compiled_image_cache",
        "rank",
        "world_size",
        "local_rank",
        "local_world_size",
        "node_rank",
        "nnodes",
        "master_addr",
        "master_port",
        "restart_attempt",
    }
)


def ctx() -> TaskContext:
    """The context of the running task; a falsy one, whose fields are None, outside a task."""
    context = _CURRENT.get()
    return TaskContext(context if context is not None and context.in_task else None)
