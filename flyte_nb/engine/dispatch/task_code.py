"""Pickled tasks, and the lane groups they belong to by code and resources. Runs in: engine thread; worker loop."""

from __future__ import annotations

import hashlib
import operator
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from flyte_nb.core.tasks.task import Task
from flyte_nb.core.transport.payload import dump_function
from flyte_nb.engine.dispatch.lanes import LaneGroup


class _Pickled(NamedTuple):
    epoch: int
    #: The values of the globals that the task's code names directly.
    globals: tuple[Any, ...]
    #: Of its group: a hash of the pickle and of the resources.
    name: str
    code: bytes


class TaskCode:
    """Finds the lane group of a task; pickles the task again where its globals may have changed."""

    def __init__(self) -> None:
        #: Groups by name. `LanePool` removes those without lanes.
        self.groups: dict[str, LaneGroup] = {}
        self._pickled: WeakKeyDictionary[Task[..., Any], _Pickled] = WeakKeyDictionary()
        #: Groups of the tasks started in this tick: their globals are looked at once.
        self.recent: dict[Task[..., Any], LaneGroup] = {}
        self._epoch = 0

    def new_epoch(self) -> None:
        """Globals may have changed (a new cell began): pickle tasks anew before their next call."""
        self._epoch += 1

    def group_of(self, task: Task[..., Any]) -> LaneGroup:
        """The group whose lanes execute a task.

        Raises:
            UnpicklableError: It cannot be sent to a worker.
        """
        values = _globals_of(task)
        pickled = self._pickled.get(task)
        if pickled is None or pickled.epoch != self._epoch or not _identical(pickled.globals, values):
            code = dump_function(task)
            resources = repr(sorted(dask_resources(task).items()))
            name = hashlib.blake2b(code + resources.encode(), digest_size=8).hexdigest()
            pickled = self._pickled[task] = _Pickled(self._epoch, values, name, code)
        group = self.groups.get(pickled.name)
        if group is None:
            group = LaneGroup(pickled.name, task.name, pickled.code, task.is_async, dask_resources(task))
            self.groups[group.name] = group
        group.reuse, group.environment = task.config.reusable, task.parent_env_name
        self.recent[task] = group
        return group


def dask_resources(task: Task[..., Any]) -> dict[str, float]:
    """Dask resources that a task's lanes hold: a worker started with ``--resources GPU=1`` offers one."""
    resources = task.config.resources
    gpus = resources.gpus if resources is not None else 0
    return {"GPU": float(gpus)} if gpus else {}


def _globals_of(task: Task[..., Any]) -> tuple[Any, ...]:
    """The values of the globals that a task's code names directly: a cheap sign that it must be pickled anew."""
    code = getattr(task.func, "__code__", None)
    space = getattr(task.func, "__globals__", {})
    return tuple(space.get(name) for name in code.co_names) if code is not None else ()


def _identical(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return len(a) == len(b) and all(map(operator.is_, a, b))
