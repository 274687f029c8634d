"""Check on a machine with real GPUs, in two minutes, that actions have them alone: ``python scripts/check_gpus.py``.

It needs the package, and nvidia-ml-py; no CUDA library: what an action sees is asked of the driver. Prints one line for each
claim, and exits with 1 if one does not hold.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import sys
import time
from typing import Any

import flyte_nb as flyte
from flyte_nb.engine.clusters import devices
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell

env = flyte.TaskEnvironment("gpus", resources=flyte.Resources(gpu=1))


@env.task
async def sees(_n: int) -> tuple[str, int, float, float]:
    """What it was given, how many GPUs the driver shows it, and from when to when it had them."""
    began = time.time()
    driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
    driver.cuInit(0)
    driver.cuDeviceGetCount(ctypes.byref(count))
    await asyncio.sleep(0.2)
    return os.environ["CUDA_VISIBLE_DEVICES"], count.value, began, time.time()


def check(what: str, holds: object) -> bool:
    """Print a claim, and whether it holds."""
    print(f"{'ok  ' if holds else 'FAIL'} {what}", flush=True)
    return bool(holds)


def main() -> int:
    """Run the checks."""
    gpus = devices.count()
    if not check(f"NVML counts {len(gpus)} GPUs: {', '.join(gpus)}", gpus):
        return 1
    flyte.init(n_workers=max(len(gpus), 2), placement_timeout=2)
    found: Any = run_cell(lambda: asyncio.gather(*(sees(n) for n in range(4 * len(gpus)))))
    by_gpu = {gpu: sorted(span for name, _, *span in found if name == gpu) for gpu in gpus}
    held = [
        check("the driver shows each action one GPU", {count for _, count, *_ in found} == {1}),
        check("all of them are used", all(by_gpu.values())),
        check(
            "none by two actions at a time",
            all(one[1] <= two[0] for spans in by_gpu.values() for one, two in itertools.pairwise(spans)),
        ),
    ]
    assert Session.current is not None
    actions = next(iter(Session.current.store.runs.values())).actions.values()
    held.append(
        check("the detail names it", {a.attempt.slot for a in actions if a.attempt} == {f"GPU {g}" for g in gpus})
    )
    try:
        flyte.run(sees.override(resources=flyte.Resources(gpu=len(gpus) + 1)), 0).outputs()
        held.append(check("more than there are is refused", False))
    except flyte.errors.NoWorkerError as exc:
        held.append(check(f"more than there are is refused: {exc}", True))
    flyte.shutdown()
    flyte.init(n_workers=1)
    visible, count, *_ = flyte.run(sees.override(resources=flyte.Resources(gpu=len(gpus))), 0).outputs()
    held.append(check(f"all together, with one process: {visible}", count == len(gpus)))
    flyte.shutdown()
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
