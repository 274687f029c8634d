"""Configuration of a task: `TaskConfig`, resolved from environment, decorator and override. Runs in: everywhere."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from flyte_nb.core.settings.cache import Cache
from flyte_nb.core.settings.image import Image, PodTemplate
from flyte_nb.core.settings.resources import Resources
from flyte_nb.core.settings.retry import NO_RETRIES, NO_TIMEOUT, RetryStrategy, Timeout
from flyte_nb.core.settings.reuse import ReusePolicy
from flyte_nb.core.settings.secret import SecretRequest
from flyte_nb.core.settings.validate import name as valid_name
from flyte_nb.core.settings.validate import names_options, suggestion

if TYPE_CHECKING:  # triggers have no effect: programs that name none do not load them
    from flyte_nb.core.settings.triggers import Trigger

#: Largest inputs, and outputs, that travel by value, in bytes: Flyte's default.
MAX_INLINE_IO_BYTES = 10 * 1024 * 1024


class Unset(enum.Enum):
    """Type of `UNSET`, for annotations."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


#: "Not given": so that 0, False and "" can be given.
UNSET: Final = Unset.UNSET

#: What an override of a warm task may change only together with ``reusable="off"``: it is fixed when a replica starts.
FIXED_IN_A_REPLICA = ("resources", "env_vars", "secrets", "service_account")

#: What an override may not change at all.
NEVER_OVERRIDDEN = ("name", "image", "docs", "interface")

#: Keywords of `TaskConfig.overridden`.
OVERRIDABLE = (
    "short_name", "resources", "cache", "retries", "timeout", "reusable", "env_vars", "secrets", "service_account",
    "max_inline_io_bytes", "pod_template", "queue", "interruptible", "entrypoint", "produces_artifacts", "links",
    "plugin_config", "buffer", "label",
)  # fmt: skip


@names_options
@dataclasses.dataclass
class Documentation:
    """Text about a task.

    Args:
        description: The text.
    """

    description: str


@runtime_checkable
class Link(Protocol):
    """A link shown beside an action: anything with a ``name`` and a ``get_link``."""

    name: str

    def get_link(
        self, run_name: str, project: str, domain: str, context: dict[str, str], parent_action_name: str, action_name: str,
        pod_name: str, **kwargs: Any,
    ) -> str:  # fmt: skip
        """The address, for one action."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Everything about a task but its function. The override's value decides, then the decorator's, then the environment's."""

    #: Name in views, the function's by default.
    short_name: str = ""
    #: Whether results are kept.
    cache: Cache = dataclasses.field(default_factory=lambda: Cache("disable"))
    #: How often a failed attempt is followed by another.
    retries: RetryStrategy = NO_RETRIES
    #: How long it may take.
    timeout: Timeout = NO_TIMEOUT
    #: Text for people.
    docs: Documentation | str | None = None
    #: No effect here.
    pod_template: str | PodTemplate | None = None
    #: Whether the task makes a report.
    report: bool = False
    #: No effect here.
    interruptible: bool = False
    #: Largest inputs, and outputs, in bytes.
    max_inline_io_bytes: int = MAX_INLINE_IO_BYTES
    #: No effect here.
    queue: str | None = None
    #: No effect here.
    service_account: str | None = None
    #: No effect here: nothing runs on a schedule.
    triggers: tuple[Trigger, ...] = ()
    #: Shown beside the action.
    links: tuple[Link, ...] = ()
    #: No effect here: tasks travel by value.
    task_resolver: Any = None
    #: Whether people are to start it. No effect here.
    entrypoint: bool = False
    #: No effect here.
    produces_artifacts: bool = False
    #: What an attempt needs.
    resources: Resources | None = None
    #: Whether, and how, processes are kept warm.
    reusable: ReusePolicy | None = None
    #: Set in ``os.environ`` while an attempt runs.
    env_vars: Mapping[str, str] | None = None
    #: No effect here: secrets are the process's own environment variables.
    secrets: SecretRequest | None = None
    #: No effect here.
    plugin_config: Any = None
    #: No effect here: the workers' own packages are used.
    image: str | Image | None = "auto"
    #: Items that a task which yields may be ahead of its consumer; 0 = a default.
    buffer: int = 0
    #: What views call its calls, with names of inputs in braces (`label.label_of_call`); "": its name and arguments.
    label: str = ""
    #: Whether `notices.announce` has logged what is due.
    announced: bool = dataclasses.field(default=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.short_name:
            object.__setattr__(self, "short_name", valid_name("The short_name of a task", self.short_name))

    def overridden(self, **given: Any) -> TaskConfig:
        """A configuration with some values replaced.

        Args:
            given: Keywords of ``task.override(...)``. `UNSET` and None mean "keep"; 0, False, "" and empty collections
                replace. ``reusable="off"`` makes the task a plain one.

        Raises:
            ValueError: It may not be overridden (`NEVER_OVERRIDDEN`), not for a warm task (`FIXED_IN_A_REPLICA`), or is
                out of range.
            TypeError: There is no such setting.
        """
        for name in given:
            if name in NEVER_OVERRIDDEN:
                raise ValueError(f"{name.capitalize()} cannot be overridden. Define another task instead.")
            if name not in OVERRIDABLE:
                raise TypeError(
                    f"override() got an unexpected keyword argument {name!r}. {suggestion(name, OVERRIDABLE)}"
                )
        changes = {name: value for name, value in given.items() if value is not UNSET and value is not None}
        if self.reusable is not None and changes.get("reusable") != "off":
            fixed = [name for name in FIXED_IN_A_REPLICA if name in changes]
            if fixed:
                raise ValueError(
                    f"Cannot override {' and '.join(fixed)} of a reusable task: its processes have started with "
                    'other values. Give reusable="off" in the same call.'
                )
        converted = {name: _converted(name, value) for name, value in changes.items()}
        return dataclasses.replace(self, announced=False, **converted)

    def __getstate__(self) -> dict[str, Any]:
        # What never has an effect does not travel: it may hold anything, such as a pod specification of another package.
        return {**self.__dict__, "triggers": (), "pod_template": None, "task_resolver": None, "plugin_config": None}


def _converted(name: str, value: Any) -> Any:
    match name:
        case "cache":
            return Cache.of(value)
        case "retries":
            return RetryStrategy.of(value)
        case "timeout":
            return Timeout.of(value)
        case "links":
            return as_tuple(value)
        case "max_inline_io_bytes":
            return checked_bytes(value)
        case "buffer":
            return checked_buffer(value)
        case "resources":
            return _instance("resources", value, Resources)
        case "reusable":
            return None if value == "off" else _instance("reusable", value, ReusePolicy)
        case _:
            return value


def _instance(name: str, value: Any, expected: type) -> Any:
    if not isinstance(value, expected):
        raise TypeError(f"{name} must be a {expected.__name__}, not {value!r}.")
    return value


def checked_bytes(value: Any) -> int:
    """A user's ``max_inline_io_bytes``.

    Raises:
        TypeError: It is no whole number.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"max_inline_io_bytes must be a whole number of bytes, not {value!r}.")
    return value


def checked_buffer(value: Any) -> int:
    """A user's ``buffer``: 0 where none was given.

    Raises:
        ValueError: It is no whole number from 1 on.
    """
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"buffer is the number of items that a task may be ahead of its consumer, from 1 on, not {value!r}."
        )
    return value


def as_tuple(value: Any) -> tuple[Any, ...]:
    """One value, or several in a list or tuple, as a tuple; empty for None."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, tuple | list) else (value,)
