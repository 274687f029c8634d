"""``flyte.extras``: what Flyte keeps beside its core and mostly needs its own cluster. Runs in: everywhere."""

from __future__ import annotations

from flyte_nb.core.outofscope import ContainerTask

__all__ = ["ContainerTask"]
