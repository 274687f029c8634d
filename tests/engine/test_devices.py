"""GPUs of the embedded cluster, as NVML would count them: each action has its own alone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time

import pytest

import flyte_nb as flyte
from flyte_nb.testing import run_cell
from tests.engine.session import started
from tests.nvml import count_gpus
from tests.worker.test_devices import FakeDriver

pytestmark = pytest.mark.cluster

alone = flyte.TaskEnvironment("alone", resources=flyte.Resources(gpu=1))


@alone.task
async def holds_one(_n: int) -> tuple[str, float, float]:
    """The GPU it sees, and from when to when it had it."""
    began = time.time()
    await asyncio.sleep(0.1)
    return os.environ["CUDA_VISIBLE_DEVICES"], began, time.time()


@alone.task
def asserts(_n: int) -> int:
    """Fails on the card: from now on the driver says so to whatever this process asks."""
    from flyte_nb.worker.process import devices

    devices._driver = lambda: FakeDriver(710)
    raise RuntimeError(f"CUDA error: device-side assert triggered in {os.getpid()}")


@alone.task
def computes() -> int:
    """The process that it runs in, whose card works."""
    from flyte_nb.worker.process import devices

    assert not devices.cuda_error()
    return os.getpid()


plain = flyte.TaskEnvironment("plain")


async def sweep() -> tuple[int, int]:
    """How many calls failed on the card, and in how many processes the others ran, which came after them."""
    failed, processes = 0, set[int]()
    for n in range(2):
        with contextlib.suppress(RuntimeError):
            await asserts.aio(n)
            continue
        failed += 1
        with contextlib.suppress(flyte.errors.RuntimeUserError):
            processes.add(await computes.aio())
    return failed, len(processes)


@plain.task
async def parent() -> int:
    """How many of its children failed so, which were executed in its own process."""
    return (await sweep())[0]


def test_counted_devices_are_had_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many GPUs as NVML counts, one attempt on each at a time, which sees no other and says which it was; never more."""
    count_gpus(monkeypatch, 2)
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


def test_an_error_on_a_card_costs_its_action_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process has no CUDA any more, so another one follows; not while an action waits there, which would begin again."""
    count_gpus(monkeypatch, 1)
    with started(n_workers=1):
        assert run_cell(sweep) == (2, 2)
        assert flyte.run(parent).outputs() == (2,)
