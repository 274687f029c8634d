"""Copies of a task with other settings, as `override` makes them: equal ones are made once. Runs in: where tasks are called.

A loop that says ``await f.override(short_name="fit")(x)`` makes a copy for each call. It must cost no more than ``f(x)``:
what is learnt of a task when it is called first (its code, pickled; that calls are alike) is learnt once for all these copies.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

from flyte_nb.core.settings.config import TaskConfig

#: Copies of one task that are remembered; programs use a few.
MAX_REMEMBERED = 32
#: Settings that workers read; the others are for who calls the task.
READ_BY_WORKERS = ("buffer", "env_vars", "max_inline_io_bytes", "report", "resources", "reusable", "timeout")


class Configured(Protocol):
    """What is known here of a task: `flyte_nb.core.tasks.task.Task`."""

    config: TaskConfig


C = TypeVar("C", bound=Configured)


class Copies(Generic[C]):
    """The copies that were made of one task.

    Args:
        of_same: Those of the task that this one is a copy of.
    """

    def __init__(self, of_same: Copies[C] | None = None) -> None:
        #: All that are alive, copies of copies, too.
        self.alive: weakref.WeakSet[C] = of_same.alive if of_same is not None else weakref.WeakSet()
        self._by_changes: dict[Any, C] = {}
        self._by_settings: dict[str, C] = {}

    def __iter__(self) -> Iterator[C]:
        return iter(list(self.alive))

    def add(self, copy: C, changes: Mapping[str, object]) -> None:
        """Remember a copy, under what it changes."""
        self.alive.add(copy)
        key = _key(changes)
        if changes and key is not None:
            _remember(self._by_changes, key, copy)

    def made(self, changes: Mapping[str, object]) -> C | None:
        """The copy that was made with the same changes."""
        key = _key(changes)
        return None if key is None else self._by_changes.get(key)

    def as_sent(self, copy: C, task: C) -> C:
        """The task, or the first of its copies, that workers cannot tell from this copy."""
        settings = _read_by_workers(copy.config)
        if settings == _read_by_workers(task.config):
            return task
        if settings not in self._by_settings:
            _remember(self._by_settings, settings, copy)
        return self._by_settings.get(settings, copy)

    def __repr__(self) -> str:
        return f"<Copies [{len(self.alive)}]>"


def _read_by_workers(config: TaskConfig) -> str:
    """The same text where these settings are the same."""
    return repr([getattr(config, name) for name in READ_BY_WORKERS])


def _key(changes: Mapping[str, object]) -> object | None:
    """Equal for equal changes; None where they can change themselves."""
    key = tuple((name, type(value), value) for name, value in sorted(changes.items()))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _remember(known: dict[Any, C], key: object, copy: C) -> None:
    if len(known) >= MAX_REMEMBERED:
        known.clear()
    known[key] = copy
