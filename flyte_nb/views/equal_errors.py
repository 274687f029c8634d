"""Error folds: equal errors of a run as one line, "397 x KeyError: 'a'". Runs in: engine thread."""

from __future__ import annotations

from operator import attrgetter

from flyte_nb.core.history.facts import Action
from flyte_nb.views.words import error_line, location

#: Different errors shown; a program that fails in more ways is better read through the filter.
MAX_FOLDS = 50


class Fold:
    """Failed actions of one task with the same error."""

    __slots__ = ("first", "key", "names", "task", "text", "where")

    def __init__(self, key: str, task: str, text: str, where: str, first: Action) -> None:
        #: The one that was called first.
        self.first: Action = first
        self.key: str = key
        self.task: str = task
        self.text: str = text
        self.where: str = where
        self.names: dict[str, Action] = {}

    def ordered(self) -> list[Action]:
        """The failed actions, in order of their calls."""
        return sorted(self.names.values(), key=attrgetter("number"))


class ErrorFolds:
    """All failed actions of a run, by task and error."""

    def __init__(self) -> None:
        #: Counts changes: who shows the folds compares it with that of the last time.
        self.version: int = 0
        self._folds: dict[str, Fold] = {}
        self._by_action: dict[str, Fold] = {}
        #: (parent, text) of failed actions: a parent that fails with its child's error is the same failure, passed on.
        self._passed_on: set[tuple[str, str]] = set()

    def note(self, action: Action) -> None:
        """Take in an action's present phase."""
        # A cell's root, which is never attempted, fails with what its cell raised: the cell shows it.
        failed = action.phase.is_failure and (action.kind != "root" or action.attempt is not None)
        known = self._by_action.get(action.name)
        if not failed:
            if known is not None:
                self._drop(action.name, known)
            return
        text = error_line(action) or action.phase.value
        key = f"{action.task}|{text}"
        self._passed_on.add((action.parent, text))
        parent = self._by_action.get(action.parent)
        if parent is not None and parent.text == text:
            self._drop(action.parent, parent)
        if known is None and (action.name, text) in self._passed_on:
            return
        if known is not None:
            if known.key == key:
                return
            self._drop(action.name, known)
        self.version += 1
        fold = self._folds.get(key)
        if fold is None:
            where = location(action.error.where) if action.error else ""
            fold = self._folds[key] = Fold(key, action.task, text, where, action)
        fold.names[action.name] = action
        if action.number < fold.first.number:
            fold.first = action
        self._by_action[action.name] = fold

    def _drop(self, name: str, fold: Fold) -> None:
        self.version += 1
        del self._by_action[name]
        del fold.names[name]
        if not fold.names:
            del self._folds[fold.key]
        elif fold.first.name == name:
            fold.first = min(fold.names.values(), key=attrgetter("number"))

    def __contains__(self, name: str) -> bool:
        return name in self._by_action

    def get(self, key: str) -> Fold | None:
        """The fold of this key."""
        return self._folds.get(key)

    def __len__(self) -> int:
        return len(self._folds)

    def most(self, limit: int = MAX_FOLDS) -> list[Fold]:
        """Folds, most frequent first."""
        return sorted(self._folds.values(), key=lambda fold: (-len(fold.names), fold.first.number))[:limit]
