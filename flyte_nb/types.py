"""``flyte.types``: names of Flyte's type system; here values are pickled, and types checked only. Runs in: everywhere."""

from __future__ import annotations

from flyte_nb.core.typenames import FlytePickle, Renderable, TypeEngine, TypeTransformer, TypeTransformerFailedError

__all__ = ["FlytePickle", "Renderable", "TypeEngine", "TypeTransformer", "TypeTransformerFailedError"]
