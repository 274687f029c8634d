"""GPUs of the embedded cluster, as NVML would count them: each action has its own alone."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
import types

import pytest

import flyte_nb as flyte
from flyte_nb.engine.clusters import devices as clusters_devices
from flyte_nb.testing import run_cell
from tests.engine.session import started

pytestmark = pytest.mark.cluster

alone = flyte.TaskEnvironment("alone", resources=flyte.Resources(gpu=1))


@alone.task
async def holds_one(_n: int) -> tuple[str, float, float]:
    """The GPU it sees, and from when to when it had it."""
    began = time.time()
    await asyncio.sleep(0.1)
    return os.environ["CUDA_VISIBLE_DEVICES"], began, time.time()


def test_counted_devices_are_had_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many GPUs as NVML counts, one attempt on each at a time, which sees no other and says which it was; never more."""
    monkeypatch.setattr(clusters_devices, "nvml", types.SimpleNamespace(device_get_count=lambda: 2))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with started(n_workers=3, placement_timeout=1) as session:
        run = run_cell(lambda: asyncio.gather(*(holds_one(n) for n in range(8))))
        for gpu in ("0", "1"):
            spans = sorted(span for seen, *span in run if seen == gpu)
            assert len(spans) > 1
            assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
        assert {seen for seen, *_ in run} == {"0", "1"}
        actions = next(iter(session.store.runs.values())).actions.values()
        assert {action.attempt.slot for action in actions if action.attempt} == {"GPU 0", "GPU 1"}
        with pytest.raises(flyte.errors.NoWorkerError, match=r"no worker offers GPU=2 \(the most is 1\)"):
            flyte.run(holds_one.override(resources=flyte.Resources(gpu=2)), 1).outputs()
