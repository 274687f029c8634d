"""GPUs of a worker process (``CUDA_VISIBLE_DEVICES``), lent to lanes; whether CUDA works in it. Runs in: worker process.

What fails on the card itself (an assertion, an address out of bounds) leaves its process without CUDA: from then on the driver
answers everything with that error, however innocent. On Flyte such a process ends with its action; here the worker's would have
each action fail that comes after it. So the driver is asked as an action fails; where CUDA is not in use that takes a few
microseconds, and loads nothing.
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any

from flyte_nb.engine.clusters.devices import VISIBLE


class Devices:
    """Those of this process. Dask counts them: a lane comes only where enough are free."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: In the order in which they are lent: where each process sees all, its own comes first.
        self._names = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
        self._lent: set[str] = set()

    def lend(self, number: int) -> tuple[str, ...]:
        """So many of them; none where this process was not told which ones are its own."""
        with self._lock:
            found = [name for name in self._names if name not in self._lent][:number]
            if len(found) < number:
                return ()
            self._lent.update(found)
            return tuple(found)

    def give_back(self, names: tuple[str, ...]) -> None:
        """They are free again."""
        with self._lock:
            self._lent.difference_update(names)

    def __repr__(self) -> str:
        return f"<Devices {self._names} [{len(self._lent)} lent]>"


#: Errors of which the driver's documentation says that the process must end to use CUDA again: `CUresult`.
LASTING = frozenset({214, 220, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721})


def _driver() -> Any:
    """CUDA's driver, if this process has loaded it."""
    try:
        return ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except (AttributeError, OSError):  # another system's, or none
        return None


def cuda_error() -> int:
    """The lasting error of this process on any of its cards, a `CUresult`; 0 if CUDA works or is not in use."""
    driver = _driver()
    count = ctypes.c_int()
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return next((error for card in range(count.value) if (error := _error_of(driver, card)) in LASTING), 0)


def _error_of(driver: Any, card: int) -> int:
    device, active, context = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
    if driver.cuDeviceGet(ctypes.byref(device), card):
        return 0
    driver.cuDevicePrimaryCtxGetState(device, ctypes.byref(ctypes.c_uint()), ctypes.byref(active))
    if not active.value:
        return 0  # not in use: asking would make a context, which takes memory of the card
    error = int(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    if error:
        return error
    try:
        driver.cuCtxPushCurrent_v2(context)
        error = int(driver.cuStreamQuery(None))  # waits for nothing
        driver.cuCtxPopCurrent_v2(ctypes.byref(context))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)
    return error
