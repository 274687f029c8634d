"""Reraise: build the exception that the awaiting task gets, of a class both Flyte's and the task's own. Runs in: everywhere."""

from __future__ import annotations

import builtins
from collections.abc import Iterable

from flyte_nb import errors
from flyte_nb.core.values.by_value import exception_parts
from flyte_nb.core.values.dual_class import dual, flytes, original_of, set_flytes
from flyte_nb.errors import BaseRuntimeError, ErrorKind


def code_of(exception: BaseException) -> str:
    """The code under which an exception of a task is known: Flyte's own code, else the name of its class."""
    if isinstance(exception, errors.BaseRuntimeError):
        return str(flytes(exception, "code") or type(exception).__name__)
    if isinstance(exception, errors.ArgumentError):
        return "TypeError"
    return type(exception).__name__


def kind_of(exception: BaseException) -> ErrorKind:
    """Kind of an exception, "user", "system" or "unknown": that of Flyte's own errors, "user" for every other."""
    if isinstance(exception, errors.BaseRuntimeError):
        return flytes(exception, "kind") or "user"
    return "user"


def nearest_builtin(exception_type: type[BaseException]) -> type[BaseException]:
    """The nearest base that every process can import: what ``except`` can still catch if the type cannot travel."""
    for base in exception_type.__mro__:
        if issubclass(base, BaseException) and vars(builtins).get(base.__name__) is base:
            return base  # type: ignore[no-any-return]
    return Exception


def raise_as(
    original: BaseException | None, *, code: str, message: str, kind: ErrorKind = "user",
    cls: type[BaseRuntimeError] | None = None, notes: Iterable[str] = (), worker: str | None = None,
    fallback: type[BaseException] | None = None,
) -> BaseRuntimeError:  # fmt: skip
    """Build (not raise) the exception that the awaiting task gets.

    Args:
        original: What the task raised; None if it could not be unpickled here.
        code: Name of the original's class. An error of Flyte keeps its own code and kind.
        message: Text of the original: ``str()`` of the result equals it.
        kind: "user", "system" or "unknown".
        cls: Class of Flyte's tree to derive from, `RuntimeUserError` by default.
        notes: Lines added below the traceback: which task, action and attempt failed.
        worker: Name of the worker it failed on.
        fallback: Type to derive from if ``original`` is None, as `nearest_builtin` of the original's type gives it.

    Returns:
        A picklable exception that is an instance of ``cls`` and, where possible, of the original's type, with the
        original's arguments and attributes.
    """
    cls = cls or errors.RuntimeUserError
    if isinstance(original, errors.BaseRuntimeError):
        code, kind = code_of(original), kind_of(original)
    made = _class_for(original, code, cls, fallback)
    try:
        error = _copy_into(made, original if original is not None else Exception(message))
    except Exception:
        made = cls
        error = _copy_into(made, Exception(message))
    if original_of(made) is not None:
        error.__dict__["_flyte_message"] = message
    elif str(error) != message:
        error.args = (message,)
    set_flytes(error, code, kind, worker or flytes(error, "worker"))
    if original is not None:
        # Through several levels the cause stays the exception that the origin raised; a copy needs no cause of its own.
        copied = type(original) is made or (original_of(type(original)) is not None and original.__cause__ is not None)
        error.__cause__ = original.__cause__ if copied else original
    for note in notes:
        error.add_note(note)
    return error


def _class_for(
    original: BaseException | None, code: str, cls: type[BaseRuntimeError], fallback: type[BaseException] | None
) -> type[BaseRuntimeError]:
    if isinstance(original, errors.BaseRuntimeError):
        own = type(original)
        return own if issubclass(own, cls) or cls is errors.RuntimeUserError else dual(cls, own)
    if original is not None:
        return dual(cls, type(original))
    named = getattr(errors, code, None)
    if isinstance(named, type) and issubclass(named, cls):
        return named
    if fallback is None or fallback in (Exception, BaseException) or issubclass(fallback, BaseExceptionGroup):
        return cls
    return dual(cls, fallback)


def _copy_into(made: type[BaseRuntimeError], original: BaseException) -> BaseRuntimeError:
    group = isinstance(original, BaseExceptionGroup)
    args = (original.message, list(original.exceptions)) if group else original.args  # type: ignore[attr-defined]
    error: BaseRuntimeError = exception_parts.blank(made, args)
    attributes = dict(original.__dict__)
    notes = attributes.pop("__notes__", None) or ()
    exception_parts.fill(error, original.args, dict(exception_parts.members(original)), attributes)
    for note in notes:
        error.add_note(str(note))
    return error
