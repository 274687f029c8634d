"""Pickle what belongs to one process: locks, queues, pools, caches, context variables. Runs in: everywhere.

A task travels with the globals that it uses. In Flyte each process imports the module anew and so has locks of its own; here a
lock or pool that a task's code refers to arrives as a new one, and queues, events and weak collections with what they hold.
Caches (`functools.lru_cache`) arrive empty, context variables by name, with the value that they have where the task is called.
As *arguments* locks are refused all the same: a copy would lock nothing.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import queue
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any

import cloudpickle

from flyte_nb.core.values.by_value.classes import being_loaded
from flyte_nb.core.values.user_code import found_by_name

#: Context variables made here, by name: the same one for every task that refers to it. Bounded by the program's own.
_variables: dict[str, contextvars.ContextVar[Any]] = {}

_LruCache = type(functools.lru_cache(len))


class LateCache:
    """`functools.lru_cache` around a function that is known only after the cache: it may refer to itself."""

    def __init__(self, maxsize: int | None, typed: bool) -> None:
        self._size = (maxsize, typed)

    def __setstate__(self, function: Callable[..., Any]) -> None:
        self._cached = functools.lru_cache(*self._size)(function)
        functools.update_wrapper(self, function)

    def __reduce__(self) -> tuple[Any, ...]:
        return LateCache, self._size, self._cached.__wrapped__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, or return what it returned before."""
        return self._cached(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __getattr__(self, name: str) -> Any:  # cache_info, cache_clear, cache_parameters
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._cached, name)


def _variable(name: str, defaults: tuple[Any, ...]) -> contextvars.ContextVar[Any]:
    found = _variables.get(name)
    if found is None:
        made = contextvars.ContextVar(name, default=defaults[0]) if defaults else contextvars.ContextVar(name)
        found = _variables.setdefault(name, made)
    return found


def _of_variable(variable: contextvars.ContextVar[Any]) -> tuple[Any, ...]:
    try:
        defaults: tuple[Any, ...] = (contextvars.Context().run(variable.get),)
    except LookupError:
        defaults = ()
    return _variable, (variable.name, defaults)


_UNSET = object()


def of_variable_set(variable: contextvars.ContextVar[Any], can_pickle: Callable[[object], bool]) -> tuple[Any, ...]:
    """How to pickle a context variable of a task's code: with its value where the task is called, if that can be pickled."""
    made, arguments = _of_variable(variable)
    value = variable.get(_UNSET)
    if value is _UNSET or (arguments[1] and arguments[1][0] is value) or not can_pickle(value):
        return made, arguments
    return _variable_set, (*arguments, value)


def _variable_set(name: str, defaults: tuple[Any, ...], value: Any) -> contextvars.ContextVar[Any]:
    variable, classes = _variable(name, defaults), being_loaded()
    if classes is not None:
        classes.variables[variable] = value
    return variable


def _of_lru_cache(cached: Any) -> Any:
    if found_by_name(cached.__module__, cached.__qualname__) is cached and not _by_value(cached.__module__):
        return NotImplemented  # an installed module's: by name, as any function
    parameters = cached.cache_parameters()
    return LateCache, (parameters["maxsize"], parameters["typed"]), cached.__wrapped__


def _by_value(module: str) -> bool:
    """Whether a module's functions travel, or one's that it is part of."""
    registered = cloudpickle.list_registry_pickle_by_value()
    parts = module.split(".")
    return module == "__main__" or any(".".join(parts[: i + 1]) in registered for i in range(len(parts)))


def _bare_property() -> functools.cached_property[Any]:
    return functools.cached_property.__new__(functools.cached_property)


def _fill_property(made: functools.cached_property[Any], parts: tuple[Any, ...]) -> None:
    function, name = parts
    made.__init__(function)  # type: ignore[misc]  # it was made empty, since its function may refer to its class
    made.attrname = name


def _of_cached_property(found: functools.cached_property[Any]) -> tuple[Any, ...]:
    return _bare_property, (), (found.func, found.attrname), None, None, _fill_property


#: Whatever is pickled: by type.
_ALWAYS: dict[type, Callable[[Any], Any]] = {
    contextvars.ContextVar: _of_variable,
    _LruCache: _of_lru_cache,
    functools.cached_property: _of_cached_property,
}


def _anew(kind: Callable[..., Any], *attributes: str) -> Callable[[Any], tuple[Any, ...]]:
    return lambda found: (kind, tuple(getattr(found, name) for name in attributes))


def _of_event(found: Any) -> tuple[Any, ...]:
    return _event, (type(found), found.is_set())


def _event(kind: Any, is_set: bool) -> Any:
    made = kind()
    if is_set:
        made.set()
    return made


def _of_queue(found: asyncio.Queue[Any]) -> tuple[Any, ...]:
    return _queue, (type(found), found.maxsize, list(found._queue))  # type: ignore[attr-defined]  # noqa: SLF001 - no other way


def _queue(kind: Any, size: int, items: list[Any]) -> Any:
    made = kind(size)
    for item in items:
        made.put_nowait(item)
    return made


#: In the code of a task only: made anew, with what they were made with. (Queues of threads are plain objects with locks.)
_FRESH: dict[type, Callable[[Any], Any]] = {
    type(threading.Lock()): _anew(threading.Lock), type(threading.RLock()): _anew(threading.RLock),
    threading.Event: _of_event, asyncio.Event: _of_event,
    asyncio.Queue: _of_queue, asyncio.LifoQueue: _of_queue, asyncio.PriorityQueue: _of_queue,
    **{kind: _anew(kind) for kind in (threading.local, queue.SimpleQueue, asyncio.Lock)},
    **{kind: _anew(kind, size) for kind, size in (
        (threading.Semaphore, "_value"), (threading.BoundedSemaphore, "_initial_value"), (threading.Condition, "_lock"),
        (asyncio.Semaphore, "_value"), (asyncio.BoundedSemaphore, "_bound_value"), (asyncio.Condition, "_lock"),
    )},
    concurrent.futures.ThreadPoolExecutor: _anew(
        concurrent.futures.ThreadPoolExecutor, "_max_workers", "_thread_name_prefix", "_initializer", "_initargs"
    ),
}  # fmt: skip


#: In the code that came along with a value: empty. What they hold may be all instances that there are of its class.
_EMPTY: dict[type, Callable[[Any], Any]] = {
    **{kind: _anew(kind, "maxsize") for kind in (queue.Queue, queue.LifoQueue, queue.PriorityQueue)},
    **{kind: _anew(kind) for kind in (weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet)},
}


def of_weak(found: Any, can_pickle: Callable[[object], bool]) -> tuple[Any, ...]:
    """How to pickle a weak collection: with what it holds just now, as far as that can be pickled.

    Args:
        found: The collection.
        can_pickle: Tells what can be. (Classes as keys are left out: those of `functools.singledispatch` are a cache.)
    """
    items = list(found) if isinstance(found, weakref.WeakSet) else list(found.items())
    keys = [item[0] if type(item) is tuple else item for item in items]
    kept = [item for key, item in zip(keys, items, strict=True) if not isinstance(key, type) and can_pickle(item)]
    return _weak, (type(found), kept)


def _weak(kind: Any, items: list[Any]) -> Any:
    made = kind(items)
    made.kept = items  # whoever holds them may not have come along
    return made


#: In the code of a task: with what they hold, as far as it can be pickled.
WITH_CONTENT: dict[type, Callable[[Any, Callable[[object], bool]], tuple[Any, ...]]] = {
    **dict.fromkeys((weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet), of_weak),
    contextvars.ContextVar: of_variable_set,
}


def is_made_anew(value: object) -> bool:
    """Whether it is made anew where it is part of code."""
    return type(value) in _FRESH or type(value) in _EMPTY


class Anew:
    """A lock or the like that belongs to the code of a value (a class's own lock), on its way."""

    def __init__(self, value: object, others: dict[int, Anew]) -> None:
        self._value = value
        #: All of one pickle, by id: a condition has its lock in common with whoever names that.
        self._others = others

    def __reduce__(self) -> Any:
        made, arguments = self._made()
        return made, tuple(map(self._own, arguments))

    def _own(self, value: object) -> object:
        return self._others.setdefault(id(value), Anew(value, self._others)) if is_made_anew(value) else value

    def _made(self) -> Any:
        return _EMPTY.get(type(self._value), _FRESH.get(type(self._value)))(self._value)  # type: ignore[misc]


class AnewMethod:
    """A method of such an object."""

    def __init__(self, holder: object, name: str) -> None:
        self._holder, self._name = holder, name

    def __reduce__(self) -> Any:
        return getattr, (self._holder, self._name)


def reduce(value: object, *, fresh: bool) -> Any:
    """How to pickle a value of these kinds.

    Args:
        value: Anything.
        fresh: Whether it is what a task's code refers to, and not an argument or a result.

    Returns:
        As `object.__reduce__`; NotImplemented for any other value.
    """
    kind = type(value)
    how = _ALWAYS.get(kind) or (_FRESH.get(kind) if fresh else None)
    return how(value) if how is not None else NotImplemented
