"""Validate values of settings. Runs in: everywhere.

Every refusal is a `ValueError`, also that of a wrong type: so it is in Flyte, and programs catch it.
"""

from __future__ import annotations

import math
from datetime import timedelta

#: Longest description of a task or trigger, in characters: Flyte's limit.
MAX_DESCRIPTION = 255


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
