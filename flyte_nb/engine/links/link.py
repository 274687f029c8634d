"""Link: a two-way stream of messages between two peers, over one Dask comm. Runs in: engine thread; worker loop.

Direct, beside the scheduler: an ordinary Dask message takes two hops through streams that send at most every 2-10 ms, which
alone makes a sequential await cost 10 ms. A link writes at once, and while a write is under way everything new collects
into the next one: no latency when idle, batches when busy. TLS and addresses are those of the Dask cluster.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from distributed.comm.core import Comm, CommClosedError
from distributed.protocol.serialize import ToPickle

from flyte_nb.engine.links.socket_stream import SocketStream, can_be_taken
from flyte_nb.engine.links.wire import Message

logger: logging.Logger = logging.getLogger("flyte")

#: Seconds that a worker which has been reached has to say who it is.
HELLO_TIMEOUT = 5.0
#: Messages pickled into one write at most, so that one piece stays some megabytes.
MAX_BATCH = 2_000
#: Answers, of those that take no time, by which a link is timed.
TRIPS = 6
#: Seconds of a round trip from which on a peer is far: more is sent ahead. The same for a peer that was near.
FAR_S, CLEARLY_FAR_S = 0.02, 0.04


def _log_fault(error: Exception, what: str) -> None:
    logger.error("flyte_nb could not handle %s", what, exc_info=error)


class PeerLink:
    """One peer, as seen from here."""

    #: Called with an error of our own code at either end of a link, and what could not be handled. A worker process ends then.
    on_fault: Callable[[Exception, str], None] = staticmethod(_log_fault)

    def __init__(
        self, peer: str, on_message: Callable[[PeerLink, Message], None], on_close: Callable[[PeerLink], None]
    ) -> None:
        self.peer = peer
        self._on_message = on_message
        self._on_close = on_close
        self._comm: Comm | None = None
        #: The socket of the comm, where both sides could take it.
        self._stream: SocketStream | None = None
        self._out: list[Message] = []
        #: Messages with large buffers: each goes alone, when all that is small has left.
        self._large: deque[Message] = deque()
        self._writing = False
        self.closed = False
        self._ended = asyncio.Event()
        #: Seconds that the latest answers took.
        self._trips: deque[float] = deque(maxlen=TRIPS)
        #: Whether it was far from its first answer on.
        self._was_far = False
        self._tasks: set[asyncio.Task[None]] = set()
        #: Bytes written, for benchmarks; bytes read, which tell that the peer is there (`flyte_nb.engine.links.pulse`).
        self.sent: int = 0
        self.received: int = 0

    @property
    def round_trip(self) -> float:
        """Seconds that a message to the peer and back takes, if that is long; else 0.

        That is what the quickest of the latest answers took: the way may become longer while the link lives. A peer that was
        near counts as far only where that is clear, since one that computes takes its time.
        """
        seconds = min(self._trips, default=0.0)
        return seconds if seconds >= (FAR_S if self._was_far else CLEARLY_FAR_S) else 0.0

    def timed(self, seconds: float) -> None:
        """An answer took so many seconds."""
        if not self._trips or seconds < FAR_S:  # the first answer, or it was late by chance
            self._was_far = seconds >= FAR_S
        self._trips.append(seconds)

    def attach(self, comm: Comm, by_socket: bool) -> None:
        """Use an open comm, or its socket; sends what was waiting."""
        self._comm = comm
        self._loop = asyncio.get_running_loop()
        if by_socket:
            self._stream = SocketStream(comm, self._arrived, self._kick, self._lost)
        else:
            spawn(self._tasks, self._read(comm))
        self._kick()

    def send(self, message: Message) -> None:
        """Send soon, in order. Dropped when the link is closed, which `on_close` has reported."""
        if not self.closed:
            self._out.append(message)
            self._kick()

    def send_now(self, message: Message) -> None:
        """Send in this turn of the loop, with what was to be sent at its end: what somebody waits for."""
        if self._stream is None or self._stream.blocked:
            self.send(message)
        elif not self.closed:
            self._out.append(message)
            self._flush(self._stream)

    def send_large(self, message: Message) -> None:
        """Send a message with a large buffer, behind those without: they would arrive with it, and with others like it."""
        if not self.closed:
            self._large.append(message)
            self._kick()

    def _kick(self) -> None:
        if self._writing or self._comm is None or not (self._out or self._large):
            return
        if self._stream is None:
            self._writing = True
            spawn(self._tasks, self._write(self._comm))
        elif not self._stream.blocked:
            self._writing = True
            self._loop.call_soon(self._flush, self._stream)

    def _flush(self, stream: SocketStream) -> None:
        self._writing = False
        try:
            while not self.closed and not stream.blocked and (batch := self._batch()):
                marked: list[pickle.PickleBuffer] = []
                data = pickle.dumps(batch, 5, buffer_callback=marked.append)
                buffers = [buffer.raw() for buffer in marked]
                self.sent += len(data) + sum(map(len, buffers))
                stream.write(data, buffers)
        except Exception as exc:
            self.on_fault(exc, f"sending to {self.peer}")
            self._lost()  # what is lost must not be waited for

    def _batch(self) -> list[Message]:
        if not self._out:
            return [self._large.popleft()] if self._large else []
        batch, self._out = self._out[:MAX_BATCH], self._out[MAX_BATCH:]
        return batch

    async def _write(self, comm: Comm) -> None:
        try:
            while not self.closed and (batch := self._batch()):
                buffers: list[pickle.PickleBuffer] = []
                data = pickle.dumps(batch, 5, buffer_callback=buffers.append)
                self.sent += len(data) + sum(buffer.raw().nbytes for buffer in buffers)
                # What is marked as a buffer goes as it is, beside the pickle.
                await comm.write([data, *map(ToPickle, buffers)] if buffers else data)
        except (CommClosedError, OSError):
            self._lost()
        except Exception as exc:
            self.on_fault(exc, f"sending to {self.peer}")
            self._lost()  # what is lost must not be waited for
        finally:
            self._writing = False

    async def _read(self, comm: Comm) -> None:
        try:
            while not self.closed:
                data, buffers = _parts(await comm.read())
                self._arrived(data, buffers)
                if buffers:
                    await asyncio.sleep(0)  # what has arrived already is read without a pause
        except (CommClosedError, OSError):
            self._lost()

    def _arrived(self, data: bytes | memoryview, buffers: Sequence[Any] = ()) -> None:
        self.received += len(data) + sum(map(len, buffers))
        try:
            messages = pickle.loads(data, buffers=buffers)
        except Exception as exc:
            self.on_fault(exc, f"reading from {self.peer}")
            return
        for message in messages:
            try:
                self._on_message(self, message)
            except Exception as exc:
                self.on_fault(exc, f"{message[0]!r} from {self.peer}")

    def _lost(self) -> None:
        if not self.closed:
            self._cut()
            self._on_close(self)

    def close(self) -> None:
        """Close without calling `on_close`."""
        self._cut()
        for task in self._tasks:
            task.cancel()

    def _cut(self) -> None:
        self.closed = True
        self._ended.set()
        if self._stream is not None:
            self._stream.close()
        if self._comm is not None:
            self._comm.abort()

    async def wait_closed(self) -> None:
        """Return once the link is closed (a server handler holds its comm open by waiting here)."""
        await self._ended.wait()


class LocalLink(PeerLink):
    """A link to this very process: messages arrive on the next turn of the loop."""

    def __init__(self, peer: str, deliver: Callable[[PeerLink, Message], None]) -> None:
        super().__init__(peer, deliver, lambda _link: None)
        self._loop = asyncio.get_running_loop()

    def send(self, message: Message) -> None:
        """Deliver soon."""
        if not self.closed:
            self._loop.call_soon(self._on_message, self, message)

    send_now = send_large = send


def spawn(tasks: set[asyncio.Task[None]], coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run a coroutine, its task in a set until it ends: asyncio itself would let go of it."""
    task = asyncio.get_running_loop().create_task(coroutine)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


def _parts(read: Any) -> tuple[Any, list[Any]]:
    """A pickle that was read, and the buffers beside it."""
    if type(read) is bytes:
        return read, []
    # Within a process Dask hands over the objects themselves.
    data, *buffers = (memoryview(part.data) if type(part) is ToPickle else part for part in read)
    return data, buffers


def op_of(kernel: str) -> str:
    """Name of the handler by which a worker's Dask server takes links to the host of a kernel."""
    return f"flyte_link:{kernel}"


async def open_link(
    address: str, me: str, comm: Comm, on_message: Callable[[PeerLink, Message], None],
    on_close: Callable[[PeerLink], None], kernel: str,
) -> PeerLink:  # fmt: skip
    """Make a connection to a worker a link to a host in it.

    Args:
        address: Of the worker ("tls://127.0.0.1:41235").
        me: This peer's name, by which the worker will know it.
        comm: The connection.
        on_message: Called with each message, in order.
        on_close: Called once when the other side is gone.
        kernel: Whose host it is: a worker has one for each kernel.

    Raises:
        OSError: It does not answer within `HELLO_TIMEOUT`, or is another process.
    """
    try:
        await comm.write({"op": op_of(kernel), "peer": me, "by_socket": can_be_taken(comm), "reply": False})
        # A worker without such a host would drop all messages. It says who it is: an address may mean another process here.
        found, by_socket = await asyncio.wait_for(comm.read(), HELLO_TIMEOUT)
        if found != address:
            raise OSError(f"{found} answers at the address {address}")
    except (TimeoutError, CommClosedError) as exc:
        comm.abort()
        raise OSError(f"{address} does not answer") from exc
    except OSError:
        comm.abort()
        raise
    link = PeerLink(address, on_message, on_close)
    link.attach(comm, by_socket)
    return link
