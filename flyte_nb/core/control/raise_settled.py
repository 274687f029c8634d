"""Make the exception that an awaiting caller gets out of how its action ended. Runs in: the caller's thread."""

from __future__ import annotations

from flyte_nb import errors
from flyte_nb.core.control.calls import Call, Settled
from flyte_nb.core.failures import reraise, wording
from flyte_nb.core.failures.record import FailureRecord
from flyte_nb.core.history.facts import ErrorNote
from flyte_nb.errors import BaseRuntimeError


def exception_of(settled: Settled) -> BaseException:
    """The exception to raise for a call that did not succeed.

    Its class derives from `errors.RuntimeUserError` (or the error that says what became of the action, such as
    `errors.RetriesExhaustedError`) and, where the body raised, from the type of its exception.
    """
    call = settled.call
    if settled.kind == "aborted":
        return errors.ActionAbortedError(settled.message or "the action was aborted")
    note: ErrorNote = settled.error or ErrorNote("system", "RuntimeSystemError", settled.message)
    cls = _class_named(settled.code or note.code)
    if note.record is not None:
        return _from_record(note, cls)
    notes = (f"action {call.run.name}/{short_name(call)}: {call.label}",) if call is not None else ()
    made = cls or _class_of_kind(note.kind)
    return reraise.raise_as(None, code=note.code, message=note.message, kind=note.kind, cls=made, notes=notes)  # type: ignore[arg-type]


def short_name(call: Call) -> str:
    """What people call an action: "a17" in a notebook."""
    return wording.current().name_of(call.name) or call.name[:8]


def _from_record(note: ErrorNote, cls: type[BaseRuntimeError] | None) -> BaseException:
    from flyte_nb.core.failures.rebuild import to_exception

    record = FailureRecord.loads(note.record or b"")
    return to_exception(record, error_class=cls)


def _class_named(name: str) -> type[BaseRuntimeError] | None:
    found = getattr(errors, name, None)
    return found if isinstance(found, type) and issubclass(found, BaseRuntimeError) else None


def _class_of_kind(kind: str) -> type[BaseRuntimeError]:
    return {"user": errors.RuntimeUserError, "system": errors.RuntimeSystemError}.get(kind, errors.RuntimeUnknownError)
