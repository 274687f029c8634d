"""Cell magic ``%%flyte recover``, read as a line magic so that the rest of the cell stays a cell. Runs in: kernel main thread.

IPython hands a cell magic the cell's text as a string, and what it then executes is no cell: no top-level ``await``, no last
value, no numbered traceback. So ``%%flyte word`` is read as ``%flyte word`` before the cell.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_FIRST_LINE = re.compile(r"^%%flyte\b")


def one_line_magic(lines: list[str]) -> list[str]:
    """An input transformation (`IPython.core.inputtransformer2`)."""
    if lines and _FIRST_LINE.match(lines[0]):
        return [lines[0][1:], *lines[1:]]
    return lines


def install(ip: Any) -> Callable[[], None]:
    """Read cells of this shell so; returns what undoes it."""
    transforms = ip.input_transformers_cleanup
    transforms.append(one_line_magic)

    def uninstall() -> None:
        if one_line_magic in transforms:
            transforms.remove(one_line_magic)

    return uninstall
