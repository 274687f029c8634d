"""Clean-up of a stopped cell: which of its calls still start. Runs in: the thread of the calling code.

A stopped cell starts nothing more, but for what cleans up behind it: the stop passes through a ``finally``, the exit of a
context manager or an ``except`` that raises again, and what these call runs, until the stop is pressed again. An ``except``
that keeps the stop to itself is no clean-up: the cell would go on as if nobody had pressed.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import functools
import sys
import threading
from collections.abc import Iterator
from contextvars import Context, ContextVar
from types import FrameType
from typing import Any

from flyte_nb.core.attempts.stacks import frames_of_threads
from flyte_nb.core.tasks.parsed_source import Tree, tree_of
from flyte_nb.core.values.user_code import OURS, library_path

#: Errors, each raised while the one before was handled, that are looked at.
MAX_CHAIN = 20
_EXITS = frozenset({"__exit__", "__aexit__"})
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


class Stop:
    """The stop of one cell."""

    def __init__(self, serial: int) -> None:
        #: Number of the cell.
        self.serial = serial
        #: Whether it was pressed again: then nothing more is called.
        self.again = False


class Reached:
    """A task that a stop has reached, and what it starts from then on.

    Args:
        stop: The stop.
        task: The task; None for a sync cell.
    """

    def __init__(self, stop: Stop, task: asyncio.Task[Any] | None) -> None:
        self.stop = stop
        self._task = task

    def mark(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Let the task's code know from now on, and what it starts from now on. In the signal handler.

        Args:
            loop: That the task is suspended on; None if its code runs now.
        """
        if loop is None or self._task is None:
            REACHED.set(self)
        elif (context := _context_of(self._task, loop)) is not None:
            with contextlib.suppress(RuntimeError):  # it is entered
                context.run(REACHED.set, self)

    def cleans_up(self) -> bool:
        """Whether the task is where the stop passes through."""
        return any(map(_passes_through, self._frames()))

    def _frames(self) -> Iterator[FrameType]:
        task = self._task
        if task is not None and not task.done() and _current() is not task:
            yield from awaiting(task)
            return
        in_main = threading.current_thread() is threading.main_thread()
        frame = sys._getframe() if in_main else frames_of_threads().get(threading.main_thread().ident or 0)  # noqa: SLF001
        while frame is not None:
            yield frame
            frame = frame.f_back


#: Of the cell that the running code belongs to.
STOP: ContextVar[Stop | None] = ContextVar("flyte_nb_stop", default=None)
#: In the code that a stop has reached, and in all that this has started since.
REACHED: ContextVar[Reached | None] = ContextVar("flyte_nb_stop_reached", default=None)


def refuses(serial: int) -> bool:
    """Whether a call is refused that is made now for a cell that was stopped."""
    reached = REACHED.get()
    if reached is None or reached.stop.serial != serial:
        stop = STOP.get()
        if stop is None or stop.serial != serial or not _is_stopping():
            return True
        reached = Reached(stop, _current())  # a task that the cell had started, cancelled with it
        reached.mark()
    return reached.stop.again or not reached.cleans_up()


def _is_stopping() -> bool:
    """Whether a cancellation is being handled right now."""
    error, depth = sys.exc_info()[1], 0
    while error is not None and depth < MAX_CHAIN:
        if isinstance(error, asyncio.CancelledError | KeyboardInterrupt):
            return True
        error, depth = error.__context__, depth + 1
    return False


def awaiting(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """The frames of a suspended task, outermost first."""
    coroutine: Any = task.get_coro()
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)
        if frame is not None:
            yield frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "ag_await", None)


def _current() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _context_of(task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop) -> Context | None:
    """The context of a suspended task. It has a name from Python 3.12 on; before, what will wake the task has it."""
    if hasattr(task, "get_context"):
        return task.get_context()  # type: ignore[no-any-return]
    waiter: Any = getattr(task, "_fut_waiter", None)
    handles = ((each._callback, each._context) for each in tuple(getattr(loop, "_ready", ())))  # noqa: SLF001
    wakes = (*(getattr(waiter, "_callbacks", None) or ()), *handles)
    return next((context for call, context in wakes if getattr(call, "__self__", None) is task), None)


def _passes_through(frame: FrameType) -> bool:
    """Whether a frame is in a ``finally``, in the exit of a context manager, or in an ``except`` that raises again."""
    code = frame.f_code
    if code.co_filename == contextlib.__file__ and code.co_name in _EXITS:
        return True  # what it throws into a generator cannot be looked into
    if library_path(code.co_filename) is not None or frame.f_globals.get("__name__", "").partition(".")[0] in OURS:
        return False
    if code.co_name in _EXITS:
        return True
    tree = tree_of(code.co_filename)
    return tree is not None and any(frame.f_lineno in lines for lines in _clean_up_lines(tree))


@functools.lru_cache(maxsize=16)
def _clean_up_lines(tree: Tree) -> list[range]:
    tries = [node for node in ast.walk(tree.root) if isinstance(node, ast.Try | ast.TryStar)]
    handlers = [handler.body for node in tries for handler in node.handlers if any(map(_raises, handler.body))]
    bodies = [*(node.finalbody for node in tries if node.finalbody), *handlers]
    return [range(body[0].lineno, (body[-1].end_lineno or 0) + 1) for body in bodies]


def _raises(node: ast.AST) -> bool:
    """Whether a statement raises, or one in it."""
    if isinstance(node, ast.Raise):
        return True
    return not isinstance(node, _FUNCTIONS) and any(map(_raises, ast.iter_child_nodes(node)))
