"""``flyte.app``: descriptions of apps, which construct and are not served. Runs in: everywhere."""

from __future__ import annotations

from flyte_nb.app.environment import (
    AppEndpoint,
    AppEnvironment,
    ArtifactValue,
    Domain,
    Parameter,
    Port,
    RunOutput,
    Scaling,
    Subdomain,
    Timeouts,
    get_parameter,
)
from flyte_nb.app.environment import AppLink as Link
from flyte_nb.core.steps.ctx import ctx

__all__ = [
    "AppEndpoint", "AppEnvironment", "ArtifactValue", "Domain", "Link", "Parameter", "Port", "RunOutput", "Scaling",
    "Subdomain", "Timeouts", "ctx", "get_parameter",
]  # fmt: skip
