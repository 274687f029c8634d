"""Memory of a worker: how large its process gets under attempts, and a warning before its nanny ends it. Runs in: worker."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

import dask
import psutil
from dask.utils import format_bytes

from flyte_nb.core.attempts.meter import Meter
from flyte_nb.core.history.events import Event, Logged
from flyte_nb.core.history.facts import LogLine
from flyte_nb.core.history.worker_names import name_of
from flyte_nb.engine.links.wire import Key

#: Share of its limit from which on it is said that a process is large; it is said again once it has been below the second.
WARN_AT, CALM_AT = 0.8, 0.7
#: Seconds after which a row is worth telling of by itself, with what it used.
ROW_AFTER_S = 0.1
#: Share of its limit at which its nanny ends a worker, where Dask's configuration says nothing.
ENDED_AT = 0.95


@functools.cache
def _reader() -> Callable[[], int]:
    """What reads the size of this process: on Linux a file that stays open (0.5 us)."""
    with contextlib.suppress(OSError):
        file, page = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC), os.sysconf("SC_PAGE_SIZE")
        return lambda: int(os.pread(file, 64, 0).split()[1]) * page
    process = psutil.Process()
    return lambda: int(process.memory_info().rss)


def process_size() -> int:
    """Bytes of memory that this process has."""
    return _reader()()


def limit_of(worker: Any) -> int:
    """Bytes that a Dask worker may use; 0 for no limit."""
    return int(getattr(worker.memory_manager, "memory_limit", None) or 0)


class _Lane(Protocol):
    """A lane (`flyte_nb.worker.lanes.lane.LaneThread`)."""

    #: Attempts under way.
    @property
    def bodies(self) -> Mapping[Key, Any]: ...
    @property
    def meter(self) -> Meter: ...
    @property
    def holder(self) -> Any: ...


class MemoryWatch:
    """How large the process is while attempts of one host are under way.

    Args:
        address: Of the worker.
        limit: Bytes that it may use; 0 for no limit.
        emit: Takes events.
    """

    def __init__(self, address: str, limit: int, emit: Callable[[Event], None]) -> None:
        self._address = address
        self._limit = limit
        self._emit = emit
        #: How large the process was before each attempt, and when last looked at.
        self._first: dict[Key, int] = {}
        self._last = process_size()
        self._warned = False

    def look(self, lanes: Collection[_Lane]) -> None:
        """Note how large the process is at the attempts under way."""
        bodies = [body for lane in lanes for body in list(lane.bodies.values()) if body.started_at]
        if not bodies:
            self._first.clear()
            return
        size, since = process_size(), time.time() - ROW_AFTER_S
        before, self._last = min(self._last, size), size
        self._first = {body.work.key: self._first.get(body.work.key, before) for body in bodies}
        for body in bodies:
            if body.work.row is None or body.started_at < since:
                body.memory = max(body.memory, size)
        if self._limit and size > WARN_AT * self._limit and not self._warned:
            self._warned = True
            self._warn(size, [lane.meter.current for lane in lanes if lane.holder.held] or bodies)
        elif size < CALM_AT * self._limit:
            self._warned = False

    def _warn(self, size: int, bodies: Iterable[Any]) -> None:
        """Say it in the log of the action under which the process has grown most: of those that compute."""
        keys = [body.work.key for body in bodies if body is not None and body.work.key in self._first]
        key: Key = max(keys or self._first, key=lambda key: size - self._first[key])
        ends: Any = dask.config.get("distributed.worker.memory.terminate", ENDED_AT)
        end = f"; its process is ended at {ends:.0%}" if ends else ""
        text = (
            f"{name_of(self._address)} uses {format_bytes(size)} of {format_bytes(self._limit)} ({size / self._limit:.0%}), "
            f"{format_bytes(max(size - self._first[key], 0))} more than when this action began{end}"
        )
        self._emit(Logged(*key, (LogLine(time.time(), "warning", text),)))

    def __repr__(self) -> str:
        return f"<MemoryWatch of {self._address} [{len(self._first)} attempts]>"
