"""Socket stream: the TCP or TLS socket of a Dask comm, taken over and read in the loop's own callbacks. Runs in: as `link`.

A message over a comm costs each side four turns of its loop, some futures and Dask's framing: half of what an await costs. Here
it is a length and its bytes, handled in the turn in which they arrive. Large buffers go before it, between their memory and the
socket without a copy.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from distributed.comm.core import Comm

_LENGTH = struct.Struct("<Q")
#: Added to the length of a buffer that belongs to the next message.
_BUFFER = 1 << 63
#: Bytes that one read may give, and those read or written in one turn: others have theirs.
CHUNK, TURN = 256 * 1024, 1024 * 1024
#: References to what only a list holds, as `sys.getrefcount` counts them.
_OF_LIST = 2
#: What a socket says that has nothing to read, or takes no more.
_LATER = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def can_be_taken(comm: Comm) -> bool:
    """Whether a comm is a plain stream of bytes over a socket: not where it goes through a process or a web socket."""
    stream = getattr(comm, "stream", None)
    if os.name != "posix":  # loops of Windows have no callbacks for sockets
        return False
    return callable(getattr(getattr(stream, "socket", None), "recv_into", None)) and hasattr(stream, "_read_buffer")


class SocketStream:
    """The socket, from now on. Its methods are called on its loop.

    Args:
        comm: Is not used any more.
        on_data: Called with each piece of data, in order, which it must not keep, and with the buffers beside it.
        on_room: Called when all that was written has left.
        on_end: Called once if the other side is gone.
    """

    def __init__(
        self,
        comm: Any,
        on_data: Callable[[memoryview, list[Any]], None],
        on_room: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_data, self._on_room, self._on_end = on_data, on_room, on_end
        stream, comm.stream = comm.stream, None
        comm._finalizer.detach()  # noqa: SLF001 - Dask would complain of a stream that nobody has closed
        self._stream = stream  # its connection to the loop is cut, no more
        self._socket: Any = stream.socket
        stream.io_loop.remove_handler(stream.socket)
        #: What has arrived of a piece, or of several.
        self._in = bytearray(stream._read_buffer)  # noqa: SLF001 - it may have read ahead
        #: The buffer that is arriving, as far as it is missing; it, and those that are complete and wait for their message.
        self._missing = memoryview(b"")
        self._buffers: list[bytearray] = []
        #: One that nobody kept, for the next of its size: fresh memory costs more than to read into it.
        self._spare = bytearray()
        self._chunk = memoryview(bytearray(CHUNK))
        self._out: deque[memoryview] = deque(_unsent(stream))
        #: Whether it waits for room to write.
        self.blocked = False
        self.closed = False
        self._loop.add_reader(self._socket, self._read)
        self._loop.call_soon(self._read)  # what TLS holds already, no selector shows
        if self._out:
            self._write()

    def write(self, data: bytes, buffers: Iterable[memoryview] = ()) -> None:
        """Send a piece, and buffers beside it, which must not change."""
        for buffer in buffers:
            self._out += (memoryview(_LENGTH.pack(_BUFFER | len(buffer))), buffer)
        head = _LENGTH.pack(len(data))
        if len(data) < CHUNK:
            self._out.append(memoryview(head + data))
        else:
            self._out += (memoryview(head), memoryview(data))
        if not self.blocked:
            self._write()

    def _write(self) -> None:
        out, left = self._out, TURN
        try:
            while out and left > 0 and not self.closed:
                sent = self._socket.send(out[0][:CHUNK])
                left -= sent
                if sent == len(out[0]):
                    out.popleft()
                else:
                    out[0] = out[0][sent:]
        except _LATER:
            pass
        except (OSError, ValueError):
            self.blocked = True
            out.clear()
            self._loop.call_soon(self._end)
            return
        if out and not self.blocked:
            self.blocked = True
            self._loop.add_writer(self._socket, self._write)
        elif not out and self.blocked:
            self.blocked = False
            self._loop.remove_writer(self._socket)
            self._on_room()

    def _read(self) -> None:
        left, pending = TURN, getattr(self._socket, "pending", int)
        try:
            while not self.closed:
                count = self._socket.recv_into(self._missing[: 4 * CHUNK] if self._missing else self._chunk)
                if not count:
                    self._end()
                    return
                left -= count
                if self._missing:
                    self._missing = self._missing[count:] or memoryview(b"")
                    if left > 0:
                        continue
                else:
                    self._in += self._chunk[:count]
                    if count == CHUNK:
                        self._hand_on()
                if not pending() and count < CHUNK:
                    break  # the selector shows what comes later
                if left <= 0:
                    self._loop.call_soon(self._read)
                    break
        except _LATER:
            pass
        except (OSError, ValueError):
            self._end()
            return
        self._hand_on()

    def _hand_on(self) -> None:
        at, data = 0, memoryview(self._in)
        try:
            while len(data) - at >= _LENGTH.size and not self._missing and not self.closed:
                length, start = _LENGTH.unpack_from(data, at)[0], at + _LENGTH.size
                if length & _BUFFER:  # the rest of it is read to where it stays
                    buffer, there = self._buffer(length - _BUFFER), len(data[start : start + length - _BUFFER])
                    buffer[:there] = data[start : start + there]
                    self._buffers.append(buffer)
                    self._missing = memoryview(buffer)[there:]
                    at = start + there
                    continue
                if start + length > len(data):
                    break
                buffers, self._buffers = self._buffers, []
                at = start + length
                self._on_data(data[start:at], buffers)
                self._spare = buffers[-1] if buffers and sys.getrefcount(buffers[-1]) == _OF_LIST else bytearray()
        finally:
            data.release()
            del self._in[:at]

    def _buffer(self, nbytes: int) -> bytearray:
        found, self._spare = self._spare, bytearray()
        return found if len(found) == nbytes else bytearray(nbytes)

    def _end(self) -> None:
        if not self.closed:
            self._hand_on()
            self.close()
            self._on_end()

    def close(self) -> None:
        """Close the socket."""
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._stream.socket.close()
            self._out.clear()


def _unsent(stream: Any) -> Iterator[memoryview]:
    """What a stream has not written yet."""
    buffer = stream._write_buffer  # noqa: SLF001
    while buffer:
        piece = bytes(buffer.peek(CHUNK))
        buffer.advance(len(piece))
        yield memoryview(piece)
