"""A stand-in for NVML, as a machine without GPUs needs it: the library that the package nvidia-ml-py brings, and no more."""

from __future__ import annotations

import types

import pytest
from distributed.diagnostics import nvml


def count_gpus(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Have NVML count so many; 0 also where it cannot be used until it was told to begin."""
    begun: list[bool] = []
    library = types.SimpleNamespace(
        nvmlInit=lambda: begun.append(True),
        nvmlDeviceGetCount=lambda: number if begun else 0,
        nvmlShutdown=begun.clear,
    )
    monkeypatch.setattr(nvml, "pynvml", library)
