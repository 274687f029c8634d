"""Wake an idle event loop when a signal arrives. Runs in: kernel main thread.

While a cell awaits and the loop is idle, ipykernel's SIGINT handler only appends a callback, and the system call that the
loop waits in is restarted (PEP 475): the stop button does nothing until something else wakes the loop (measured with
ipykernel 6.31 to 7.4). A byte that the C signal handler writes wakes it at once.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading


class WakeUp:
    """Wakes an event loop when a signal arrives, at whichever thread the system delivers it."""

    def __init__(self) -> None:
        self._sockets: tuple[socket.socket, socket.socket] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake ``loop`` from now on. Main thread only; cheap to repeat, which undoes what others did to the setting."""
        if loop is not self._loop:
            self.disarm()
            if not self._listen(loop):
                return
        assert self._sockets is not None
        ours = self._sockets[1].fileno()
        before = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
        if before not in (-1, ours) and _has_own_wakeup(loop, before):
            # `loop.add_signal_handler` was used: the loop reads that fd itself, and needs the bytes for its handlers.
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)

    def disarm(self) -> None:
        """Undo `arm`. Does nothing when not armed, or off the main thread."""
        if self._sockets is None or threading.current_thread() is not threading.main_thread():
            return
        reader, writer = self._sockets
        before = signal.set_wakeup_fd(-1)
        if before not in (-1, writer.fileno()):
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(reader.fileno())
        reader.close()
        writer.close()
        self._sockets = self._loop = None

    def _listen(self, loop: asyncio.AbstractEventLoop) -> bool:
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        try:
            loop.add_reader(reader.fileno(), _drain, reader)
        except NotImplementedError:  # Windows' proactor loop, which a Windows kernel doesn't use.
            reader.close()
            writer.close()
            return False
        self._sockets, self._loop = (reader, writer), loop
        return True


def _has_own_wakeup(loop: asyncio.AbstractEventLoop, fd: int) -> bool:
    """Whether ``fd`` is the one that ``loop`` wakes itself with. True for loops that hide it (uvloop)."""
    own = getattr(loop, "_csock", None)
    return own is None or own.fileno() == fd


def _drain(reader: socket.socket) -> None:
    try:
        while reader.recv(4096):
            pass
    except (BlockingIOError, InterruptedError):
        pass  # Empty: waking the loop was all there was to do.
