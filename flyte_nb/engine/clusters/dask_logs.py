"""Dask's log lines, kept off the user's screen: what matters of them arrives as events and errors; and its gc callback.

Runs in: engine thread; worker processes of the embedded cluster.
"""

from __future__ import annotations

import logging
from typing import Any

from distributed import scheduler, worker


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
