"""Interest of a view: which rows are on its screen, so that only those are sent. Runs in: engine thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flyte_nb.core.history.store import RunRecord

#: Rows one view may ask for at once: a tall screen, several times over.
SCREEN_ROWS = 200
#: Parents one view may have open at once.
MAX_OPEN = 500
#: Views remembered per run (tabs, browsers); the least recently active is forgotten.
MAX_VIEWS = 8


@dataclass(frozen=True, slots=True)
class Interest:
    """Rows and parents that a view shows. Built from a browser's message, so nothing in it is trusted."""

    #: Names of actions whose groups are shown.
    open: frozenset[str] = frozenset()
    #: (group key, first index, index after the last).
    ranges: tuple[tuple[str, int, int], ...] = ()
    #: Numbers of actions shown outside their groups (search results, the selected one).
    numbers: tuple[int, ...] = ()
    #: Whether it shows all log lines (else only a few of the latest).
    logs: bool = False

    def names(self, record: RunRecord) -> set[str]:
        """Names of the actions it shows now."""
        out: set[str] = set()
        for key, start, stop in self.ranges:
            group = record.groups.get(key)
            if group is not None:
                out.update(group.members[start:stop])
        total = len(record.numbered)
        out.update(record.numbered[n] for n in self.numbers if n < total)
        return out


def parse_interest(args: Mapping[str, Any]) -> Interest:
    """An `Interest` from a browser's message; whatever is malformed or beyond the limits is left out."""
    ranges: list[tuple[str, int, int]] = []
    left = SCREEN_ROWS
    for item in _sequence(args.get("ranges")):
        if not (isinstance(item, (list, tuple)) and len(item) == 3 and left > 0):
            continue
        key, start, stop = item
        if isinstance(key, str) and _index(start) and _index(stop) and stop > start:
            stop = min(stop, start + left)
            left -= stop - start
            ranges.append((key, start, stop))
    return Interest(
        open=frozenset([name for name in _sequence(args.get("open")) if isinstance(name, str)][:MAX_OPEN]),
        ranges=tuple(ranges),
        numbers=tuple(n for n in _sequence(args.get("numbers"))[:SCREEN_ROWS] if _index(n)),
        logs=args.get("logs") is True,
    )


def _sequence(value: object) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


@dataclass(slots=True)
class Interests:
    """The interests of all views of a run, latest last."""

    by_view: dict[str, Interest] = field(default_factory=dict)

    def put(self, view: str, interest: Interest) -> None:
        """Remember what a view shows now."""
        self.by_view.pop(view, None)
        self.by_view[view] = interest
        while len(self.by_view) > MAX_VIEWS:
            del self.by_view[next(iter(self.by_view))]

    def names(self, record: RunRecord) -> set[str]:
        """Names of the actions that any view shows."""
        return set().union(*(one.names(record) for one in self.by_view.values()))

    @property
    def open(self) -> set[str]:
        """Names of the parents that any view has open."""
        return set().union(*(one.open for one in self.by_view.values()))

    @property
    def logs(self) -> bool:
        """Whether any view shows all log lines."""
        return any(one.logs for one in self.by_view.values())
