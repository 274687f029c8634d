"""Hand callbacks and values between threads and loops, with one wake-up per burst. Runs in: both sides."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

logger: logging.Logger = logging.getLogger("flyte")


class Mailbox:
    """Callbacks for one loop, posted from any thread, run in order with one wake-up per burst."""

    __slots__ = ("_awake", "_items", "_loop", "_on_fault")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_fault: Callable[[Exception, str], None] | None = None
    ) -> None:
        #: Weak: mailboxes are kept by their loops, of which ``asyncio.run`` makes one each time.
        self._loop = weakref.ref(loop)
        self._items: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._awake = False
        #: Called with what a callback raised, and its name.
        self._on_fault = on_fault

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Have the loop call ``function(*args)`` soon. Silently dropped when the loop is closed."""
        self._items.append((function, args))
        if not self._awake:
            self._awake = True
            loop = self._loop()
            try:
                if loop is not None:
                    loop.call_soon_threadsafe(self._drain)
                    return
            except RuntimeError:
                pass
            self._awake = False
            self._items.clear()

    def _drain(self) -> None:
        # First admit new wake-ups, then drain: a post that comes between costs one idle wake-up, never a lost one.
        self._awake = False
        items = self._items
        # Not more than what is here now: a thread that posts without end must not keep the loop from its other work.
        for _ in range(len(items)):
            function, args = items.popleft()
            try:
                function(*args)
            except Exception as exc:  # the others must not wait for the next post
                name = str(getattr(function, "__qualname__", function))
                if self._on_fault is not None:
                    self._on_fault(exc, name)
                logger.exception("flyte_nb failed in %s", name)


_mailboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox] = WeakKeyDictionary()


def mailbox_of(loop: asyncio.AbstractEventLoop) -> Mailbox:
    """The mailbox of a loop."""
    box = _mailboxes.get(loop)
    if box is None:
        box = _mailboxes.setdefault(loop, Mailbox(loop))
    return box


class OneShot:
    """One value, handed from one thread to another. Cheaper than a `concurrent.futures.Future`."""

    __slots__ = ("_lock", "_value")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._value: Any = None

    def put(self, value: Any) -> None:
        """Hand over; only the first value counts."""
        if self._lock.locked():
            self._value = value
            with contextlib.suppress(RuntimeError):
                self._lock.release()

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the value.

        Raises:
            TimeoutError: It did not come within `timeout` seconds.
        """
        if not self._lock.acquire(timeout=-1 if timeout is None else timeout):
            raise TimeoutError(f"no answer within {timeout} s")
        return self._value


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in this thread; None if none does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
