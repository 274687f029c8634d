"""Links of an action: the addresses that its task's links give. Runs in: the process that defined the task."""

from __future__ import annotations

from flyte_nb.core.history.facts import Action
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.tasks.registry import REGISTRY


def links_of(action: Action, run: RunInfo) -> list[tuple[str, str]]:
    """(name, address) of each link of an action's task, as the task is defined now; one that fails gives its error as text.

    Args:
        action: The action.
        run: Its run.
    """
    task = REGISTRY.latest(action.task)
    found = []
    for link in task.config.links if task is not None else ():
        name = str(getattr(link, "name", type(link).__name__))
        try:
            address = link.get_link(
                run_name=action.run,
                project=run.project,
                domain=run.domain,
                context={},
                parent_action_name=action.parent,
                action_name=action.name,
                pod_name="",
            )
        except Exception as exc:  # the user's code
            address = f"({type(exc).__name__}: {exc})"
        found.append((name, str(address)))
    return found
