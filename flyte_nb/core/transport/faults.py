"""Faults: what failed in our own code and never should; a worker then looks whether its process is sound. Runs in: everywhere.

Tasks share a process with the code that runs them. One that clears ``sys.modules``, or sets ``pickle.dumps = None``, leaves a
worker that answers nothing, or fails whatever comes next. So where something fails here that never should, what it rests on is
tried; a process that is not sound is ended, and its nanny starts another.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

logger = logging.getLogger("flyte")

#: Exit status of a worker that is not sound (`flyte_nb.engine.clusters.worker_exits` says it in words).
UNSOUND = 86

#: What may not be replaced, by the module that has it.
_NAMES = {
    asyncio: ("wait_for", "get_running_loop", "Task", "Event"), time: ("time", "monotonic", "perf_counter"),
    pickle: ("dumps", "loads", "Pickler", "Unpickler"), threading: ("get_ident", "Thread", "Lock", "Event"),
}  # fmt: skip
_ORIGINALS = [(module, name, getattr(module, name)) for module, names in _NAMES.items() for name in names]


class _Sample(NamedTuple):
    """Pickled by its class's name, as messages are."""

    number: int = 1


#: Ends a process that is not sound, with an exit status; None where it is the user's own.
_end: Callable[[int], None] | None = None


def end_with(end: Callable[[int], None]) -> None:
    """From now on, end this process after a fault that left it unsound."""
    global _end
    _end = end


def is_sound() -> bool:
    """Whether what the code of a worker rests on is there, and works."""
    try:
        same = all(sys.modules[module.__name__] is module for module in _NAMES)
        same = same and all(getattr(module, name) is original for module, name, original in _ORIGINALS)
        return same and len([pickle.loads(pickle.dumps(_Sample(), 5)) == _Sample()]) == 1
    except BaseException:  # a builtin may be what is missing
        return False


def report(fault: BaseException, what: str) -> None:
    """Report that something of ours failed: what was being done, and the exception."""
    if _end is not None and not is_sound():
        _end(UNSOUND)
    logger.error("flyte_nb failed in %s", what, exc_info=fault)
