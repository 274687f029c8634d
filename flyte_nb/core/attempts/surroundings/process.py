"""State of a process as a whole: what it is, that it was changed, and bringing it into another. Runs in: everywhere.

The functions that change it are wrapped, and note it: to look, by ``os.getcwd`` and the like, takes longer, and gives the GIL
away.
"""

from __future__ import annotations

import contextlib
import functools
import locale
import logging
import operator
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from flyte_nb.core.attempts.replaced import Replaced
from flyte_nb.core.attempts.surroundings import library_options
from flyte_nb.core.attempts.surroundings.library_options import Options

#: What a logger is set to: level, propagate, disabled, handlers.
_Logger = tuple[int, bool, bool, tuple[logging.Handler, ...]]
_PLAIN: _Logger = (logging.NOTSET, True, False, ())


class Logs(NamedTuple):
    """How logging is set up in this process."""

    disable: int
    #: By name, "" for the root; those that are as Python makes them are left out.
    loggers: dict[str, _Logger]
    #: What makes records and loggers, and whether warnings are logged.
    factory: Any = None
    kind: Any = None
    captures: bool = False


#: What a body may replace in ``sys``, and how they are read in one step.
_HOOKS = ("stdout", "stderr", "stdin", "excepthook", "argv")
hooks_of: Callable[[dict[str, Any]], tuple[Any, ...]] = operator.itemgetter(*_HOOKS)
SYS: dict[str, Any] = vars(sys)


class State(NamedTuple):
    """What belongs to the process as a whole. Never changed: one that is read anew is another object."""

    cwd: str
    environ: dict[Any, Any]
    umask: int
    locale: str
    logs: Logs
    path: list[str]
    filters: list[Any]
    #: Of ``sys``, by `_HOOKS`.
    hooks: tuple[Any, ...]
    options: Options

    def holds(self) -> bool:
        """Whether what is set without a function that notes it is as here."""
        return (
            sys.path == self.path
            and warnings.filters == self.filters
            and hooks_of(SYS) == self.hooks
            and self.options.loaded is library_options.loaded()
            and self.options.hold()
        )


_replaced = Replaced()
#: What may have been changed since it was read last: "process", "logging", "locale".
NOTED: set[str] = {"process", "logging", "locale"}


def _noting(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that notes its calls."""

    def call(*args: Any, **options: Any) -> Any:
        NOTED.add(what)
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
    for name in ("setLogRecordFactory", "setLoggerClass", "captureWarnings"):
        _replaced.put(logging, name, _noting("logging", getattr(logging, name)))
    for name in ("alarm", "setitimer", "pthread_sigmask"):
        if hasattr(signal, name):
            _replaced.put(signal, name, _noting_signals(getattr(signal, name)))
    _replaced.put(locale, "setlocale", _noting("locale", locale.setlocale))
    for module, name in library_options.setters():
        _replaced.put(module, name, _noting("options", getattr(module, name)))
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


#: Threads on which a body has set a timer or blocked signals, with what was blocked before.
SIGNALS: dict[int, Any] = {}
_timers = [getattr(signal, name) for name in ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF") if hasattr(signal, name)]
#: Python's own: they are called to look, and to take back.
_mask, _set_timer = getattr(signal, "pthread_sigmask", None), getattr(signal, "setitimer", None)


def _noting_signals(function: Callable[..., Any]) -> Callable[..., Any]:
    """`_noting`, for what belongs to a thread, or would end a later attempt with its whole process."""

    def call(*args: Any, **options: Any) -> Any:
        if _mask is not None:
            SIGNALS.setdefault(threading.get_ident(), _mask(signal.SIG_BLOCK, ()))
            NOTED.add("signals")
        return function(*args, **options)

    return functools.update_wrapper(call, function)


def take_signals_back() -> None:
    """End the timers of an attempt that has ended, and have its thread take signals as before."""
    blocked = SIGNALS.pop(threading.get_ident(), None)
    if blocked is not None and _mask is not None and _set_timer is not None:
        for timer in _timers:
            _set_timer(timer, 0)
        _mask(signal.SIG_SETMASK, blocked)


def _read_logs() -> Logs:
    found = {"": _read_logger(logging.root)}
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and (read := _read_logger(logger)) != _PLAIN:
            found[name] = read
    captures = logging._warnings_showwarning is not None  # type: ignore[attr-defined]  # noqa: SLF001 - it cannot be asked
    return Logs(logging.root.manager.disable, found, logging.getLogRecordFactory(), logging.getLoggerClass(), captures)


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
    logging.setLogRecordFactory(then.factory)
    logging.setLoggerClass(then.kind)
    logging.captureWarnings(then.captures)


def raw_environ() -> dict[Any, Any]:
    """The environment variables, encoded."""
    return os.environ._data  # type: ignore[attr-defined, no-any-return]  # noqa: SLF001 - a comparison of its items takes 20 times as long


#: Python's own: it is called to look.
_set_umask = os.umask


def read(last: State | None = None) -> State:
    """The state of this process now; `last` itself if it is the same."""
    if last is None:
        noted = {"process", "logging", "locale"}
    elif not NOTED and last.holds():
        return last
    else:
        noted = set(NOTED)
    NOTED.difference_update(noted)  # first: another thread may change something meanwhile
    cwd, environ, mask = _read_process() if last is None or "process" in noted else last[:3]
    names = locale.setlocale(locale.LC_ALL) if last is None or "locale" in noted else last.locale
    logs = _read_logs() if last is None or "logging" in noted else last.logs
    options = library_options.Options() if last is None else last.options.renewed()
    now = State(cwd, environ, mask, names, logs, list(sys.path), list(warnings.filters), _read_hooks(), options)
    NOTED.discard("locale")
    return last if last is not None and now == last else now


def _read_hooks() -> tuple[Any, ...]:
    *hooks, arguments = hooks_of(SYS)
    return *hooks, list(arguments)


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
    if now.options != then.options:
        library_options.enter(then.options.changed)
    for name, found, hook in zip(_HOOKS, now.hooks, then.hooks, strict=True):
        if found != hook:
            setattr(sys, name, list(hook) if name == "argv" else hook)
    NOTED.clear()


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
