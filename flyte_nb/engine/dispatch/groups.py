"""Lane groups: which tasks' attempts may share lanes. Runs in: engine thread; worker loop.

A group is a task with its source, resources and environment. The state that it reads (globals, class attributes) is no part of
that: lanes execute any version of their task's code (`flyte_nb.engine.dispatch.shipments`).
"""

from __future__ import annotations

from typing import Any

from flyte_nb.core.tasks.task import Task
from flyte_nb.engine.dispatch.lanes import LaneGroup


class LaneGroups:
    """Finds the lane group of a task."""

    def __init__(self) -> None:
        #: Groups by name. `LanePool` removes those without lanes.
        self.by_name: dict[str, LaneGroup] = {}
        #: Groups of the tasks started in this tick.
        self.recent: dict[Task[..., Any], LaneGroup] = {}

    def of(self, task: Task[..., Any]) -> LaneGroup:
        """The group whose lanes execute a task."""
        resources, environment, reuse = dask_resources(task), task.parent_env_name, task.config.reusable
        # Who limits the time in the queue counts on the device; who does not asks in passing, and is not kept waiting.
        relies = bool(resources) and task.config.timeout.max_queued_time is not None
        name = f"{task.identity} {task.is_async} {environment} {resources} {relies} {reuse}"
        group = self.by_name.get(name)
        if group is None:
            group = self.by_name[name] = LaneGroup(name, task.name, task.is_async, resources)
        group.reuse, group.environment, group.relies_on_device = reuse, environment, relies
        self.recent[task] = group
        return group


def dask_resources(task: Task[..., Any]) -> dict[str, float]:
    """Dask resources that a task's lanes hold: a worker started with ``--resources GPU=1`` offers one."""
    resources = task.config.resources
    gpus = resources.gpus if resources is not None else 0
    return {"GPU": float(gpus)} if gpus else {}
