"""Devices that the embedded cluster's machine lacks: who limits the time in the queue waits for them, others run."""

from __future__ import annotations

import datetime as dt
import sys

import pytest

import flyte_nb as flyte
from flyte_nb.engine.clusters import devices as clusters_devices
from tests.nvml import count_gpus

pytestmark = pytest.mark.cluster

devices = [
    flyte.GPU("T4"), flyte.Resources(gpu=1).gpu, "A100:2", flyte.TPU("V5P", "2x2x1"), flyte.Neuron("Trn1"), 2, "T4:1",
    flyte.GPU("A100", 8), flyte.GPU("A100", 1, "1g.5gb"), flyte.AMD_GPU("MI300X"), flyte.HABANA_GAUDI("Gaudi1"),
]  # fmt: skip
env = flyte.TaskEnvironment("devices", resources=flyte.Resources(gpu=1))
LIMIT = flyte.Timeout(max_queued_time=dt.timedelta(seconds=0.3))


@env.task
async def in_passing(x: int) -> int:
    return x


@env.task(timeout=flyte.Timeout(max_runtime=30, deadline=60))
def with_other_limits(x: int) -> int:
    return x


@env.task(timeout=LIMIT)
async def relies(x: int) -> int:
    return x


@env.task(timeout=LIMIT)
def relies_sync(x: int) -> int:
    return x


plain = flyte.TaskEnvironment("no-devices")


@plain.task(timeout=LIMIT)
async def needs_none(x: int) -> int:
    return x


@plain.task
async def how_they_end() -> list[str]:
    found = []
    for task in (in_passing, with_other_limits, needs_none, relies, relies_sync):
        try:
            found.append(str(await task.aio(1)))
        except flyte.errors.MaxQueuedTimeExceededError as exc:
            found.append(type(exc).__name__)
    return found


def test_who_relies_on_a_device_waits_for_it(cluster):
    """In a cell's calls and in a parent's; the same task without the limit runs."""
    has_device = clusters_devices.PRETENDED not in clusters_devices.uncounted()
    expected = ["1", "1"] if has_device else ["MaxQueuedTimeExceededError"] * 2

    assert ["1", "1", "1", *expected] == flyte.run(how_they_end).outputs()[0]
    assert flyte.run(relies.override(timeout=0), 2).outputs()[0] == 2
    for device in devices:
        task = relies.override(resources=flyte.Resources(gpu=device))
        try:
            ended = str(flyte.run(task, 1).outputs()[0])
        except TimeoutError as exc:
            ended = type(exc).__name__
        assert ended == expected[0]
        assert flyte.run(task.override(timeout=5), 3).outputs()[0] == 3


def test_a_machine_shows_its_devices(tmp_path, monkeypatch):
    """By their files."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(clusters_devices, "DEVICE_FILES", (str(tmp_path / "nvidia[0-9]*"), str(tmp_path / "kfd")))
    assert clusters_devices.PRETENDED in clusters_devices.uncounted()
    (tmp_path / "nvidiactl").touch()
    assert clusters_devices.PRETENDED in clusters_devices.uncounted()
    (tmp_path / "nvidia0").touch()
    assert clusters_devices.PRETENDED not in clusters_devices.uncounted()


def test_devices_are_dealt_to_processes(monkeypatch):
    """All of them, also where there are fewer processes; and those only that this process may use."""
    count_gpus(monkeypatch, 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3,GPU-x")
    assert clusters_devices.deal(clusters_devices.count(), 2) == [["1", "GPU-x"], ["3"]]
    count_gpus(monkeypatch, 0)
    assert clusters_devices.count() == []
