"""Kernels that recorded runs: whether the process of one is still alive, here or on another machine. Runs in: a run's home."""

from __future__ import annotations

import os
import time
from pathlib import Path

from flyte_nb.core.transport.process_folder import is_alive, prefix

#: Seconds after which a kernel is said to live, while a run of it goes on.
ALIVE_S = 10.0
#: Seconds without a sign of life after which one on another machine, or in another container, is taken for dead. A container
#: that was restarted is another one: people wait for this before they are told what was cut off.
SILENT_S = 45.0


def here() -> str:
    """What tells this machine, or container, from others that share the journal."""
    return prefix()


def born(pid: int) -> str:
    """When a process of this machine started, as a text that no later process of the same number has; "" if not known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{fields[19]}"
    except (OSError, IndexError):
        return ""


def is_certain(place: str) -> bool:
    """Whether it is known of a kernel if it lives, and not only how long ago it gave a sign of it."""
    return place == here() and os.name == "posix"  # elsewhere ``os.kill(pid, 0)`` would end the process


def lives(place: str, pid: int, started: str, seen: float, closed: float | None) -> bool:
    """Whether a kernel can still add to its runs."""
    if closed is not None:
        return False
    if not is_certain(place):
        return time.time() - seen < SILENT_S
    return is_alive(pid) and (not started or born(pid) == started)
