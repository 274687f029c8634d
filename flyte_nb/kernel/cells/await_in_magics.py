"""``%time``, ``%%time`` and ``%%capture`` over code that awaits; the remedy for other magics. Runs in: kernel main thread.

IPython's own compile what they are given as plain code, where ``await`` is a syntax error, or run it as a cell within the cell,
on a loop that is running already. So they are read otherwise where they stand over an ``await``: what follows stays a cell,
timed or captured from its first line to its end.
"""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import sys
import time
from collections.abc import Callable
from typing import Any

from flyte_nb.kernel.cells.tracker import Cell, CellTracker

_CELL_MAGIC = re.compile(r"^%%(?P<name>time|capture)\b(?P<options>[^\n]*)\n?$")
_TIME_LINE = re.compile(r"^(?P<indent>\s*)%time\s++(?P<code>.*\bawait\b.*)$")
#: How a cell reaches this module, on one line, whatever it has deleted.
_HERE = '__import__("sys").modules["flyte_nb.kernel.cells.await_in_magics"]'

#: Files of code that magics compile.
_COMPILED = re.compile(r"<(timed|magic-timeit|string|ipython-input|unknown)")
REMEDY = (
    "flyte_nb: {magic} cannot await. `%time await ...` and a cell under `%%time` can; a task's calls many times over: "
    "`%time await asyncio.gather(*(... for _ in range(10)))`."
)


class Stopwatch:
    """Times a statement: ``%time await f(3)`` is read as ``Stopwatch().value(await f(3))``."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def value(self, value: Any) -> Any:
        """Print what it took; the value is passed on."""
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        print(f"CPU times of this process: {_shown(cpu)}\nWall time: {_shown(wall)}")  # noqa: T201 - what it is for
        return value


def _shown(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.0f} ns"


class AwaitInMagics:
    """Reads such cells, and ends what they have begun.

    Args:
        cells: Reports cells that end.
    """

    def __init__(self, cells: CellTracker) -> None:
        self._cells = cells
        self._at_end: list[Callable[[], object]] = []
        self._undo: list[Callable[[], None]] = []

    def install(self) -> None:
        """Start. Does nothing when installed already."""
        if self._undo:
            return
        global _installed
        _installed = self
        transforms = self._cells.ip.input_transformers_cleanup
        transforms.append(read)
        self._undo = [self._cells.on_end(self._ended), lambda: transforms.remove(read) if read in transforms else None]

    def uninstall(self) -> None:
        """Stop. Does nothing when not installed."""
        while self._undo:
            self._undo.pop()()

    def time(self) -> None:
        """Time the cell that runs, to its end."""
        watch = Stopwatch()
        self._at_end.append(lambda: watch.value(None))

    def capture(self, options: str) -> None:
        """Capture the output of the cell that runs, to its end, as ``%%capture`` does."""
        from IPython.utils.capture import capture_output

        parser = argparse.ArgumentParser(prog="%%capture", add_help=False)
        parser.add_argument("output", nargs="?", default="")
        for stream in ("stdout", "stderr", "display"):
            parser.add_argument(f"--no-{stream}", action="store_true")
        chosen = parser.parse_args(shlex.split(options))
        capture = capture_output(not chosen.no_stdout, not chosen.no_stderr, not chosen.no_display)
        captured = capture.__enter__()

        def end() -> None:
            capture.__exit__(None, None, None)
            if chosen.output:
                self._cells.ip.user_ns[chosen.output] = captured

        self._at_end.append(end)

    def _ended(self, _cell: Cell, error: BaseException | None) -> None:
        while self._at_end:
            self._at_end.pop()()
        if isinstance(error, SyntaxError) and "'await' outside" in str(error) and _COMPILED.match(error.filename or ""):
            magic = "`%timeit`" if "timeit" in (error.filename or "") else "this magic"
            print(REMEDY.format(magic=magic), file=sys.stderr)  # noqa: T201 - under the cell


_installed: AwaitInMagics | None = None


def time_cell() -> None:
    """`AwaitInMagics.time`, for the first line of a cell."""
    if _installed is not None:
        _installed.time()


def capture_cell(options: str) -> None:
    """`AwaitInMagics.capture`, for the first line of a cell."""
    if _installed is not None:
        _installed.capture(options)


def read(lines: list[str]) -> list[str]:
    """An input transformation (`IPython.core.inputtransformer2`)."""
    found = _CELL_MAGIC.match(lines[0]) if lines else None
    if found and _awaits("".join(lines[1:])):
        begin = "time_cell()" if found["name"] == "time" else f"capture_cell({found['options'].strip()!r})"
        return [f"{_HERE}.{begin}\n", *read(lines[1:])]
    if not any("%time" in line for line in lines):
        return lines
    return [_timed(line) for line in lines]


def _timed(line: str) -> str:
    found = _TIME_LINE.match(line.rstrip("\n"))
    if not found:
        return line
    try:
        statement = ast.parse(found["code"]).body
    except SyntaxError:
        return line
    if len(statement) != 1 or not isinstance(statement[0], ast.Expr | ast.Assign):
        return line
    text = found["code"].encode()
    value = text[statement[0].value.col_offset : statement[0].value.end_col_offset].decode()
    before = text[: statement[0].value.col_offset].decode()
    after = text[statement[0].value.end_col_offset :].decode()
    return f"{found['indent']}{before}{_HERE}.Stopwatch().value({value}){after}\n"


def _awaits(source: str) -> bool:
    """Whether code awaits outside of functions. With magics in it, which are no Python: whether the word is in it."""
    if "await" not in source and "async " not in source:
        return False
    try:
        compile(source, "<cell>", "exec", dont_inherit=True)
    except SyntaxError as exc:
        return "outside" in str(exc) or "%" in source or "!" in source
    return False


__all__ = ["AwaitInMagics", "Stopwatch", "capture_cell", "read", "time_cell"]
