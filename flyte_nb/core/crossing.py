"""Carry an exception across an action boundary, as a class that is both Flyte's and its own. Runs in: everywhere.

A task raises ``ValueError("no rows")`` on a worker. The task that awaits it gets an instance of a class made here, which
derives from `errors.RuntimeUserError` and from ``ValueError``: its text, arguments and attributes are the original's, its
``code`` is "ValueError", and its ``__cause__`` is the original.

The classes of `flyte_nb.core.errors` are looked up when a function runs: that module imports this one.
"""

from __future__ import annotations

import asyncio
import builtins
import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flyte_nb.core import exceptionparts

if TYPE_CHECKING:
    from flyte_nb.core.errors import BaseRuntimeError, ErrorKind

#: Types that must never be a base of what a parent gets: they would end a loop, a generator or a process, instead of
#: being an error that the parent may handle.
NEVER_A_BASE = (
    SystemExit,
    KeyboardInterrupt,
    GeneratorExit,
    asyncio.CancelledError,
    StopIteration,
    StopAsyncIteration,
)

#: Classes kept for re-use. A notebook that redefines its exceptions would otherwise keep every generation alive.
MAX_DUAL_CLASSES = 256


class _Own:
    """An attribute that lives in the instance's ``__dict__``, whatever the original class has under that name.

    ``code`` of `SystemExit` is a slot in C, ``code`` of a user's exception may be a property without a setter.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: BaseException | None, owner: type) -> Any:
        return self if instance is None else instance.__dict__.get(self.name)

    def __set__(self, instance: BaseException, value: object) -> None:
        instance.__dict__[self.name] = value


def _dual_str(self: BaseException) -> str:
    message = self.__dict__.get("_flyte_message")
    return message if isinstance(message, str) else BaseException.__str__(self)


def dual(error_class: type[BaseRuntimeError], original_type: type[BaseException]) -> type[BaseRuntimeError]:
    """Make (or find) the class that derives from an error of Flyte and from the type of the original exception.

    Args:
        error_class: A class of `flyte_nb.core.errors`, `RuntimeUserError` say.
        original_type: Type of the exception that the task raised, `ValueError` say.

    Returns:
        A class deriving from both; ``error_class`` itself where that is impossible (the two have conflicting layouts) or
        would be harmful (`SystemExit`, `StopIteration` and the like).
    """
    original_type = original_of(original_type) or original_type
    if issubclass(error_class, original_type) or issubclass(original_type, NEVER_A_BASE):
        return error_class
    return _make_dual(error_class, original_type)  # type: ignore[arg-type]  # mypy #11470: a class is hashable


@functools.lru_cache(maxsize=MAX_DUAL_CLASSES)
def _make_dual(error_class: type[BaseRuntimeError], original_type: type[BaseException]) -> type[BaseRuntimeError]:
    namespace: dict[str, Any] = {
        "__doc__": f"{original_type.__name__} of a task, as the task that awaits it sees it.",
        "__module__": error_class.__module__,
        # Programs print ``type(e).__name__``, which is the tree's class in Flyte; tracebacks show the qualified name.
        "__qualname__": f"{error_class.__name__}[{original_type.__name__}]",
        "__str__": _dual_str,
        "code": _Own("code"),
        "kind": _Own("kind"),
        "worker": _Own("worker"),
        "_flyte_error_class": error_class,
        "_flyte_original_type": original_type,
    }
    is_group = issubclass(original_type, BaseExceptionGroup)
    try:
        metaclass: Any = type(original_type)
        made: type[BaseRuntimeError] = metaclass(error_class.__name__, (error_class, original_type), namespace)
        exceptionparts.blank(made, ("", [Exception()]) if is_group else ())
    except Exception:
        return error_class
    return made


def original_of(error_type: type[BaseException]) -> type[BaseException] | None:
    """The task's own exception type inside a dual class; None if the class is not one."""
    found: type[BaseException] | None = getattr(error_type, "_flyte_original_type", None)
    return found


def code_of(exception: BaseException) -> str:
    """The code under which an exception of a task is known: Flyte's own code, else the name of its class."""
    from flyte_nb.core import errors

    if isinstance(exception, errors.BaseRuntimeError):
        return str(getattr(exception, "code", None) or type(exception).__name__)
    if isinstance(exception, errors.ArgumentError):
        return "TypeError"
    return type(exception).__name__


def kind_of(exception: BaseException) -> ErrorKind:
    """Whose fault an exception is: the kind that Flyte's own errors say, "user" for every other."""
    from flyte_nb.core import errors

    if isinstance(exception, errors.BaseRuntimeError):
        return getattr(exception, "kind", None) or "user"
    return "user"


def nearest_builtin(exception_type: type[BaseException]) -> type[BaseException]:
    """The nearest base that every process can import: what ``except`` can still catch if the type cannot travel."""
    for base in exception_type.__mro__:
        if issubclass(base, BaseException) and vars(builtins).get(base.__name__) is base:
            found: type[BaseException] = base
            return found
    return Exception


def raise_as(
    original: BaseException | None,
    *,
    code: str,
    message: str,
    kind: ErrorKind = "user",
    cls: type[BaseRuntimeError] | None = None,
    notes: Iterable[str] = (),
    worker: str | None = None,
    fallback: type[BaseException] | None = None,
) -> BaseRuntimeError:
    """Build (not raise) the exception that the awaiting task gets.

    Args:
        original: What the task raised; None if it could not be unpickled here.
        code: Name of the original's class. An error of Flyte keeps its own code and kind.
        message: Text of the original: ``str()`` of the result equals it.
        kind: "user", "system" or "unknown".
        cls: Class of Flyte's tree to derive from, `RuntimeUserError` by default.
        notes: Lines added below the traceback: which task, action and attempt failed.
        worker: Address of the worker it failed on.
        fallback: Type to derive from if ``original`` is None, as `nearest_builtin` of the original's type gives it.

    Returns:
        A picklable exception that is an instance of ``cls`` and, where possible, of the original's type, with the
        original's arguments and attributes.
    """
    from flyte_nb.core import errors

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
    error.code, error.kind, error.worker = code, kind, worker or getattr(error, "worker", None)
    if original is not None:
        # Through several levels the cause stays the exception that the origin raised; a copy needs no cause of its own.
        copied = type(original) is made or (original_of(type(original)) is not None and original.__cause__ is not None)
        error.__cause__ = original.__cause__ if copied else original
    for note in notes:
        error.add_note(note)
    return error


def _class_for(
    original: BaseException | None,
    code: str,
    cls: type[BaseRuntimeError],
    fallback: type[BaseException] | None,
) -> type[BaseRuntimeError]:
    from flyte_nb.core import errors

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
    error: BaseRuntimeError = exceptionparts.blank(made, args)
    attributes = dict(original.__dict__)
    notes = attributes.pop("__notes__", None) or ()
    exceptionparts.fill(error, original.args, dict(exceptionparts.members(original)), attributes)
    for note in notes:
        error.add_note(str(note))
    return error


def reduce_error(error: BaseRuntimeError) -> tuple[Any, ...]:
    """How an error of the tree, dual or not, is pickled: as its parts."""
    error_class = getattr(type(error), "_flyte_error_class", type(error))
    original_type = original_of(type(error))
    outside = dict(exceptionparts.members(error))
    cause = None
    if original_type is not None and error.__cause__ is not None:
        cause = exceptionparts.pack(error.__cause__)
    args: tuple[Any, ...] = error.args
    packed: list[tuple[bytes | None, str]] | None = None
    if isinstance(error, BaseExceptionGroup):
        # The exceptions of a group may have constructors of any shape: each travels as its parts, or as its text.
        args, outside = (error.message,), {}
        packed = [(exceptionparts.pack(each), f"{type(each).__name__}: {each}") for each in error.exceptions]
    return _rebuild, (error_class, original_type, args, outside, dict(error.__dict__), cause, packed)


def _rebuild(
    error_class: type[BaseRuntimeError],
    original_type: type[BaseException] | None,
    args: tuple[Any, ...],
    outside: dict[str, Any],
    attributes: dict[str, Any],
    cause: bytes | None,
    packed: list[tuple[bytes | None, str]] | None,
) -> BaseRuntimeError:
    made = error_class if original_type is None else dual(error_class, original_type)
    if packed is not None:
        args = (*args, [(each and exceptionparts.unpack(each)) or Exception(text) for each, text in packed])
    error: BaseRuntimeError = exceptionparts.blank(made, args)
    exceptionparts.fill(error, args, outside, attributes)
    if cause is not None:
        error.__cause__ = exceptionparts.unpack(cause)
    return error
