"""Groups of actions with a phase count each, and the changes that a view has not shown yet. Runs in: engine thread."""

from __future__ import annotations

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import PHASES, Phase


class Group:
    """Children of one parent that belong together: a ``flyte.map``, a ``flyte.group``, or calls of one task."""

    __slots__ = ("counts", "key", "label", "members", "named", "parent", "phases", "task")

    def __init__(self, key: str, parent: str, label: str, task: str, named: bool) -> None:
        #: Stable identity within its run.
        self.key = key
        #: Name of the parent action.
        self.parent = parent
        #: The group's name, or the task's where no group was named.
        self.label = label
        #: Task of its first member.
        self.task = task
        #: Whether the user named it (``flyte.group``, ``flyte.map``).
        self.named = named
        #: Action names, in order of arrival.
        self.members: list[str] = []
        #: One byte per member: `Phase.code`.
        self.phases = bytearray()
        #: How many members are in each phase, by code.
        self.counts = [0] * len(PHASES)

    def count(self, *phases: Phase) -> int:
        """How many members are in one of these phases."""
        return sum(self.counts[phase.code] for phase in phases)


class Changes:
    """What changed in one run since its subscriber, a view, last emptied this. Each subscriber has its own."""

    __slots__ = ("actions", "groups", "logs", "reports", "run")

    def __init__(self) -> None:
        #: Whether the run itself changed.
        self.run = True
        #: Names of changed actions.
        self.actions: set[str] = set()
        #: Keys of groups whose tally changed.
        self.groups: set[str] = set()
        #: Lines printed since then.
        self.logs: list[ev.Logged] = []
        #: (action, tab) of changed reports.
        self.reports: set[tuple[str, str]] = set()
