"""``flyte.types``: what programs import of Flyte's type system; here values are pickled, and types only checked. Runs in: everywhere."""

from __future__ import annotations

from flyte_nb.core.typenames import FlytePickle, Renderable, TypeEngine, TypeTransformer, TypeTransformerFailedError

__all__ = ["FlytePickle", "Renderable", "TypeEngine", "TypeTransformer", "TypeTransformerFailedError"]
