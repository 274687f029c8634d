"""Code of ``%%flyte everywhere``: cells that run on every worker as well. Runs in: worker process, a thread of its own."""

from __future__ import annotations

import ast
import asyncio
import functools
import inspect
import itertools
import linecache
import threading
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from flyte_nb.core.attempts.isolation import Isolation
from flyte_nb.core.attempts.output import OUTPUT, Output
from flyte_nb.core.history.facts import LogLine

#: Characters of what a cell prints on a worker, and of its error, that are sent back.
MAX_TEXT = 4_000
#: Lines of it.
MAX_LINES = 200

_NAME = "<everywhere "


class Everywhere:
    """The cells of one worker's kernels, in their order; attempts that begin meanwhile wait for them.

    Args:
        isolation: Of the process: what a cell changes of it stays.
        post: Calls a function on the worker's loop.
    """

    def __init__(self, isolation: Isolation | None, post: Callable[..., None]) -> None:
        self._isolation = isolation
        self._post = post
        #: The names that cells have bound, by kernel.
        self._spaces: dict[str, dict[str, Any]] = {}
        #: Names of files, which lie in one cache for all kernels: the numbers of cells are each kernel's own.
        self._files: dict[tuple[str, int], str] = {}
        self._numbers = itertools.count(1)
        #: Numbers of cells that were run here, by kernel: a worker that is linked to anew has run them.
        self._done: set[tuple[str, int]] = set()
        self._turn = threading.Lock()
        #: Set while no cell runs or is about to.
        self.idle: threading.Event = threading.Event()
        self.idle.set()
        self._waiting = 0

    def run(self, then: Callable[[Any], None], home: str, cells: list[tuple[int, str]]) -> None:
        """Run cells that have not been run here: answers (printed text, error or ""). On the worker's loop."""
        self._waiting += 1
        self.idle.clear()

        def work() -> None:
            try:
                with self._turn:
                    answer = self._run(home, cells)
            except BaseException as exc:
                answer = ("", f"{type(exc).__name__}: {exc}")
            self._post(self._ended, then, answer)

        threading.Thread(target=work, name="flyte-everywhere", daemon=True).start()

    def _ended(self, then: Callable[[Any], None], answer: tuple[str, str]) -> None:
        self._waiting -= 1
        if not self._waiting:
            self.idle.set()
        then(answer)

    def forget(self, home: str) -> None:
        """A kernel has left."""
        self._spaces.pop(home, None)
        self._done = {done for done in self._done if done[0] != home}
        for key in [key for key in self._files if key[0] == home]:
            linecache.cache.pop(self._files.pop(key), None)

    def _run(self, home: str, cells: list[tuple[int, str]]) -> tuple[str, str]:
        printed, error = _Printed(), ""
        OUTPUT.set(Output(lambda: printed))
        for number, source in cells:
            if (home, number) in self._done or error:
                continue
            self._done.add((home, number))
            try:
                if self._isolation is None:
                    self._execute(home, number, source)
                else:
                    self._isolation.rebase(functools.partial(self._execute, home, number, source))
            except BaseException as exc:
                error = _text_of(exc)
        return "\n".join(printed.lines)[-MAX_TEXT:], error[-MAX_TEXT:]

    def _execute(self, home: str, number: int, source: str) -> None:
        space = self._spaces.setdefault(home, {"__name__": "__everywhere__", "__builtins__": __builtins__})
        name = self._files.setdefault((home, number), f"{_NAME}{next(self._numbers)}>")
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        code = compile(source, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(eval(code, space))  # noqa: S307 - the user's own cell
        else:
            exec(code, space)  # noqa: S102


class _Printed:
    """What a cell prints, its latest lines."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=MAX_LINES)

    def line(self, line: LogLine) -> None:
        """Take one line."""
        self.lines.append(line.text)


def _text_of(exc: BaseException) -> str:
    """The traceback from the cell on."""
    trace = exc.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith(_NAME):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(exc), exc, trace))
