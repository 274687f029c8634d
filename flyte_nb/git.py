"""``flyte.git``: finds a repository's Flyte configuration, for ``init_from_config``. Runs in: the user's process."""

from __future__ import annotations

from pathlib import Path

from flyte_nb.config import Config, auto, repository_root


def config_from_root(path: str | Path = ".flyte/config.yaml") -> Config | None:
    """The configuration file at a path below the root of the git repository that the current folder is in.

    Args:
        path: Relative to the root.

    Returns:
        The configuration; None if there is no repository, or no such file in it.
    """
    root = repository_root()
    return auto(root / path) if root is not None and (root / path).is_file() else None


__all__ = ["config_from_root"]
