"""Dask's log lines, off the user's screen: what matters arrives as events and errors; and its diagnosis of itself, off.

Runs in: engine thread; worker processes of the embedded cluster.
"""

from __future__ import annotations

import logging
from typing import Any

from distributed import scheduler, worker

#: For the embedded cluster without a dashboard. The profiler took half of a sleeping worker's time, and 33 MB.
NO_DIAGNOSIS = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.disk": False,
    "distributed.admin.system-monitor.host-cpu": False,
    "distributed.admin.system-monitor.interval": "1h",
    "distributed.worker.memory.monitor-interval": "1s",
    # What a client knows of the scheduler beside what it is asked.
    "distributed.client.scheduler-info-interval": "1h",
    "distributed.client.heartbeat": "30s",
    "distributed.admin.system-monitor.log-length": 12,
    # A wake-up in each server (scheduler, nannies, workers), to log how late it is.
    "distributed.admin.tick.interval": "2s",
    "distributed.admin.log-length": 100,
    "distributed.admin.low-level-log-length": 100,
    "distributed.diagnostics.nvml": False,
    # What the HTTP servers would serve that are not opened.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.diagnostics.computations.max-history": 1,
    "distributed.diagnostics.erred-tasks.max-history": 1,
}


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


def no_gc_diagnosis() -> None:
    """Keep Dask from adding a callback to Python's garbage collector: it serves its logs and its dashboard. Idempotent.

    What is raised in the thread that collects is lost in such a callback: KeyboardInterrupt, and the end of a body.
    """
    modules: tuple[Any, ...] = (scheduler, worker)
    for module in modules:
        module.enable_gc_diagnosis = module.disable_gc_diagnosis = lambda: None
