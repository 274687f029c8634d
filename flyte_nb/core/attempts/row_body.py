"""Rows as attempts: one object stands for row after row of a map, as long as nobody has seen which one it is.

What a row costs so is its context variables, its arguments, the call and its result. A row that has been seen (it printed,
asked for its context, started a thread, goes on for long) keeps the object, and ends as any other attempt.

Runs in: the thread of a lane.
"""

from __future__ import annotations

import contextvars
import pickle
import sys
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from flyte_nb.core.attempts import output, seeds
from flyte_nb.core.attempts.body import NAMES_CLASS, NONE, Body
from flyte_nb.core.attempts.output import OUTPUT, Output, Sink
from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.history.columns import PREVIEW_CHARS
from flyte_nb.core.tasks import context as ctx
from flyte_nb.core.transport.payload import PLAIN, SMALL_BYTES, rebuilt
from flyte_nb.core.values.describe import brief


class Described(NamedTuple):
    """A result that is not plain, with a text of it."""

    output: bytes
    preview: str


#: What a row returned: its result; its outcome if that is large.
Found = bytes | Described | Outcome


class Bundle(Protocol):
    """Rows that were sent together."""

    def work(self, at: int) -> Work:
        """The attempt at a place."""


class RowBody(Body):
    """An attempt that is the row at a place of its bundle."""

    __slots__ = ("_blank", "_make_sink", "_work", "at", "is_seen", "of")

    def __init__(self, *args: Any, **options: Any) -> None:
        self._work: Work | None = None
        #: Whether it is one row for good.
        self.is_seen: bool = False
        self.of: Bundle
        self.at: int = 0
        super().__init__(*args, **options)
        #: What each row's variables begin with. The body itself is put in anew: who copies a row's context then holds it.
        self._blank = self.variables
        self._blank.run(ctx.enter, None)

    @property
    def work(self) -> Work:
        """The attempt, made when somebody asks for it."""
        if self._work is None:
            self._work = self.of.work(self.at)
        return self._work

    @work.setter
    def work(self, work: Work) -> None:
        self._work = work

    def _sink(self, make: Callable[[Work], Sink]) -> Callable[[], Sink]:
        me, self._make_sink = weakref.ref(self), make
        return lambda: make(me().work)  # type: ignore[union-attr]  # what writes has it in its context

    def stand_for(self, at: int) -> contextvars.Context:
        """Be another row, which begins now; returns its variables."""
        self.at, self._work = at, None
        self.variables = variables = self._blank.copy()
        return variables

    def is_unseen(self, references: int) -> bool:
        """Whether the row has left nothing behind and nobody has it, so that the object may be the next one.

        It may have printed, or asked for its context: `forget`.

        Args:
            references: What `sys.getrefcount` says of it, called in here, while nobody has it.
        """
        self.variables = self._blank
        return (
            self._family is None
            and not output.in_child  # of a row that forked
            and self.progress is None
            and not self.generators
            and (self._context is None or self._context.scope.is_untouched)
            and sys.getrefcount(self) == references
        )

    def forget(self) -> bool:
        """What the row printed is complete, its context closed; returns whether it has printed."""
        if self._context is not None:
            self._context.scope.attachments["closed"] = True
            self._context = None
        if not self.output.writes:
            return False
        self.output.close()
        self.output = Output(self._sink(self._make_sink))
        self._blank.run(OUTPUT.set, self.output)
        return True

    def references(self) -> int:
        """What to compare with in `is_unseen`."""
        return sys.getrefcount(self)

    def row(self, payload: bytes) -> Found:
        """Execute a plain ``def`` body, in its variables."""
        ctx.enter(self)
        args, kwargs = self._given(payload)
        return self._result(self.task.func(*args, **kwargs))

    async def row_async(self, payload: bytes) -> Found:
        """Execute an ``async def`` body. One that has waited for something ends as any other attempt."""
        ctx.enter(self)
        try:
            args, kwargs = self._given(payload)
            found = self._result(await self.task.func(*args, **kwargs))
            return self.settle(found) if self.is_seen else found
        except BaseException as exc:
            self._see()
            return self._raised(exc)
        finally:
            if self.is_seen:
                self.finish(None)

    def _given(self, payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            args, kwargs = pickle.loads(payload)
        except Exception:  # says what is wrong
            args, kwargs = rebuilt(payload, "{} was not started: its arguments", self.task.name)
        if len(payload) > seeds.SMALLEST:
            self.generators = seeds.generators((*args, *kwargs.values()))
        return args, kwargs

    def _result(self, value: Any) -> Found:
        if self.stop:  # as somebody has seen it
            return self._ended(self.stop)
        value = self.task.interface.check_outputs(value)
        if value is None:
            return NONE
        payload = pickle.dumps(value, 5) if type(value) in PLAIN else self._serialized(value)
        if type(payload) is not bytes or len(payload) > SMALL_BYTES:
            self._see()
            return self._sent(value, payload)
        return payload if NAMES_CLASS not in payload else Described(payload, brief(value, PREVIEW_CHARS))

    def _see(self) -> None:
        """Be one row for good, with its times."""
        if self.lane is not None:
            self.lane.see()

    def raised(self, error: BaseException) -> Outcome:
        """It ends with what it raised."""
        return self.variables.run(self._raised, error)

    def settle(self, found: Found) -> Outcome:
        """It ends as any other attempt, with what it returned."""
        if self.outcome is not None:
            return self.outcome
        if self.stop:
            return self._ended(self.stop)
        if isinstance(found, Outcome):
            return found
        payload, preview = found if isinstance(found, Described) else (found, "")
        return self._ended("ok", payload, preview=preview)
