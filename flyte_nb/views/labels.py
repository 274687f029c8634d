"""Labels of actions by what differs: the arguments that a group's calls share are said once, in the group's row.

Everything is read off the texts that calls have as labels, "fit(<DataFrame 569x30>, depth=6)": bounded, made without the user's
code, and there for runs of earlier kernels. Runs in: engine thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flyte_nb.core.history.columns import Group
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.results.label_parts import parts_of
from flyte_nb.core.tasks.registry import REGISTRY
from flyte_nb.views.equal_errors import Fold

#: Members of a group that are looked at for what they share; one that differs in it shows that, too.
SAMPLE = 64
#: Failed calls that are looked at for what they have in common; of more nothing is said.
MAX_FAILED = 256
#: Groups whose shared arguments are remembered.
MAX_GROUPS = 4_000


class Shared:
    """What the calls of a group share."""

    __slots__ = ("differ", "names", "seen", "texts")

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        #: Text of each argument that all calls seen so far have, by name.
        self.texts: dict[str, str] = {}
        #: Calls that were looked at; -1 where they cannot be compared.
        self.seen = 0
        #: Whether they differ in anything that their labels tell.
        self.differ = False

    def look(self, labels: Iterable[str]) -> None:
        """Take more calls into account."""
        for label in labels:
            if self.seen > 0 and not self.texts:  # nothing is shared, whatever follows
                self.seen += 1
                continue
            parts = parts_of(label, self.names)
            if parts is None:
                self.seen = -1
                return
            given = dict(parts)
            if self.seen:
                self.texts = {name: text for name, text in self.texts.items() if given.get(name) == text}
            else:
                self.texts = given
            self.seen += 1
            self.differ = self.differ or len(self.texts) < len(given)

    def differing(self, label: str) -> str:
        """A call by what it does not share: "depth=6  fold=2"; all of it where that is nothing, or everything."""
        if self.seen < 2 or not self.texts:
            return label
        parts = parts_of(label, self.names)
        if parts is None:
            return label
        shown = [_text(name, text) for name, text in parts if self.texts.get(name) != text]
        return "  ".join(shown) or label

    @property
    def text(self) -> str:
        """What is shared: "X=<DataFrame 569x30>, y=<Series 569>"; "" for nothing."""
        if self.seen < 2:
            return ""
        # Calls whose labels are equal may differ in what was cut off.
        return ", ".join(_text(name, text) for name, text in self.texts.items() if self.differ or "..." not in text)


def _text(name: str, text: str) -> str:
    return text if name.startswith("#") else f"{name}={text}"


class Labels:
    """Labels of one run's actions, as all views of it show them.

    Args:
        record: The run.
    """

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self._shared: dict[str, Shared] = {}
        #: Of folds: how many calls had failed, whether their group had ended, and what was found.
        self._in_common: dict[str, tuple[int, bool, str]] = {}

    def of(self, name: str, label: str) -> str:
        """The label of an action by what differs in its group; the whole of one that stands alone."""
        found = self._record.group_of(name)
        return self.shared(found[0]).differing(label) if found is not None else label

    def named(self, name: str, label: str) -> str:
        """The same where the group is not in sight: "fit depth=6  fold=2"."""
        text = self.of(name, label)
        return text if text == label else f"{label.partition('(')[0]} {text}"

    def in_common(self, fold: Fold) -> str:
        """What the failed calls of a fold share, and no call of their group has that succeeded: "fold=3"; "" for nothing."""
        n = len(fold.names)
        found = self._record.group_of(fold.first.name) if 1 < n <= MAX_FAILED else None
        if found is None:
            return ""
        state = n, not found[0].left
        known = self._in_common.get(fold.key)
        if known is None or known[:2] != state:
            if len(self._in_common) >= MAX_GROUPS:
                self._in_common.clear()
            known = self._in_common[fold.key] = (*state, self._found_in_common(fold, found[0]))
        return known[2]

    def _found_in_common(self, fold: Fold, group: Group) -> str:
        everywhere = self.shared(group)
        common = Shared(everywhere.names)
        common.look(action.label for action in fold.names.values())
        texts = {name: text for name, text in common.texts.items() if everywhere.texts.get(name) != text}
        for member in group.members[:: max(1, len(group.members) // SAMPLE)]:
            action = self._record.actions[member]
            if texts and action.phase.is_success:
                given = dict(parts_of(action.label, common.names) or ())
                texts = {name: text for name, text in texts.items() if given.get(name) != text}
        return ", ".join(_text(name, text) for name, text in texts.items()) if common.seen > 1 else ""

    def shared(self, group: Group) -> Shared:
        """What the calls of a group share, looked at as they come."""
        shared = self._shared.get(group.key)
        if shared is None:
            while len(self._shared) >= MAX_GROUPS:
                del self._shared[next(iter(self._shared))]
            task = REGISTRY.latest(group.task)
            shared = self._shared[group.key] = Shared(task.input_names if task is not None else ())
            if task is not None and task.config.label:
                shared.seen = -1  # its author has said what differs
        if 0 <= shared.seen < SAMPLE and shared.seen < len(group.members):
            actions = self._record.actions
            shared.look(actions[member].label for member in group.members[shared.seen : SAMPLE])
        return shared
