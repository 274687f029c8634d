"""Fixtures with real kernels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.kernelclient import Kernel

#: What the extension will do at load, as far as these tests need it.
INSTALL = """
import asyncio, signal, threading, time, contextvars
from flyte_nb.kernel.cells.notebook import CellOutput
from flyte_nb.kernel.cells.tracker import CURRENT_CELL, CellTracker
from flyte_nb.kernel.interrupts.interrupts import Interrupts
cells = CellTracker(get_ipython()); cells.install()
interrupts = Interrupts(cells); interrupts.install()
output = CellOutput(get_ipython())
"""


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """A fresh kernel without the extension."""
    with Kernel.start() as kernel:
        yield kernel


@pytest.fixture(scope="module")
def nb(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """A kernel in which the module's `DEFINE` was executed, shared by its tests."""
    with Kernel.start() as kernel:
        kernel.run(request.module.DEFINE).ok()
        yield kernel


@pytest.fixture(scope="module")
def shared_kernel() -> Iterator[Kernel]:
    """A kernel with cell tracking and interrupts installed, shared by the tests of a module that leave it as it was."""
    with Kernel.start() as kernel:
        kernel.run(INSTALL).ok()
        yield kernel
