"""Warm workers: `ReusePolicy`. Runs in: everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from flyte_nb.core.settings import validate

#: Shortest time a replica stays, as in Flyte.
MIN_TTL = timedelta(seconds=30)


@validate.names_options
@dataclass
class ReusePolicy:
    """Keep the processes of an environment's tasks warm: their module globals survive from action to action.

    Args:
        replicas: Number of processes, or (least, most). One number means exactly that many.
        idle_ttl: How long the environment stays with nothing to do, in seconds or as a timedelta; at least 30 s.
        concurrency: Actions in one process at a time; above 1 only for async tasks.
        scaledown_ttl: How long one replica stays with nothing to do; at least 30 s.
        scope: "global" (shared by runs) or "run".

    Raises:
        ValueError: A value is outside of its range.
    """

    replicas: int | tuple[int, int] = 2
    idle_ttl: int | timedelta = 30
    concurrency: int = 1
    scaledown_ttl: int | timedelta = 30
    scope: Literal["global", "run"] = "global"

    def __post_init__(self) -> None:
        given: object = self.replicas
        pair = given if isinstance(given, tuple) else (given, given)
        if len(pair) != 2:
            raise ValueError(f"replicas must be a number or (least, most), not {given!r}.")
        least, most = (validate.whole_number("replicas", number, 0) for number in pair)
        if least > most:
            raise ValueError(f"replicas must be (least, most) with least <= most, not {given!r}.")
        self.replicas = (least, most)
        validate.whole_number("concurrency", self.concurrency, 1)
        self.idle_ttl = _ttl("idle_ttl", self.idle_ttl)
        self.scaledown_ttl = _ttl("scaledown_ttl", self.scaledown_ttl)
        if self.scope not in ("global", "run"):
            raise ValueError(f"scope must be 'global' or 'run', not {self.scope!r}.")

    @property
    def min_replicas(self) -> int:
        """Fewest processes kept."""
        return self.replicas[0] if isinstance(self.replicas, tuple) else self.replicas

    @property
    def max_replicas(self) -> int:
        """Most processes used."""
        return self.replicas[1] if isinstance(self.replicas, tuple) else self.replicas

    @property
    def capacity(self) -> int:
        """Most actions at a time; at least 1, even of (0, 0) replicas."""
        return max(1, self.max_replicas) * self.concurrency

    def get_scaledown_ttl(self) -> timedelta | None:
        """How long one replica stays with nothing to do."""
        return self.scaledown_ttl if isinstance(self.scaledown_ttl, timedelta) else None


def _ttl(name: str, value: object) -> timedelta:
    ttl = validate.duration(name, value, "Use at least 30 seconds.")
    if ttl is None or ttl < MIN_TTL:
        raise ValueError(f"{name} must be at least 30 seconds, but is {value!r}.")
    return ttl
