"""Track the cell that is running, by IPython's events. Runs in: kernel main thread."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Mapping
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar

from flyte_nb.core.values import redact

_T = TypeVar("_T")
_SERIALS = itertools.count(1)

#: Longest cell title, in characters: what fits in a view's heading on a laptop screen.
MAX_TITLE = 80
#: Characters of its line that are looked at.
MAX_TITLE_LINE = 2_000
#: Most cells that can be running inside one another (a cell may call `get_ipython().run_cell`).
MAX_NESTED_CELLS = 32
#: The cell that the running code belongs to, or None. It reaches every task, `to_thread` call and callback that the cell
#: starts, also after the cell has ended; raw threads start without it.
CURRENT_CELL: ContextVar[Cell | None] = ContextVar("flyte_nb_current_cell", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One execution of one notebook cell. Running the cell again makes another `Cell`."""

    #: Counts executions in this kernel, from 1.
    serial: int
    #: The notebook's own id of the cell; None from clients that send none (a console, a plain kernel client, a terminal).
    cell_id: str | None
    #: The number in ``In [7]``; None where the execution isn't stored in the history.
    prompt: int | None
    #: A line that names the cell to a human, at most `MAX_TITLE` characters.
    title: str
    #: Whether its author has named it, by a comment in its first line.
    named: bool = False
    #: What executes it, if that is a task of the loop: an async cell.
    task: asyncio.Task[Any] | None = field(default=None, repr=False)
    #: Header of the message that asked for the execution: output sent with it lands under this cell. Empty in a terminal.
    parent: Mapping[str, Any] = field(repr=False)
    #: What other threads print in a copy of it appears under this cell.
    variables: Context = field(repr=False)


def parent_header(ip: Any) -> dict[str, Any]:
    """Header of the message that the calling code answers to; empty in a terminal."""
    get_parent = getattr(ip, "get_parent", None)
    message = get_parent() if get_parent is not None else {}
    return dict(message.get("header", message)) if message else {}


class CellTracker:
    """Follows IPython's cell events.

    Args:
        ip: The `IPython.InteractiveShell` to follow, in a kernel or in a terminal.
    """

    def __init__(self, ip: Any) -> None:
        #: The shell that is followed.
        self.ip = ip
        self._running: list[tuple[Any, Cell]] = []  # (IPython's ExecutionInfo, ours), innermost last
        self._on_start: list[Callable[[Cell], object]] = []
        self._on_end: list[Callable[[Cell, BaseException | None], object]] = []
        self._installed = False

    def install(self) -> None:
        """Start following. Does nothing when installed already.

        Called from a running cell (as ``%load_ext`` is), it counts that cell as started now.
        """
        if self._installed:
            return
        self._installed = True
        self.ip.events.register("pre_run_cell", self._pre_run_cell)
        self.ip.events.register("post_run_cell", self._post_run_cell)
        info = self._running_cell_info()
        if info is not None:
            self._pre_run_cell(info)

    def uninstall(self) -> None:
        """Stop following. Does nothing when not installed."""
        if not self._installed:
            return
        self._installed = False
        self.ip.events.unregister("pre_run_cell", self._pre_run_cell)
        self.ip.events.unregister("post_run_cell", self._post_run_cell)
        self._running.clear()

    @property
    def current(self) -> Cell | None:
        """The cell that is running now (the innermost one), seen from any thread; None between cells."""
        running = self._running
        return running[-1][1] if running else None

    def rest_of_cell(self, magic: str) -> str:
        """Source of the running cell below its first line, ``%%flyte <magic>``, as Python; "" if it has no such line."""
        raw = self._running[-1][0].raw_cell if self._running else ""
        first, _, rest = raw.lstrip().partition("\n")
        return str(self.ip.transform_cell(rest)) if first.split()[:2] in (["%%flyte", magic], ["%flyte", magic]) else ""

    def owner(self) -> Cell | None:
        """The cell that the calling code belongs to: by context, else the one running now, else None."""
        return CURRENT_CELL.get() or self.current

    def on_start(self, callback: Callable[[Cell], object]) -> Callable[[], None]:
        """Call ``callback(cell)`` before a cell's code runs, in the kernel's main thread and in the cell's context.

        Returns a function that takes the callback off again.
        """
        return add_callback(self._on_start, callback)

    def on_end(self, callback: Callable[[Cell, BaseException | None], object]) -> Callable[[], None]:
        """Call ``callback(cell, error)`` after a cell has ended, also by an error, a syntax error or an interrupt.

        The callback runs in the kernel's main thread, *outside* an async cell's context: use its argument. Returns a function
        that takes the callback off again.
        """
        return add_callback(self._on_end, callback)

    def _pre_run_cell(self, info: Any) -> None:
        try:
            task = asyncio.current_task()
        except RuntimeError:  # a terminal between two prompts
            task = None
        cell = Cell(
            serial=next(_SERIALS), cell_id=getattr(info, "cell_id", None),
            prompt=self._prompt() if info.store_history else None, title=title_of(info.raw_cell),
            named=bool(_comment(info.raw_cell)), task=task, parent=parent_header(self.ip), variables=copy_context(),
        )  # fmt: skip
        # IPython always reports the end; should it ever not, the list stays short.
        del self._running[: -MAX_NESTED_CELLS + 1]
        self._running.append((info, cell))
        # Inside an async cell's own task, or in the handler of a sync cell: everything that the cell starts inherits it.
        CURRENT_CELL.set(cell)
        cell.variables.run(CURRENT_CELL.set, cell)
        for callback in tuple(self._on_start):
            callback(cell)

    def _post_run_cell(self, result: Any) -> None:
        cell = self._pop(getattr(result, "info", None))
        if cell is None:  # An empty cell, or the one that loaded the extension: its start was never reported.
            return
        if CURRENT_CELL.get() is cell:
            # A sync cell runs in the context that ipykernel keeps for all its messages: the next cell would see this one.
            CURRENT_CELL.set(self.current)
        error = getattr(result, "error_before_exec", None) or getattr(result, "error_in_exec", None)
        for callback in tuple(self._on_end):
            callback(cell, error)

    def _pop(self, info: Any) -> Cell | None:
        for i in reversed(range(len(self._running))):
            ours, cell = self._running[i]
            # When a cell dies of a BaseException, IPython reports the end with a new but equal `info`; when an async cell is
            # cancelled before its first step, with none at all.
            if info is None or ours is info or ours.raw_cell == info.raw_cell:
                del self._running[i:]
                return cell
        return None

    def _running_cell_info(self) -> Any | None:
        """What IPython would have reported about the cell that runs now, or None: its start came before `install`."""
        if getattr(self.ip, "kernel", None) is None:
            source = self.ip.history_manager.input_hist_raw[-1]
            return SimpleNamespace(raw_cell=source, cell_id=None, store_history=True) if source else None
        message = self.ip.get_parent() or {}
        if message.get("header", {}).get("msg_type") != "execute_request":
            return None  # Loaded by the kernel itself, before any cell.
        content, metadata = message.get("content", {}), message.get("metadata", {})
        stored = content.get("store_history", True)
        return SimpleNamespace(raw_cell=content.get("code", ""), cell_id=metadata.get("cellId"), store_history=stored)

    def _prompt(self) -> int:
        import IPython

        # IPython counts up before `pre_run_cell` since 9.8, after the cell before that.
        return int(self.ip.execution_count) - (1 if IPython.version_info >= (9, 8) else 0)


def add_callback(callbacks: list[_T], callback: _T) -> Callable[[], None]:
    """Append to a list of callbacks; returns a function that takes the callback off again."""
    callbacks.append(callback)

    def remove() -> None:
        if callback in callbacks:
            callbacks.remove(callback)

    return remove


_SKIPPED = re.compile(r"^(?:[%!@)\]}]|import\s|from\s|(?:async\s+)?def\s|class\s|if\s+TYPE_CHECKING\b)")


def _comment(source: str) -> str:
    """What a comment in a cell's first line says, below cell magics (``%%time``); "" without one."""
    source = source.lstrip()
    while source.startswith("%%"):
        source = source.partition("\n")[2].lstrip()
    first = source[: MAX_TITLE_LINE + 1].partition("\n")[0]
    return first.lstrip("#").strip().removeprefix("%%").strip() if first.startswith("#") else ""


def title_of(source: str) -> str:
    """A line that names the cell to a human.

    A comment at the top is taken as the title; otherwise the first top-level line that does something (no magic, import or
    definition), of a ``try:`` what it tries; otherwise the first line there is. Empty for an empty cell.
    """
    title = _comment(source)
    if not title:
        lines = [line for line in source.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        top = (at for at, line in enumerate(lines) if not (line[0].isspace() or _SKIPPED.match(line)))
        at = next(top, 0)
        while at + 1 < len(lines) and lines[at].partition("#")[0].strip() == "try:":
            at += 1
        title = (lines[at] if lines else source).strip()
    return cut_title(title)


def cut_title(title: str) -> str:
    """A line as a title: without secrets, at most `MAX_TITLE` characters."""
    title = redact.scrub_code(title[:MAX_TITLE_LINE])
    return title if len(title) <= MAX_TITLE else title[: MAX_TITLE - 1] + "…"
