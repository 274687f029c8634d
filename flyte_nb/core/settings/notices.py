"""Notices, once a process: of settings without effect, of runs; each under its run's cell. Runs in: everywhere."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable
from typing import Any

from flyte_nb.core.settings.config import TaskConfig

_log = logging.getLogger("flyte")

_logged: set[str] = set()
#: Whether tasks run where GPUs are not counted.
_uncounted = False
_lock = threading.Lock()
#: Gives the context of the cell that a run (None: that which executes now) is shown under; None where there are no cells.
_place: Callable[[str | None], contextvars.Context | None] | None = None


def show_under(place: Callable[[str | None], contextvars.Context | None] | None) -> None:
    """Have what other threads say of a run appear under its cell.

    Args:
        place: Gives the context of the cell that a run is shown under, or of the one that executes now; None: no more.
    """
    global _place
    _place = place


def say_under(run: str | None, say: Callable[..., object], *args: object) -> None:
    """Call what prints or logs, from a thread that is not the run's cell's, so that it appears under that cell.

    Jupyter goes by the context that is written from; the threads of ours have that of the cell which loaded the extension.
    """
    found = _place(run) if _place is not None else None
    if found is None:
        say(*args)
    else:
        found.copy().run(say, *args)


def notice_once(key: str, sentence: str, run: str | None = None) -> bool:
    """Log a notice, unless one of the same key has been logged by this process.

    Args:
        key: What it is about: one of a fixed set of words, so the memory of it is bounded.
        sentence: The notice.
        run: Whose it is, where another thread than its cell's says it; None: that of the calling code.

    Returns:
        Whether it was logged.
    """
    with _lock:
        if key in _logged:
            return False
        _logged.add(key)
    if run is None:
        _log.warning(sentence)
    else:
        say_under(run, _log.warning, sentence)
    return True


def gpus_are_uncounted(uncounted: bool) -> None:
    """Set whether tasks run where GPUs are not counted: on the embedded cluster."""
    global _uncounted
    _uncounted = uncounted


#: Per setting: whether a task uses it, and what becomes of it.
_WITHOUT_EFFECT: tuple[tuple[str, Callable[[Any], object], str], ...] = (
    ("image", lambda c: c.image not in (None, "auto"),
     "image: no image is built or pulled; tasks run with the packages that the workers have"),
    ("pod_template", lambda c: c.pod_template, "pod_template: there are no pods; tasks run in Dask workers"),
    ("secrets", lambda c: c.secrets,
     "secrets: there is no secret store; set the environment variables before the cluster starts, or give env_vars"),
    ("service_account", lambda c: c.service_account, "service_account: tasks run as the user who started the workers"),
    ("interruptible", lambda c: c.interruptible, "interruptible: workers are the cluster's, whether cheap or not"),
    ("queue", lambda c: c.queue, "queue: there is one queue, the cluster's"),
    ("triggers", lambda c: c.triggers, "triggers: nothing runs on a schedule; call the task"),
    ("plugin_config", lambda c: c.plugin_config, "plugin_config: plugins run on Flyte's own clusters only"),
    ("task_resolver", lambda c: c.task_resolver, "task_resolver: tasks travel by value and need no resolver"),
    ("disk", lambda c: c.resources and c.resources.disk, "resources.disk: workers use the disks they have"),
    ("gpu", lambda c: _uncounted and c.resources and c.resources.gpu,
     "resources.gpu: the embedded cluster counts GPUs with the package nvidia-ml-py only; or start workers with --resources"),
    ("shm", lambda c: c.resources and c.resources.shm, "resources.shm: workers use the shared memory they have"),
)  # fmt: skip


def announce(config: TaskConfig) -> None:
    """Log the notices that are due when a task runs; at most one per setting and process.

    Cheap after the first call for a configuration: call it wherever a task is submitted.
    """
    if config.announced:
        return
    object.__setattr__(config, "announced", True)
    for key, uses, sentence in _WITHOUT_EFFECT:
        if uses(config):
            notice_once(key, f"Accepted without effect: {sentence}.")
