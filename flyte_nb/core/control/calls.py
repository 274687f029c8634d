"""Calls of tasks, and their results as callers get them: a value or an exception. Runs in: everywhere."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from flyte_nb import errors
from flyte_nb.core.failures import reraise, wording
from flyte_nb.core.failures.record import FailureRecord
from flyte_nb.core.history.facts import ErrorNote
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.interface import missing_annotations
from flyte_nb.core.settings.config import TaskConfig
from flyte_nb.core.transport.payload import Payload, loads, rebuilt
from flyte_nb.errors import BaseRuntimeError

#: Digits of an action's name that identify its call site: with a million actions, one chance in 10 million that two are alike.
CALL_SITE_DIGITS = 16


#: How an error begins of a result that cannot be made here.
RESULT = "the task {} succeeded, but its result"


class TaskSpec(Protocol):
    """A task, as controllers and executors need it: `flyte_nb.core.tasks.task.Task`, or a condition's stand-in for one."""

    name: str
    config: TaskConfig

    @property
    def short_name(self) -> str:
        """Its name in views."""


class ResumePoint(NamedTuple):
    """State from which an action that has ended is executed again."""

    #: Sequence number of the last state that its controller published.
    seq: int
    #: Attempts it has had.
    attempts: int
    #: Error of its last attempt, where that was lost with its owner, who could not decide: it was out of memory or time there,
    #: or what computed as the worker died.
    error: ErrorNote | None = None
    #: Such losses in a row before that one.
    losses: float = 0.0


@dataclass(slots=True, eq=False, repr=False)
class Call:
    """A task call on its way to the controller."""

    task: TaskSpec
    run: RunInfo
    #: Deterministic within the run.
    name: str
    #: Name of the calling action.
    parent: str
    #: Serialized (args, kwargs).
    payload: Payload
    #: "square(3)".
    label: str
    group: str
    custom: tuple[tuple[str, str], ...]
    #: From an earlier attempt of the parent: the call's result, or the state to resume it from; None for a new call.
    record: Payload | ResumePoint | None = None
    kind: str = "task"
    #: Its key in the cache (`flyte_nb.core.cache.key`); empty if it takes no part.
    cache_key: bytes = b""
    #: The `flyte_nb.core.transport.code_versions.CodeVersion` of the moment of the call; None: that of its next attempt.
    code: Any = None
    #: (name, address) of links that it was given (``override(links=...)``); None: those of its task, as that is defined.
    links: tuple[tuple[str, str], ...] | None = None
    #: Where its items go, if its task yields (`flyte_nb.core.streams.inlet.Inlet`).
    stream: Any = None

    def replace_task(self, task: TaskSpec) -> None:
        """Execute it with the task of now, in its state of now.

        If the task was redefined, that is without the cache: its key is that of the old code.
        """
        self.code = None
        if task is not self.task:
            self.task, self.cache_key = task, b""


def call_site_of(name: str) -> str:
    """The part of an action's name that identifies the call, whatever its task's code: parent, task, inputs and order."""
    return name[:CALL_SITE_DIGITS]


@dataclass(slots=True, eq=False, repr=False)
class Settled:
    """What an awaiting caller gets: a value to unpickle, or an error to raise."""

    #: "ok", "error", "cancelled", "aborted", or "raised" (the call could not be made).
    kind: str
    call: Call | None
    payload: Payload | None = None
    #: The `ErrorNote` of the last attempt, if it failed; with "raised", the exception.
    error: Any = None
    #: Class name in `flyte_nb.errors` that the caller gets, where it is not the error's own.
    code: str = ""
    message: str = ""
    #: What the value is, as a sentence on it begins.
    what: str = "the result"

    def result(self) -> Any:
        """The value, or its error raised. To be called in the caller's thread: unpickling may take long."""
        __tracebackhide__ = True
        if self.kind == "ok":
            call = self.call
            if self.payload is None:
                raise errors.RuntimeUserError(
                    "ItemsNotKeptError",
                    f"the items of {call.label if call else 'a stream'} were too many to be kept: iterate over them as they "
                    "come.",
                )
            if call is None:
                return rebuilt(self.payload, self.what)
            value = rebuilt(self.payload, RESULT, call.task.name)
            if getattr(call.task, "unannotated", False) and not missing_annotations.was_said():
                task: Any = call.task
                named = task.interface.named(*loads(call.payload))
                missing_annotations.seen(task.func, task.name, named, value)
            return value
        raise self.exception()

    def exception(self) -> BaseException:
        """The exception to raise for a call that did not succeed.

        Its class derives from `errors.RuntimeUserError` (or the error that tells how the action ended, such as
        `errors.RetriesExhaustedError`) and, where the body raised, from the type of its exception.
        """
        if self.kind == "cancelled":
            return asyncio.CancelledError(self.message)
        if self.kind == "raised":
            return self.error  # type: ignore[no-any-return]
        if self.kind == "aborted":
            return errors.ActionAbortedError(self.message or "the action was aborted")
        note: ErrorNote = self.error or ErrorNote("system", "RuntimeSystemError", self.message)
        cls = _class_named(self.code or note.code)
        if note.record is not None:
            from flyte_nb.core.failures.rebuild import to_exception

            return to_exception(FailureRecord.loads(note.record), error_class=cls)
        call = self.call
        notes = (f"action {call.run.name}/{_shown_name(call)}: {call.label}",) if call is not None else ()
        made = cls or _CLASS_OF_KIND.get(note.kind, errors.RuntimeUnknownError)
        kind: Any = note.kind
        return reraise.raise_as(
            None, code=note.code, message=note.message, kind=kind, cls=made, notes=notes, worker=note.where or None
        )


_CLASS_OF_KIND = {"user": errors.RuntimeUserError, "system": errors.RuntimeSystemError}


def _class_named(name: str) -> type[BaseRuntimeError] | None:
    found = getattr(errors, name, None)
    return found if isinstance(found, type) and issubclass(found, BaseRuntimeError) else None


def _shown_name(call: Call) -> str:
    """Name of an action that people see: "a17" in a notebook."""
    return wording.current().name_of(call.name) or call.name[:8]
