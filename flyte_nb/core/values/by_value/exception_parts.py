"""Take exceptions apart and put them together again without calling their constructors. Runs in: everywhere.

Python pickles an exception as "call the class with ``args``", which fails for every class whose constructor takes
something else than it hands to ``super().__init__``. Here an exception is its class, its ``args``, its attributes (in
``__dict__``, in ``__slots__`` and in C) and its cause.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

#: Set by the raising, or by us: never copied as a plain attribute.
_NOT_COPIED = frozenset({"args", "__traceback__", "__context__", "__cause__", "__suppress_context__", "__dict__"})

#: CPython's Py_TPFLAGS_HEAPTYPE: a class made by a ``class`` statement.
HEAP_TYPE = 1 << 9


def blank(made: type[Any], args: tuple[Any, ...]) -> Any:
    """An instance of an exception class, without running a constructor of the user's; `fill` sets its parts.

    `args` are those of the original, which an exception group needs to exist at all.
    """
    # ``__base__`` is the base that decides the memory layout; CPython insists on the ``__new__`` of the nearest in C.
    native: Any = made
    while native.__flags__ & HEAP_TYPE:
        native = native.__base__  # Only ``object`` has none, and it is not a heap type.
    if issubclass(native, BaseExceptionGroup):
        return native.__new__(made, *args[:2])
    return native.__new__(made)


def members(error: BaseException) -> Iterator[tuple[str, Any]]:
    """Attributes that live outside ``__dict__``: in C (``errno`` of OSError), or in ``__slots__``."""
    for base in type(error).__mro__:
        if base in (BaseException, object):
            break
        for name, value in vars(base).items():
            if name in _NOT_COPIED or not isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
                continue
            try:
                yield name, value.__get__(error)
            except (AttributeError, ValueError):
                continue  # an unset slot


def fill(error: BaseException, args: tuple[Any, ...], outside: dict[str, Any], attributes: dict[str, Any]) -> None:
    """Give a `blank` exception its parts: ``args``, the `members` outside of its ``__dict__``, and the attributes in it."""
    error.args = args
    for name, value in outside.items():
        if value is None and getattr(error, name, None) is None:
            continue  # in C, "unset" and "set to None" differ: OSError would print a second file name
        try:
            setattr(error, name, value)
        except (AttributeError, TypeError):
            continue  # read-only, such as ``exceptions`` of a group: set when the instance was made
    error.__dict__.update(attributes)


def put_together(
    made: type[BaseException], args: tuple[Any, ...], outside: dict[str, Any], attributes: dict[str, Any],
    cause: BaseException | None,
) -> BaseException:  # fmt: skip
    """Make an exception from its parts; called by pickle."""
    error: BaseException = blank(made, args)
    fill(error, args, outside, attributes)
    if cause is not None:
        error.__cause__ = cause
    return error
