"""``flyte.models``: the small values that contexts and look-ups are made of. Runs in: everywhere."""

from __future__ import annotations

from flyte_nb.core.context import ActionID, CheckpointPaths, GroupData, RawDataPath, TaskContext
from flyte_nb.core.interface import Interface as NativeInterface
from flyte_nb.core.model import Phase as ActionPhase
from flyte_nb.core.taskconfig import MAX_INLINE_IO_BYTES

__all__ = [
    "MAX_INLINE_IO_BYTES",
    "ActionID",
    "ActionPhase",
    "CheckpointPaths",
    "GroupData",
    "NativeInterface",
    "RawDataPath",
    "TaskContext",
]
