"""``flyte.config``: finds a Flyte configuration file; only project and domain matter here. Runs in: the user's process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

#: Where Flyte looks, in its order.
_PLACES = ("config.yaml", ".flyte/config.yaml", "~/.union/config.yaml", "~/.flyte/config.yaml")


@dataclass(frozen=True)
class Config:
    """A configuration file.

    Args:
        source: Its path; None for none.
    """

    source: Path | None = None


def auto(config_file: str | Path | Config | None = None) -> Config:
    """The configuration that Flyte would take.

    Args:
        config_file: A path, or a configuration; None looks at ``FLYTECTL_CONFIG`` and the usual places.
    """
    if isinstance(config_file, Config):
        return config_file
    if config_file is not None:
        return Config(Path(config_file))
    named = os.environ.get("FLYTECTL_CONFIG")
    candidates = [Path(named)] if named else [Path(place).expanduser() for place in _PLACES]
    return Config(next((file for file in candidates if file.is_file()), None))


__all__ = ["Config", "auto"]
