"""Dask's log lines and its diagnosis of itself, off: what matters arrives as events and errors, and nobody looks at the rest.

Runs in: engine thread; worker processes of the embedded cluster.
"""

from __future__ import annotations

import logging

from distributed import gc

#: What Dask measures for a dashboard that is not there. The profiler took half of a sleeping worker's time, and 33 MB.
NO_DIAGNOSIS = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.admin.system-monitor.disk": False,
    "distributed.admin.system-monitor.host-cpu": False,
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.system-monitor.log-length": 12,
    # A wake-up in each server (scheduler, nannies, workers), to log how late it is.
    "distributed.admin.tick.interval": "2s",
    "distributed.admin.log-length": 100,
    "distributed.admin.low-level-log-length": 100,
    "distributed.diagnostics.nvml": False,
    "distributed.diagnostics.computations.max-history": 1,
    "distributed.diagnostics.erred-tasks.max-history": 1,
}


def stop_gc_diagnosis() -> None:
    """Take Dask's callback off the garbage collector of this process, which measures collections in Python, during each."""
    gc.disable_gc_diagnosis(force=True)


def quiet_loggers() -> None:
    """Let nothing below CRITICAL through, in this process. Idempotent.

    ``silence_logs`` of Dask's clusters does not do it: it sets the level of handlers, and takes that back as a worker or a
    cluster closes, when comms that are cut are told with a traceback.
    """
    # Dask gives some of its loggers levels of their own.
    dasks = [name for name in logging.root.manager.loggerDict if name.startswith("distributed.")]
    for name in ("distributed", *dasks, "tornado.application", "asyncio", "bokeh"):
        logger = logging.getLogger(name)
        if logger.level != logging.DEBUG:  # whoever asked for that wants to read
            logger.setLevel(logging.CRITICAL)
