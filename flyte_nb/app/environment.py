"""Descriptions of apps: they construct, and nothing serves them. Runs in: everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from flyte_nb.core.settings.validate import names_options
from flyte_nb.core.tasks.environment import Environment
from flyte_nb.errors import OutOfScopeError
from flyte_nb.unsupported import Refusal


@names_options
@dataclass(frozen=True)
class Port:
    """A port of an app."""

    port: int
    name: str | None = None


@names_options
@dataclass(frozen=True)
class Scaling:
    """How an app would scale."""

    @dataclass(frozen=True)
    class Concurrency:
        """By requests at a time."""

        val: int

    @dataclass(frozen=True)
    class RequestRate:
        """By requests a second."""

        val: int

    replicas: int | tuple[int, int] = (0, 1)
    metric: Any = None
    scaledown_after: int | timedelta | None = None


@names_options
@dataclass(frozen=True)
class Domain:
    """Where an app would be found."""

    subdomain: Any = None
    custom_domain: str | None = None


@dataclass(frozen=True)
class Subdomain:
    """First part of an app's address."""

    app_name: str | None = None
    project_domain_suffix: Literal["hash", "default"] = "hash"
    function: Any = None


@dataclass(frozen=True)
class AppLink:
    """A link shown beside an app."""

    path: str
    title: str
    is_relative: bool = False


@names_options
@dataclass(frozen=True)
class Timeouts:
    """Time limits of an app."""

    request: int | timedelta | None = None


@names_options
@dataclass
class Parameter:
    """A parameter of an app."""

    name: str
    value: Any = None
    type: str | None = None
    env_var: str | None = None
    download: bool = True
    mount: str | None = None
    ignore_patterns: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class RunOutput:
    """A parameter of an app that comes from a run."""

    type: str
    run_name: str | None = None
    task_name: str | None = None
    task_version: str | None = None
    task_auto_version: str | None = None
    getter: tuple[Any, ...] = (0,)


@dataclass(kw_only=True)
class ArtifactValue:
    """A parameter of an app that comes from an artifact."""

    name: str
    type: str | None = None
    version: str | None = None
    project: str | None = None
    domain: str | None = None


@dataclass(kw_only=True)
class AppEndpoint:
    """A parameter of an app that is another app's address."""

    app_name: str
    type: str = "string"
    public: bool = False


@names_options
@dataclass(eq=False)
class AppEnvironment(Environment):
    """A description of an app. It constructs, and nothing serves it."""

    type: str | None = None
    port: int | Port = 8080
    args: list[str] | str | None = None
    command: list[str] | str | None = None
    requires_auth: bool = True
    scaling: Scaling = field(default_factory=Scaling)
    domain: Domain | None = None
    links: list[AppLink] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)
    cluster_pool: str = "default"
    timeouts: Timeouts = field(default_factory=Timeouts)

    def server(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Note a function that would serve, start or stop the app; it is returned unchanged."""
        return function

    def on_startup(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """As `server`."""
        return function

    def on_shutdown(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """As `server`."""
        return function

    @property
    def endpoint(self) -> str:
        """Address of the app.

        Raises:
            OutOfScopeError: Always: it is not served.
        """
        raise OutOfScopeError(
            f"App {self.name!r} has no endpoint: apps are not served here. Start the server yourself."
        )


get_parameter: Refusal = Refusal("flyte.app.get_parameter", "apps are not served here, so they have no parameters.")
