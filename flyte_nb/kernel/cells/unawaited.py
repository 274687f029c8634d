"""Unawaited calls and unretrieved failures of background calls: warnings under the next cell that ends. Runs in: main thread.

A task's coroutine does nothing until it is awaited, and an asyncio task that fails keeps its error until it is retrieved. Both
are mistakes that a notebook hides well: a cell's last expression keeps the coroutine alive, and asyncio warns only when the
garbage is collected.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator
from types import CodeType, FrameType
from typing import Any, NamedTuple

from flyte_nb.core.failures import wording
from flyte_nb.core.failures.record import record_of, summary_of
from flyte_nb.core.tasks.task import Task
from flyte_nb.engine.dispatch.gc_pacing import PACING
from flyte_nb.kernel.cells.names import CellNames
from flyte_nb.kernel.cells.tracker import Cell
from flyte_nb.kernel.interrupts import cell_first

#: Calls that may be pending between cells, as coroutines in the user's variables; older ones are not watched any more.
MAX_PENDING = 10_000
#: The garbage collector is told of how many there are once in so many calls.
PACED = 1_000
#: Failed background calls that are remembered; older ones go unreported.
MAX_FAILED = 200
#: Warnings under one cell; the others are counted.
MAX_WARNINGS = 5


#: How Python words it that a plain value was awaited.
_AWAITED_VALUE = (
    "can't be used in 'await' expression",
    "a coroutine or an awaitable is required",
    "a coroutine was expected",
)


#: A call that was made: its coroutine, its task, and the code and line that made it.
Made = tuple[weakref.ref[Coroutine[Any, Any, Any]], Task[..., Any], CodeType, int]


class Failed(NamedTuple):
    """A call that failed in an asyncio task of its own."""

    holder: asyncio.Task[Any]
    error: BaseException
    made: Made | None


def silence_python() -> Callable[[], None]:
    """Suppress Python's own warning for calls of tasks, which says less. Returns what undoes it."""
    warnings.filterwarnings("ignore", r"coroutine '.+\(\.\.\.\)' was never awaited", RuntimeWarning)
    filters: Any = warnings.filters
    ours = filters[0]

    def undo() -> None:
        if ours in filters:
            filters.remove(ours)

    return undo


class UnawaitedCalls:
    """Watches the calls of all cells (`flyte_nb.core.tasks.context.CallScope.watch`)."""

    def __init__(self, shell: Any, names: CellNames) -> None:
        self._shell = shell
        self._names = names
        #: Calls that have not begun.
        self._made: dict[int, Made] = {}
        self._tokens = itertools.count(1)
        self._failed: OrderedDict[int, Failed] = OrderedDict()
        #: The ``def`` task that was called last for its value; "" for none.
        self.plain = ""

    # -- from `flyte_nb.core.tasks.task`; a microsecond here is a percent of an action --------------------------------------

    def made(self, task: Task[..., Any], coroutine: Coroutine[Any, Any, Any], token: int, frame: FrameType) -> None:
        """A call was made: its coroutine must begin some time."""
        self._made[token] = (weakref.ref(coroutine), task, frame.f_code, frame.f_lineno)
        if not token % PACED:
            PACING.load(id(self), len(self._made))

    def token(self) -> int:
        """A name for the next call."""
        return next(self._tokens)

    def begun(self, token: int) -> Made | None:
        """A call has begun: its coroutine was awaited."""
        if not token % PACED:
            PACING.load(id(self), len(self._made))
        return self._made.pop(token, None)

    def failed(self, error: BaseException, made: Made | None) -> None:
        """A call failed; its error may never be retrieved."""
        holder = asyncio.current_task()
        if holder is not None:
            self._failed[id(holder)] = Failed(holder, error, made)
            if len(self._failed) > MAX_FAILED:
                self._failed.popitem(last=False)

    def cell_stopped(self, _cell: Cell) -> None:
        """Keep the calls that have not begun, to be dropped a few at a time: Python looks at each. In the signal handler."""
        kept = [coroutine for made in self._made.values() if (coroutine := made[0]()) is not None]
        with contextlib.suppress(RuntimeError):  # a terminal
            cell_first.in_turn(asyncio.get_running_loop(), (kept.pop for _ in range(len(kept))))

    # -- when a cell ends -----------------------------------------------------------------------------------------

    def cell_ended(self, _cell: Cell, error: BaseException | None) -> None:
        """Print the warnings. What a cell that failed has left unawaited is no mistake."""
        if isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
            self._made.clear()  # thousands, perhaps; some of them begin to end after the cell
        PACING.load(id(self), len(self._made))
        lines = [*self._unawaited(error is not None), *self._unseen(), *self._awaited_value(error)]
        if len(lines) > MAX_WARNINGS:
            lines = [*lines[:MAX_WARNINGS], f"flyte_nb: and {len(lines) - MAX_WARNINGS} more of the kind"]
        for line in lines:
            print(line, file=sys.stderr)  # noqa: T201 - under the cell

    def _unawaited(self, excused: bool) -> Iterator[str]:
        result = getattr(self._shell, "user_ns", {}).get("_")
        for token in list(self._made)[:-MAX_PENDING]:
            del self._made[token]
        for token, made in list(self._made.items()):
            coroutine = made[0]()
            if coroutine is not None and coroutine is not result:
                continue  # in a variable: it may be awaited later
            del self._made[token]
            if not excused:
                name = made[1].short_name
                yield (
                    f"flyte_nb: {name}(...), called at {self._place(made)}, was never awaited, so it did not run: write "
                    f"`await {name}(...)`"
                )

    def _awaited_value(self, error: BaseException | None) -> Iterator[str]:
        """The remedy where the value of a ``def`` task was awaited, and its call did not show that it would be."""
        name = self.plain
        if name and isinstance(error, TypeError) and any(text in str(error) for text in _AWAITED_VALUE):
            yield (
                f"flyte_nb: {name}(...) is a `def` task, which gave its value here. `{name}.aio(...)` gives what can be "
                f"awaited anywhere, and `flyte.map({name}, ...)` runs many at once"
            )

    def _unseen(self) -> Iterator[str]:
        for key, (holder, error, made) in list(self._failed.items()):
            if not holder.done():
                continue
            del self._failed[key]
            # asyncio's own mark for "the exception was not retrieved"; it has no public name.
            if not getattr(holder, "_log_traceback", False):
                continue
            holder._log_traceback = False  # reported once, here  # noqa: SLF001 - asyncio's own switch of that message
            record = record_of(error)
            origin = record.origin if record is not None else None
            short = wording.current().name_of(origin.action) if origin is not None else ""
            what = f"{short} {origin.label}".strip() if origin is not None else "a call"
            at = f", started at {self._place(made)}" if made is not None else ""
            opens = f"; `%flyte debug {short}` opens it" if short else ""
            yield (
                f"flyte_nb: {what}{at}, failed in the background and nobody has retrieved its error: {summary_of(error)}"
                f"{opens}"
            )

    def _place(self, made: Made) -> str:
        filename, line = made[2].co_filename, made[3]
        where = self._names.place(f"{filename.rpartition('/')[2]}:{line}")
        return where if where.startswith("In [") else f"{wording.current().file(filename)}:{line}"
