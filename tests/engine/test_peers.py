"""Links by name: what waits for one, where messages go, and what a loss ends. No cluster."""

from __future__ import annotations

import asyncio
from typing import Any

from flyte_nb.engine.links.link import TRIPS, LocalLink, PeerLink
from flyte_nb.engine.links.peers import Peers


class Loop(Peers):
    """Peers that are this process, once they are linked."""

    def link(self, peer: str) -> None:
        """Open a link to a peer."""
        self._linked(peer, LocalLink(peer, self._dispatch))


async def test_messages_wait_for_their_link_and_are_dispatched_by_name() -> None:
    """In order; the handler gets the sender and the fields."""
    peers, seen = Loop("me"), []
    peers.handlers["close"] = lambda *message: seen.append(message)
    for lane in ("l1", "l2"):
        peers.send("kernel-a", ("close", lane))
    assert "<Loop me [0 linked, 0 connecting, 2 unsent]>" == repr(peers)
    peers.link("kernel-a")
    peers.send("kernel-a", ("close", "l3"))
    await asyncio.sleep(0)

    assert [("kernel-a", lane) for lane in ("l1", "l2", "l3")] == seen
    assert "<Loop me [1 linked, 0 connecting, 0 unsent]>" == repr(peers)


async def test_a_question_is_answered_over_the_link_or_by_none_when_its_peer_is_lost() -> None:
    """An answer arrives once; what a lost peer was asked is answered with None, after `on_lost`."""
    peers, seen = Loop("me"), list[Any]()
    peers.questions.answers["double"] = lambda then, number: then(2 * number)
    peers.on_lost = seen.append
    peers.link("tcp://b")
    peers.questions.ask("tcp://b", "double", (21,), seen.append)
    for _ in range(3):
        await asyncio.sleep(0)
    peers.questions.ask("tcp://b", "double", (1,), seen.append)
    peers.drop("tcp://b")

    assert [42, "tcp://b", None] == seen


async def test_nothing_is_queued_for_a_kernel_that_disconnected() -> None:
    """A worker may come back under its address; a kernel does not."""
    peers = Loop("me")
    for peer in ("kernel-a", "tcp://b"):
        peers.link(peer)
        peers.drop(peer)
        peers.send(peer, ("close", "l1"))

    assert "<Loop me [0 linked, 0 connecting, 1 unsent]>" == repr(peers)


def test_how_far_a_peer_is_changes_while_it_is_linked() -> None:
    """The quickest of its latest answers counts: some that came late by chance, or because it computes, do not."""

    def far_after(*answers: float) -> float:
        link = PeerLink("tcp://b", lambda *_: None, lambda _: None)
        for seconds in answers:
            link.timed(seconds)
        return link.round_trip

    assert 0.0 == far_after() == far_after(0.001) == far_after(0.03, 0.001)
    assert 0.03 == far_after(0.03)
    assert 0.0 == far_after(0.001, *[0.1] * (TRIPS - 1)) == far_after(0.001, *[0.03] * TRIPS)
    assert 0.1 == far_after(0.001, *[0.1] * TRIPS)
    assert 0.0 == far_after(*[0.1] * TRIPS, 0.001)
