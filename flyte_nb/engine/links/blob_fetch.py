"""Blob fetch: large buffers are copied from another machine before they are needed. Runs in: engine thread; worker loop.

On one machine nothing is copied: files are mapped where they lie (`core.transport.blobs`). Across machines an argument is
fetched once per worker, whatever number of actions it is for, and a result before its owner settles the await.

Content goes in pieces, from file to socket and from socket to file, a few of them on their way at a time: a message is never
large, whatever the value is, and other messages come between.
"""

from __future__ import annotations

import functools
import pickle
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.transport import blob_files
from flyte_nb.core.transport.blobs import Blob, Blobs, Borrowed, Received
from flyte_nb.core.transport.payload import Packed, Payload
from flyte_nb.engine.links.peers import Switchboard

#: Bytes of a piece: some milliseconds of a loop.
PIECE_BYTES = 4 * 1024 * 1024
#: Pieces that a process has on their way to it: from one holder, which is enough for 300 MB/s at 100 ms; and from all together,
#: but for one from each: one that does not answer keeps nothing back that others have.
ON_THEIR_WAY, FROM_ALL = 8, 32


class Fetcher:
    """Fetches blobs over a process's links, and serves those that are here."""

    def __init__(self, switchboard: Switchboard, blobs: Blobs) -> None:
        self._switchboard = switchboard
        self._blobs = blobs
        #: Callbacks that wait for an argument that is on its way, by content name.
        self._coming: dict[str, list[Callable[[Blob | None], None]]] = {}
        #: Pieces still to be asked for, by holder: path, offset, size, whether the file goes with it; and who takes it.
        self._pieces: dict[str, deque[tuple[tuple[Any, ...], Callable[[Any], None]]]] = {}
        #: How many each holder was asked for and has not sent yet.
        self._asked = Counter[str]()
        switchboard.answers["blob"] = _serve

    def arguments(self, works: list[Work], then: Callable[[list[Work]], None]) -> None:
        """Call `then` with the attempts once the buffers of their arguments are on this machine."""
        payloads = [work.payload for work in works]
        if not any(map(_is_far, payloads)):
            then(works)
            return

        def arrived(here: list[Payload]) -> None:
            then([work._replace(payload=payload) for work, payload in zip(works, here, strict=True)])

        self._fetch(payloads, arrived)

    def payload(self, payload: Payload, then: Callable[[Payload], None]) -> None:
        """Call `then` with a payload once its buffers are on this machine."""
        self._fetch([payload], lambda here: then(here[0]))

    def _fetch(self, payloads: list[Payload], then: Callable[[list[Payload]], None]) -> None:
        ready = list(payloads)
        missing = [
            (index, place, blob)
            for index, payload in enumerate(payloads)
            if type(payload) is Packed
            for place, blob in enumerate(payload.blobs)
            if isinstance(blob, Borrowed) and not blob.here
        ]
        waiting = len(missing)
        if not waiting:
            then(ready)
            return

        def arrived(index: int, place: int, blob: Blob | None) -> None:
            nonlocal waiting
            payload = ready[index]
            if blob is not None and type(payload) is Packed:
                ready[index] = payload._replace(blobs=(*payload.blobs[:place], blob, *payload.blobs[place + 1 :]))
            waiting -= 1
            if not waiting:
                then(ready)

        for index, place, blob in missing:
            self._argument(blob, functools.partial(arrived, index, place))

    def _argument(self, wanted: Borrowed, then: Callable[[Blob | None], None]) -> None:
        found = self._blobs.find(wanted.name)
        if found is not None:
            then(found)
            return
        if (waiting := self._coming.get(wanted.name)) is not None:
            waiting.append(then)
            return
        self._coming[wanted.name] = [then]

        def came(file: blob_files.Arriving | None) -> None:
            blob = self._blobs.keep(wanted.name, wanted.nbytes, file.keep()) if file is not None else None
            for waiter in self._coming.pop(wanted.name):
                waiter(blob)

        self._file(wanted, False, came)

    def result(self, outcome: Outcome, then: Callable[[Outcome], None]) -> None:
        """Call `then` with the outcome once its value is here; with a lost one if that went with its worker."""
        missing = away(outcome.value)
        waiting = len(missing)

        def came(blob: Received, file: blob_files.Arriving | None) -> None:
            nonlocal waiting, outcome
            if file is None:
                outcome = outcome._replace(kind="lost", value=None)
            else:
                blob.fill(file.open())
            waiting -= 1
            if not waiting:
                then(outcome)

        for blob in missing:
            self._file(blob, True, functools.partial(came, blob))

    def item(self, payload: Payload, then: Callable[[], None]) -> None:
        """Fetch what is elsewhere of an item, and call `then` each time that some of it has come, or is lost."""

        def came(blob: Received, file: blob_files.Arriving | None) -> None:
            blob.fill(file.open() if file is not None else None)
            then()

        for blob in away(payload):
            self._file(blob, True, functools.partial(came, blob))

    def _file(self, blob: Any, given: bool, then: Callable[[blob_files.Arriving | None], None]) -> None:
        """Call `then` with a file of a blob's content, fetched piece by piece; with None if it is gone, or there is no room."""
        try:
            file = blob_files.Arriving(blob.nbytes)
        except OSError:
            then(None)
            return
        missing, failed = -(-blob.nbytes // PIECE_BYTES), False

        def came(at: int, part: Any) -> None:
            nonlocal missing, failed
            missing -= 1
            try:
                if part is not None and not failed:
                    file.put(at, part)
            except OSError:  # the disk is full
                part = None
            failed = failed or part is None
            if not missing:
                if failed:
                    file.drop()
                then(None if failed else file)

        for at in range(0, blob.nbytes, PIECE_BYTES):
            size = min(PIECE_BYTES, blob.nbytes - at)
            asked = (blob.path, at, size, given and at + size == blob.nbytes)
            self._pieces.setdefault(blob.holder, deque()).append((asked, functools.partial(came, at)))
        self._ask()

    def _ask(self) -> None:
        for holder in list(self._pieces):
            while (pieces := self._pieces.get(holder)) and self._has_room(holder):
                asked, then = pieces.popleft()
                if not pieces:
                    del self._pieces[holder]
                self._asked[holder] += 1
                self._switchboard.ask(holder, "blob", asked, functools.partial(self._came, holder, then))

    def _has_room(self, holder: str) -> bool:
        count = self._asked[holder]
        return not count or (count < ON_THEIR_WAY and self._asked.total() < FROM_ALL)

    def _came(self, holder: str, then: Callable[[Any], None], part: Any) -> None:
        self._asked[holder] -= 1
        if not self._asked[holder]:
            del self._asked[holder]
        then(part)
        self._ask()


def _serve(then: Callable[[Any], None], path: str, at: int, nbytes: int, last: bool) -> None:
    """Answer with a piece of a file; the last one of a result takes the file along, since pieces are asked for in order."""
    part = blob_files.piece(path, at, nbytes)
    if last:
        blob_files.unlink(path, mapped_s=1.0)
    then(pickle.PickleBuffer(part) if part is not None else None)


def _is_far(payload: Payload) -> bool:
    return type(payload) is Packed and any(isinstance(blob, Borrowed) and not blob.here for blob in payload.blobs)


def away(result: Payload | None) -> list[Any]:
    """Buffers of a result that are not on this machine yet."""
    if type(result) is not Packed:
        return []
    return [blob for blob in result.blobs if isinstance(blob, Received) and not blob.here]
