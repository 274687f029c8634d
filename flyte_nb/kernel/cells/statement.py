"""Statement that a cell is at: names its run to a human, "await sweep(6)" and not "try:". Runs in: kernel main thread."""

from __future__ import annotations

import ast
import asyncio
import linecache
import sys
from types import CodeType, FrameType
from typing import Any

#: Frames, or awaiting coroutines, looked at.
MAX_DEPTH = 500
#: Largest cell that is parsed for it, in characters.
MAX_SOURCE = 100_000


def executing(names: dict[str, Any], task: asyncio.Task[Any] | None) -> str:
    """First line of the innermost statement that a cell is at; "" if that cannot be told, or is a magic.

    Args:
        names: The notebook's variables: code of a cell is what has these as its globals, at the top level.
        task: The one that executes the cell. What runs in another one of its loop, a gather's child, has no frame of the cell
            below it: there the cell is where it awaits.
    """
    frame = _below(sys._getframe(1), names) or (_awaiting(task, names) if task is not None else None)  # noqa: SLF001 - a debugger's means
    if frame is None:
        return ""
    lines = linecache.getlines(frame.f_code.co_filename)
    source = "".join(lines)
    if not lines or len(source) > MAX_SOURCE:
        return ""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return ""
    at = _innermost(tree, frame.f_lineno)
    line = lines[at - 1].strip() if 0 < at <= len(lines) else ""
    return "" if line.startswith("get_ipython().run_") else line


def _is_cell(code: CodeType) -> bool:
    return code.co_name.startswith(("<module>", "<cell line"))


def _below(frame: FrameType | None, names: dict[str, Any]) -> FrameType | None:
    for _ in range(MAX_DEPTH):
        if frame is None or (frame.f_globals is names and _is_cell(frame.f_code)):
            return frame
        frame = frame.f_back
    return None


def _awaiting(task: asyncio.Task[Any], names: dict[str, Any]) -> FrameType | None:
    awaited: Any = task.get_coro()
    for _ in range(MAX_DEPTH):
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None and frame.f_globals is names and _is_cell(frame.f_code):
            return frame  # type: ignore[no-any-return]
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
        if awaited is None:
            return None
    return None


def _innermost(tree: ast.AST, line: int) -> int:
    """Line where the innermost statement begins that a line belongs to; 0 if there is none.

    At the head of a ``with``, which enters a group whose calls are to come: of the first statement in it that calls something.
    """
    found: ast.stmt | None = None
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno):
            found = node if found is None or node.lineno >= found.lineno else found
    while isinstance(found, ast.With | ast.AsyncWith):
        found = next(
            (each for each in found.body if any(isinstance(n, ast.Call) for n in ast.walk(each))), found.body[0]
        )
    return found.lineno if found is not None else 0
