"""Surroundings: what cells have set up in the kernel's process holds in the tasks that they call. Runs in: everywhere.

A worker of the embedded cluster is another process, which a notebook's user does not see: ``os.chdir``, ``os.environ``,
``sys.path``, warning filters, levels of loggers, decimal context, options of NumPy and pandas are taken down where a run
begins, and again where a cell has changed them between two calls; they travel with the facts of the run. To a cluster that was
attached to goes what makes sense on another machine: of the environment what cells set themselves, the working directory and
folders of ``sys.path`` if they exist there, and the rest.
"""

from __future__ import annotations

import contextlib
import decimal
import functools
import locale
import logging
import os
import pickle
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from flyte_nb.core.attempts.surroundings import library_options
from flyte_nb.core.attempts.surroundings.process import State, current_folder, raw_environ
from flyte_nb.core.values.user_code import found_by_name

#: Loggers whose levels are Dask's or Jupyter's matter, by the first part of their names.
_NOT_THE_USERS = frozenset(
    {"distributed", "dask", "tornado", "asyncio", "bokeh", "IPython", "ipykernel", "traitlets", "parso", "Comm"}
)
#: Variables of the kernel's machine, which mean nothing on another one.
_OF_THE_MACHINE = re.compile(
    r"^(PATH|HOME|PWD|OLDPWD|SHELL|USER|LOGNAME|TMP|TEMP|TMPDIR|HOSTNAME|DISPLAY|TERM|VIRTUAL_ENV|PYTHON\w*|LD_\w+|DYLD_\w+|CONDA_\w+|"
    r"XDG_\w+|SSH_\w+|JPY_\w+|JUPYTER\w*|MPLBACKEND|OMP_NUM_THREADS|MKL_NUM_THREADS|OPENBLAS_NUM_THREADS)$"
)
#: Most of anything that is taken down.
MAX_ITEMS = 1_000
_NUMPY_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}


class Record(NamedTuple):
    """What was set up, as plain values."""

    #: Whether the workers are processes of the same machine and installation.
    here: bool = True
    cwd: str = ""
    #: Variables that were set since the session began; None for those that were deleted.
    environ: tuple[tuple[str, str | None], ...] = ()
    path: tuple[str, ...] = ()
    #: Warning filters; the category as (module, name).
    filters: tuple[tuple[Any, ...], ...] = ()
    #: Levels of loggers, "" for the root.
    levels: tuple[tuple[str, int], ...] = ()
    #: Of `logging.disable`.
    disable: int = 0
    decimal: decimal.Context | None = None
    numpy_errors: tuple[tuple[str, str], ...] = ()
    numpy_print: tuple[tuple[str, Any], ...] = ()
    #: Of `library_options`.
    options: tuple[tuple[str, Any], ...] = ()
    #: All categories, if a cell has changed it.
    locale: str = ""


# -- at home ----------------------------------------------------------------------------------------------------------


class _Home:
    """What the kernel's process was like when its session began."""

    def __init__(self) -> None:
        #: Whether there is a cluster that these surroundings are sent to.
        self.active = False
        self.here = True
        self.environ: dict[str, str] = {}
        self.cwd = ""
        self.path: list[str] = []
        self.locale = ""
        #: Variables that were changed once: one that is as it was in the beginning again is sent as well.
        self.touched: set[str] = set()


_home = _Home()


def begin(*, here: bool) -> None:
    """A session begins: what changes from now on is sent to its workers.

    Args:
        here: Whether they are started by it, on this machine.
    """
    _home.active, _home.here = True, here
    _home.environ, _home.cwd, _home.path = _environ(), current_folder(), list(sys.path)
    _home.locale = locale.setlocale(locale.LC_ALL)
    _home.touched.clear()
    library_options.changes()


def _environ() -> dict[str, str]:
    """The environment, copied in one step: Dask sets variables for a moment while it starts workers, on another thread."""
    key, value = os.environ.decodekey, os.environ.decodevalue
    return {key(name): value(found) for name, found in dict(raw_environ()).items()}


def is_home() -> bool:
    """Whether this process has a session: it is the user's own."""
    return _home.active


class Seen:
    """What the surroundings were like when they were taken down, to be compared before each call of a cell: in about 3 us."""

    def __init__(self) -> None:
        self._cwd, self._environ = current_folder(), dict(raw_environ())
        self._path, self._filters = list(sys.path), list(warnings.filters)
        self._disable, self._numbers = logging.root.manager.disable, _numbers()
        self._levels = _version_of_levels()
        self._options, self._locale = library_options.Options(), locale.setlocale(locale.LC_ALL)

    def same(self) -> bool:
        """Whether `capture` would give the same record."""
        return (
            current_folder() == self._cwd
            and raw_environ() == self._environ
            and sys.path == self._path
            and warnings.filters == self._filters
            and _version_of_levels() == self._levels
            and logging.root.manager.disable == self._disable
            and _numbers() == self._numbers
            and self._options.hold_here()
            and locale.setlocale(locale.LC_ALL) == self._locale
        )


_MARK = object()
#: How often the mark was found missing.
_version = 0


def _version_of_levels() -> int:
    """A number that changes where the level of any logger is set: then Python empties the caches of all of them."""
    global _version
    cache: dict[Any, bool] = logging.root._cache  # type: ignore[attr-defined]  # noqa: SLF001
    if _MARK not in cache:
        cache[_MARK] = True
        _version += 1
    return _version


def _numbers() -> tuple[Any, ...]:
    numpy: Any = sys.modules.get("numpy")
    context = decimal.getcontext()
    shown = (numpy.geterr(), numpy.get_printoptions()) if hasattr(numpy, "get_printoptions") else ()
    return context.prec, context.rounding, context.traps.copy(), shown


def capture() -> bytes:
    """The surroundings of the calling code, as they travel. Without a cluster: what belongs to its context alone."""
    if not _home.active:
        own = Record(decimal=_decimal(), numpy_errors=_numpy_errors(), numpy_print=_numpy_print())
        return b"" if own == Record() else pickle.dumps(own, 5)
    now = _environ()
    changed = {name for name in {*now, *_home.environ} if now.get(name) != _home.environ.get(name)}
    _home.touched |= set(sorted(changed)[:MAX_ITEMS])
    sent = [name for name in sorted(_home.touched) if _home.here or not _OF_THE_MACHINE.match(name)]
    cwd = current_folder()
    record = Record(
        here=_home.here,
        cwd=cwd if _home.here or cwd != _home.cwd else "",
        environ=tuple((name, now.get(name)) for name in sent),
        path=tuple(sys.path) if _home.here or sys.path != _home.path else (),
        filters=tuple(map(_as_text, warnings.filters[:MAX_ITEMS])),
        levels=tuple(_levels()),
        disable=logging.root.manager.disable,
        decimal=_decimal(),
        numpy_errors=_numpy_errors(),
        numpy_print=_numpy_print(),
        options=library_options.changes(of_thread=True),
        locale=found if (found := locale.setlocale(locale.LC_ALL)) != _home.locale else "",
    )
    try:
        return pickle.dumps(record, 5)
    except Exception:  # an option of a library that cannot travel
        return pickle.dumps(record._replace(numpy_print=(), options=()), 5)


def _as_text(item: Any) -> tuple[Any, ...]:
    action, message, category, module, line = item
    return action, message, (category.__module__, category.__qualname__), module, line


def _levels() -> list[tuple[str, int]]:
    found = [("", logging.root.level)]
    for name, logger in list(logging.root.manager.loggerDict.items()):
        users = isinstance(logger, logging.Logger) and name.partition(".")[0] not in _NOT_THE_USERS
        if users and logger.level and len(found) < MAX_ITEMS:  # type: ignore[union-attr]
            found.append((name, logger.level))  # type: ignore[union-attr]
    return found


def _decimal() -> decimal.Context | None:
    now, plain = decimal.getcontext(), decimal.DefaultContext
    same = all(
        getattr(now, name) == getattr(plain, name)
        for name in ("prec", "rounding", "Emin", "Emax", "capitals", "clamp", "traps")
    )
    return None if same else now.copy()


def _numpy_errors() -> tuple[tuple[str, str], ...]:
    numpy = sys.modules.get("numpy")
    found = numpy.geterr() if numpy is not None and hasattr(numpy, "geterr") else _NUMPY_ERRORS
    return () if found == _NUMPY_ERRORS else tuple(found.items())


def _numpy_print() -> tuple[tuple[str, Any], ...]:
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or not hasattr(numpy, "get_printoptions"):
        return ()
    now, plain = numpy.get_printoptions(), _PRINT
    return tuple((name, value) for name, value in now.items() if name in plain and value != plain[name])


#: NumPy's own print options.
_PRINT = {
    "edgeitems": 3, "threshold": 1000, "floatmode": "maxprec", "precision": 8, "suppress": False, "linewidth": 75,
    "nanstr": "nan", "infstr": "inf", "sign": "-",
}  # fmt: skip


# -- where attempts are executed --------------------------------------------------------------------------------------


class Applied(NamedTuple):
    """A record as one process takes it."""

    #: What attempts begin with.
    state: State | None
    #: Sets what belongs to a context, in that of an attempt; None if there is nothing.
    enter: Callable[[], None] | None
    #: What `state` was made from: kept, since records are found by its identity.
    base: State | None
    #: Modules of categories of warnings, not imported here yet: their filters are left out until then.
    awaited: frozenset[str] = frozenset()


#: Numbers of applied records that a process keeps: a session has few at a time.
MAX_APPLIED = 64
_applied: dict[tuple[bytes, int], Applied] = {}


def applied(data: bytes, base: State | None) -> Applied:
    """A record as this process takes it.

    Args:
        data: From `capture`.
        base: What attempts begin with here by themselves; None where the process is not to be changed.
    """
    key = data, id(base)
    found = _applied.get(key)
    if found is None or (found.awaited and not found.awaited.isdisjoint(sys.modules)):
        record: Record = pickle.loads(data)
        state = _overlay(base, record) if base is not None else None
        awaited = frozenset(item[2][0] for item in record.filters).difference(sys.modules)
        for old in [key] * (found is not None) + list(_applied)[: 1 - MAX_APPLIED]:
            _applied.pop(old, None)
        # Several threads may look at once: all have the same, by which attempts tell what they have changed.
        found = _applied.setdefault(key, Applied(state, _entering(record), base, awaited))
    return found


@functools.lru_cache(maxsize=MAX_APPLIED)
def is_changeable(data: bytes) -> bool:
    """Whether a record sets what attempts can change in place, so that each needs its own."""
    record: Record | None = pickle.loads(data) if data else None
    return record is not None and record.decimal is not None


def _overlay(base: State, record: Record) -> State:
    environ = dict(base.environ)
    for name, value in record.environ:
        key = os.environ.encodekey(name)
        environ.pop(key, None)
        if value is not None:
            environ[key] = os.environ.encodevalue(value)
    path = list(base.path)
    if record.here and record.path:
        path = [*record.path, *(folder for folder in path if folder not in record.path)]
    else:
        path += [folder for folder in record.path if folder not in path and folder and Path(folder).is_dir()]
    loggers = dict(base.logs.loggers)
    for name, level in record.levels:
        loggers[name] = (level, *loggers.get(name, (0, True, False, ()))[1:])
    filters = [
        (action, message, category, module, line)
        for action, message, where, module, line in record.filters
        if (category := _category(*where)) is not None
    ]
    return base._replace(
        cwd=record.cwd if record.cwd and Path(record.cwd).is_dir() else base.cwd,
        environ=environ,
        path=path,
        filters=filters,
        logs=base.logs._replace(disable=record.disable, loggers=loggers),
        locale=record.locale or base.locale,
        options=library_options.Options({**base.options.changed, **dict(record.options)}),
    )


def _category(module: str, name: str) -> type | None:
    """A category of warnings, unless its module is not imported here yet."""
    found = found_by_name(module, name)
    return found if isinstance(found, type) else None


def _entering(record: Record) -> Callable[[], None] | None:
    if not (record.decimal or record.numpy_errors or record.numpy_print):
        return None

    def enter() -> None:
        if record.decimal is not None:
            decimal.setcontext(record.decimal.copy())
        if record.numpy_errors or record.numpy_print:
            with contextlib.suppress(ImportError):
                import numpy as np

                np.seterr(**dict[str, Any](record.numpy_errors))
                if record.numpy_print:
                    np.set_printoptions(**dict[str, Any](record.numpy_print))

    return enter
