"""Rows in a lane's queue: alike attempts as they came, made into attempts one by one. Runs in: worker process."""

from __future__ import annotations

import contextlib
import itertools
import operator
import threading
from array import array
from collections import deque
from typing import Any, TypeVar

from flyte_nb.core.control.rows import Ends
from flyte_nb.core.control.work import Location, Outcome, Work
from flyte_nb.core.history.columns import DIGEST, label_in
from flyte_nb.core.history.facts import NOTHING_USED
from flyte_nb.core.transport.payload import SMALL_BYTES
from flyte_nb.engine.links.wire import Key, RowBundle


class RowWork(Work):
    """An attempt that is a row; its label is made when somebody asks."""

    __slots__ = ()

    @property
    def label(self) -> str:
        """As of `Work`."""
        labels: Any = self[4]
        return label_in(labels, self[3], 0)  # type: ignore[arg-type]  # rows have one piece


_new = tuple.__new__


class QueuedBundle:
    """A bundle of rows, of which some have not begun."""

    __slots__ = ("_facts", "bundle", "is_alone", "left")

    def __init__(self, bundle: RowBundle) -> None:
        self.bundle = bundle
        #: Whether each row must be an attempt of its own.
        self.is_alone: bool = False
        #: Places of those that have not begun. The lane takes from it, and the host's loop.
        self.left = deque(range(len(bundle.payloads)))
        # The fields of `Work` behind the label.
        self._facts = (bundle.group, (), 0.0, (), bundle.parent, bundle.on_failure, bundle.version)

    def work(self, at: int) -> RowWork:
        """The attempt at a place."""
        bundle = self.bundle
        labels = bundle.labels
        if isinstance(labels, list):
            labels = [labels[at]]
        work = (
            bundle.run,
            self._name(at),
            0,
            bundle.payloads[at],
            labels,
            *self._facts,
            (bundle.number, bundle.low + at),
        )
        return _new(RowWork, work)

    def key(self, at: int) -> Key:
        """Of the attempt at a place."""
        return self.bundle.run, self._name(at), 0

    def _name(self, at: int) -> str:
        return self.bundle.names[DIGEST * at : DIGEST * (at + 1)].hex() + self.bundle.suffix

    def take_back(self) -> array[int]:
        """Take off what has not begun, as rows of the owner."""
        found = array("I")
        with contextlib.suppress(IndexError):
            while True:
                found.append(self.bundle.low + self.left.popleft())
        return found

    def has(self, key: Key) -> bool:
        """Whether an attempt waits here."""
        return any(key == self.key(at) for at in list(self.left))

    def take_out(self, key: Key) -> bool:
        """Take one attempt off; False if it does not wait here."""
        for at in list(self.left):
            if key == self.key(at):
                with contextlib.suppress(ValueError):
                    self.left.remove(at)
                    return True
        return False


class LaneQueue(deque[Work | QueuedBundle]):
    """What a lane has not begun. Its thread takes from it, and the host's loop."""

    def next_work(self) -> Work:
        """Take the next attempt off.

        Raises:
            IndexError: There is none.
        """
        while True:
            item = self.popleft()
            if not isinstance(item, QueuedBundle):
                return item
            with contextlib.suppress(IndexError):
                work = item.work(item.left.popleft())
                if item.left:
                    self.appendleft(item)
                return work

    def first_rows(self) -> QueuedBundle | None:
        """The bundle whose rows are next; None if an attempt is, or nothing. It stays here until all of it have begun."""
        try:
            first = self[0]
        except IndexError:
            return None
        return first if isinstance(first, QueuedBundle) and first.left and not first.is_alone else None

    def drop(self, bundle: QueuedBundle) -> None:
        """All of a bundle have begun."""
        with contextlib.suppress(ValueError):
            self.remove(bundle)

    def take_back(self) -> tuple[list[Key], list[tuple[int, array[int]]]]:
        """Take all off: keys, and rows by their number."""
        keys: list[Key] = []
        rows: list[tuple[int, array[int]]] = []
        for item in taken(self):
            if isinstance(item, QueuedBundle):
                if found := item.take_back():
                    rows.append((item.bundle.number, found))
            else:
                keys.append(item.key)
        return keys, rows

    def recall(self, number: int) -> array[int]:
        """Take rows of this number off."""
        found = array("I")
        for item in list(self):
            if isinstance(item, QueuedBundle) and item.bundle.number == number:
                found.extend(item.take_back())
        return found

    def take_out(self, key: Key) -> bool:
        """Take one attempt off; False if it is not here."""
        item = self.find(key)
        if isinstance(item, QueuedBundle):
            return item.take_out(key)
        with contextlib.suppress(ValueError):
            if item is not None:
                self.remove(item)
                return True
        return False

    def find(self, key: Key) -> Work | QueuedBundle | None:
        """What an attempt is in that waits here."""
        for item in list(self):
            if item.has(key) if isinstance(item, QueuedBundle) else item.key == key:
                return item
        return None


_Item = TypeVar("_Item")


def taken(items: deque[_Item]) -> list[_Item]:
    """Take all off; others may do so at the same time."""
    found = []
    with contextlib.suppress(IndexError):
        while True:
            found.append(items.popleft())
    return found


#: How a row ended: number of the rows, row, began, ended, slot time, result, text of it if it is not plain.
RowEnd = tuple[int, int, float, float, float, bytes, str]
_order = operator.itemgetter(0, 1)


class RowReports:
    """What rows of a lane did since it reported. Its thread adds; it and the host's loop take."""

    def __init__(self) -> None:
        #: Appended to without a lock.
        self.ends: list[RowEnd] = []
        self._taking = threading.Lock()
        #: Those that ended otherwise than well, with a large result, or after long: their outcomes are reported.
        self._alone: deque[tuple[int, int]] = deque()
        self._printed: deque[Key] = deque()

    def __bool__(self) -> bool:
        return bool(self.ends)

    def printed(self, key: Key) -> None:
        """A row that has ended has printed."""
        self._printed.append(key)

    def note(self, row: tuple[int, int], work: Work, outcome: Outcome, printed: int) -> bool:
        """A row has ended; False if its outcome is to be reported as that of any other attempt."""
        if printed:
            self.printed(work.key)
        value, quick = outcome.value, outcome.used is NOTHING_USED  # else it was measured, which is told
        if outcome.kind == "ok" and quick and type(value) is bytes and len(value) <= SMALL_BYTES:
            self.ends.append((*row, outcome.started_at, outcome.ended_at, outcome.busy, value, outcome.preview))
            return True
        self._alone.append(row)
        return False

    def take(self) -> tuple[list[tuple[int, int]], list[RowEnd], list[Key]]:
        """Those that are attempts of their own from now on; how others ended; which have printed."""
        alone, printed = taken(self._alone), taken(self._printed)
        with self._taking:
            ends = self.ends[:]
            del self.ends[: len(ends)]
        return alone, ends, printed


def ends_of(found: list[RowEnd], location: Location) -> list[tuple[int, Ends]]:
    """As columns, by number of the rows, in order."""
    found.sort(key=_order)
    made = []
    for number, ends in itertools.groupby(found, operator.itemgetter(0)):
        _, rows, started, ended, busy, outputs, texts = zip(*ends, strict=True)
        previews = {at: text for at, text in enumerate(texts) if text}
        columns = [array("d", started).tobytes(), array("d", ended).tobytes(), array("f", busy).tobytes()]
        made.append(
            (number, Ends(array("I", rows), columns[0], columns[1], columns[2], list(outputs), previews, location))
        )
    return made
