"""An error on a card that lasts is found where CUDA is in use, and nothing is touched where it is not."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from flyte_nb.worker.process import devices


class FakeDriver:
    """CUDA's driver, with one card: what it answers when it is asked how its stream is."""

    def __init__(self, answer: int, *, active: bool = True) -> None:
        self.answer, self.active = answer, active
        self.held = self.current = 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = 1
        return 0

    def cuDeviceGet(self, device: Any, number: int) -> int:
        device._obj.value = number
        return 0

    def cuDevicePrimaryCtxGetState(self, _device: Any, _flags: Any, active: Any) -> int:
        active._obj.value = int(self.active)
        return 0

    def cuDevicePrimaryCtxRetain(self, _context: Any, _device: Any) -> int:
        assert self.active, "this would make a context"
        self.held += 1
        return 0

    def cuCtxPushCurrent_v2(self, _context: Any) -> int:
        self.current += 1
        return 0

    def cuStreamQuery(self, _stream: Any) -> int:
        return self.answer

    def cuCtxPopCurrent_v2(self, _context: Any) -> int:
        self.current -= 1
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, _device: Any) -> int:
        self.held -= 1
        return 0


@pytest.mark.parametrize(
    ("driver", "expected"),
    [
        (FakeDriver(710), 710),  # an assertion
        (FakeDriver(700), 700),  # an address out of bounds
        (FakeDriver(0), 0),
        (FakeDriver(600), 0),  # something runs there
        (FakeDriver(2), 0),  # out of memory: the next one may have some
        (FakeDriver(710, active=False), 0),
        (None, 0),
    ],
)
def test_errors_that_last(driver: FakeDriver | None, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They alone; the thread's context is as before."""
    monkeypatch.setattr(devices, "_driver", lambda: driver)
    assert devices.cuda_error() == expected
    assert driver is None or (driver.held, driver.current) == (0, 0)


def test_it_loads_nothing() -> None:
    """Where no library has loaded the driver; as where there is none."""
    before = devices._driver()
    assert before is None or isinstance(before, ctypes.CDLL)
    assert before is not None or devices.cuda_error() == 0
