"""Settings of Dask's diagnosis of itself, off: it is for a dashboard that is not there. Runs in: engine thread."""

from __future__ import annotations

#: For the embedded cluster without a dashboard. The profiler took half of a sleeping worker's time, and 33 MB.
NO_DIAGNOSIS = {
    "distributed.worker.profile.enabled": False,
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
