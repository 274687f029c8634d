"""``flyte.models``: the small values that contexts and look-ups are made of. Runs in: everywhere."""

from __future__ import annotations

from flyte_nb.core.history.facts import Phase as ActionPhase
from flyte_nb.core.interface.interface import Interface as NativeInterface
from flyte_nb.core.settings.config import MAX_INLINE_IO_BYTES
from flyte_nb.core.steps.ctx import ActionID, CheckpointPaths, GroupData, RawDataPath, TaskContext

__all__ = [
    "MAX_INLINE_IO_BYTES", "ActionID", "ActionPhase", "CheckpointPaths", "GroupData", "NativeInterface", "RawDataPath",
    "TaskContext",
]  # fmt: skip
