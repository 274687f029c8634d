"""What a failed action does, how long a breakpoint waits, and the rule for unattended runs. Runs in: the user's process.

The rule: an action parks, and a ``breakpoint()`` stops, only where a person can decide. That is a notebook or IPython whose
front end answers prompts (not nbclient or papermill; not a script; not local mode, which blocks), or a run that was started
with ``interactive_mode=True``. Everywhere else ``on_failure="pause"`` raises and breakpoints are passed over, so that nothing
waits for ever.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace

from flyte_nb.core.settings.notices import notice_once
from flyte_nb.core.tasks.context import current, using

WAYS = ("raise", "pause")

#: Seconds that a breakpoint waits for a debugger to attach, unless it is configured: long enough to notice it and type.
BREAKPOINT_WAIT = 600.0

_given: dict[str, object] = {}


def set_defaults(on_failure: str | None = None, breakpoint_wait: float | None = None) -> None:
    """Set the defaults of `flyte_nb.init`; None changes nothing.

    Raises:
        ValueError: `on_failure` is no known way, or the wait is negative.
    """
    if on_failure is not None:
        _given["on_failure"] = checked(on_failure)
    if breakpoint_wait is not None:
        if breakpoint_wait < 0:
            raise ValueError(f"breakpoint_wait must be 0 or more seconds, not {breakpoint_wait}")
        _given["breakpoint_wait"] = float(breakpoint_wait)


def checked(way: str) -> str:
    """The way, if it is one.

    Raises:
        ValueError: It is not.
    """
    if way not in WAYS:
        raise ValueError(f"on_failure must be 'raise' or 'pause', not {way!r}")
    return way


def way_of(given: str | None, interactive: bool) -> str:
    """What failed actions of a run do.

    Args:
        given: The run's option; None takes ``init(on_failure=...)``, else ``FLYTE_NB_ON_FAILURE``, else "raise".
        interactive: Whether a person can decide over a parked action.
    """
    way = checked(given or str(_given.get("on_failure") or os.environ.get("FLYTE_NB_ON_FAILURE") or "raise"))
    if way == "pause" and not interactive:
        notice_once(
            "pause",
            "on_failure='pause' raises here: nobody can decide over a paused action (a script, nbclient, papermill, or local "
            "mode). interactive_mode=True pauses all the same.",
        )
        return "raise"
    return way


def wait_of(given: float | None, interactive: bool) -> float:
    """Seconds that a breakpoint of a run waits; 0 where no person can attach.

    Args:
        given: The run's option; None takes ``init(breakpoint_wait=...)``, else ``FLYTE_NB_BREAKPOINT_WAIT``, else
            `BREAKPOINT_WAIT`.
        interactive: Whether a person can attach.
    """
    if not interactive:
        return 0.0
    for wait in (given, _given.get("breakpoint_wait"), os.environ.get("FLYTE_NB_BREAKPOINT_WAIT")):
        if wait is not None:
            return max(float(wait), 0.0)  # type: ignore[arg-type]  # a number, or the text of one
    return BREAKPOINT_WAIT


@contextlib.contextmanager
def on_failure(way: str = "pause") -> Iterator[None]:
    """What actions that are started inside the block do when they fail, and those that they start.

    Under "pause" a failed action is parked instead of raising: its siblings run on, and its await stays pending,
    until a person retries it, resumes it with a value or lets it raise (``%flyte retry | resume | raise a17``, the buttons, or
    `Run.retry`, `Run.resume`, `Run.fail`). Where no person can decide (a script, nbclient, papermill), it raises.

    Args:
        way: "pause" or "raise".

    Raises:
        ValueError: `way` is neither.

    Example:
        >>> with flyte_nb.on_failure("pause"):
        ...     results = await asyncio.gather(*(train(c) for c in configs))
    """
    checked(way)
    context = current()
    if context is None:
        yield
        return
    run = replace(context.run, on_failure=way_of(way, context.run.interactive_mode))
    with using(replace(context, run=run)):
        yield


__all__ = ["on_failure"]
