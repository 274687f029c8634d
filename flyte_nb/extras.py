"""``flyte.extras``: what Flyte keeps beside its core; it imports here, and mostly needs Flyte's own cluster. Runs in: everywhere."""

from __future__ import annotations


from flyte_nb.core.outofscope import ContainerTask

__all__ = ["ContainerTask"]
