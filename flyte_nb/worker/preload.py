"""Preload of embedded workers: survive the stop button, print nothing, be ready early. Runs in: worker process."""

from __future__ import annotations

import signal
import threading
from typing import Any

import flyte_nb.worker.entry  # noqa: F401 - what the first lane needs is loaded by then
from flyte_nb.engine.clusters.dask_logs import quiet_loggers, stop_gc_diagnosis


def ignore_interrupts() -> None:
    """The stop button sends SIGINT to the whole process group; it is the kernel's to handle, not the workers'."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


ignore_interrupts()
quiet_loggers()


def dask_setup(_worker: Any) -> None:
    """Called by Dask when the worker starts."""
    ignore_interrupts()
    stop_gc_diagnosis()
