"""Pulse: which peers answer, how soon, and for how long others have been silent. Runs in: engine thread; worker loop.

A connection to a process that stands still, or whose interpreter lock is held, stays open: nothing tells but an answer that
does not come. Silence is counted in looks, not on the clock: while this process itself could not look, nobody was silent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flyte_nb.engine.links.peers import PULSE, Peers

#: Seconds between two looks; and while nothing is under way.
LOOK_S, REST_S = 0.25, 1.0
#: Peers that are asked in one look though nothing is due there.
MAX_ASKED = 64
#: Seconds of silence after which a worker is given nothing new.
SILENT_S = 0.75

#: Called with a peer, and its answer about the attempts that it was asked for.
Answered = Callable[[str, list[Any], list[Any]], None]


class Pulse:
    """How long peers have been silent, as far as they are looked at."""

    def __init__(self, peers: Peers, answered: Answered) -> None:
        self._peers = peers
        self._answered = answered
        #: Seconds since each peer was heard of, by its address.
        self.quiet: dict[str, float] = {}
        #: Bytes received from each when last looked at.
        self._received: dict[str, int] = {}
        #: Peers that have not answered yet.
        self._asked: set[str] = set()
        #: In which look each was asked last.
        self._asked_at: dict[str, int] = {}
        self._looks = 1

    def look(self, addresses: Iterable[str], seconds: float, about: dict[str, list[Any]]) -> None:
        """See who was heard of since the last look, and ask the others, and those that attempts are overdue at.

        Args:
            addresses: All that are to be looked at; others are forgotten.
            seconds: Since the last look.
            about: By address, the attempts it is to be asked about.
        """
        seconds = min(seconds, 2 * LOOK_S)
        quiet: dict[str, float] = {}
        unheard: list[str] = []
        others: list[str] = []
        for address in addresses:
            link = self._peers.links.get(address)
            if link is None or address == self._peers.me:
                continue
            before, self._received[address] = self._received.get(address), link.received
            heard = before is None or link.received != before
            if address not in self._asked and address not in about:
                (others if heard else unheard).append(address)
            quiet[address] = 0.0 if heard else self.quiet.get(address, 0.0) + seconds
            if address in about and address not in self._asked:
                self._ask(address, about[address])
        # Of very many some are asked at a time, in turn; who has nothing to say and was not asked is not silent.
        for asked in (unheard, others):
            asked.sort(key=lambda address: self._asked_at.get(address, 0))
        for address in (*unheard, *others)[:MAX_ASKED]:  # others tell how far they are
            self._ask(address, [])
        for address in unheard[MAX_ASKED:]:
            quiet[address] = self.quiet.get(address, 0.0)
        self._looks += 1
        self.quiet = quiet
        self._received = {address: self._received[address] for address in quiet}
        self._asked_at = {address: at for address, at in self._asked_at.items() if address in quiet}

    def _ask(self, address: str, keys: list[Any]) -> None:
        self._asked.add(address)
        self._asked_at[address] = self._looks

        def answered(answer: list[Any] | None) -> None:
            self._asked.discard(address)
            if answer is not None and keys:
                self._answered(address, keys, answer)

        self._peers.questions.ask(address, PULSE, (keys,), answered)

    def __repr__(self) -> str:
        silent = sum(seconds >= SILENT_S for seconds in self.quiet.values())
        return f"<Pulse of {len(self.quiet)} peers [{silent} silent]>"
