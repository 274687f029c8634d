"""Peers: links to other processes, what waits to be sent, dispatch of what arrives; questions and answers over links.

Runs in: engine thread; worker loop.

A kernel is linked to every worker; a worker to the kernels that connected to it, and to the workers that it has sent something
to. What differs is when a link is opened: `flyte_nb.engine.roster` and `flyte_nb.worker.network`.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine
from pickle import PickleBuffer
from typing import Any

from distributed.comm.core import Comm

from flyte_nb.core.control.questions import Answer, Then, respond
from flyte_nb.engine.links.link import PeerLink, open_link, spawn
from flyte_nb.engine.links.wire import Handler, Message, ToPeer, handlers_of

#: Disconnected kernels, remembered so that nothing is queued for them; as many as end while one lane waits for a slot.
MAX_DEPARTED = 256
#: Links that are opened at once: of a thousand that start together, the last would not be served in time.
MAX_DIALLING = 64
#: The question which of an owner's attempts are overdue: a worker answers it at once.
PULSE = "overdue"


class Switchboard:
    """One peer's pending questions, and its answers to others."""

    def __init__(self, send: Callable[[str, Message], None]) -> None:
        self._send = send
        #: Sends an answer that is a large buffer.
        self.send_large: Callable[[str, Message], None] = send
        self._numbers = itertools.count(1)
        #: Whom, what is called with the answer, and when it was asked; 0 = it is not timed.
        self._pending: dict[int, tuple[str, Then, float]] = {}
        #: Called with a peer, and the seconds that it took to answer what it answers at once (`PULSE`).
        self.timed: Callable[[str, float], None] = lambda _peer, _seconds: None
        #: By the question's name. The value is called as ``answer(then, *args)``.
        self.answers: dict[str, Answer] = {}

    def ask(self, peer: str, op: str, args: tuple[Any, ...], then: Then) -> None:
        """Ask a peer; `then` gets its answer, or None if it goes away or does not know."""
        number = next(self._numbers)
        self._pending[number] = (peer, then, time.perf_counter() if op == PULSE else 0.0)
        self._send(peer, ("ask", number, op, args))

    def _on_ask(self, peer: str, number: int, op: str, args: tuple[Any, ...]) -> None:
        def then(value: Any) -> None:
            if type(value) is PickleBuffer:
                self.send_large(peer, ("answer", number, value))
            else:
                self._send(peer, ("answer", number, value))

        respond(op, self.answers.get(op), then, then, *args)

    def _on_answer(self, _peer: str, number: int, value: Any) -> None:
        if (pending := self._pending.pop(number, None)) is not None:
            peer, then, asked_at = pending
            if asked_at:
                self.timed(peer, time.perf_counter() - asked_at)
            then(value)

    def lost(self, peer: str) -> None:
        """A peer disconnected: what it was asked is answered with None."""
        for number, (asked, then, _) in list(self._pending.items()):
            if asked == peer:
                del self._pending[number]
                then(None)


class Peers:
    """The links of one process.

    Args:
        me: This process's name as a peer: a worker's address, or any other name of a kernel.
        kernel: The kernel that these peers work for: links of several never meet.
    """

    def __init__(self, me: str, kernel: str = "") -> None:
        self.me = me
        self.kernel: str = kernel or me
        self.links: dict[str, PeerLink] = {}
        self.questions = Switchboard(self.send)
        self.questions.timed = self._timed
        self.questions.send_large = self._send_large
        #: What takes a message, by its name.
        self.handlers: dict[str, Handler] = handlers_of(self.questions, ToPeer)
        #: Called with the name of a peer that disconnected, or could not be reached.
        self.on_lost: Callable[[str], None] = lambda _peer: None
        self._unsent: dict[str, list[Message]] = defaultdict(list)
        self._connecting: set[str] = set()
        self._dialling = asyncio.Semaphore(MAX_DIALLING)
        #: Kernels that have disconnected.
        self.departed: deque[str] = deque(maxlen=MAX_DEPARTED)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = False

    def send(self, peer: str, message: Message) -> None:
        """Send to a peer, as soon as it is linked; dropped for a kernel that has disconnected."""
        link = self.links.get(peer)
        if link is not None and not link.closed:
            link.send(message)
        elif peer not in self.departed and not self._ended:
            self._unsent[peer].append(message)
            self._link_needed(peer)

    def send_now(self, peer: str, message: Message) -> None:
        """The same, at once."""
        link = self.links.get(peer)
        if link is not None:
            link.send_now(message)
        else:
            self.send(peer, message)

    def _send_large(self, peer: str, message: Message) -> None:
        if (link := self.links.get(peer)) is not None:
            link.send_large(message)
        else:
            self.send(peer, message)

    def _timed(self, peer: str, seconds: float) -> None:
        if (link := self.links.get(peer)) is not None:
            link.timed(seconds)

    def round_trip(self, peer: str) -> float:
        """Seconds that a message to a peer and back takes, if that is long; else 0."""
        link = self.links.get(peer)
        return link.round_trip if link is not None else 0.0

    def _link_needed(self, peer: str) -> None:
        """A message waits for a link to this peer."""

    def connect(self, address: str) -> asyncio.Task[None]:
        """Open a link to a worker in the background."""
        self._connecting.add(address)
        return self.spawn(self._connect(address))

    async def _connect(self, address: str) -> None:
        try:
            async with self._dialling:
                link = await self._open(address)
        except OSError as exc:
            self._refused(address, exc)
        else:
            self._linked(address, link)
        finally:
            self._connecting.discard(address)

    async def _open(self, address: str) -> PeerLink:
        comm = await self._reach(address)
        return await open_link(address, self.me, comm, self._dispatch, self._closed, self.kernel)

    async def _reach(self, address: str) -> Comm:
        """A connection to a worker; an `OSError` if there is none."""
        raise NotImplementedError

    def _linked(self, peer: str, link: PeerLink) -> None:
        """Send over a link, unless there is one: of two workers that connect to each other at once, both links are read."""
        link = self.links.setdefault(peer, link)
        for message in self._unsent.pop(peer, ()):
            link.send(message)

    def _refused(self, address: str, _why: OSError) -> None:
        """A worker could not be reached."""
        self._lost(address)

    def _dispatch(self, link: PeerLink, message: Message) -> None:
        self.handlers[message[0]](link.peer, *message[1:])

    def _closed(self, link: PeerLink) -> None:
        if self.links.get(link.peer) is link:
            del self.links[link.peer]
        self._lost(link.peer)

    def _lost(self, peer: str) -> None:
        self._unsent.pop(peer, None)
        if not is_worker(peer):
            self.departed.append(peer)
        self.on_lost(peer)
        self.questions.lost(peer)

    def drop(self, peer: str) -> None:
        """Close the link to a peer that is known to be gone."""
        if (link := self.links.pop(peer, None)) is not None:
            link.close()
            self._lost(peer)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine until it ends or the links are closed."""
        return spawn(self._tasks, coroutine)

    def close_links(self) -> None:
        """Close all links, and cancel what `spawn` runs."""
        self._ended = True
        for task in self._tasks:
            task.cancel()
        for link in list(self.links.values()):
            link.close()

    def __repr__(self) -> str:
        waiting = sum(map(len, self._unsent.values()))
        counts = f"{len(self.links)} linked, {len(self._connecting)} connecting, {waiting} unsent"
        return f"<{type(self).__name__} {self.me} [{counts}]>"


def is_worker(peer: str) -> bool:
    """Whether a peer is a worker (named by its address), and no kernel."""
    return "://" in peer
