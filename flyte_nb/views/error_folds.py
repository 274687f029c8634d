"""Fold equal errors of a run into one line each: "397 x KeyError: 'a'". Runs in: engine thread."""

from __future__ import annotations

from flyte_nb.core.history.facts import Action
from flyte_nb.views.rows import Json
from flyte_nb.views.words import cut, error_line, place

#: Different errors shown; a program that fails in more ways is better read through the filter.
MAX_FOLDS = 50


class Fold:
    """Failed actions of one task that say the same."""

    __slots__ = ("first", "key", "names", "task", "text", "where")

    def __init__(self, key: str, task: str, text: str, where: str, first: Action) -> None:
        #: The one that was called first.
        self.first = first
        self.key = key
        self.task = task
        self.text = text
        self.where = where
        self.names: dict[str, Action] = {}

    def ordered(self) -> list[Action]:
        """The failed actions, as they were called."""
        return sorted(self.names.values(), key=_number)


class ErrorFolds:
    """All failed actions of a run by what they say."""

    def __init__(self) -> None:
        self._folds: dict[str, Fold] = {}
        self._of: dict[str, Fold] = {}
        #: (parent, text) of failed actions: a parent that fails with what its child said is the same failure, passed on.
        self._passed_on: set[tuple[str, str]] = set()

    def note(self, action: Action) -> bool:
        """Take in an action's present phase. Returns whether anything changed."""
        # A cell's root, which is never attempted, fails with what its cell raised: the cell shows it.
        failed = action.phase.is_failure and (action.kind != "root" or action.attempt is not None)
        known = self._of.get(action.name)
        if not failed:
            if known is None:
                return False
            self._drop(action.name, known)
            return True
        text = error_line(action) or action.phase.value
        key = f"{action.task}|{text}"
        self._passed_on.add((action.parent, text))
        parent = self._of.get(action.parent)
        if parent is not None and parent.text == text:
            self._drop(action.parent, parent)
        if known is None and (action.name, text) in self._passed_on:
            return False
        if known is not None:
            if known.key == key:
                return False
            self._drop(action.name, known)
        fold = self._folds.get(key)
        if fold is None:
            fold = self._folds[key] = Fold(
                key, action.task, text, place(action.error.where) if action.error else "", action
            )
        fold.names[action.name] = action
        if action.number < fold.first.number:
            fold.first = action
        self._of[action.name] = fold
        return True

    def _drop(self, name: str, fold: Fold) -> None:
        del self._of[name]
        del fold.names[name]
        if not fold.names:
            del self._folds[fold.key]
        elif fold.first.name == name:
            fold.first = min(fold.names.values(), key=_number)

    def __contains__(self, name: str) -> bool:
        return name in self._of

    def get(self, key: str) -> Fold | None:
        """The fold of this key."""
        return self._folds.get(key)

    def __len__(self) -> int:
        return len(self._folds)

    def most(self, limit: int = MAX_FOLDS) -> list[Fold]:
        """Folds, most frequent first."""
        return sorted(self._folds.values(), key=lambda fold: (-len(fold.names), fold.first.number))[:limit]

    def rows(self) -> list[Json]:
        """What the view shows of them."""
        out: list[Json] = []
        for fold in self.most():
            first = fold.first
            out.append({
                "key": fold.key, "n": len(fold.names), "text": fold.text, "where": fold.where,
                "name": first.name, "id": first.number, "label": cut(first.label, 80),
            })  # fmt: skip
        return out


def _number(action: Action) -> int:
    return action.number
