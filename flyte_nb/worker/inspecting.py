"""What the kernel may ask about what runs here, and have decided about it. Runs in: worker loop."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flyte_nb.core.context import RunInfo
from flyte_nb.core.serial import Payload

if TYPE_CHECKING:
    from flyte_nb.worker.host import Host

Then = Callable[[Any], None]


def answers(host: Host) -> dict[str, Callable[..., None]]:
    """Questions by name; see `flyte_nb.engine.asking.Switchboard.answers`."""
    return {"decide": lambda then, *args: then(decide(host, *args) or None)}


def decide(
    host: Host, run: str, action: str, op: str, payload: Payload | None, task: bytes | None, info: RunInfo
) -> bool:
    """Decide over a parked action that this worker's controller sees through.

    Args:
        host: This worker.
        run: Its run.
        action: Its name.
        op: "retry", "resume" or "raise".
        payload: The result to resume with.
        task: The task to retry with, pickled; None for the code it had.
        info: The run as the retried action is to know it.

    Returns:
        Whether such an action is parked here.
    """
    controller = host.port.controller
    flight = controller.flights.get((run, action))
    if flight is None or flight.paused is None:
        return False
    if op == "retry":
        host.runs[run] = info
        host.executor.tell_again(run)
    found = pickle.loads(task) if task is not None else None
    return controller.resolve(run, action, op, payload, found, info)
