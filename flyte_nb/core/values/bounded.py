"""Bounds on what the user's objects may take: bytes of a stream that is written to, seconds of a call. Runs in: everywhere."""

from __future__ import annotations

import contextlib
import ctypes
import io
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class FullError(Exception):
    """More was written to a bounded stream than its limit."""


class _Bounded:
    """Takes what fits of a write that goes over the limit, and raises.

    Args:
        limit: Bytes, or characters.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self: Any, data: Any, /) -> int:
        left = self._limit - self.tell()
        if len(data) <= left:
            return super().write(data)  # type: ignore[misc,no-any-return]
        super().write(data[: max(left, 0)])  # type: ignore[misc]
        raise FullError


class TooLongError(BaseException):
    """A call took longer than it may. No `Exception`, which the code that it ends might handle."""


class _Watch(threading.Thread):
    """Interrupts the thread that made it, again and again, until it is told that the call has ended."""

    def __init__(self, seconds: float) -> None:
        super().__init__(name="flyte-watch", daemon=True)
        self._seconds = seconds
        self._caller = ctypes.c_ulong(threading.get_ident())
        self._over = threading.Event()
        self._lock = threading.Lock()

    def run(self) -> None:
        while not self._over.wait(self._seconds):
            with self._lock:
                if not self._over.is_set():
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(self._caller, ctypes.py_object(TooLongError))

    def end(self) -> bool:
        with self._lock:
            self._over.set()
        return True


def call_within(seconds: float, function: Callable[..., T], *args: Any) -> T:
    """Call code of the user's that may never end: a ``__str__``, a ``__repr__``.

    It is interrupted at a bytecode; a call that blocks in C is not.

    Args:
        seconds: It may take.
        function: Called in this thread.
        *args: Its arguments.

    Raises:
        TooLongError: It took longer.
    """
    watch = _Watch(seconds)
    watch.start()
    try:
        return function(*args)
    finally:
        ended = False
        while not ended:
            with contextlib.suppress(TooLongError):  # one may be on its way that is too late
                ended = watch.end()
        with contextlib.suppress(TooLongError):
            watch.is_alive()  # any call: as a function begins, Python looks for one


class BoundedBytes(_Bounded, io.BytesIO):
    """Bytes in memory, at most ``limit`` of them."""


class BoundedText(_Bounded, io.StringIO):
    """Text in memory, at most ``limit`` characters of it."""
