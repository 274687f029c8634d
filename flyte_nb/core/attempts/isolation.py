"""Isolation: each attempt of a worker process finds the process as if it had a container of its own. Runs in: worker process.

Working directory, environment variables, ``sys.path``, umask, locale, warning filters, logging, streams and hooks of ``sys``,
timers, blocked signals and the seeds of random generators belong to a process. What an attempt changes of them is its own:
taken away when another attempt's turn comes, put back at its next turn, and forgotten at its end. A turn begins with a step
of an async body, with a sync body, and where either takes its compute slot again. So attempts of one process do not see each
other's changes; but those that compute at the same moment share them (several slots per process).

Whether anything was changed is known without looking: the functions that do it are wrapped, and note it. (Looking, by
``os.getcwd`` and the like, takes longer, and gives the GIL away.) A turn or an end where nothing was costs less than 1 us.
"""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

from flyte_nb.core.attempts import seeds
from flyte_nb.core.attempts.surroundings import library_options, thread_options
from flyte_nb.core.attempts.surroundings.process import (
    NOTED,
    SYS,
    State,
    apply,
    carried,
    hooks_of,
    read,
    take_signals_back,
    unwatch,
    watch,
)
from flyte_nb.core.transport.lazy_imports import is_brought


class Place:
    """An attempt's share of the process."""

    __slots__ = ("base", "computes", "patched", "random", "state")

    def __init__(self, base: State, computes: Callable[[], bool] = bool) -> None:
        #: What it began with, and what is left behind at its end.
        self.base: State = base
        self.state: State = base
        #: States of the generators that it seeded.
        self.random: seeds.States | None = None
        #: Whether it computes right now, on another thread than the calling one.
        self.computes: Callable[[], bool] = computes
        #: The code with which libraries are patched while it computes (`flyte_nb.core.transport.patched`); "" for none.
        self.patched: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether nothing was changed, as far as is known."""
        return self.state is self.base and self.random is None


def _drop_made_modules(names: list[str]) -> None:
    """Forget modules that an attempt has put into ``sys.modules`` by hand: what is imported has a spec."""
    for name in names:
        if name not in sys.modules:
            continue
        top = sys.modules.get(name.partition(".")[0])
        if getattr(top, "__spec__", None) is None and not is_brought(name):
            del sys.modules[name]


#: Seconds that an attempt which has changed something waits for one that computes, or the other way round; then they share.
#: Two compute at once only where a process has several slots, or a body that has begun has taken the spare one.
PATIENCE = 1.0
LOOK_EVERY = 0.002


def _excludes(one: Place, other: Place) -> bool:
    """Whether two cannot compute at once."""
    return not one.is_plain or not other.is_plain or one.patched != other.patched


class Isolation:
    """Whose turn it is in this process, and what the others are put back to.

    Args:
        shared: Whether others than kernels use the process, too: what they change between attempts stays.
    """

    def __init__(self, *, shared: bool = False) -> None:
        watch()
        seeds.drop()  # forks have the same states; and what is seeded counts as what an attempt has changed
        #: The attempt whose turn it is: anything with a `Place` as ``place`` and a ``meter``. None between attempts.
        self.current: Any = None
        self._shared = shared
        #: What an attempt begins with, once `begin` has looked.
        self.base = self._found = read()
        self._applied = self.base
        self._modules = len(sys.modules)
        self._loaded = library_options.loaded()
        #: Attempts that compute while another's turn lasts: they have what it has.
        self._sharing: set[Any] = set()
        #: Attempts that wait for others, in order, and until when: who comes later waits, too, if it cannot be beside them.
        self._waiting: dict[Any, float] = {}
        # A turn may begin on a thread while another's ends.
        self._lock = threading.Lock()
        #: Called where an attempt ends: what was written to file descriptors is read (`flyte_nb.worker.process.descriptors`).
        self.before_end: Callable[[], object] | None = None

    def begin(self) -> State:
        """What an attempt begins with that begins now."""
        if self._shared and (NOTED or not self.base.holds()):
            with self._lock:
                self._adopt()
        return self.base

    def _adopt(self) -> None:
        if self.current is None and not self._sharing and self._applied is self.base:
            now = read(self.base)
            if now is not self.base:
                self._found = carried(self._found, self.base, now)
                self.base = self._applied = now

    def turn(self, body: Any) -> None:
        """An attempt goes on, on the calling thread."""
        place = body.place
        with self._lock:
            if self.current is None and not self._waiting and place.state is self._applied and place.random is None:
                self.current = body
                return
        if self._take_turn(body, shares=False):
            return
        body.meter.paused()  # it does not compute: if the process is lost meanwhile, the cause is another
        until = time.monotonic() + PATIENCE
        try:
            with self._lock:
                self._waiting[body] = until
            while not self._take_turn(body, shares=time.monotonic() > until):
                time.sleep(LOOK_EVERY)
        finally:
            with self._lock:
                self._waiting.pop(body, None)
        body.meter.resumed(body)

    def _take_turn(self, body: Any, *, shares: bool) -> bool:
        """Make it an attempt's turn; False if it must wait, unless it `shares` whatever the other one has."""
        place = body.place
        with self._lock:  # of several that wait, one goes on
            if not shares and self._must_wait(body):
                return False
            previous = self.current
            if previous is body:
                return True
            if previous is not None:
                if previous.place.computes():
                    self._sharing.add(body)
                    return True
                previous.place.state = self._applied = read(self._applied)
                previous.place.random = seeds.take()
            self.current = body
            self._restore(place.state)
            if place.random is not None:  # after anything else, which may draw
                seeds.put(place.random)
            return True

    def pause(self, body: Any) -> None:
        """A step of an attempt is over that has seeded generators: others draw from them between its steps, Dask too."""
        with self._lock:
            if self.current is body and not self._sharing:
                self.current = None
                body.place.state = self._applied = read(self._applied)
                body.place.random = seeds.take()

    def _must_wait(self, body: Any) -> bool:
        """Whether others compute, or wait already, and either has changed something: both cannot have what they expect."""
        current = self.current
        if current is body:
            return False
        if self._waiting and self._is_behind(body):
            return True
        sharing = [each for each in self._sharing if each is not body and each not in self._waiting]
        beside = sharing if current is None else [current, *sharing]
        if not any(each.place.computes() for each in beside):
            return False
        if current is not None:
            current.place.state = self._applied = read(self._applied)
        return any(_excludes(body.place, each.place) for each in beside)

    def _is_behind(self, body: Any) -> bool:
        now = time.monotonic()
        for other, until in self._waiting.items():
            if other is body:
                break
            if now < until and _excludes(body.place, other.place):  # one that was interrupted may have stayed
                return True
        return False

    def is_plain(self, body: Any) -> bool:
        """Whether it is an attempt's turn which has changed nothing so far; whoever asks is the thread whose turn it is."""
        base = body.place.base
        return (
            self.current is body
            and self._applied is base
            and not NOTED
            and not seeds.SEEDED
            and not self._sharing
            and sys.path == base.path
            and warnings.filters == base.filters
            and hooks_of(SYS) == base.hooks
            and base.options.loaded is self._loaded
            and base.options.hold()
            and not (thread_options.LOADED and thread_options.take())
            and len(sys.modules) == self._modules
        )

    def has(self, body: Any) -> bool:
        """Whether it is an attempt's turn, be it beside another's."""
        return self.current is body or body in self._sharing

    def end(self, body: Any) -> None:
        """An attempt has ended: what it changed is undone. On its thread."""
        if thread_options.LOADED:
            thread_options.take()
        with self._lock:
            if self._sharing:
                self._sharing.discard(body)
            if self.current is not body:
                return
            if self._sharing:
                self.current = self._sharing.pop()
                return
            plain, base = self.is_plain(body), body.place.base
            self.current = None
            if plain:
                return  # nothing was changed
            take_signals_back()
            self._loaded = library_options.loaded()
            thread_options.imported()
            thread_options.take()
            self._applied = read(self._applied)
            if len(sys.modules) != self._modules:
                _drop_made_modules(list(sys.modules)[self._modules :])
                if self._applied is not base:
                    self._keep_of_imports(base)
            self._modules = len(sys.modules)
            seeds.drop()
            self._restore(base)

    def _restore(self, state: State) -> None:
        if self._applied is not state:
            apply(self._applied, state)
            if state.options.loaded is not self._loaded:  # else each row would be an attempt of its own
                state.options.renewed()
            self._applied = state

    def _keep_of_imports(self, base: State) -> None:
        """Let what libraries set up when they were imported stay: a library is imported once in a process."""
        names = list(sys.modules)
        fresh = {name.partition(".")[0] for name in names[self._modules :]}
        self._modules = len(names)
        now = self._applied
        for one in [base, self.base] if base is not self.base else [base]:
            for name, found in now.logs.loggers.items():
                if name not in one.logs.loggers and name.partition(".")[0] in fresh:
                    one.logs.loggers[name] = found
            one.filters[:0] = [
                item for item in now.filters if item not in one.filters and any(name in str(item) for name in fresh)
            ]

    def rebase(self, act: Callable[[], Any]) -> None:
        """Do something whose changes stay: attempts begin with them from now on. Turns wait for it."""
        with self._lock:
            if self.current is not None:
                self.current.place.state = read(self._applied)
                self.current = None
                self._applied = read(self._applied)
            self._restore(self.base)
            try:
                act()
            finally:
                self.base = self._applied = read(self._applied)
                self._modules = len(sys.modules)

    def close(self) -> None:
        """No attempt will begin here any more: what was to stay until then goes, and nothing is watched."""
        with self._lock:
            if self._shared:
                self._adopt()
            self._restore(self.base)
            apply(self.base, self._found)
        seeds.unwatch()
        unwatch()

    def __repr__(self) -> str:
        beside = f", {len(self._sharing)} beside it" if self._sharing else ""
        return f"<Isolation [{'between attempts' if self.current is None else 'an attempt computes'}{beside}]>"
