"""Labels of actions by what differs: the arguments that a group's calls share are said once, in the group's row.

Everything is read off the texts that calls have as labels, "fit(<DataFrame 569x30>, depth=6)": bounded, made without the user's
code, and there for runs of earlier kernels. Runs in: engine thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flyte_nb.core.history.columns import Group
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.tasks.registry import REGISTRY
from flyte_nb.views.equal_errors import Fold

#: Members of a group that are looked at for what they share; one that differs in it shows that, too.
SAMPLE = 64
#: Failed calls that are looked at for what they have in common; of more nothing is said.
MAX_FAILED = 256
#: Groups whose shared arguments are remembered.
MAX_GROUPS = 4_000
#: Longest label that is taken apart, in characters.
MAX_CHARS = 4_000
_OPENING, _CLOSING = "([{<", ")]}>"

#: An argument: its name (or place), and its text.
Part = tuple[str, str]


def split(text: str) -> list[str]:
    """A text at its top-level commas: not those in brackets or quotes. One pass."""
    parts, depth, start, quote, at = [], 0, 0, "", 0
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char in _OPENING:
            depth += 1
        elif char in _CLOSING:
            depth = max(0, depth - 1)
        elif char == "," and not depth:
            parts.append(text[start:at].strip())
            start = at + 1
        at += 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


def parts_of(label: str, names: Sequence[str] = ()) -> list[Part] | None:
    """The arguments of a call by name, dictionaries and dataclasses one level deep; None if it is no call's label.

    Args:
        label: "fit([1, 2], {'depth': 6}, fold=2)".
        names: Of the task's parameters, for those that were given by position.
    """
    open_at = label.find("(")
    if open_at <= 0 or not label.endswith(")") or len(label) > MAX_CHARS:
        return None
    found: list[Part] = []
    for place, text in enumerate(split(label[open_at + 1 : -1])):
        name, given = _named(text)
        if not name:
            name, given = names[place] if place < len(names) else f"#{place}", text
        found += _inside(given) or [(name, given)]
    return found


def _named(text: str) -> Part:
    """A keyword and its text; ("", "") if the text is none."""
    name, equals, given = text.partition("=")
    return (name, given) if equals and name.isidentifier() else ("", "")


def _inside(text: str) -> list[Part]:
    """The items of a dictionary with plain keys, or the fields of a dataclass; none of anything else."""
    if text.startswith("{") and text.endswith("}"):
        items = [item.partition(": ") for item in split(text[1:-1])]
        if items and all(colon and key[:1] in "'\"" and key[1:-1].isidentifier() for key, colon, _ in items):
            return [(key[1:-1], value) for key, _, value in items]
    open_at = text.find("(")
    if open_at > 0 and text.endswith(")") and text[:open_at].isidentifier():
        fields = [_named(item) for item in split(text[open_at + 1 : -1])]
        if fields and all(name for name, _ in fields):
            return fields
    return []


class Shared:
    """What the calls of a group share."""

    __slots__ = ("names", "seen", "texts")

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        #: Text of each argument that all calls seen so far have, by name.
        self.texts: dict[str, str] = {}
        #: Calls that were looked at; -1 where they cannot be compared.
        self.seen = 0

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
        return ", ".join(_text(name, text) for name, text in self.texts.items())


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
