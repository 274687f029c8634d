"""Progress summed up: how far the actions of a group are together, and a run, from what each tells of itself.

An update costs what changed. Runs in: engine thread.
"""

from __future__ import annotations

from collections.abc import Iterable

from flyte_nb.core.history.columns import Group
from flyte_nb.core.history.facts import Action, Progress
from flyte_nb.core.history.store import RunRecord
from flyte_nb.views.words import amounts_text, summary

#: Groups of a run up to which its share is worked out group by group.
MAX_GROUPS = 200

#: Done, of how much (0: not known), a second, the share of what is under way, and the unit, of one action.
_Told = tuple[float, float, float, float, str]


class _Sum:
    """Of the actions of one group that tell how far they are."""

    __slots__ = ("done", "rate", "share", "tellers", "total", "units")

    def __init__(self) -> None:
        self.tellers = 0
        self.done = self.total = self.rate = self.share = 0.0
        self.units: set[str] = set()

    def add(self, told: _Told, sign: int) -> None:
        done, total, rate, share, unit = told
        self.tellers += sign
        self.done += sign * done
        self.total += sign * total
        self.rate += sign * rate
        self.share += sign * share
        self.units.add(unit)


class ProgressSums:
    """How far the groups of a run are."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self._told: dict[str, tuple[str, _Told]] = {}
        self._sums: dict[str, _Sum] = {}

    def note(self, names: Iterable[str]) -> set[str]:
        """Take in changed actions; returns keys of the groups whose sums have changed."""
        changed: set[str] = set()
        actions = self._record.actions.objects
        for name in names:
            action = actions.get(name)
            if action is None or action.progress is None:
                continue
            position = self._record.group_of(name)
            if position is None:
                continue
            key, told = position[0].key, _told(action, action.progress)
            known = self._told.get(name)
            if known is not None and known[1] == told:
                continue
            found = self._sums.setdefault(key, _Sum())
            if known is not None:
                found.add(known[1], -1)
            found.add(told, 1)
            self._told[name] = (key, told)
            changed.add(key)
        return changed

    def text(self, group: Group) -> str:
        """``"37%  2,400 / 3,600 items · 80/s"``, while some of a group go on; "" where none tells."""
        found = self._sums.get(group.key)
        n = len(group.members)
        if found is None or n < 2 or not group.left:
            return ""
        share = f"{int(100 * self._done(group) / n + 1e-9)}%"  # not 100 before the end
        if len(found.units) > 1 or "%" in found.units or not (found.total or found.done):
            return share
        whole = Progress(0, 0.0, found.done, found.total or None, found.rate, "", *found.units)
        return f"{share} · {amounts_text(whole)}"

    def summary(self, group: Group, *, saved: bool = False) -> str:
        """`text`, and how many members are in each phase; `saved`: in words that are read later."""
        return " · ".join(filter(None, (self.text(group), summary(group.counts, saved=saved))))

    def _done(self, group: Group) -> float:
        """Members that have ended, and the parts of others that are done."""
        found = self._sums.get(group.key)
        n = len(group.members)
        return min(n, n - group.left + (max(found.share, 0.0) if found is not None else 0.0))

    def share(self) -> float | None:
        """How much of the run is done, from 0 to 1; None where what is known of it tells little: single calls in a loop."""
        record = self._record
        if len(record.groups) > MAX_GROUPS:
            return None
        leaves = [group for group in record.groups.values() if group.members[0] not in record.children]
        n = sum(len(group.members) for group in leaves)
        left = sum(group.left for group in leaves)
        tells = any(found.share > 0 for found in self._sums.values())
        if not n or not left or (left < 2 and not tells):
            return None
        return sum(map(self._done, leaves)) / n


def _told(action: Action, progress: Progress) -> _Told:
    total = progress.total or 0.0
    if action.phase.is_terminal:
        return (total or progress.done) if action.phase.is_success else progress.done, total, 0.0, 0.0, progress.unit
    share = min(progress.done / total, 1.0) if total else 0.0
    return progress.done, total, progress.rate, share, progress.unit
