"""Validate names and values of settings. Runs in: everywhere.

A number or a duration is refused with a `ValueError`, also for a wrong type: so it is in Flyte, and programs catch it.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, TypeVar, cast

from flyte_nb.core.values.describe import plain, repr_with_type

T = TypeVar("T")

#: How alike a name must be to one that there is to be a slip of the pen.
SLIP = 0.6
#: Options named in an error that has no better suggestion.
MAX_NAMED = 20

#: Longest name of a task, an environment, a group or a condition, in characters.
MAX_NAME = 255
#: Longest description of a task or trigger, in characters: Flyte's limit.
MAX_DESCRIPTION = 255


def name(what: str, value: object) -> str:
    """A name that is short enough to be shown in a row; control characters in it are left out.

    Args:
        what: What is named, for the message: "The short_name of a task".
        value: The name.

    Raises:
        TypeError: It is no text.
        ValueError: It is longer than `MAX_NAME`.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a text, not {repr_with_type(value)}.")
    if len(value) > MAX_NAME:
        raise ValueError(
            f"{what} has {len(value):,} characters, {value[:40]!r}...: it is shown in every row, and may have "
            f"{MAX_NAME}. Give it a short name, and the rest as an argument."
        )
    return plain(value)


def whole_number(name: str, value: object, least: int, remedy: str = "") -> int:
    """A whole number that is not too small.

    Args:
        name: Of the setting, for the message.
        value: What was given.
        least: Smallest allowed.
        remedy: Sentence added to the message.

    Raises:
        ValueError: It is no whole number, or smaller.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}. {remedy}".rstrip())
    return value


def duration(name: str, value: object, remedy: str = "Use None for no limit.") -> timedelta | None:
    """A length of time that is not negative.

    Args:
        name: Of the setting, for the message.
        value: Seconds, a timedelta, or None.
        remedy: Sentence added to the message.

    Raises:
        ValueError: It is none of these, or negative.
    """
    if value is None or isinstance(value, timedelta):
        found = value
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        found = timedelta(seconds=value)
    else:
        raise ValueError(f"{name} must be a number of seconds or a timedelta, not {value!r}.")
    if found is not None and found < timedelta(0):
        raise ValueError(f"{name} must not be negative, but is {value!r}. {remedy}")
    return found


def check_options(call: str, given: Iterable[str], known: Iterable[str], also: Iterable[str] = ()) -> None:
    """Refuse an option that there is not.

    Args:
        call: What is called, for the message: ``init``.
        given: Names that were given.
        known: Names of the options.
        also: Further names that are taken, and not suggested first.

    Raises:
        TypeError: There is no such option; the message has the nearest one.
    """
    known, also = list(known), list(also)
    for name in given:
        if name in known or name in also:
            continue
        raise TypeError(f"{call}() has no option {name}. {suggestion(name, known, also)}")


def suggestion(name: str, known: Iterable[str], also: Iterable[str] = ()) -> str:
    """What was meant by a name that there is not, as a sentence; the names that there are, if none is like it.

    Args:
        name: The name that was given.
        known: Names that there are.
        also: Further ones, which are not listed.
    """
    known = sorted(known)
    close = nearest(name, [*known, *also])
    more = ", ..." * (len(known) > MAX_NAMED)
    return f"Did you mean {close}?" if close else f"It takes: {', '.join(known[:MAX_NAMED])}{more}."


def nearest(name: str, names: Iterable[str]) -> str:
    """The name that was probably meant; "" if none is like it."""
    import difflib  # not at the top: this module is imported with the package

    return next(iter(difflib.get_close_matches(name, list(names), 1, SLIP)), "")


def check_texts(what: str, given: Any) -> None:
    """Refuse what is no dict of texts; None is none given.

    Raises:
        TypeError: It is not.
    """
    if given is None:
        return
    if not isinstance(given, Mapping):
        raise TypeError(f"{what} takes a dict of texts, not {repr_with_type(given)}.")
    for key, value in given.items():
        if not isinstance(key, str) or not isinstance(value, str):
            wrong = key if not isinstance(key, str) else value
            raise TypeError(f"{what} takes a dict of texts: {key!r}: {value!r} has {repr_with_type(wrong)}.")


def names_options(called: T) -> T:
    """Have a class or function name the option that was probably meant, where it is given one that there is not."""
    target: Any = called.__init__ if isinstance(called, type) else called  # type: ignore[misc]

    @functools.wraps(target)
    def call(*args: Any, **given: Any) -> Any:
        try:
            return target(*args, **given)
        except TypeError as exc:
            if exc.__traceback__ is None or exc.__traceback__.tb_next is not None:  # raised within
                raise
            known = [name for name in inspect.signature(target).parameters if name != "self"]
            unknown = [name for name in given if name not in known]
            if not unknown:
                raise
            raise TypeError(f"{exc}. {suggestion(unknown[0], known)}") from None

    if not isinstance(called, type):
        return cast("T", call)
    called.__init__ = call  # type: ignore[misc]
    return called
