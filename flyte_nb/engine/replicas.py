"""Which processes serve a warm environment: its replicas. Runs in: engine thread; worker loop.

A replica is a worker process. All owners choose the same ones, without asking each other: those whose address hashes highest
together with the environment's name. The tasks of an environment so find what earlier ones left in their module's globals.
"""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar

W = TypeVar("W")


def replicas_of(environment: str, most: int, workers: dict[str, W]) -> dict[str, W]:
    """The workers that are an environment's replicas.

    Args:
        environment: Its name.
        most: Most replicas; at least one is given.
        workers: By address.
    """
    ranked = sorted(workers, key=lambda address: hashlib.blake2b(f"{environment}\0{address}".encode()).digest())
    return {address: workers[address] for address in ranked[: max(most, 1)]}


def linger_of(policy: Any) -> float:
    """Seconds that a lane of a warm environment stays open with nothing to do."""
    return float(policy.idle_ttl.total_seconds())
