"""Answers to what the kernel and other workers ask about attempts here, or order to be done to them. Runs in: worker loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from flyte_nb.core.attempts import stacks
from flyte_nb.core.control.questions import Answer, Then
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.transport.mailbox import mailbox_of
from flyte_nb.core.transport.payload import Payload, loads_code
from flyte_nb.engine.dispatch.reasons import why_queued
from flyte_nb.engine.links.wire import Key
from flyte_nb.worker.host import Host
from flyte_nb.worker.lanes.lane import LaneThread

#: Stacks that are taken in one worker: more than fit on a screen.
MAX_STACKS = 200
#: Seconds after which a loop that does not answer is looked at from outside.
LOOP_ANSWERS_WITHIN = 0.3
#: Files of one stack whose source is sent along.
MAX_FILES = 20


def answers_of(host: Host) -> dict[str, Answer]:
    """Answers by question; see `flyte_nb.engine.links.peers.Switchboard.answers`."""
    controller, breakpoints, words = host.controller, host.breakpoints, host.premises.words

    def sync(then: Then, run: str, parent: str) -> None:
        host.emitter.flush()  # the answer comes behind all events
        then(host.retained.results(run, parent))

    def cancel_run(then: Then, run: str, reason: str) -> None:
        controller.cancel_run(run, reason)
        then(None)

    def close_idle(then: Then) -> None:
        host.network.spawn(host.executor.pool.close_idle()).add_done_callback(lambda _task: then(True))

    return {
        # The kernel.
        "leave": lambda _then: host.depart(),  # the link that closes is the answer
        "everywhere": host.premises.everywhere.run,
        # Data that is kept here.
        "shelved": lambda then, *args: then(host.previews.get(*args)),
        "log_file": lambda then, *args: then(host.emitter.files.read(*args)),
        "sync": sync,
        # Actions that this worker's controller owns.
        "why": lambda then, *args: then(why_queued(controller, host.network, host.executor.groups.values(), *args)),
        "abort": lambda then, *args: then(controller.abort(*args) or None),
        "cancel_run": cancel_run,
        "decide": lambda then, *args: then(decide(host, *args) or None),
        "close_idle": close_idle,
        # Attempts that are executed here.
        "black_box": lambda then: then(str(words.path) if words.box is not None else None),
        "computing": lambda then: then(words.box.computing() if words.box is not None else None),
        "overdue": lambda then, keys: then([host.stopping.overdue(key) for key in keys]),
        "stacks": lambda then, *args: look(host, then, *args),
        "standing": lambda then, *args: then(standing(host, *args)),
        "attach": breakpoints.attach,
        "type": breakpoints.type_line,
        "detach": lambda then, *args: then(breakpoints.detach(*args)),
        "breakpoints_off": lambda then, run: then(breakpoints.turn_off(run) or None),
    }


def look(host: Host, then: Then, run: str, first: str) -> None:
    """Take the current stacks of the actions of a run that are under way here.

    Args:
        host: This worker.
        then: Called once, with ``{"address", "slots", "free", "stacks": {action: Stack}}``.
        run: The run.
        first: An action to be looked at in any case; there may be more than `MAX_STACKS`.
    """
    wanted = [(lane, key) for lane in list(host.lanes.values()) for key in list(lane.bodies) if key[0] == run]
    wanted = sorted(wanted, key=lambda each: each[1][1] != first)[:MAX_STACKS]
    found: dict[str, stacks.Stack] = {}
    left = {key for _, key in wanted}

    def answer() -> None:
        then({"address": host.address, "slots": host.gate.slots, "free": host.gate.free, "stacks": found})

    def seen(key: Key, stack: stacks.Stack | None) -> None:
        if key in left:
            left.discard(key)
            if stack is not None:
                found[key[1]] = stack
            if not left:
                answer()

    for lane, key in wanted:
        _look_at(host, lane, key, seen)
    if not wanted:
        answer()


def _look_at(host: Host, lane: LaneThread, key: Key, seen: Callable[[Key, stacks.Stack | None], None]) -> None:
    task = lane.tasks.get(key)
    if task is None:  # a sync body is what its thread does
        seen(key, stacks.thread_stack(lane.thread_id))
        return
    loop = task.get_loop()

    def on_its_loop() -> None:
        host.post(seen, key, stacks.coroutine_stack(task))

    def from_outside() -> None:
        # The loop does not get to it: it computes, or is blocked. So whatever does not run now will not either.
        if asyncio.current_task(loop) is task:
            seen(key, stacks.thread_stack(lane.thread_id))
        else:
            seen(key, stacks.coroutine_stack(task))

    mailbox_of(loop).post(on_its_loop)
    host.gateway.loop.call_later(LOOP_ANSWERS_WITHIN, from_outside)


def standing(host: Host, run: str, action: str) -> dict[str, Any] | None:
    """Where an action is paused at a breakpoint, and which files a debugger shows; None if it is not."""
    paused = host.breakpoints.find(run, action)
    found = host.lane_of(run, action)
    if paused is None or found is None:
        return None
    files = sorted({frame.filename for frame in stacks.thread_stack(found[0].thread_id).frames if frame.is_user})
    return {"address": host.address, "where": paused.where, "files": files[:MAX_FILES], "attached": paused.attached}


def decide(
    host: Host, run: str, action: str, op: str, payload: Payload | None, task: bytes | None, info: RunInfo
) -> bool:
    """Retry, resume or fail a parked action that this worker's controller owns.

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
    controller = host.controller
    flight = controller.flights.get((run, action))
    if flight is None or flight.paused is None:
        return False
    if op == "retry":
        host.runs[run] = info
        host.executor.tell_again(run)
    found = loads_code(task) if task is not None else None
    return controller.resolve(run, action, op, payload, found, info)
