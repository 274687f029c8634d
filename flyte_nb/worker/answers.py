"""What the kernel may ask about what runs here, and have decided about it. Runs in: worker loop."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flyte_nb.core.attempts import stacks
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.transport.payload import Payload

if TYPE_CHECKING:
    from flyte_nb.worker.host import Host
    from flyte_nb.worker.lane import Key, LaneThread

Then = Callable[[Any], None]

#: Stacks that are looked at in one worker: more than fit on a screen.
MAX_STACKS = 200
#: Seconds after which a loop that does not answer is looked at from outside.
LOOP_ANSWERS_WITHIN = 0.3
#: Files of one stack whose source is sent along.
MAX_FILES = 20


def answers(host: Host) -> dict[str, Callable[..., None]]:
    """Questions by name; see `flyte_nb.engine.questions.Switchboard.answers`."""
    return {
        "decide": lambda then, *args: then(decide(host, *args) or None),
        "stacks": lambda then, *args: look(host, then, *args),
        "standing": lambda then, *args: then(standing(host, *args)),
        "attach": lambda then, *args: attach(host, then, *args),
        "type": lambda then, *args: type_line(host, then, *args),
        "detach": lambda then, *args: then(detach(host, *args)),
        "breakpoints_off": lambda then, run: then(host.breakpoints.turn_off(run) or None),
    }


def look(host: Host, then: Then, run: str, first: str) -> None:
    """Where the actions of a run that are under way here are right now.

    Args:
        host: This worker.
        then: Told once: ``{"address", "slots", "free", "stacks": {action: Stack}}``.
        run: The run.
        first: An action to be looked at in any case; there may be more than `MAX_STACKS`.
    """
    wanted = [(lane, key) for lane in list(host.lanes.values()) for key in list(lane.bodies) if key[0] == run]
    wanted = sorted(wanted, key=lambda each: each[1][1] != first)[:MAX_STACKS]
    found: dict[str, stacks.Stack] = {}
    left = {key for _, key in wanted}

    def tell() -> None:
        then({"address": host.address, "slots": host.gate.slots, "free": host.gate.free, "stacks": found})

    def seen(key: Key, stack: stacks.Stack | None) -> None:
        if key in left:
            left.discard(key)
            if stack is not None:
                found[key[1]] = stack
            if not left:
                tell()

    for lane, key in wanted:
        _look_at(host, lane, key, seen)
    if not wanted:
        tell()


def _look_at(host: Host, lane: LaneThread, key: Key, seen: Callable[[Key, stacks.Stack | None], None]) -> None:
    task = lane.task_of(key)
    if task is None:  # a sync body is what its thread does
        seen(key, stacks.thread_stack(lane.thread_id))
        return
    loop = task.get_loop()

    def on_its_loop() -> None:
        host.post(seen, key, stacks.coroutine_stack(task))

    def from_outside() -> None:
        # The loop does not get to it: it computes, or stands still. Whatever is not running now is held still by that.
        if asyncio.current_task(loop) is task:
            seen(key, stacks.thread_stack(lane.thread_id))
        else:
            seen(key, stacks.coroutine_stack(task))

    with contextlib.suppress(RuntimeError):  # closed meanwhile
        loop.call_soon_threadsafe(on_its_loop)
    host.loop.call_later(LOOP_ANSWERS_WITHIN, from_outside)


def standing(host: Host, run: str, action: str) -> dict[str, Any] | None:
    """Where an action stands at a breakpoint, and which files one needs to see it; None if it doesn't."""
    stop = host.breakpoints.find(run, action)
    found = host.lane_of(run, action)
    if stop is None or found is None:
        return None
    files = {frame.filename for frame in stacks.thread_stack(found[0].thread_id).frames if frame.is_user}
    return {"address": host.address, "where": stop.where, "files": sorted(files)[:MAX_FILES], "attached": stop.attached}


def attach(host: Host, then: Then, run: str, action: str, sources: dict[str, str]) -> None:
    """Attach to an action at a breakpoint: `then` is told what pdb shows, or None if it has gone on."""
    stop = host.breakpoints.find(run, action)
    if stop is None:
        then(None)
    else:
        stop.attach(then, sources)


def type_line(host: Host, then: Then, run: str, action: str, line: str) -> None:
    """A line for pdb: `then` is told what it printed once it asks for the next, or has gone on."""
    stop = host.breakpoints.find(run, action)
    if stop is None:
        then(None)
    else:
        stop.type(then, line)


def detach(host: Host, run: str, action: str) -> bool:
    """Let an action go on, now or at its next stop."""
    stops = [stop for key, stop in host.breakpoints.stops.items() if key[:2] == (run, action)]
    for stop in stops:
        stop.detach()
    return bool(stops)


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
    controller = host.gateway.controller
    flight = controller.flights.get((run, action))
    if flight is None or flight.paused is None:
        return False
    if op == "retry":
        host.runs[run] = info
        host.executor.tell_again(run)
    found = pickle.loads(task) if task is not None else None
    return controller.resolve(run, action, op, payload, found, info)
