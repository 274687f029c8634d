"""Keep what a run printed, bounded: the head and the tail of every action. Runs in: engine thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from flyte_nb.core.history.facts import LogLine

#: First lines kept per action: what a program says at its start explains most failures.
HEAD_LINES = 200
#: Last lines kept per action: one long screen, several times over.
TAIL_LINES = 1_000
#: Characters kept per run, all actions together: about 16 MB, whatever is printed.
RUN_CHARS = 16_000_000
#: Longest line kept, in characters; the rest is cut with a mark.
LOGBOOK_LINE_CHARS = 2_000


class ActionLog:
    """The lines of one action: the first `HEAD_LINES`, the last `TAIL_LINES`, and how many are hidden between."""

    __slots__ = ("chars", "head", "hidden", "tail", "total")

    def __init__(self) -> None:
        self.head: list[LogLine] = []
        #: Nothing until it is needed: an empty deque takes 700 bytes, and most logs are a few lines.
        self.tail: deque[LogLine] | tuple[()] = ()
        #: Lines printed but not kept.
        self.hidden: int = 0
        #: Lines printed in all.
        self.total: int = 0
        self.chars: int = 0

    def add(self, lines: tuple[LogLine, ...], hidden: int = 0) -> int:
        """Keep `lines`, of which `hidden` were left out before them. Returns the change in characters kept."""
        before = self.chars
        self.hidden += hidden
        self.total += hidden + len(lines)
        for whole in lines:
            line = whole
            if len(line.text) > LOGBOOK_LINE_CHARS:
                line = line._replace(
                    text=line.text[:LOGBOOK_LINE_CHARS] + f" ... [{len(line.text) - LOGBOOK_LINE_CHARS} characters cut]"
                )
            self.chars += len(line.text)
            if len(self.head) < HEAD_LINES and not self.hidden:
                self.head.append(line)
                continue
            if isinstance(self.tail, tuple):
                self.tail = deque()
            self.tail.append(line)
            if len(self.tail) > TAIL_LINES:
                self._drop(self.tail)
        return self.chars - before

    def shrink(self) -> int:
        """Drop the older half of the tail. Returns the change in characters kept (negative)."""
        before = self.chars
        if isinstance(self.tail, deque):
            for _ in range((len(self.tail) + 1) // 2):
                self._drop(self.tail)
        return self.chars - before

    def _drop(self, tail: deque[LogLine]) -> None:
        self.chars -= len(tail.popleft().text)
        self.hidden += 1

    def __iter__(self) -> Iterator[LogLine]:
        yield from self.head
        yield from self.tail

    def __len__(self) -> int:
        return len(self.head) + len(self.tail)


class LogBook:
    """The lines of all actions of a run, by action name."""

    def __init__(self) -> None:
        self._logs: dict[str, ActionLog] = {}
        self._chars = 0
        #: Lines printed in all.
        self.total: int = 0

    def add(self, action: str, lines: tuple[LogLine, ...], hidden: int = 0) -> None:
        """Keep what `action` printed; shrinks the longest logs once the run's budget is reached."""
        log = self._logs.get(action)
        if log is None:
            log = self._logs[action] = ActionLog()
        self._chars += log.add(lines, hidden)
        self.total += hidden + len(lines)
        while self._chars > RUN_CHARS:
            longest = max(self._logs.values(), key=lambda one: len(one.tail))
            freed = longest.shrink()
            if not freed:
                break
            self._chars += freed

    @property
    def chars(self) -> int:
        """Characters kept."""
        return self._chars

    def of(self, action: str) -> ActionLog:
        """The log of one action; empty if it printed nothing."""
        return self._logs.get(action) or ActionLog()

    def actions(self) -> list[str]:
        """Names of the actions that printed something, in order of their first line."""
        return list(self._logs)

    def merged(self) -> list[tuple[str, LogLine]]:
        """All kept lines with their action's name, by time."""
        return sorted(((name, line) for name, log in self._logs.items() for line in log), key=lambda pair: pair[1].at)

    @property
    def hidden(self) -> int:
        """Lines printed but not kept."""
        return sum(log.hidden for log in self._logs.values())
