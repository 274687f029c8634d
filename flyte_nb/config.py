"""``flyte.config``: finds a Flyte configuration file; only project and domain matter here. Runs in: the user's process."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from flyte_nb.core.runs.defaults import read_config

#: Where Flyte looks, in its order: here, in the repository's root, where these variables say, at home.
_HERE = ("config.yaml", ".flyte/config.yaml")
_VARIABLES = ("UCTL_CONFIG", "FLYTECTL_CONFIG")
_HOME = ("~/.union/config.yaml", "~/.flyte/config.yaml")


@dataclass(frozen=True)
class TaskConfig:
    """The part ``task:`` of a configuration file."""

    org: str | None = None
    project: str | None = None
    domain: str | None = None


@dataclass(frozen=True)
class Config:
    """A configuration file.

    Args:
        task: Its part ``task:``. Other parts are about servers and images, and are not read.
        source: Its path; None for none.
    """

    task: TaskConfig = field(default=TaskConfig())
    source: Path | None = None


def auto(config_file: str | Path | Config | None = None) -> Config:
    """The configuration that Flyte would take.

    Args:
        config_file: A path, or a configuration; None looks in the usual places.

    Raises:
        InitializationError: There is no such file (code "ConfigFileNotFoundError").
    """
    if isinstance(config_file, Config):
        return config_file
    file = Path(config_file) if config_file is not None else _usual_file()
    if file is None:
        return Config()
    # A variable such as FLYTE_TASK_PROJECT takes precedence over the file, as in Flyte.
    found = read_config(file)
    values = {
        key: os.environ.get(f"FLYTE_TASK_{key.upper()}") or found.get(key) for key in ("org", "project", "domain")
    }
    return Config(TaskConfig(**values), file)


def _usual_file() -> Path | None:
    named = [os.environ[name] for name in _VARIABLES if os.environ.get(name)]
    root = repository_root()
    below = [f"{root}/.flyte/config.yaml"] if root else []
    for place in (*_HERE, *below, *named, *_HOME):
        file = Path(place).expanduser()
        if file.is_file() or place in named:
            return file
    return None


def repository_root() -> Path | None:
    """Root of the git repository that the current folder is in; None if it is in none."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), None)


__all__ = ["Config", "auto"]
