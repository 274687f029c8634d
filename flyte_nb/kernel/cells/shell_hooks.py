"""Hooks into IPython's shell: ``%%flyte`` read as a line magic, and what is done around a value's display.

Runs in: kernel main thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from flyte_nb.kernel.cells.tracker import add_callback

_FIRST_LINE = re.compile(r"^%%flyte\b")


def one_line_magic(lines: list[str]) -> list[str]:
    """An input transformation (`IPython.core.inputtransformer2`)."""
    if lines and _FIRST_LINE.match(lines[0]):
        return [lines[0][1:], *lines[1:]]
    return lines


def install_line_magic(ip: Any) -> Callable[[], None]:
    """Read cells of this shell so; returns what undoes it.

    IPython hands a cell magic the cell's text as a string, and what it then executes is no cell: no top-level ``await``, no
    last value, no numbered traceback. So ``%%flyte word`` is read as ``%flyte word`` before the cell.
    """
    return add_callback(ip.input_transformers_cleanup, one_line_magic)


def before_output(ip: Any, make_room: Callable[..., object]) -> Callable[[], None]:
    """Have ``make_room(done=False)`` called before the shell shows a cell's value, ``make_room(done=True)`` after.

    The prompt ``Out[3]:`` and the value are two writes: a tree drawn between them would take the prompt away. A kernel's shell
    is left alone. Returns what undoes it.
    """
    hook = getattr(ip, "displayhook", None)
    if hook is None or getattr(ip, "kernel", None) is not None or not hasattr(hook, "start_displayhook"):
        return lambda: None
    start, finish = hook.start_displayhook, hook.finish_displayhook

    def start_displayhook() -> None:
        make_room(done=False)
        start()

    def finish_displayhook() -> None:
        finish()
        make_room(done=True)

    ours = {"start_displayhook": start_displayhook, "finish_displayhook": finish_displayhook}
    vars(hook).update(ours)

    def undo() -> None:
        for name, function in ours.items():
            if vars(hook).get(name) is function:
                del vars(hook)[name]

    return undo
