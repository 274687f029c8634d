"""``flyte.durable``: time and sleep that a retried task does not start over. Runs in: everywhere."""

from __future__ import annotations

from flyte_nb.core.durable import now, sleep, time

__all__ = ["now", "sleep", "time"]
