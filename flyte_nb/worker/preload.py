"""Preload of embedded workers: survive the stop button, be ready before the first action. Runs in: worker process."""

from __future__ import annotations

from typing import Any

from flyte_nb.worker.entry import ignore_interrupts

ignore_interrupts()


def dask_setup(_worker: Any) -> None:
    """Called by Dask when the worker starts."""
    ignore_interrupts()
