"""The socket of a comm, taken over: pieces of any size, in order, both ways, up to the end of the other side."""

from __future__ import annotations

import asyncio
import pickle
import random
from collections.abc import Sequence
from typing import Any

import pytest
from distributed import Security
from distributed.comm.core import connect, listen

from flyte_nb.engine.clusters.credentials import SessionSecurity
from flyte_nb.engine.links.link import PeerLink
from flyte_nb.engine.links.socket_stream import SocketStream, can_be_taken


class _Side:
    """One end, and what arrived there."""

    def __init__(self, comm: Any) -> None:
        self.found: list[bytes] = []
        self.buffers: list[bytes] = []
        self.ended = asyncio.Event()
        self.came = asyncio.Event()
        self.stream = SocketStream(comm, self._take, lambda: None, self.ended.set)

    def _take(self, data: memoryview, buffers: list[Any]) -> None:
        self.found.append(bytes(data))
        self.buffers += map(bytes, buffers)
        self.came.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.found) < count:
                self.came.clear()
                await self.came.wait()


async def _pair(protocol: str) -> tuple[_Side, _Side, Any]:
    security = SessionSecurity.temporary() if protocol == "tls" else Security()
    accepted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def accept(comm: Any) -> None:
        await comm.write("hello")  # as a link's two sides do before they take it over
        side = _Side(comm)
        side.stream.write(b"early")  # arrives with the greeting, or behind it
        accepted.set_result(side)
        await side.ended.wait()

    listener = await listen(f"{protocol}://127.0.0.1:0", accept, **security.get_listen_args("worker"))
    comm = await connect(listener.contact_address, **security.get_connection_args("client"))
    assert await comm.read() == "hello"
    assert can_be_taken(comm)
    return _Side(comm), await accepted, listener


@pytest.mark.parametrize("protocol", ["tls", "tcp"])
async def test_pieces_arrive_whole_and_in_order(protocol: str) -> None:
    """Empty ones, and some larger than any buffer on the way, both ways at once."""
    one, other, listener = await _pair(protocol)
    sizes = [0, 1, 17, 300_000, 5, 9_000_000, 2, *(random.Random(1).randrange(60_000) for _ in range(200))]
    pieces = [bytes([size % 251]) * size for size in sizes]
    for piece in pieces:
        one.stream.write(piece)
        other.stream.write(piece, [memoryview(each) for each in (piece, b"-")])
    await one.until(len(pieces) + 1)
    await other.until(len(pieces))

    assert [b"early", *pieces] == one.found
    assert pieces == other.found
    assert one.buffers == [each for piece in pieces for each in (piece, b"-")]
    assert other.buffers == []
    one.stream.close()
    other.stream.close()
    listener.stop()


@pytest.mark.parametrize("protocol", ["tls", "tcp"])
async def test_what_was_said_before_the_end_arrives(protocol: str) -> None:
    """And then the end is known, also where this side was about to write."""
    one, other, listener = await _pair(protocol)
    for at in range(50):
        other.stream.write(b"%d" % at * 1000)
    await one.until(20)
    other.stream.close()
    async with asyncio.timeout(30):
        await one.until(51)
        while not one.ended.is_set():
            one.stream.write(b"x" * 100_000)
            await asyncio.sleep(0)

    assert [b"early", *(b"%d" % at * 1000 for at in range(50))] == one.found
    assert one.stream.closed
    listener.stop()


async def test_memory_of_a_buffer_is_used_again_unless_somebody_keeps_it() -> None:
    """Whatever it is kept by: what has arrived stays as it was."""
    one, other, listener = await _pair("tcp")
    kept: list[Any] = []
    places: list[int] = []

    def take(data: memoryview, buffers: list[Any]) -> None:
        places.append(id(buffers[0]))
        number = int(bytes(data))
        assert bytes(buffers[0]) == bytes([number]) * 500_000
        if number % 4 < 2:
            kept.append((number, buffers[0] if number % 4 else memoryview(buffers[0])[1:]))
        other.found.append(bytes(data))
        other.came.set()

    other.stream._on_data = take
    for number in range(40):
        one.stream.write(b"%d" % number, [memoryview(bytes([number]) * 500_000)])
    await other.until(40)

    assert all(set(bytes(content)) == {number} for number, content in kept)
    assert [len(content) for _, content in kept] == [499_999, 500_000] * 10
    assert places[2::4] == places[3::4]
    assert places[3:-1:4] == places[4::4]
    one.stream.close()
    other.stream.close()
    listener.stop()


class _Counting(PeerLink):
    """A link that counts the large buffers of each message."""

    def _arrived(self, data: Any, buffers: Sequence[Any] = ()) -> None:
        self.counts = [*getattr(self, "counts", ()), len(buffers)]
        super()._arrived(data, buffers)


@pytest.mark.parametrize("by_socket", [True, False])
async def test_large_answers_travel_alone_behind_what_is_small(by_socket: bool) -> None:
    """Together they would be one message of any size, of which nothing can be used before all of it is there."""
    found: list[tuple[int, int]] = []
    came = asyncio.Event()

    def take(_link: PeerLink, message: Any) -> None:
        found.append((message[1], len(message[2])))
        if len(found) == 4:
            came.set()

    receiver = _Counting("sender", take, lambda _link: None)

    async def accept(comm: Any) -> None:
        receiver.attach(comm, by_socket)
        await receiver.wait_closed()

    listener = await listen("tcp://127.0.0.1:0", accept)
    sender = PeerLink("receiver", take, lambda _link: None)
    for number in range(3):
        sender.send_large(("answer", number, pickle.PickleBuffer(bytes(4_000_000))))
    sender.send(("answer", 9, "small"))
    sender.attach(await connect(listener.contact_address), by_socket)
    async with asyncio.timeout(30):
        await came.wait()

    assert found == [(9, 5), (0, 4_000_000), (1, 4_000_000), (2, 4_000_000)]
    assert receiver.counts == [0, 1, 1, 1]
    sender.close()
    receiver.close()
    listener.stop()
