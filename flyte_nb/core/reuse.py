"""Warm workers: `ReusePolicy`. Runs in: everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

#: Shortest time a replica stays, as in Flyte.
MIN_TTL = timedelta(seconds=30)


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
        if isinstance(self.replicas, int) and not isinstance(self.replicas, bool):
            self.replicas = (self.replicas, self.replicas)
        pair = self.replicas
        if not isinstance(pair, tuple) or len(pair) != 2 or not all(isinstance(n, int) for n in pair):
            raise ValueError(f"replicas must be a number or (least, most), not {self.replicas!r}.")
        if not 0 <= pair[0] <= pair[1] or pair[1] < 1:
            raise ValueError(f"replicas must be (least, most) with 0 <= least <= most and most >= 1, not {pair!r}.")
        if isinstance(self.concurrency, bool) or not isinstance(self.concurrency, int) or self.concurrency < 1:
            raise ValueError(f"concurrency must be a whole number of at least 1, not {self.concurrency!r}.")
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
        """Most actions at a time."""
        return self.max_replicas * self.concurrency

    def get_scaledown_ttl(self) -> timedelta | None:
        """How long one replica stays with nothing to do."""
        return self.scaledown_ttl if isinstance(self.scaledown_ttl, timedelta) else None


def _ttl(name: str, value: object) -> timedelta:
    if isinstance(value, timedelta):
        ttl = value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        ttl = timedelta(seconds=value)
    else:
        raise ValueError(f"{name} must be a number of seconds or a timedelta, not {value!r}.")
    if ttl < MIN_TTL:
        raise ValueError(f"{name} must be at least 30 seconds, but is {value!r}.")
    return ttl
