"""What ``flyte_nb.init`` may say about the embedded cluster. Runs in: the user's process."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

#: Options of `init` that say what the cluster is like.
NAMES = ("n_workers", "threads_per_worker", "memory_limit", "dashboard", "security")
#: How alike a name must be to one of ours to be a slip of the pen; Flyte's own keywords are less so.
SLIP = 0.8

_MEMORY = re.compile(r"\s*(auto|[0-9.]+\s*[kmgtp]?i?b?)\s*", re.IGNORECASE)


def check(options: Mapping[str, Any]) -> None:
    """Refuse at once what would otherwise fail in the first task, or be overlooked.

    Raises:
        ValueError: A number of workers or threads that is none, or a memory limit that is no size.
        TypeError: A name that is nearly one of ours.
    """
    for name in ("n_workers", "threads_per_worker"):
        value = options.get(name)
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name}={value!r}: give a whole number, at least 1.")
    limit = options.get("memory_limit")
    if isinstance(limit, str) and not _MEMORY.fullmatch(limit):
        raise ValueError(f'memory_limit={limit!r}: give a size, such as "2 GiB", a number of bytes, "auto" or None.')
    for name in options:
        meant = _slip(name, NAMES)
        if meant:
            raise TypeError(f"init() has no option {name}. Did you mean {meant}?")


def _slip(name: str, names: Iterable[str]) -> str:
    if name in names:
        return ""
    import difflib  # not at the top: this module is imported with the package

    return next(iter(difflib.get_close_matches(name, names, 1, SLIP)), "")
