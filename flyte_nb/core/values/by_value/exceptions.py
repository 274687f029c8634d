"""Exceptions as values: arguments and results, whatever their constructor takes. Runs in: everywhere.

Python pickles an exception as "call the class with ``args``", which fails in the receiver for a class whose constructor takes
anything else, and forgets the cause. Here it is taken apart as for a failure record (`exception_parts`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flyte_nb.core.values.by_value import exception_parts


def is_ours(cls: type) -> bool:
    """Whether exceptions of a class are pickled here: no class in Python of its bases says itself how.

    Built-in ones too: libraries (tblib, with Dask) register reducers for those that lose what is in C.

    Args:
        cls: A class of exceptions.
    """
    return not any(
        name in vars(base)
        for base in cls.__mro__
        if base.__flags__ & exception_parts.HEAP_TYPE
        for name in ("__reduce__", "__reduce_ex__", "__setstate__", "__getstate__", "__getnewargs__")
    )


def reduce(error: BaseException, can_pickle: Callable[[object], bool] | None) -> tuple[Any, ...]:
    """How to pickle an exception.

    Args:
        error: The exception.
        can_pickle: Whether a cause can be pickled, which is left out else; None to take it on trust.
    """
    is_group = isinstance(error, BaseExceptionGroup)
    needed = (error.message, list(error.exceptions)) if isinstance(error, BaseExceptionGroup) else ()
    outside = {} if is_group else dict(exception_parts.members(error))
    cause = error.__cause__
    if cause is not None and can_pickle is not None and not can_pickle(cause):
        cause = None
    state = (error.args, outside, dict(error.__dict__), cause, error.__suppress_context__)
    return exception_parts.blank, (type(error), needed), state, None, None, fill


def fill(error: BaseException, state: Any) -> None:
    """Give an exception its parts; called by pickle."""
    args, outside, attributes, cause, suppress = state
    exception_parts.fill(error, args, outside, attributes)
    error.__cause__ = cause
    error.__suppress_context__ = suppress
