"""``flyte.app.extras``: apps of well-known kinds, which construct and are not served. Runs in: everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flyte_nb.app.environment import AppEnvironment


@dataclass(eq=False)
class FastAPIAppEnvironment(AppEnvironment):
    """A FastAPI app. It constructs, and nothing serves it.

    Args:
        app: The ``fastapi.FastAPI`` object.
    """

    app: Any = None
    type: str | None = "FastAPI"
    uvicorn_config: Any = None


__all__ = ["FastAPIAppEnvironment"]
