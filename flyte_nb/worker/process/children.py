"""Processes that tasks start: allowed in Dask's daemonic workers, given functions of the notebook. Runs in: worker process."""

from __future__ import annotations

import functools
import multiprocessing
import multiprocessing.process
import multiprocessing.reduction
import sys
import types
from multiprocessing import util
from typing import Any

import cloudpickle

from flyte_nb.core.attempts.family import end_processes
from flyte_nb.core.attempts.replaced import Replaced
from flyte_nb.core.values import pickler

_replaced = Replaced()
#: How processes were started before, and what is done at exit, where children were not allowed.
_before: list[tuple[str | None, util.Finalize]] = []


def allow() -> None:
    """Let tasks of this process use ``multiprocessing``, `ProcessPoolExecutor` and the like. Idempotent."""
    if not _replaced:
        _replaced.put(multiprocessing.reduction.ForkingPickler, "reducer_override", _by_value)
    me: Any = multiprocessing.current_process()
    if me._config.get("daemon"):  # noqa: SLF001 - `daemon` itself cannot be set on a process that runs
        # Dask's nanny has its worker end with it by this mark, which forbids children as well. What it does is done below.
        me._config["daemon"] = False  # noqa: SLF001
        # The nanny spawned it, and a spawned process spawns, by inheritance: back to what Python does by itself.
        method = multiprocessing.get_start_method(allow_none=True)
        multiprocessing.set_start_method(None, force=True)
        # Before Python waits for children at exit, which may never end.
        end = util.Finalize(None, _end_all, exitpriority=1_000)
        _before.append((method, end))


def disallow() -> None:
    """Take it back: what runs here from now on is nothing of ours."""
    _replaced.restore()
    while _before:
        method, end = _before.pop()
        end.cancel()
        me: Any = multiprocessing.current_process()
        me._config["daemon"] = True  # noqa: SLF001 - see above
        multiprocessing.set_start_method(method, force=True)


def _end_all() -> None:
    end_processes(list(multiprocessing.active_children()))


def send_by_value() -> None:
    """Have pipes to other processes carry functions and classes that those cannot import."""
    multiprocessing.reduction.ForkingPickler.reducer_override = _by_value  # type: ignore[method-assign]


def load(data: bytes) -> Any:
    """What such a pipe carried; the way back is to carry the like as well, from a process that was spawned."""
    send_by_value()
    return cloudpickle.loads(data)


def _by_value(_pickler: Any, value: Any) -> Any:
    """How a pipe to another process pickles a function or class that the other one cannot import: it came by value itself."""
    if not isinstance(value, (types.FunctionType, type)):
        return NotImplemented
    # Not by a module's attributes: a running body finds its program's there (`program_names`), which no other process has.
    name, _, rest = value.__qualname__.partition(".")
    found = vars(sys.modules.get(value.__module__, types)).get(name)
    if rest and found is not None:
        found = functools.reduce(lambda each, part: getattr(each, part, None), rest.split("."), found)
    return NotImplemented if found is value else (load, (pickler.dumps(value),))
