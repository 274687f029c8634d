"""Preload of embedded workers: survive the stop button, print nothing, be ready early. Runs in: worker process."""

from __future__ import annotations

import signal
import threading
from typing import Any

import click

from flyte_nb.engine.clusters.caretaker import lead_group
from flyte_nb.engine.clusters.dask_logs import no_gc_diagnosis, quiet_loggers
from flyte_nb.worker.entry import open_host  # what the first lane needs is loaded by then
from flyte_nb.worker.lanes.lane import is_no_fork


def ignore_interrupts() -> None:
    """The stop button sends SIGINT to the whole process group; it is the kernel's to handle, not the workers'."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


ignore_interrupts()
lead_group()
quiet_loggers()
no_gc_diagnosis()


@click.command()
@click.argument("kernel")
async def dask_setup(worker: Any, kernel: str) -> None:
    """Called by Dask when the worker starts, before it registers: it takes links of that kernel from then on."""
    ignore_interrupts()
    is_no_fork()
    await open_host(worker, kernel, grows=False)
