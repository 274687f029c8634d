"""Triggers and schedules: checked, without effect. Runs in: everywhere."""

from __future__ import annotations

import functools
import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias

from flyte_nb.core.settings.validate import MAX_DESCRIPTION, check_texts, names_options, whole_number
from flyte_nb.notify import NamedRule, Notification, check_notifications


class _Placeholder:
    """Stands in a trigger's inputs for what fires it: the time, or the artifact. Pickled by its name in this module."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name

    def __reduce__(self) -> str:
        return self._name


TriggerTime: Final[_Placeholder] = _Placeholder("TriggerTime")
TriggeredArtifact: Final[_Placeholder] = _Placeholder("TriggeredArtifact")
#: Fields of a crontab line, with their smallest and largest numbers.
_CRON_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
_WORDS = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_NAMES = {
    **{name: i for i, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))},
    **{
        name: i
        for i, name in enumerate(
            ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"], 1
        )
    },
}
_FIELD = re.compile(r"(\*|\?|L|\w+)(?:-(\w+))?(?:/(\d+))?(?:[LW#]\d*)?")


def _check_field(text: str, name: str, first: int, last: int, expression: str) -> None:
    for part in text.split(","):
        found = _FIELD.fullmatch(part.upper())
        numbers = [n for n in (found[1], found[2]) if n and n not in ("*", "?", "L")] if found else ["?"]
        values = [int(n) if n.isdigit() else _NAMES.get(n, -1) for n in numbers]
        if not found or not all(first <= value <= last for value in values) or found[3] == "0":
            raise ValueError(f"{part!r} is no {name} ({first} to {last}) in the cron expression {expression!r}.")


@functools.cache
def _timezones() -> frozenset[str]:
    return frozenset({"UTC", *zoneinfo.available_timezones()})


@names_options
@dataclass(frozen=True)
class Cron:
    """Fire at the times of a crontab line. No effect here: nothing runs on a schedule.

    Args:
        expression: Five fields, ``0 * * * *`` say, or a word such as "@daily".
        timezone: Name of the time zone.

    Raises:
        ValueError: ``expression`` is neither.
    """

    expression: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        expression: object = self.expression
        if not isinstance(expression, str):
            raise TypeError(f"A cron expression is a text, such as '0 9 * * *', not {expression!r}.")
        fields = expression.split()
        if expression.startswith("@"):
            if expression not in _WORDS:
                raise ValueError(f"{expression!r} is no word for a time. Those are {', '.join(sorted(_WORDS))}.")
        elif len(fields) != len(_CRON_FIELDS):
            raise ValueError(f"A cron expression has five fields, such as '0 9 * * *', not {expression!r}.")
        else:
            for text, (name, first, last) in zip(fields, _CRON_FIELDS, strict=True):
                _check_field(text, name, first, last, expression)
        if self.timezone not in _timezones():
            raise ValueError(f"There is no time zone {self.timezone!r}. One is 'Europe/London', or 'UTC'.")

    @property
    def timezone_expression(self) -> str:
        """The line, with its time zone before it."""
        return f"CRON_TZ={self.timezone} {self.expression}"

    def __str__(self) -> str:
        return f"Cron Trigger: {self.timezone_expression}"


@names_options
@dataclass(frozen=True)
class FixedRate:
    """Fire every so many minutes. No effect here: nothing runs on a schedule.

    Args:
        interval_minutes: Minutes between two firings, at least 1.
        start_time: When it begins; at once by default.

    Raises:
        ValueError: ``interval_minutes`` is not positive.
    """

    interval_minutes: int
    start_time: datetime | None = None

    def __post_init__(self) -> None:
        interval: object = self.interval_minutes
        if isinstance(interval, bool) or not isinstance(interval, int) or interval <= 0:
            raise ValueError(f"interval_minutes must be a whole number of at least 1, not {self.interval_minutes!r}.")

    def __str__(self) -> str:
        start = f" starting at {self.start_time}" if self.start_time else ""
        return f"FixedRate Trigger: every {self.interval_minutes} minutes{start}"


@names_options
@dataclass(frozen=True, init=False)
class OnArtifact:
    """Fire when an artifact appears. No effect here: there are no artifacts."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        object.__setattr__(self, "args", args)
        object.__setattr__(self, "kwargs", kwargs)


Automation: TypeAlias = Cron | FixedRate | OnArtifact


@names_options
@dataclass(frozen=True)
class Trigger:
    """When Flyte would start a task by itself. No effect here: nothing runs on a schedule.

    Args:
        name: Name of the trigger.
        automation: A `Cron`, a `FixedRate` or an `OnArtifact`.
        description: Text for people, cut at 255 characters.
        auto_activate: Whether it is on after a deploy.
        inputs: Arguments of the task; `TriggerTime` stands for the time.

    Raises:
        ValueError: ``name`` is empty; ``inputs`` name a time or an artifact that the automation does not give;
            ``max_action_concurrency`` is negative, or 1, with which a parent would wait for ever.
        TypeError: A setting is of a wrong type.
    """

    name: str
    automation: Automation | None = None
    description: str = ""
    auto_activate: bool = True
    inputs: dict[str, Any] | None = None
    env_vars: dict[str, str] | None = None
    interruptible: bool | None = None
    overwrite_cache: bool = False
    queue: str | None = None
    max_action_concurrency: int | None = None
    labels: Mapping[str, str] | None = None
    annotations: Mapping[str, str] | None = None
    notifications: NamedRule | Notification | tuple[Notification, ...] | None = None
    custom_context: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("A trigger needs a name.")
        automation: object = self.automation
        if automation is not None and not isinstance(automation, Cron | FixedRate | OnArtifact):
            raise TypeError(
                f"Trigger {self.name!r}: automation must be a Cron, FixedRate or OnArtifact, not {automation!r}."
            )
        for name in ("env_vars", "labels", "annotations", "custom_context"):
            check_texts(f"Trigger({name}=...)", getattr(self, name))
        if self.notifications is not None:
            check_notifications("Trigger(notifications=...)", self.notifications)
        limit = self.max_action_concurrency
        if limit is not None and (whole_number("max_action_concurrency", limit, 0) == 1):
            raise ValueError(
                "max_action_concurrency must be 0 or at least 2, not 1: a parent would wait for its children for ever."
            )
        given = list((self.inputs or {}).values())
        artifacts = sum(value is TriggeredArtifact for value in given)
        if artifacts > 1 or (artifacts and not isinstance(automation, OnArtifact)):
            raise ValueError(f"Trigger {self.name!r}: TriggeredArtifact is for one input of a trigger with OnArtifact.")
        if any(value is TriggerTime for value in given) and not isinstance(automation, Cron | FixedRate):
            raise ValueError(f"Trigger {self.name!r}: TriggerTime is for triggers with a Cron or FixedRate.")
        object.__setattr__(self, "description", self.description[:MAX_DESCRIPTION])

    @classmethod
    def _every(cls, name: str, expression: str, time_input: str | None, options: dict[str, Any]) -> Trigger:
        inputs = dict(options.pop("inputs", None) or {})
        if time_input is not None:
            inputs[time_input] = TriggerTime
        options.setdefault("description", f"A trigger that runs {name}")
        options.setdefault("name", name)
        return cls(automation=Cron(expression), inputs=inputs or None, **options)

    @classmethod
    def minutely(cls, trigger_time_input_key: str | None = None, **options: Any) -> Trigger:
        """Every minute."""
        return cls._every("minutely", "* * * * *", trigger_time_input_key, options)

    @classmethod
    def hourly(cls, trigger_time_input_key: str | None = None, **options: Any) -> Trigger:
        """Every hour."""
        return cls._every("hourly", "0 * * * *", trigger_time_input_key, options)

    @classmethod
    def daily(cls, trigger_time_input_key: str | None = None, **options: Any) -> Trigger:
        """Every day at midnight."""
        return cls._every("daily", "0 0 * * *", trigger_time_input_key, options)

    @classmethod
    def weekly(cls, trigger_time_input_key: str | None = None, **options: Any) -> Trigger:
        """Every Sunday at midnight."""
        return cls._every("weekly", "0 0 * * 0", trigger_time_input_key, options)

    @classmethod
    def monthly(cls, trigger_time_input_key: str | None = None, **options: Any) -> Trigger:
        """Every first of the month at midnight."""
        return cls._every("monthly", "0 0 1 * *", trigger_time_input_key, options)


@dataclass(frozen=True)
class ConditionWebhook:
    """Where Flyte would announce that a condition waits. No effect here: the view shows it.

    Args:
        url: The address.
        payload: What is sent.
    """

    url: str
    payload: dict[str, Any] | None = None
