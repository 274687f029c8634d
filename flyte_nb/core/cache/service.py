"""Cache service: finds and keeps results for all processes of a run. Runs in: controllers; the run's home.

A call's key is made where it is called (`key_of`). Controllers ask the run's home (`CacheClient`), where one `CacheService`
holds the store and knows which calls with ``serialize=True`` are executing: identical ones wait for that result, and when its
owner fails or is lost, the next one takes over.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from flyte_nb.core.cache.location import Configured, folder_and_bound, open_stores
from flyte_nb.core.cache.store import CacheStore
from flyte_nb.core.control.calls import Call
from flyte_nb.core.control.questions import Answers, Home
from flyte_nb.core.history.store import RunStore
from flyte_nb.core.transport.payload import Payload, carried

logger: logging.Logger = logging.getLogger("flyte")


class Holder(NamedTuple):
    """The action that executes, or waits for, a call with ``serialize=True``."""

    #: Peer whose controller sees the action through.
    peer: str
    run: str
    action: str
    parent: str


class CacheClient:
    """A controller's `Cache`: asks the run's home, under this process's name as a peer.

    If the home is `far` (another process), large results go there with their content.
    """

    def __init__(self, home: Home, me: str, *, far: bool = False) -> None:
        self._home = home
        self._me = me
        self._far = far

    def _holder(self, call: Call) -> Holder | None:
        if not call.task.config.cache.serialize:
            return None
        return Holder(self._me, call.run.name, call.name, call.parent)

    def look_up(self, call: Call, then: Callable[[Payload | None], None]) -> None:
        """Find the result of an equal call; None if there is none: then the caller executes it."""
        cache = call.task.config.cache
        self._home.ask(call.run, "cache.look_up", (call.cache_key, cache.max_age_s, self._holder(call)), then)

    def keep(self, call: Call, payload: Payload) -> None:
        """Keep a result."""
        if self._far:
            payload = carried(payload)
        self._home.ask(call.run, "cache.keep", (call.cache_key, call.task.name, payload), _nothing)

    def give_up(self, call: Call) -> None:
        """Release a call that ended without a result, or does not wait any more: another may take over."""
        holder = self._holder(call)
        if holder is not None:
            self._home.ask(call.run, "cache.give_up", (call.cache_key, holder), _nothing)


def _nothing(_answer: Any) -> None:
    """Ignore the answer."""


class _Claim:
    """A call with ``serialize=True`` that executes, and identical ones that wait for it."""

    __slots__ = ("holder", "waiting")

    def __init__(self, holder: Holder) -> None:
        self.holder = holder
        self.waiting: OrderedDict[Holder, Callable[[Payload | None], None]] = OrderedDict()


class CacheService:
    """The authority at a run's home. On its controller's thread, on which `post` calls a function from any other."""

    def __init__(self, post: Callable[..., object], runs: RunStore) -> None:
        self._post = post
        self._runs = runs
        self._store: CacheStore | None = None
        self._configured = 0
        self._claims: dict[bytes, _Claim] = {}

    def __repr__(self) -> str:
        waiting = sum(len(claim.waiting) for claim in self._claims.values())
        return f"<CacheService [{len(self._claims)} executing, {waiting} waiting]>"

    def serve(self, answers: Answers) -> None:
        """Answer the questions of `CacheClient`."""
        answers.serve("cache.look_up", self._look_up)
        answers.serve("cache.keep", self._keep)
        answers.serve("cache.give_up", self._give_up)

    @property
    def store(self) -> CacheStore:
        """The store of the configured folder, opened on first use."""
        if self._store is None or self._configured != Configured.changes:
            self.close()
            self._configured = Configured.changes
            folder, max_bytes = folder_and_bound()
            self._store = CacheStore(folder, self._post, max_bytes=max_bytes)
            open_stores.add(self._store)
        return self._store

    def _look_up(
        self, _run: str, then: Callable[[Payload | None], None], key: bytes, max_age: float | None,
        holder: Holder | None,
    ) -> None:  # fmt: skip
        def found(payload: Payload | None) -> None:
            if payload is None and holder is not None:
                self._claim(key, Holder(*holder), then)
            else:
                then(payload)

        self.store.get(key, max_age, found)

    def _claim(self, key: bytes, holder: Holder, then: Callable[[Payload | None], None]) -> None:
        claim = self._claims.get(key)
        if claim is None:
            self._claims[key] = _Claim(holder)
            then(None)
        elif self._is_ancestor(claim.holder, holder):
            then(None)  # it would wait for its own parent
        else:
            claim.waiting[holder] = then

    def _is_ancestor(self, older: Holder, younger: Holder) -> bool:
        record = self._runs.runs.get(younger.run)
        parent = younger.parent
        while parent and older.run == younger.run:
            if parent == older.action:
                return True
            action = record.actions.get(parent) if record is not None else None
            parent = action.parent if action is not None else ""
        return False

    def _keep(self, _run: str, then: Callable[[Any], None], key: bytes, task: str, payload: Payload) -> None:
        self.store.put(key, task, payload)
        claim = self._claims.pop(key, None)
        for waiter in claim.waiting.values() if claim is not None else ():
            waiter(payload)
        then(None)

    def _give_up(self, _run: str, then: Callable[[Any], None], key: bytes, holder: Holder) -> None:
        self._leave(key, Holder(*holder))
        then(None)

    def _leave(self, key: bytes, holder: Holder) -> None:
        claim = self._claims.get(key)
        if claim is None:
            return
        if claim.holder != holder:
            claim.waiting.pop(holder, None)
        elif claim.waiting:
            claim.holder, then = claim.waiting.popitem(last=False)
            then(None)
        else:
            del self._claims[key]

    def peer_lost(self, peer: str) -> None:
        """Release the calls of a lost worker's actions."""
        for key, claim in list(self._claims.items()):
            for waiter in [waiter for waiter in claim.waiting if waiter.peer == peer]:
                del claim.waiting[waiter]
            if claim.holder.peer == peer:
                self._leave(key, claim.holder)

    def close(self) -> None:
        """Write what is pending; close the file."""
        if self._store is not None:
            self._store.close()
            self._store = None
