"""Documentation and links of a task. Runs in: everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass
class Documentation:
    """Text about a task.

    Args:
        description: The text.
    """

    description: str


@runtime_checkable
class Link(Protocol):
    """A link shown beside an action: anything with a ``name`` and a ``get_link``."""

    name: str

    def get_link(
        self,
        run_name: str,
        project: str,
        domain: str,
        context: dict[str, str],
        parent_action_name: str,
        action_name: str,
        pod_name: str,
        **kwargs: Any,
    ) -> str:
        """The address, for one action."""
        ...


#: Longest description, in characters: Flyte's limit.
MAX_DESCRIPTION = 255
