"""Retries and time limits of an action: `RetryStrategy`, `Backoff`, `Timeout`. Runs in: everywhere."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias, Union

from flyte_nb.core.settings import validate

#: What ``retries=`` takes: a number of retries, or a strategy.
RetryRequest: TypeAlias = Union[int, "RetryStrategy"]
#: What ``timeout=`` takes: seconds or a timedelta per attempt, or a `Timeout`; 0 and None mean no limit.
TimeoutType: TypeAlias = Union[float, timedelta, "Timeout", None]


@validate.names_options
@dataclass(frozen=True)
class Backoff:
    """How long to wait before a retry: ``base * factor**n``, at most ``cap``.

    Args:
        base: Wait before the first retry; not negative.
        factor: By how much each further wait is longer; at least 1, finite.
        cap: Longest wait; required if ``factor`` is above 1.

    Raises:
        ValueError: A value is outside of its range.
    """

    base: timedelta
    factor: float = 1.0
    cap: timedelta | None = None

    def __post_init__(self) -> None:
        base: object = self.base
        if not isinstance(base, timedelta) or base < timedelta(0):
            raise ValueError(f"Backoff base must be a timedelta that is not negative, not {base!r}.")
        factor: object = self.factor
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not math.isfinite(factor) or factor < 1:
            raise ValueError(f"Backoff factor must be a finite number of at least 1, not {factor!r}.")
        cap: object = self.cap
        if cap is None and factor > 1:
            raise ValueError(f"Backoff cap is required with a factor above 1 (it is {factor}): give the longest wait.")
        if cap is not None and (not isinstance(cap, timedelta) or cap < timedelta(0)):
            raise ValueError(f"Backoff cap must be a timedelta that is not negative, not {cap!r}.")

    def compute_delay(self, n: int) -> timedelta:
        """The wait before a retry.

        Args:
            n: Number of the retry, from 0.

        Returns:
            ``base * factor**n``, at most ``cap``.
        """
        try:
            delay = self.base * (self.factor**n)
        except OverflowError:
            return self.cap if self.cap is not None else timedelta.max
        return delay if self.cap is None else min(delay, self.cap)


@validate.names_options
@dataclass(frozen=True)
class RetryStrategy:
    """How often an action is tried again after its first attempt failed.

    Args:
        count: Number of retries; not negative. An action has up to ``count + 1`` attempts.
        backoff: Wait between attempts; None to try again at once.

    Raises:
        ValueError: ``count`` is not a whole number, or is negative.
    """

    count: int
    backoff: Backoff | None = None

    def __post_init__(self) -> None:
        validate.whole_number("retries", self.count, 0, "Give a number, 0 for none, or a RetryStrategy.")

    @classmethod
    def of(cls, value: RetryRequest | None) -> RetryStrategy:
        """The strategy that a user's ``retries=`` means.

        Args:
            value: A number of retries, a strategy, or None for no retries.

        Raises:
            ValueError: It is something else, or negative.
        """
        if isinstance(value, RetryStrategy):
            return value
        if value is None or (type(value) is int and value == 0):
            return NO_RETRIES
        return cls(count=value)

    @property
    def max_attempts(self) -> int:
        """Attempts in all, at least 1."""
        return self.count + 1

    def delay_before(self, retry: int) -> float:
        """Seconds to wait before a retry.

        Args:
            retry: Number of the retry, from 0.
        """
        return 0.0 if self.backoff is None else self.backoff.compute_delay(retry).total_seconds()


NO_RETRIES = RetryStrategy(count=0)


@validate.names_options
@dataclass(frozen=True)
class Timeout:
    """How long an action may take. Each limit: seconds, a timedelta, or None (and 0) for no limit.

    Args:
        max_runtime: Per attempt, while it runs.
        max_queued_time: Per attempt, before it runs.
        deadline: For the action: from its first queueing, over all attempts and the waits between them.

    Raises:
        ValueError: A limit is of another type, or negative.
    """

    max_runtime: timedelta | float | None = None
    max_queued_time: timedelta | float | None = None
    deadline: timedelta | float | None = None

    def __post_init__(self) -> None:
        for name in ("max_runtime", "max_queued_time", "deadline"):
            validate.duration(name, getattr(self, name))

    @classmethod
    def of(cls, value: TimeoutType) -> Timeout:
        """The limits that a user's ``timeout=`` means: a bare number or timedelta is a ``max_runtime``.

        Args:
            value: Seconds, a timedelta, a `Timeout`, or None for no limit.

        Returns:
            The limits, each a timedelta, or None for no limit.

        Raises:
            ValueError: It is something else, or negative.
        """
        if isinstance(value, Timeout):
            names = ("max_runtime", "max_queued_time", "deadline")
            return cls(**{name: validate.duration(name, getattr(value, name)) or None for name in names})
        return cls(max_runtime=validate.duration("timeout", value) or None)

    def _limit(self, name: str) -> float | None:
        limit = validate.duration(name, getattr(self, name))
        return limit.total_seconds() if limit else None

    @functools.cached_property
    def runtime_s(self) -> float | None:
        """Seconds an attempt may run; None for no limit."""
        return self._limit("max_runtime")

    @functools.cached_property
    def queued_s(self) -> float | None:
        """Seconds an attempt may wait before it runs; None for no limit."""
        return self._limit("max_queued_time")

    @functools.cached_property
    def deadline_s(self) -> float | None:
        """Seconds the action may take in all; None for no limit."""
        return self._limit("deadline")

    def __bool__(self) -> bool:
        return bool(self.max_runtime or self.max_queued_time or self.deadline)


NO_TIMEOUT = Timeout()
