"""Isolation: each attempt of a worker process finds the process as if it had a container of its own. Runs in: worker process.

Working directory, environment variables, ``sys.path``, umask, locale, warning filters, logging and the seeds of random
generators belong to a process. What an attempt changes of them is its own: taken away when another attempt's turn comes, put
back at its next turn, and forgotten at its end. A turn begins with a step of an async body, with a sync body, and where either
takes its compute slot again. So attempts of one process do not see each other's changes; but those that compute at the same
moment share them (several slots per process).

Whether anything was changed is known without looking: the functions that do it are wrapped, and note it. (Looking, by
``os.getcwd`` and the like, takes longer, and gives the GIL away.) A turn or an end where nothing was costs less than 1 us.
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
from flyte_nb.core.attempts.replaced import Replaced

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
    umask: int
    locale: str
    logs: Logs
    path: list[str]
    filters: list[Any]
    #: ``sys.stdout`` and ``sys.stderr``.
    streams: tuple[Any, Any]


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


_replaced = Replaced()
#: What may have been changed since it was read last: "process", "logging", "locale".
_noted = {"process", "logging", "locale"}


def _noting(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that notes its calls."""

    def call(*args: Any, **options: Any) -> Any:
        _noted.add(what)
        return function(*args, **options)

    return functools.update_wrapper(call, function)


def watch() -> None:
    """Notice from now on that what belongs to the process is set differently. Idempotent."""
    if _replaced:
        return
    manager: Any = logging.root.manager
    _replaced.put(manager, "_clear_cache", _noting("logging", manager._clear_cache))  # noqa: SLF001 - called wherever a level is set
    for name in ("addHandler", "removeHandler"):
        _replaced.put(logging.Logger, name, _noting("logging", getattr(logging.Logger, name)))
    _replaced.put(locale, "setlocale", _noting("locale", locale.setlocale))
    # What sets a variable in ``os.environ`` calls the last two.
    for name in ("chdir", "fchdir", "umask", "putenv", "unsetenv"):
        function = getattr(os, name, None)
        if function is not None:
            noting = _noting("process", function)
            if function in os.supports_fd:
                os.supports_fd.add(noting)
            for module in {os, sys.modules[function.__module__]}:  # ``posix``, by which it is pickled
                _replaced.put(module, name, noting)


def unwatch() -> None:
    """Take it back."""
    _replaced.restore()


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


def raw_environ() -> dict[Any, Any]:
    """The environment variables, encoded."""
    return os.environ._data  # type: ignore[attr-defined, no-any-return]  # noqa: SLF001 - a comparison of its items takes 20 times as long


#: Python's own: it is called to look.
_set_umask = os.umask


def read(last: State | None = None) -> State:
    """The state of this process now; `last` itself if it is the same."""
    if last is None:
        noted = {"process", "logging", "locale"}
    elif not _noted and sys.path == last.path and warnings.filters == last.filters and _are(last.streams):
        return last
    else:
        noted = set(_noted)
    _noted.difference_update(noted)  # first: another thread may change something meanwhile
    cwd, environ, mask = _read_process() if last is None or "process" in noted else last[:3]
    names = locale.setlocale(locale.LC_ALL) if last is None or "locale" in noted else last.locale
    logs = _read_logs() if last is None or "logging" in noted else last.logs
    now = State(cwd, environ, mask, names, logs, list(sys.path), list(warnings.filters), (sys.stdout, sys.stderr))
    _noted.discard("locale")
    return last if last is not None and now == last else now


def _are(streams: tuple[Any, Any]) -> bool:
    return sys.stdout is streams[0] and sys.stderr is streams[1]


def current_folder() -> str:
    """The working directory; "" if it was deleted."""
    try:
        return os.getcwd()  # noqa: PTH109 - it is only compared, or sent
    except OSError:
        return ""


def _read_process() -> tuple[str, dict[Any, Any], int]:
    mask = _set_umask(0o077)
    _set_umask(mask)
    return current_folder(), dict(raw_environ()), mask


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
    if now.filters != then.filters:
        set_filters(then.filters)
    if now.logs != then.logs:
        _apply_logs(now.logs, then.logs)
    if now.streams != then.streams:
        sys.stdout, sys.stderr = then.streams
    _noted.clear()


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


def carried(state: State, before: State, now: State) -> State:
    """A state with what differs between two others."""
    environ = {
        **state.environ,
        **{name: value for name, value in now.environ.items() if before.environ.get(name) != value},
    }
    for name in before.environ.keys() - now.environ.keys():
        environ.pop(name, None)
    path = [entry for entry in state.path if entry in now.path or entry not in before.path]
    path[:0] = [entry for entry in now.path if entry not in before.path and entry not in path]
    others = {name: getattr(now, name) for name in State._fields if getattr(now, name) != getattr(before, name)}
    return state._replace(**others | {"environ": environ, "path": path})


class Isolation:
    """Whose turn it is in this process, and what the others are put back to.

    Args:
        shared: Whether others than kernels use the process, too: what they change between attempts stays.
    """

    def __init__(self, *, shared: bool = False) -> None:
        watch()
        seeds.watch()
        #: The attempt whose turn it is: anything with a `Place` as ``place`` and a ``meter``. None between attempts.
        self.current: Any = None
        self._shared = shared
        #: What an attempt begins with, once `begin` has looked.
        self.base = self._found = read()
        self._applied = self.base
        self._modules = len(sys.modules)
        #: Attempts that compute while another's turn lasts: they have what it has.
        self._sharing: set[Any] = set()
        # A turn may begin on a thread while another's ends.
        self._lock = threading.Lock()
        #: Called where an attempt ends: what was written to file descriptors is read (`flyte_nb.worker.process.descriptors`).
        self.before_end: Callable[[], object] | None = None

    def begin(self) -> State:
        """What an attempt begins with that begins now."""
        if self._shared and (_noted or sys.path != self.base.path or warnings.filters != self.base.filters):
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
            if self.current is None and place.state is self._applied and place.random is None:
                self.current = body
                return
        if self._take_turn(body, shares=False):
            return
        body.meter.paused()  # it does not compute: if the process is lost meanwhile, the cause is another
        until = time.monotonic() + PATIENCE
        while not self._take_turn(body, shares=time.monotonic() > until):
            time.sleep(LOOK_EVERY)
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
        """Whether another attempt computes, and either has changed something: both cannot have what they expect."""
        previous = self.current
        if previous is None or previous is body or not previous.place.computes():
            return False
        previous.place.state = self._applied = read(self._applied)
        one, other = body.place, previous.place
        return not one.is_plain or not other.is_plain or one.patched != other.patched

    def is_plain(self, body: Any) -> bool:
        """Whether it is an attempt's turn which has changed nothing so far; whoever asks is the thread whose turn it is."""
        base = body.place.base
        return (
            self.current is body
            and self._applied is base
            and not _noted
            and not seeds.SEEDED
            and not self._sharing
            and sys.path == base.path
            and warnings.filters == base.filters
            and _are(base.streams)
            and len(sys.modules) == self._modules
        )

    def end(self, body: Any) -> None:
        """An attempt has ended: what it changed is undone."""
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
            self._applied = read(self._applied)
            if self._applied is not base and len(sys.modules) != self._modules:
                self._keep_of_imports(base)
            self._modules = len(sys.modules)
            seeds.drop()
            self._restore(base)

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
        return f"<Isolation [{'between attempts' if self.current is None else 'an attempt computes'}]>"
