"""Terminal IPython: a cell's value goes where the live tree stood, not through it. Runs in: kernel main thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def before_output(ip: Any, make_room: Callable[[], object]) -> Callable[[], None]:
    """Have `make_room` called before the shell shows a cell's value; returns what undoes it. A kernel's shell is left alone."""
    hook = getattr(ip, "displayhook", None)
    if hook is None or getattr(ip, "kernel", None) is not None or not hasattr(hook, "start_displayhook"):
        return lambda: None
    plain = hook.start_displayhook

    def start_displayhook() -> None:
        make_room()
        plain()

    hook.start_displayhook = start_displayhook

    def undo() -> None:
        if hook.__dict__.get("start_displayhook") is start_displayhook:
            del hook.start_displayhook

    return undo
