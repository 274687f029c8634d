"""Context of the running code: one immutable value in one ContextVar. Runs in: everywhere.

It holds the controller, the parent action and the group that calls belong to. `flyte_nb.core.steps.ctx` is the user's view.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Protocol

from flyte_nb.core.control.gateway import Gateway
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.settings import validate
from flyte_nb.core.values import redact

#: Held for less than a microsecond; one for all scopes, of which each action has its own.
_counting = threading.Lock()


class CallScope:
    """Mutable part of one attempt (or cell): counts of its calls by content, and what it shares with its code."""

    __slots__ = ("_again", "_made", "attachments", "bursts", "dropped", "records", "refused", "stopped", "watch")

    def __init__(self, records: dict[str, Any] | None = None) -> None:
        #: Calls so far: each once, as a number, which takes half of what bytes do; and how often those that were made again.
        self._made: set[int] | None = None
        self._again: dict[int, int] = {}
        #: Results of children that completed in an earlier attempt, by action name (`flyte_nb.core.control.replay`).
        self.records: dict[str, Any] = records or {}
        #: `flyte_nb.core.tasks.burst`: those that go on in this turn of a loop, and rows whose awaits were cancelled in it.
        self.bursts: dict[Any, Any] = {}
        self.dropped: dict[Any, list[int]] = {}
        #: ``ctx().data`` and the like.
        self.attachments: dict[str, Any] = {}
        #: Sees to it that no call of a cell is forgotten (`flyte_nb.kernel.cells.unawaited.UnawaitedCalls`); None in tasks.
        self.watch: Any = None
        #: Tells, once the cell was stopped, whether it refuses a call that is made now: it starts nothing but clean-up.
        self.stopped: Callable[[], bool] | None = None
        #: The id of the asyncio task that made the latest call which was refused.
        self.refused = 0

    @property
    def has_called(self) -> bool:
        """Whether anything was called so far."""
        return bool(self._made)

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was called or left here."""
        return self._made is None and not self.attachments

    def next(self, key: bytes) -> int:
        """How often this call was made so far, from 1."""
        number = int.from_bytes(key, sys.byteorder)
        with _counting:
            return self._next(number)

    def _next(self, number: int) -> int:
        if self._made is None:
            self._made = set()
        if number not in self._made:
            self._made.add(number)
            return 1
        found = self._again[number] = self._again.get(number, 1) + 1
        return found

    def next_of(self, keys: bytes) -> list[int] | None:
        """As `next`, of many keys of 8 bytes each; None if each was made for the first time."""
        numbers = array("Q", keys)
        new = set(numbers)
        with _counting:
            if len(new) == len(numbers) and (self._made is None or self._made.isdisjoint(new)):
                self._made = new if self._made is None else self._made
                self._made |= new
                return None
            return [self._next(number) for number in numbers]


@dataclass(slots=True, kw_only=True, eq=False)
class Context:
    """Run, action and group of the running code. Never mutated: a change is a new value set in the ContextVar.

    (Not ``frozen``: that makes it three times as slow to make.)
    """

    #: How to reach the controller of this process.
    gateway: Gateway
    run: RunInfo
    #: Name of the running action: "a0" in a cell.
    action: str
    scope: CallScope
    #: Name of the running task; "" in a cell.
    task: str = ""
    attempt: int = 0
    #: Group that calls made now belong to.
    group: str = ""
    #: Group that this action itself belongs to.
    own_group: str = ""
    custom: tuple[tuple[str, str], ...] = ()
    #: Name of the enclosing ``@trace`` function; "" outside.
    trace: str = ""
    #: Whether this is the body of a task (else: a cell).
    in_task: bool = True
    #: Whether the running body is an ``async def`` task.
    is_async: bool = False


class HasContext(Protocol):
    """Running code that makes its context when it is asked for: most bodies never ask."""

    @property
    def context(self) -> Context:
        """Always the same."""


_CURRENT: ContextVar[Context | HasContext | None] = ContextVar("flyte_nb_context", default=None)
_fallback: Callable[[], Context | None] | None = None


def current() -> Context | None:
    """The context of the running code: that of its task, else that of the notebook cell, else None."""
    found = _CURRENT.get()
    if found is None:
        return _fallback() if _fallback is not None else None
    return found if type(found) is Context else found.context  # type: ignore[union-attr]


def of_task() -> Context | None:
    """The context of the running task; None in a cell, and outside both."""
    context = _made(_CURRENT.get())
    return context if context is not None and context.in_task else None


def _made(found: Context | HasContext | None) -> Context | None:
    return found if found is None or isinstance(found, Context) else found.context


def set_fallback(provider: Callable[[], Context | None] | None) -> None:
    """Register what provides a context outside tasks (the notebook session: that of its current cell)."""
    global _fallback
    _fallback = provider


@contextlib.contextmanager
def using(context: Context | None) -> Iterator[None]:
    """Run a block under `context`."""
    token = _CURRENT.set(context)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # closed from another Context (a generator finalised elsewhere)
            _CURRENT.reset(token)


def of(variables: contextvars.Context) -> Context | None:
    """The context of the code that runs with these variables."""
    return _made(variables.get(_CURRENT))


def enter(context: Context | HasContext | None) -> None:
    """Set the context for the rest of the current `contextvars.Context`."""
    _CURRENT.set(context)


def group_name(name: str) -> str:
    """The name of a group, bounded and without secrets, as it is shown.

    Raises:
        ValueError: It is too long.
    """
    return redact.scrub_start(validate.name("The name of a group", name), validate.MAX_NAME)


@contextlib.contextmanager
def group(name: str) -> Iterator[None]:
    """Tag the actions started inside the block with a group name; the innermost name wins.

    Purely organisational: it shows in views and is part of an action's identity. Outside a task and a notebook cell it does
    nothing. A call joins the group that is current when its coroutine *first runs* (or is made into an asyncio task).

    Args:
        name: What to call the group; of 255 characters at most.

    Raises:
        ValueError: It is longer.

    Example:
        >>> with flyte.group("features"):
        ...     await asyncio.gather(*(feature(c) for c in columns))
    """
    context = current()
    name = group_name(name)
    if context is None:
        yield
        return
    with using(replace(context, group=name)):
        yield


@contextlib.contextmanager
def custom_context(**values: str) -> Iterator[None]:
    """Overlay key-value pairs that travel with every action started inside the block, and show in the current code.

    Args:
        **values: Text values; they replace equal keys of the surrounding context.

    Raises:
        TypeError: A value is not text.
    """
    for key, value in values.items():
        if not isinstance(value, str):
            raise TypeError(
                f"custom_context takes text: {key}={value!r} is {type(value).__name__}. Use {key}=str(...)."
            )
    context = current()
    if context is None:
        yield
        return
    merged = tuple({**dict(context.custom), **values}.items())
    with using(replace(context, custom=merged)):
        yield


def get_custom_context() -> dict[str, str]:
    """The custom context of the running code; empty outside a task."""
    context = current()
    return dict(context.custom) if context else {}
