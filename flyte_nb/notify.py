"""``flyte.notify``: notification targets, accepted and never sent. Runs in: everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from flyte_nb.core.history.facts import Phase

#: Phases at which notifications are sent.
_PHASES = (Phase.ABORTED, Phase.FAILED, Phase.SUCCEEDED, Phase.TIMED_OUT)


@dataclass(frozen=True, kw_only=True)
class Notification:
    """Base of the notifications. No effect here: nothing is sent.

    Args:
        on_phase: The phase, or phases, at which it is sent.

    Raises:
        ValueError: There is none, or what a notification is sent to is empty.
    """

    on_phase: Phase | str | tuple[Phase | str, ...]

    #: Field that must not be empty; "" for none.
    _NEEDED: ClassVar[str] = ""

    def __post_init__(self) -> None:
        phases = self.on_phase if isinstance(self.on_phase, tuple | list) else (self.on_phase,)
        if not phases:
            raise ValueError("A notification needs at least one phase.")
        for phase in phases:
            if phase not in _PHASES:
                raise ValueError(f"A notification cannot be sent on phase {phase!r}. Phases are {', '.join(_PHASES)}.")
        object.__setattr__(self, "on_phase", tuple(phases))
        if self._NEEDED and not getattr(self, self._NEEDED):
            raise ValueError(f"{type(self).__name__}({self._NEEDED}=...) must not be empty.")


@dataclass(frozen=True, kw_only=True)
class Email(Notification):
    """Mail."""

    recipients: tuple[str, ...]
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    subject: str = "Run {{.Run.Name}} {{.Phase}}"
    body: str = ""
    html_body: str | None = None

    _NEEDED = "recipients"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("recipients", "cc", "bcc"):
            value: object = getattr(self, name)
            if isinstance(value, str):
                raise TypeError(
                    f"Email({name}=...) takes a list of addresses, not the text {value!r}: write [{value!r}]."
                )
            object.__setattr__(self, name, tuple(getattr(self, name)))


@dataclass(frozen=True, kw_only=True)
class Slack(Notification):
    """A message on Slack."""

    webhook_url: str
    message: str | None = None
    blocks: tuple[dict[str, Any], ...] | None = None

    _NEEDED = "webhook_url"


@dataclass(frozen=True, kw_only=True)
class Teams(Notification):
    """A message on Teams."""

    webhook_url: str
    title: str = "Run {{.Run.Name}} {{.Phase}}"
    message: str | None = None
    card: dict[str, Any] | None = None

    _NEEDED = "webhook_url"


@dataclass(frozen=True, kw_only=True)
class Webhook(Notification):
    """A call of an address."""

    url: str
    method: str = "POST"
    headers: dict[str, str] | None = None
    body: dict[str, Any] | None = None

    _NEEDED = "url"


@dataclass(frozen=True, kw_only=True)
class NamedDelivery(Notification):
    """A way of delivery that Flyte's server knows by name."""

    name: str


@dataclass(frozen=True)
class NamedRule:
    """A rule that Flyte's server knows by name."""

    name: str


def check_notifications(what: str, given: Any) -> None:
    """Refuse what is no notification.

    Raises:
        TypeError: It is none, or one of several is not.
    """
    for each in given if isinstance(given, tuple | list) else (given,):
        if not isinstance(each, Notification | NamedRule):
            raise TypeError(f"{what} takes notifications, flyte.notify.Slack(...) say, not {each!r}.")


__all__ = ["Email", "NamedDelivery", "NamedRule", "Notification", "Slack", "Teams", "Webhook"]
