"""Exception classes with two parents: Flyte's error and the task's own type, picklable by their parts. Runs in: everywhere."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, TypeVar

from flyte_nb.core.values.by_value import exception_parts

E = TypeVar("E", bound=BaseException)

#: Types that must never be a base of what a parent gets: they would end a loop, a generator or a process, instead of
#: being an error that the parent may handle.
NEVER_A_BASE = (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopIteration, StopAsyncIteration)
#: Classes kept for re-use. A notebook that redefines its exceptions would otherwise keep every generation alive.
MAX_DUAL_CLASSES = 256


#: Attributes of Flyte's errors that exceptions of a program have, too: their instances keep them under another name.
FLYTES = ("code", "kind", "worker")


class _Shared:
    """Such an attribute: the program's own where its exception has one (``error.code == 404``), else Flyte's."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: BaseException | None, owner: type) -> Any:
        if instance is None:
            return self
        if self.name in instance.__dict__:
            return instance.__dict__[self.name]
        for base in (original_of(owner) or BaseException).__mro__:
            found = vars(base).get(self.name)
            if found is not None:
                return found.__get__(instance, owner) if hasattr(type(found), "__get__") else found
        return instance.__dict__.get(f"_flyte_{self.name}")

    def __set__(self, instance: BaseException, value: object) -> None:
        instance.__dict__[self.name] = value


def set_flytes(error: BaseException, *values: object) -> None:
    """Give an error its code, kind and worker; those of an exception of the program's stay as they are."""
    prefix = "_flyte_" if original_of(type(error)) is not None else ""
    error.__dict__.update({f"{prefix}{name}": value for name, value in zip(FLYTES, values, strict=True)})


def flytes(error: BaseException, name: str) -> Any:
    """Flyte's code, kind or worker of an error; None if it has none."""
    held = error.__dict__
    return held.get(f"_flyte_{name}") if original_of(type(error)) is not None else getattr(error, name, None)


def _dual_str(self: BaseException) -> str:
    message = self.__dict__.get("_flyte_message")
    return message if isinstance(message, str) else BaseException.__str__(self)


def dual(error_class: type[E], original_type: type[BaseException]) -> type[E]:
    """Make (or find) the class that derives from an error of Flyte and from the type of the original exception.

    Args:
        error_class: A class of `flyte_nb.errors`, `RuntimeUserError` say.
        original_type: Type of the exception that the task raised, `ValueError` say.

    Returns:
        A class deriving from both; ``error_class`` itself where that is impossible (the two have conflicting layouts) or
        would be harmful (`SystemExit`, `StopIteration` and the like).
    """
    original_type = original_of(original_type) or original_type
    if issubclass(error_class, original_type) or issubclass(original_type, NEVER_A_BASE):
        return error_class
    return _make_dual(error_class, original_type)  # type: ignore[arg-type,return-value]  # mypy #11470: a class is hashable; it derives from both


@functools.lru_cache(maxsize=MAX_DUAL_CLASSES)
def _make_dual(error_class: type[BaseException], original_type: type[BaseException]) -> type[BaseException]:
    namespace: dict[str, Any] = {
        "__doc__": f"{original_type.__name__} of a task, as the task that awaits it sees it.",
        "__module__": error_class.__module__,
        # Programs print ``type(e).__name__``, which is the tree's class in Flyte; tracebacks show the qualified name.
        "__qualname__": f"{error_class.__name__}[{original_type.__name__}]",
        "__str__": _dual_str,
        **{name: _Shared(name) for name in FLYTES},
        "_flyte_error_class": error_class,
        "_flyte_original_type": original_type,
    }
    is_group = issubclass(original_type, BaseExceptionGroup)
    try:
        metaclass: Any = type(original_type)
        made: type[BaseException] = metaclass(error_class.__name__, (error_class, original_type), namespace)
        exception_parts.blank(made, ("", [Exception()]) if is_group else ())
    except Exception:
        return error_class
    return made


def original_of(error_type: type[BaseException]) -> type[BaseException] | None:
    """The task's own exception type inside a dual class; None if the class is not one."""
    return getattr(error_type, "_flyte_original_type", None)


def reduce_error(error: BaseException) -> tuple[Any, ...]:
    """How an error of the tree, dual or not, is pickled: as its parts."""
    cause = None
    if original_of(type(error)) is not None and error.__cause__ is not None:
        cause = _pack(error.__cause__)
    return reduce_to(error, dict(error.__dict__), cause)


def reduce_to(error: BaseException, attributes: dict[str, Any], cause: bytes | None) -> tuple[Any, ...]:
    """As `reduce_error`, with chosen attributes and a cause that is packed already, or left out."""
    error_class = getattr(type(error), "_flyte_error_class", type(error))
    args: tuple[Any, ...] = error.args
    outside = dict(exception_parts.members(error))
    packed: list[tuple[bytes | None, str]] | None = None
    if isinstance(error, BaseExceptionGroup):
        # The exceptions of a group may have constructors of any shape: each travels as its parts, or as its text.
        args, outside = (error.message,), {}
        packed = [(_pack(each), f"{type(each).__name__}: {each}") for each in error.exceptions]
    return rebuild_error, (error_class, original_of(type(error)), args, outside, attributes, cause, packed)


def rebuild_error(
    error_class: type[BaseException], original_type: type[BaseException] | None, args: tuple[Any, ...],
    outside: dict[str, Any], attributes: dict[str, Any], cause: bytes | None, packed: list[tuple[bytes | None, str]] | None,
) -> BaseException:  # fmt: skip
    """Make an error of the tree from what `reduce_error` took it apart into; called by pickle."""
    made = error_class if original_type is None else dual(error_class, original_type)
    if packed is not None:
        args = (*args, [(each and _unpack(each)) or Exception(text) for each, text in packed])
    error: BaseException = exception_parts.blank(made, args)
    exception_parts.fill(error, args, outside, attributes)
    if cause is not None:
        error.__cause__ = _unpack(cause)
    return error


# The module is needed on the way of failures only, and takes 10 ms to import.


def _pack(error: BaseException) -> bytes | None:
    from flyte_nb.core.values.by_value import exception_pickle

    return exception_pickle.pack(error)


def _unpack(packed: bytes) -> BaseException | None:
    from flyte_nb.core.values.by_value import exception_pickle

    return exception_pickle.unpack(packed)
