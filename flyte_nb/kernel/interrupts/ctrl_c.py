"""Ctrl-C in a script: a key held down counts once, and what closes the cluster may finish. Runs in: main thread."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

#: Seconds after a Ctrl-C within which further ones are the same.
HELD_S = 0.5


class CtrlC:
    """The SIGINT handler of a script."""

    def __init__(self) -> None:
        self._pressed_at = 0.0

    def install(self) -> None:
        """Take Python's place, unless the program has a handler of its own."""
        on_main = threading.current_thread() is threading.main_thread()
        if on_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self)

    def ignore(self) -> None:
        """The program ends: nothing is to be interrupted any more, if that is why."""
        if self._pressed_at and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """The handler: raises KeyboardInterrupt."""
        now = time.monotonic()
        if now - self._pressed_at > HELD_S:
            self._pressed_at = now
            signal.default_int_handler(signum, frame)
