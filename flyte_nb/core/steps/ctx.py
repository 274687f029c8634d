"""``flyte.ctx()``: the running action, as user code sees it. Runs in: everywhere."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from flyte_nb.core.tasks.context import Context, of_task

#: Facts that need packages above this one, and fsspec, by name.
_provided: dict[str, Callable[[Context], Any]] = {}


def provide(**facts: Callable[[Context], Any]) -> None:
    """Set what gives `TaskContext.report`, ``checkpoint`` and ``checkpoint_paths``, by these names."""
    _provided.update(facts)


@dataclass(frozen=True)
class ActionID:
    """Identity of an action; its run is of the same name where none is given."""

    name: str
    run_name: str = ""
    project: str | None = None
    domain: str | None = None
    org: str | None = None

    def __post_init__(self) -> None:
        if not self.run_name:
            object.__setattr__(self, "run_name", self.name)

    @classmethod
    def create_random(cls) -> ActionID:
        """One of a random name."""
        return cls(uuid.uuid4().hex[:20])

    def new_sub_action(self, name: str | None = None) -> ActionID:
        """Another action of its run, of a random name by default."""
        return replace(self, name=name or uuid.uuid4().hex[:20])

    def unique_id_str(self, salt: str | None = None) -> str:
        """Project, domain, run, name and `salt` in one text."""
        parts = (self.project, self.domain, self.run_name, self.name, *([] if salt is None else [salt]))
        return "-".join(map(str, parts))


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
    """What ``flyte.ctx()`` returns: read-only facts about the running action; falsy, its fields None, outside a task.

    Tests make one of fields that they choose: ``TaskContext(action=ActionID(name="a"), version="1", ...)``.
    """

    __slots__ = ("_context",)

    def __new__(cls, _context: Context | None = None, /, **fields: Any) -> Self:
        """One of a task, or one of given fields."""
        return super().__new__(_GivenContext if fields else cls)  # type: ignore[return-value]

    def __init__(self, context: Context | None = None, /, **_fields: Any) -> None:
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
        """A dictionary that is kept as long as the attempt executes."""
        return self._context.scope.attachments if self._context else _NOTHING  # type: ignore[no-any-return]

    @property
    def report(self) -> Any:
        """The action's report (see ``flyte.report``)."""
        return _provided["report"](self._context) if self._context else _NOTHING

    @property
    def checkpoint(self) -> Any:
        """What an attempt saves for the next one, should it fail (see `flyte_nb.io.checkpoint`)."""
        return _provided["checkpoint"](self._context) if self._context else _NOTHING

    @property
    def checkpoint_paths(self) -> CheckpointPaths:
        """Where this attempt's checkpoint is, and where that of the one before it."""
        return _provided["checkpoint_paths"](self._context) if self._context else _NOTHING  # type: ignore[no-any-return]

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
        return self._context.scope.attachments.get(key) if self._context else _NOTHING

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
_ABSENT = frozenset({
    "input_path", "code_bundle", "compiled_image_cache", "rank", "world_size", "local_rank", "local_world_size", "node_rank",
    "nnodes", "master_addr", "master_port", "restart_attempt",
})  # fmt: skip


class _GivenContext(TaskContext):
    """A context whose fields were given."""

    __slots__ = ("_given",)

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        unknown = fields.keys() - _FIELDS
        if unknown:
            raise TypeError(f"TaskContext() got an unexpected keyword argument {min(unknown)!r}")
        action = fields.get("action")
        given = {
            "mode": "remote", "data": {}, "custom_context": {}, "interactive_mode": False, "disable_run_cache": False,
            "attempt_number": 0, "run_start_time": dt.datetime.now(dt.UTC), "task_action": action,
            "project": getattr(action, "project", None), "domain": getattr(action, "domain", None), **fields,
        }  # fmt: skip
        object.__setattr__(self, "_given", given)

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, key: str) -> Any:
        return self._given["data"].get(key)

    def replace(self, **changes: Any) -> TaskContext:
        """A copy with other fields; ``data`` is added to what is there."""
        if changes.get("data") is not None:
            changes["data"] = {**self._given["data"], **changes["data"]}
        return _GivenContext(**{**self._given, **changes})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _GivenContext) and self._given == other._given

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        return _given_context, (self._given,)

    def __repr__(self) -> str:
        return f"TaskContext({', '.join(f'{name}={value!r}' for name, value in self._given.items())})"


def _given_context(fields: dict[str, Any]) -> TaskContext:
    return _GivenContext(**fields)


_FACTS = (
    "action", "task_action", "attempt_number", "group_data", "custom_context", "raw_data_path", "data", "report", "checkpoint",
    "checkpoint_paths", "run_base_dir", "output_path", "run_start_time",
)  # fmt: skip
#: What a context can be made of: Flyte's fields, too, that say nothing here.
_FIELDS = frozenset({*_FACTS, *_RUN_FIELDS, *_ABSENT, "in_driver_literal_conversion"})


def _field(name: str) -> property:
    return property(lambda self: self._given.get(name))


for _name in _FIELDS:
    setattr(_GivenContext, _name, _field(_name))


def ctx() -> TaskContext:
    """The context of the running task; a falsy one, whose fields are None, outside a task."""
    return TaskContext(of_task())
