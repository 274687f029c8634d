"""Devices of the embedded cluster: GPUs, counted by NVML, and dealt to processes. Runs in: engine thread.

A process keeps the GPUs that CUDA saw when it was first used there. So each belongs to one process, for good: with as many
processes as GPUs or more, a process has one; with fewer, several, which an action can ask for together.
"""

from __future__ import annotations

import glob
import os
import platform
import sys
from typing import Any

from distributed.diagnostics import nvml

#: GPUs that each process of the embedded cluster offers where they cannot be counted: tasks that ask for some run all the
#: same, as they do in Flyte's local mode.
UNCOUNTED_GPUS = 1_000
#: A resource of processes that have no device at all.
PRETENDED = "no-device"
#: What shows that a machine has a GPU, TPU or Neuron device (the last is Windows' own Linux).
DEVICE_FILES = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/accel*", "/dev/neuron*", "/dev/dxg")
#: The variable by which CUDA is told which GPUs it has.
VISIBLE = "CUDA_VISIBLE_DEVICES"


def count() -> list[str]:
    """The GPUs that this process may use, by number or name; none where nothing can count them."""
    library: Any = nvml.pynvml  # type: ignore[attr-defined]  # imported there, or None
    try:  # not by Dask's own functions: a session has them off (`flyte_nb.engine.clusters.dask_logs`), as does who sets it so
        library.nvmlInit()
        try:
            found = int(library.nvmlDeviceGetCount())
        finally:
            library.nvmlShutdown()
    except Exception:  # not installed, no driver, or one that does not fit the library
        return []
    given = os.environ.get(VISIBLE)
    if given is None or not found:
        return [str(number) for number in range(found)]
    return [name.strip() for name in given.split(",") if name.strip()]


def deal(gpus: list[str], n_workers: int) -> list[list[str]]:
    """The GPUs of each process."""
    return [gpus[number::n_workers] for number in range(n_workers)]


def uncounted() -> dict[str, float]:
    """The Dask resources that each process offers where nothing is counted."""
    has_device = (sys.platform == "darwin" and platform.machine() == "arm64") or any(map(glob.glob, DEVICE_FILES))
    return {"GPU": UNCOUNTED_GPUS} if has_device else {"GPU": UNCOUNTED_GPUS, PRETENDED: 1}


def provide(specs: dict[Any, dict[str, Any]], gpus: list[str]) -> None:
    """Have each process offer its GPUs, and see no other; those without one see what they see now.

    Args:
        specs: How processes are made (`distributed.SpecCluster`), by name; several may share one.
        gpus: All that there are.
    """
    for (name, spec), own in zip(list(specs.items()), deal(gpus, len(specs)), strict=True):
        options = {**spec["options"], "resources": {"GPU": len(own)}}
        if own:
            options["env"] = {**(options.get("env") or {}), VISIBLE: ",".join(own)}
        specs[name] = {**spec, "options": options}
