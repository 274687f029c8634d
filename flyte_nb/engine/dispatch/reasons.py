"""Reasons why an action waits, in words: slots, a resource, a limit, the cluster. Runs in: engine thread; worker loop.

Its owner knows: the controller whether it is held back, the queues what is before it, the network what the cluster has. Looked
up when somebody asks, at the cost of a look at the queue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from flyte_nb.core.control.controller import Controller
from flyte_nb.core.history.worker_names import name_of
from flyte_nb.engine.dispatch.lanes import Lane, LaneGroup, Slice
from flyte_nb.engine.dispatch.network import Network


def why_queued(controller: Controller, network: Network, groups: Iterable[LaneGroup], run: str, action: str) -> str:
    """Why an action that this process owns does not run yet, as a clause; "" if nothing is known.

    Args:
        controller: The owner's.
        network: Of the owner.
        groups: All its queues.
        run: The action's run.
        action: Its name.
    """
    flight = controller.flights.get((run, action))
    if flight is not None and flight.work is None:
        if flight.looking:
            return "its result is looked for in the cache"
        held = controller.admission.why(flight)
        return held or ("it is to be retried" if flight.timer is not None else "")
    listed = list(groups)
    for group in listed:
        before = _before(group, run, action)
        if before is not None:
            return _of_queue(group, before, network, listed)
        for lane in group.lanes.values():
            if any(key[0] == run and key[1] == action for key in lane.attempts):
                ahead = lane.load - 1
                return f"it is at {name_of(lane.address)}" + (
                    f", with {ahead:,} others" if ahead else ", and about to begin"
                )
    return ""


def _before(group: LaneGroup, run: str, action: str) -> int | None:
    """How many attempts are before an action in a queue; None if it is not in it."""
    before, found = 0, dict[int, int]()
    for item in group.queue:
        if not isinstance(item, Slice):
            if item.work.run == run and item.work.action == action:
                return before
            before += 1
            continue
        rows = item.of.rows
        row = found.setdefault(rows.number, rows.find(action) if rows.run.name == run else -1)
        if item.low <= row < item.high:
            return before + row - item.low
        before += len(item)
    return None


def _of_queue(group: LaneGroup, before: int, network: Network, groups: Iterable[LaneGroup]) -> str:
    """Why what is in a queue is there."""
    amiss = network.why_waiting(group.resources)
    if amiss:
        return amiss
    slots, busy, what = _slots(group, network, groups)
    behind = f", {before:,} before it" if before else ""
    if silent := [name_of(address) for address in network.silent if address in network.roster]:
        behind += f"; {', '.join(silent[:3])} {'does' if len(silent) == 1 else 'do'} not answer"
    if busy < slots and not before:
        return "a slot is free: it is about to begin"
    left = (before + 1) * group.cost / max(slots, 1) if group.cost is not None else 0.0
    about = f", about {left:.0f} s" if left >= 1 else ""
    return f"{busy} of {slots} {what} busy{behind}{about}"


def _slots(group: LaneGroup, network: Network, groups: Iterable[LaneGroup]) -> tuple[int, int, str]:
    """How many slots, or devices, there are for a group; how many are in use; and what they are called."""
    for name, amount in group.resources.items():
        offered = sum(dict(worker.offers).get(name, 0.0) for worker in network.roster.values())
        held = sum(lane.opened for each in groups for lane in each.lanes.values() if name in each.resources)
        if offered < 1_000:  # else nobody counts them
            return (
                int(offered / amount),
                min(held, int(offered / amount)),
                name if amount == 1 else f"times {name}={amount:g}",
            )
    if group.reuse is not None:
        used = sum(1 for lane in group.lanes.values() if lane.load)
        return group.processes, min(used, group.processes), f"replicas of {group.environment}"
    slots = sum(worker.nthreads for worker in network.roster.values())
    return slots, min(max(network.computing, _loaded(groups, network)), slots), "slots"


def _loaded(groups: Iterable[LaneGroup], network: Network) -> int:
    """Slots that lanes of this owner may use just now."""
    at = Counter[str](lane.address for group in groups for lane in group.lanes.values() if _computes(lane))
    return sum(min(n, network.roster[address].nthreads) for address, n in at.items() if address in network.roster)


def _computes(lane: Lane) -> bool:
    return bool(lane.load) and not lane.blocked
