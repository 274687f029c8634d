"""Blob fetch: large buffers are copied from another machine before they are needed. Runs in: engine thread; worker loop.

On one machine nothing is copied: files are mapped where they lie (`core.transport.blobs`). Across machines an argument is
fetched once per worker, whatever number of actions it is for, and a result before its owner settles the await.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.transport.blob_files import take
from flyte_nb.core.transport.blobs import Blob, Blobs, Borrowed, Received
from flyte_nb.core.transport.payload import Packed, Payload
from flyte_nb.engine.links.peers import Switchboard


class Fetcher:
    """Fetches blobs over a process's links, and serves those that are here."""

    def __init__(self, switchboard: Switchboard, blobs: Blobs) -> None:
        self._switchboard = switchboard
        self._blobs = blobs
        #: Callbacks that wait for an argument that is on its way, by content name.
        self._coming: dict[str, list[Callable[[Blob | None], None]]] = {}
        switchboard.answers["blob"] = lambda then, path, given: then(take(path, given=given))

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

        def came(content: bytes | None) -> None:
            blob = self._blobs.keep(wanted.name, content) if content is not None else None
            for waiter in self._coming.pop(wanted.name):
                waiter(blob)

        self._switchboard.ask(wanted.holder, "blob", (wanted.path, False), came)

    def result(self, outcome: Outcome, then: Callable[[Outcome], None]) -> None:
        """Call `then` with the outcome once its value is here; with a lost one if that went with its worker."""
        missing = away(outcome.value)
        waiting = len(missing)

        def came(blob: Received, content: bytes | None) -> None:
            nonlocal waiting, outcome
            if content is None:
                outcome = outcome._replace(kind="lost", value=None)
            else:
                blob.fill(content)
            waiting -= 1
            if not waiting:
                then(outcome)

        for blob in missing:
            self._switchboard.ask(blob.holder, "blob", (blob.path, True), functools.partial(came, blob))

    def item(self, payload: Payload, then: Callable[[], None]) -> None:
        """Fetch what is elsewhere of an item, and call `then` each time that some of it has come, or is lost."""

        def came(blob: Received, content: bytes | None) -> None:
            blob.fill(content)
            then()

        for blob in away(payload):
            self._switchboard.ask(blob.holder, "blob", (blob.path, True), functools.partial(came, blob))


def _is_far(payload: Payload) -> bool:
    return type(payload) is Packed and any(isinstance(blob, Borrowed) and not blob.here for blob in payload.blobs)


def away(result: Payload | None) -> list[Any]:
    """Buffers of a result that are not on this machine yet."""
    if type(result) is not Packed:
        return []
    return [blob for blob in result.blobs if isinstance(blob, Received) and not blob.here]
