"""Isolation: each attempt of a worker process finds the process as if it had a container of its own. Runs in: worker process.

Working directory, environment variables, ``sys.path``, umask, locale, warning filters, logging and the seeds of random
generators belong to a process. What an attempt changes of them is its own: taken away when another attempt's turn comes, put
back at its next turn, and forgotten at its end. A turn begins with a step of an async body, with a sync body, and where either
takes its compute slot again. So attempts of one process do not see each other's changes; but those that compute at the same
moment share them (several slots per process).

A turn of the same attempt as before costs one comparison of two references; another's, or an end, about 3 us.
"""

from __future__ import annotations

import contextlib
import functools
import locale
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from flyte_nb.core.attempts import seeds

#: What a logger is set to: level, propagate, disabled, handlers.
_Logger = tuple[int, bool, bool, tuple[logging.Handler, ...]]
_PLAIN: _Logger = (logging.NOTSET, True, False, ())


class Logs(NamedTuple):
    """How logging is set up in this process."""

    disable: int
    #: By name, "" for the root; those that are as Python makes them are left out.
    loggers: dict[str, _Logger]


class State(NamedTuple):
    """What belongs to the process as a whole. Never changed: one that is read anew is another object."""

    cwd: str
    environ: dict[Any, Any]
    path: list[str]
    umask: int
    locale: str
    filters: list[Any]
    logs: Logs


class Place:
    """An attempt's share of the process."""

    __slots__ = ("base", "computes", "random", "state")

    def __init__(self, base: State) -> None:
        #: What it began with, and what is left behind at its end.
        self.base = base
        self.state = base
        #: States of the generators that it seeded.
        self.random: seeds.States | None = None
        #: Whether it computes right now, on another thread than the calling one.
        self.computes: Callable[[], bool] = bool

    @property
    def is_plain(self) -> bool:
        """Whether nothing was changed, as far as is known."""
        return self.state is self.base and self.random is None


class _Changed:
    """What takes too long to be compared at each turn: whether anything was called that may have changed it."""

    logging = True
    locale = True

    @classmethod
    def noting(cls, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that notes its calls."""

        def call(*args: Any, **options: Any) -> Any:
            setattr(cls, what, True)
            return function(*args, **options)

        return functools.update_wrapper(call, function)


def watch() -> None:
    """Notice from now on that logging or the locale is set up differently. Idempotent."""
    manager: Any = logging.root.manager
    if getattr(manager, "_flyte_nb", False):
        return
    manager._flyte_nb = True  # noqa: SLF001 - our mark on Python's object
    manager._clear_cache = _Changed.noting("logging", manager._clear_cache)  # noqa: SLF001 - called wherever a level is set
    for name in ("addHandler", "removeHandler"):
        setattr(logging.Logger, name, _Changed.noting("logging", getattr(logging.Logger, name)))
    locale.setlocale = _Changed.noting("locale", locale.setlocale)


def _read_logs() -> Logs:
    found = {"": _read_logger(logging.root)}
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and (read := _read_logger(logger)) != _PLAIN:
            found[name] = read
    return Logs(logging.root.manager.disable, found)


def _read_logger(logger: logging.Logger) -> _Logger:
    return logger.level, logger.propagate, bool(logger.disabled), tuple(logger.handlers)


def _apply_logs(now: Logs, then: Logs) -> None:
    for name in {*now.loggers, *then.loggers}:
        wanted = then.loggers.get(name, _PLAIN)
        if now.loggers.get(name, _PLAIN) != wanted:
            logger = logging.getLogger(name)
            logger.propagate, logger.disabled, logger.handlers[:] = wanted[1], wanted[2], wanted[3]
            logger.setLevel(wanted[0])
    logging.disable(then.disable)


def _raw_environ() -> dict[Any, Any]:
    return os.environ._data  # type: ignore[attr-defined, no-any-return]  # noqa: SLF001 - a comparison of its items takes 20 times as long


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def read(last: State | None = None) -> State:
    """The state of this process now; `last` itself if it is the same."""
    try:
        cwd = os.getcwd()  # noqa: PTH109 - a quarter of the time
    except OSError:  # it was deleted
        cwd = ""
    environ, mask, filters = _raw_environ(), _umask(), warnings.filters
    if last is None or _Changed.logging:
        _Changed.logging = False
        logs = _read_logs()
    else:
        logs = last.logs
    if last is None or _Changed.locale:
        names = locale.setlocale(locale.LC_ALL)
        _Changed.locale = False
    else:
        names = last.locale
    if (
        last is not None
        and cwd == last.cwd
        and environ == last.environ
        and sys.path == last.path
        and mask == last.umask
        and names == last.locale
        and filters == last.filters
        and (logs is last.logs or logs == last.logs)
    ):
        return last
    return State(cwd, dict(environ), list(sys.path), mask, names, list(filters), logs)


def apply(now: State, then: State) -> None:
    """Bring the process from one state into another."""
    if now.environ != then.environ:
        _apply_environ(now.environ, then.environ)
    if now.cwd != then.cwd:
        with contextlib.suppress(OSError):  # gone meanwhile
            os.chdir(then.cwd)
    if now.path != then.path:
        sys.path[:] = then.path
    if now.umask != then.umask:
        os.umask(then.umask)
    if now.locale != then.locale:
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, then.locale)
            _Changed.locale = False
    if now.filters != then.filters:
        set_filters(then.filters)
    if now.logs != then.logs:
        _apply_logs(now.logs, then.logs)
        _Changed.logging = False


def _apply_environ(now: dict[Any, Any], then: dict[Any, Any]) -> None:
    raw: Any = os.environb if os.supports_bytes_environ else os.environ
    changed = {name for name in {*now, *then} if now.get(name) != then.get(name)}
    for name in changed:
        if name in then:
            raw[name] = then[name]
        elif name in raw:
            del raw[name]
    if hasattr(time, "tzset") and changed & {"TZ", b"TZ"}:
        time.tzset()


def set_filters(filters: list[Any]) -> None:
    """Replace the warning filters."""
    warnings.filters[:] = filters  # type: ignore[index]  # a list, whatever the stubs say
    mutated: Any = getattr(warnings, "_filters_mutated", None) or getattr(warnings, "_filters_mutated_lock_held", None)
    if mutated is not None:
        mutated()


#: Seconds that an attempt which has changed something waits for one that computes, or the other way round; then they share.
#: Two compute at once only where a process has several slots, or a body that has begun has taken the spare one.
PATIENCE = 1.0
LOOK_EVERY = 0.002


class Isolation:
    """Whose turn it is in this process, and what the others are put back to."""

    def __init__(self) -> None:
        watch()
        seeds.watch()
        #: The attempt whose turn it is: anything with a `Place` as ``place``. None between attempts.
        self.current: Any = None
        #: What an attempt begins with.
        self.base = read()
        self._applied = self.base
        self._modules = len(sys.modules)
        #: Attempts that compute while another's turn lasts: they have what it has.
        self._sharing: set[Any] = set()
        # A turn may begin on a thread while another's ends.
        self._lock = threading.Lock()

    def turn(self, body: Any) -> None:
        """An attempt goes on, on the calling thread."""
        until = 0.0
        while self._must_wait(body):
            until = until or time.monotonic() + PATIENCE
            if time.monotonic() > until:
                break
            time.sleep(LOOK_EVERY)
        with self._lock:
            previous = self.current
            if previous is body:
                return
            if previous is not None:
                if previous.place.computes():
                    self._sharing.add(body)
                    return
                previous.place.state = self._applied = read(self._applied)
                previous.place.random = seeds.take()
            self.current = body
            self._restore(body.place.state)
            if body.place.random is not None:  # after anything else, which may draw
                seeds.put(body.place.random)

    def pause(self, body: Any) -> None:
        """A step of an attempt is over that has seeded generators: others draw from them between its steps, Dask too."""
        with self._lock:
            if self.current is body and not self._sharing:
                self.current = None
                body.place.state = self._applied = read(self._applied)
                body.place.random = seeds.take()

    def _must_wait(self, body: Any) -> bool:
        """Whether another attempt computes, and either has changed something: both cannot have what they expect."""
        with self._lock:
            previous = self.current
            if previous is None or previous is body or not previous.place.computes():
                return False
            return not body.place.is_plain or not previous.place.is_plain or read(self._applied) is not self._applied

    def end(self, body: Any) -> None:
        """An attempt has ended: what it changed is undone."""
        with self._lock:
            self._sharing.discard(body)
            if self.current is not body:
                return
            if self._sharing:
                self.current = self._sharing.pop()
                return
            self.current = None
            self._applied = read(self._applied)
            if self._applied is not body.place.base and len(sys.modules) != self._modules:
                self._keep_of_imports(body.place.base)
            seeds.drop()
            self._restore(body.place.base)

    def _restore(self, state: State) -> None:
        if self._applied is not state:
            apply(self._applied, state)
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

    def __repr__(self) -> str:
        return f"<Isolation [{'between attempts' if self.current is None else 'an attempt computes'}]>"
