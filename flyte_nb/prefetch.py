"""``flyte.prefetch``: models are not prefetched; what would do so refuses. Runs in: everywhere."""

from __future__ import annotations

from flyte_nb.unsupported import Refusal

hf_model: Refusal = Refusal("flyte.prefetch.hf_model", "models are not prefetched. Download them in a task.")

__all__ = ["hf_model"]
