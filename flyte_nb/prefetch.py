"""``flyte.prefetch``: imports, and says that models are not prefetched here. Runs in: everywhere."""

from __future__ import annotations

from flyte_nb.unsupported import prefetch_hf_model as hf_model

__all__ = ["hf_model"]
