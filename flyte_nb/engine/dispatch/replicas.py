"""Replicas: the worker processes that serve a warm environment. Runs in: engine thread; worker loop.

All owners choose the same ones, without asking each other: those whose address hashes lowest together with the environment's
name (rendezvous hashing). So the tasks of an environment find the state that earlier ones left in their module's globals.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

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
