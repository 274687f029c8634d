"""Decide whether a call's result is known, in one place for all processes of a run. Runs in: controllers; the run's home.

A call's key is made where it is called (`key_of`). Controllers ask the run's home (`CacheClient`), where one `CacheDesk` holds
the store and knows which calls with ``serialize=True`` are executing: identical ones wait for that result, and when its owner
fails or is lost, the next one takes over.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flyte_nb.core.cachestore import MAX_BYTES, CacheStore
from flyte_nb.core.contenthash import content_hash
from flyte_nb.core.notices import notice_once
from flyte_nb.core.serial import Payload, carried

if TYPE_CHECKING:
    from flyte_nb.core.call import Call
    from flyte_nb.core.context import RunInfo
    from flyte_nb.core.home import Desk, Home
    from flyte_nb.core.store import RunStore
    from flyte_nb.core.task import Task

logger = logging.getLogger("flyte")

#: Names the layout of keys; a change makes all earlier entries unreachable, never wrong.
KEY_FORMAT = "1"
#: Versions remembered, so that a map computes its task's once: the tasks of a run, and their overrides.
MAX_REMEMBERED = 256

#: A result made by one Python may be pickled in a way that another cannot read.
_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"

#: Stores of this process's engines.
_open_stores: weakref.WeakSet[CacheStore] = weakref.WeakSet()

_Prefix = tuple[Any, tuple[str, Any], "hashlib.blake2b"]
_prefixes: OrderedDict[int, _Prefix] = OrderedDict()


def key_of(task: Task[..., Any], run: RunInfo, bound: tuple[tuple[Any, ...], dict[str, Any]]) -> bytes:
    """What identifies a call for the cache: inputs, task, interface, version.

    Args:
        task: The task, whose cache is enabled.
        run: The run: within one, versions are computed once.
        bound: Its arguments, bound.

    Returns:
        20 bytes; none if an input cannot be hashed, and then the call takes no part in the cache.

    Raises:
        Exception: What a cache policy or a hash function of the user's raises.
    """
    found = _prefix(task, run).copy()
    named = task.interface.named(*bound)
    for name in task.ignored_inputs:
        named.pop(name, None)
    for name, hint in task.interface.get_input_types().items():
        method = _hash_method(hint)
        if method is not None and name in named:
            method.update(named[name])
            named[name] = f"hash:{method.result()}"
    try:
        found.update(content_hash(named))
    except Exception as exc:
        notice_once(
            f"cache-key-{task.name}"[:100], f"Calls of {task.name} are not cached: an input cannot be hashed ({exc})."
        )
        return b""
    return found.digest()


def _hash_method(hint: Any) -> Any:
    """The hash method in an ``Annotated``, by shape; None if there is none."""
    for each in getattr(hint, "__metadata__", ()):
        if callable(getattr(each, "update", None)) and callable(getattr(each, "result", None)):
            return each
    return None


def _prefix(task: Task[..., Any], run: RunInfo) -> hashlib.blake2b:
    """Everything of a key but the inputs."""
    known = _prefixes.get(id(task))
    now = (run.name, run.started_at)
    if known is not None and known[0] is task and known[1] == now:
        return known[2]
    # Local mode is for unit tests, which replace parts of the world: what they compute is no result for anybody else.
    place = "local" if run.mode == "local" else "cluster"
    parts = (KEY_FORMAT, _PYTHON, place, task.name, task.interface.signature_text(), task.cache_version())
    made = hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=20)
    _prefixes[id(task)] = (task, now, made)
    while len(_prefixes) > MAX_REMEMBERED:
        _prefixes.popitem(last=False)
    return made


class Holder(NamedTuple):
    """Who executes, or waits for, a call with ``serialize=True``."""

    #: Peer whose controller sees the action through.
    peer: str
    run: str
    action: str
    parent: str


class CacheClient:
    """A controller's `Cache`: asks the run's home.

    Args:
        home: Whom to ask.
        me: This process's name as a peer.
        far: Whether the home is another process: then large results go there with their content.
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
        """The call ended without a result, or does not wait any more: another may take over."""
        holder = self._holder(call)
        if holder is not None:
            self._home.ask(call.run, "cache.give_up", (call.cache_key, holder), _nothing)


def _nothing(_answer: Any) -> None:
    """Nobody waits for it."""


class _Claim:
    """A call with ``serialize=True`` that executes, and identical ones that wait for it."""

    __slots__ = ("holder", "waiting")

    def __init__(self, holder: Holder) -> None:
        self.holder = holder
        self.waiting: OrderedDict[Holder, Callable[[Payload | None], None]] = OrderedDict()


class CacheDesk:
    """The authority at a run's home. On its controller's thread.

    Args:
        post: Calls a function on that thread.
        runs: Knows whose child an action is.
    """

    def __init__(self, post: Callable[..., object], runs: RunStore) -> None:
        self._post = post
        self._runs = runs
        self._store: CacheStore | None = None
        self._configured = 0
        self._claims: dict[bytes, _Claim] = {}

    def serve(self, desk: Desk) -> None:
        """Answer the questions of `CacheClient`."""
        desk.answers["cache.look_up"] = self._look_up
        desk.answers["cache.keep"] = self._keep
        desk.answers["cache.give_up"] = self._give_up

    @property
    def store(self) -> CacheStore:
        """The store of the configured folder, opened on first use."""
        if self._store is None or self._configured != _Place.changes:
            self.close()
            self._configured = _Place.changes
            folder, max_bytes = folder_and_bound()
            self._store = CacheStore(folder, self._post, max_bytes=max_bytes)
            _open_stores.add(self._store)
        return self._store

    def _look_up(
        self,
        _run: str,
        then: Callable[[Payload | None], None],
        key: bytes,
        max_age: float | None,
        holder: Holder | None,
    ) -> None:
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
        """A worker is gone, and with it the actions that it saw through."""
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


# -- where it is -------------------------------------------------------------------------------------------------------


class _Place:
    """Where results are kept, if the user said so."""

    folder: Path | None = None
    #: How often it was said.
    changes = 0


def configure(folder: str | os.PathLike[str] | None) -> None:
    """Say where results are kept.

    Args:
        folder: A folder, made if need be; None for the default: ``FLYTE_NB_CACHE_DIR``, else the user's cache folder.
    """
    _Place.folder = None if folder is None else Path(folder).expanduser().absolute()
    _Place.changes += 1


def folder_and_bound() -> tuple[Path, int]:
    """The folder of the store, and the bytes it may take (``FLYTE_NB_CACHE_BYTES``)."""
    bound = os.environ.get("FLYTE_NB_CACHE_BYTES", "")
    max_bytes = int(bound) if bound.isdigit() else MAX_BYTES
    if _Place.folder is not None:
        return _Place.folder, max_bytes
    given = os.environ.get("FLYTE_NB_CACHE_DIR")
    return (Path(given).expanduser().absolute() if given else _user_cache() / "flyte_nb"), max_bytes


@contextlib.contextmanager
def opened() -> Iterator[CacheStore]:
    """The store of the configured folder, for looking and clearing; what engines of this process have pending is on disk."""
    folder, max_bytes = folder_and_bound()
    for store in list(_open_stores):
        if store.folder == folder:
            store.flush()
    own = CacheStore(folder, max_bytes=max_bytes)
    try:
        yield own
    finally:
        own.close()


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
