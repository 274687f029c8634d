"""Sheets of runs for the views' tables: read a slice at a time, when a person looks, and kept for the next page.

The engine thread gathers what is kept of each action; values are unpickled on the thread of a `previews.Reader`.

Runs in: engine thread.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from flyte_nb.core.history.columns import Group
from flyte_nb.core.history.facts import Action
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.results.actions import Payloads
from flyte_nb.core.results.sheet import MAX_ROWS, CellRow, Sheet, cell_row
from flyte_nb.core.results.table import row_of
from flyte_nb.kernel.shown_values.previews import Reader
from flyte_nb.views.run_model import roots

#: Rows read at once: a few milliseconds of the engine thread.
SLICE = 200
#: Seconds after which a request is answered with the rows that have been read; the next one goes on.
WITHIN = 1.5
#: Sheets kept; the one that was looked at longest ago goes first.
MAX_SHEETS = 3

#: What is kept of some actions of a run.
Kept = Callable[[str, list[Action]], list[Payloads]]


class Sheets:
    """The latest sheets that were looked at.

    Args:
        reader: Unpickles values.
        kept: What is kept of actions.
    """

    def __init__(self, reader: Reader, kept: Kept) -> None:
        self._reader = reader
        self._kept = kept
        self._made: OrderedDict[tuple[str, str], _Filling] = OrderedDict()

    async def sheet(self, record: RunRecord, scope: str, *, fresh: bool = False) -> Sheet:
        """The sheet of some actions of a run, as far as it could be read in `WITHIN` seconds.

        Args:
            record: The run.
            scope: "t:results.fit", the actions of a task; "g:" and a group's key; "" for all.
            fresh: Whether it is read anew, if anything has changed since it was.
        """
        key = (record.state.run, scope)
        filling = self._made.pop(key, None)
        if filling is None or filling.record is not record or (fresh and filling.state != _state_of(record)):
            filling = _Filling(record, scope)
        self._made[key] = filling
        while len(self._made) > MAX_SHEETS:
            self._made.popitem(last=False)
        async with filling.lock:
            await self._fill(filling)
        return filling.sheet

    async def _fill(self, filling: _Filling) -> None:
        now = asyncio.get_running_loop().time
        until = now() + WITHIN
        while filling.left and now() < until:
            names, filling.left = filling.left[:SLICE], filling.left[SLICE:]
            actions = [filling.record.actions[name] for name in names]
            kept = self._kept(filling.record.state.run, actions)
            rows = await self._reader.read(partial(_cells, actions, kept), partial(_unread, actions))
            filling.sheet.extend(rows)
            filling.sheet.going += sum(not action.phase.is_terminal for action in actions)


class _Filling:
    """A sheet, and what of it has still to be read."""

    def __init__(self, record: RunRecord, scope: str) -> None:
        self.record = record
        self.state = _state_of(record)
        self.lock = asyncio.Lock()
        names, total = _names(record, scope)
        #: Names of actions.
        self.left: list[str] = list(itertools.islice(names, MAX_ROWS))
        self.sheet = Sheet(len(self.left), total - len(self.left))


def _names(record: RunRecord, scope: str) -> tuple[Iterable[str], int]:
    """Names of the actions that belong to a scope, and how many they are; a cell's implied root does not."""
    kind, _, what = scope.partition(":")
    if kind == "g":
        group = record.groups.get(what)
        return (group.members, len(group.members)) if group is not None else ((), 0)
    if kind == "t":
        parts = [part for group in record.groups.values() for part in _of_task(record, group, what)]
        return itertools.chain.from_iterable(parts), sum(map(len, parts))
    _, *implied = roots(record)
    return (name for name in record.numbered if name not in implied), len(record.numbered) - len(implied)


def _of_task(record: RunRecord, group: Group, task: str) -> list[Sequence[str]]:
    """Members of a group that are of a task: all or none, unless the user named it."""
    if not group.named:
        return [group.members] if group.task == task else []
    alone = [name for name in group.members.lone() if record.actions[name].task == task]
    return [*(columns.all_names for columns in group.members.columns() if columns.call.task == task), alone]


def _state_of(record: RunRecord) -> int:
    """Differs once an action was added, or has come to another phase."""
    return hash((len(record.numbered), *[bytes(group.phases) for group in record.groups.values()]))


def _cells(actions: list[Action], kept: list[Payloads]) -> list[CellRow]:
    return [cell_row(action.number, *row_of(action, *each)) for action, each in zip(actions, kept, strict=True)]


def _unread(actions: list[Action], why: str) -> list[CellRow]:
    rows = [{**row_of(action, None, None)[0], "result": f"<{why}>"} for action in actions]
    return [cell_row(action.number, row, ["result"]) for action, row in zip(actions, rows, strict=True)]
