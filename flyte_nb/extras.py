"""``flyte.extras``: what Flyte keeps beside its core: batching works here, containers do not. Runs in: everywhere."""

from __future__ import annotations

from flyte_nb.core.batching import BatchStats, CostEstimator, DynamicBatcher, Prompt, TokenBatcher, TokenEstimator
from flyte_nb.core.outofscope import ContainerTask

__all__ = [
    "BatchStats",
    "ContainerTask",
    "CostEstimator",
    "DynamicBatcher",
    "Prompt",
    "TokenBatcher",
    "TokenEstimator",
]
