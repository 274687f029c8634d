"""Cache settings of a task: `Cache` and the policies that compute its version. Runs in: everywhere.

The results are in `flyte_nb.core.cache`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, Union, runtime_checkable

from flyte_nb.core.settings import validate
from flyte_nb.core.values import code_hash

P = ParamSpec("P")
FuncOut = TypeVar("FuncOut")

CacheBehavior = Literal["auto", "override", "disable"]
#: What ``cache=`` takes.
CacheRequest: TypeAlias = Union[CacheBehavior, "Cache", str]

#: Spellings that Flyte takes, in lower case.
ALIASES: dict[str, CacheBehavior] = {
    "auto": "auto", "enable": "auto", "enabled": "auto", "on": "auto", "true": "auto", "yes": "auto",
    "override": "override",
    "disable": "disable", "disabled": "disable", "off": "disable", "false": "disable", "no": "disable", "none": "disable",
}  # fmt: skip


@dataclass
class VersionParameters(Generic[P, FuncOut]):
    """What a `CachePolicy` may look at.

    Args:
        func: The task's function; None if the task has none.
        image: The task's image, as given.
        code_bundle: Always None here: code is not bundled.
        code_version: `flyte_nb.core.values.code_hash.code_version` of the function, if it was computed already (where its
            source is at hand).
    """

    func: Callable[P, FuncOut] | None
    image: Any = None
    code_bundle: Any = None
    code_version: str = ""


@runtime_checkable
class CachePolicy(Protocol):
    """Anything with ``get_version(salt, params) -> str``: one part of a cache version."""

    def get_version(self, salt: str, params: VersionParameters[..., Any]) -> str:
        """The version, as any string: a result kept under another one is not used."""
        ...


class FunctionBodyPolicy:
    """The default policy: a new version when the function changes, or a helper of the user's or plain value that it uses.

    Comments and layout do not count; decorators, docstrings and annotations do (`flyte_nb.core.values.code_hash.code_version`).
    """

    def get_version(self, salt: str, params: VersionParameters[..., Any]) -> str:
        """Hash of the function's source, of its helpers' and of the plain values they read.

        Args:
            salt: Mixed in.
            params: Only the function is looked at.

        Raises:
            ValueError: There is no function.
        """
        if params.func is None:
            raise ValueError(
                "FunctionBodyPolicy needs a function, but the task has none. Use version_override instead."
            )
        version = params.code_version or code_hash.code_version(params.func)
        return hashlib.sha256(f"{salt}:{version}".encode()).hexdigest()


@validate.names_options
@dataclass(frozen=True)
class Cache:
    """How a task's results are kept.

    Args:
        behavior: "auto" (look up, keep; the version follows the code), "override" (the same, under ``version_override``)
            or "disable". Aliases: enable, enabled, on, true, yes; disabled, off, false, no, none.
        version_override: The version to use instead of one computed from the code.
        serialize: Whether identical calls at the same time execute once, the others waiting for the result.
        ignored_inputs: Names of inputs that do not count when two calls are compared.
        salt: Mixed into the version.
        policies: One or more `CachePolicy`; `FunctionBodyPolicy` by default.
        max_age: How old a kept result may be, in seconds or as a timedelta; None for any age.

    Raises:
        ValueError: ``behavior`` is none of the above, or ``max_age`` is negative.
    """

    behavior: CacheBehavior
    version_override: str | None = None
    serialize: bool = False
    ignored_inputs: tuple[str, ...] | str = field(default_factory=tuple)
    salt: str = ""
    policies: list[CachePolicy] | CachePolicy | None = None
    max_age: timedelta | float | None = None

    def __post_init__(self) -> None:
        given: object = self.behavior
        behavior = ALIASES.get(given.lower()) if isinstance(given, str) else None
        if behavior is None:
            raise ValueError(
                f"Invalid cache behavior {self.behavior!r}. Use 'auto', 'override' or 'disable' "
                f"(also taken: {', '.join(sorted(set(ALIASES) - {'auto', 'override', 'disable'}))})."
            )
        ignored = self.ignored_inputs
        names = (ignored,) if isinstance(ignored, str) else tuple(ignored or ())
        policies = self.policies
        chosen = [] if policies is None else list(policies) if isinstance(policies, Iterable) else [policies]
        wrong = [policy for policy in chosen if not callable(getattr(policy, "get_version", None))]
        if wrong:
            raise ValueError(f"A cache policy must have get_version(salt, params), but {wrong[0]!r} has not.")
        validate.duration("max_age", self.max_age)
        object.__setattr__(self, "behavior", behavior)
        object.__setattr__(self, "ignored_inputs", names)
        object.__setattr__(self, "policies", chosen or [FunctionBodyPolicy()])

    @classmethod
    def of(cls, value: CacheRequest | None) -> Cache:
        """The cache that a user's ``cache=`` means; None means "disable".

        Args:
            value: A `Cache`, or one of the words for its behavior.

        Raises:
            ValueError: It is no such word.
            TypeError: It is neither.
        """
        if isinstance(value, Cache):
            return value
        if value is None:
            return DISABLED
        given: object = value  # also True and False, which people write
        if isinstance(given, bool):
            return cls("auto" if given else "disable")
        if not isinstance(given, str):
            raise TypeError(f"cache must be a Cache or one of 'auto', 'override', 'disable', not {given!r}.")
        return cls(behavior=given)  # type: ignore[arg-type]  # aliases and unknown words are __post_init__'s

    def is_enabled(self) -> bool:
        """Whether results are looked up and kept at all."""
        return self.behavior != "disable"

    def follows_code(self) -> bool:
        """Whether the version is computed from the code, and by nothing of the user's."""
        return self.version_override is None and all(type(each) is FunctionBodyPolicy for each in self.policies)  # type: ignore[union-attr]

    def get_ignored_inputs(self) -> tuple[str, ...]:
        """Names of the inputs that do not count."""
        return tuple(self.ignored_inputs)

    @property
    def max_age_s(self) -> float | None:
        """Seconds a kept result may be old; None for any age."""
        limit = validate.duration("max_age", self.max_age)
        return None if limit is None else limit.total_seconds()

    def get_version(self, params: VersionParameters[..., Any] | None = None) -> str:
        """The version under which results are kept.

        Args:
            params: What the policies look at; not needed with a ``version_override``.

        Returns:
            ``version_override`` if there is one, else a hash over the versions of the policies; "" where the cache is off.

        Raises:
            ValueError: It must be computed and ``params`` is None.
        """
        if not self.is_enabled():
            return ""
        if self.version_override is not None:
            return self.version_override
        if params is None:
            raise ValueError("A cache version is computed from the task's function: give VersionParameters(func=...).")
        policies: Any = self.policies
        parts = [policy.get_version(self.salt, params) for policy in policies]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


DISABLED = Cache(behavior="disable")
