"""Pause the live tree of terminal IPython while a cell's value is shown. Runs in: kernel main thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class MakeRoom(Protocol):
    """Pauses the live tree, or resumes it."""

    def __call__(self, *, done: bool) -> object:
        """Called before the value is shown, and with ``done=True`` after."""


def before_output(ip: Any, make_room: MakeRoom) -> Callable[[], None]:
    """Have `make_room` called around the shell's showing a cell's value. A kernel's shell is left alone.

    The prompt ``Out[3]:`` and the value are two writes: a tree drawn between them would take the prompt away.

    Returns:
        What undoes it.
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
