"""Sizes of bundles, tested as numbers."""

from __future__ import annotations

from array import array

from flyte_nb.core.control.rows import Rows
from flyte_nb.core.control.work import Work
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.transport.code_versions import CodeVersion
from flyte_nb.engine.dispatch.lanes import (
    MAX_BUNDLE,
    Lane,
    LaneGroup,
    QueuedAttempt,
    QueuedRows,
    Slice,
    lanes_missing,
    next_bundle,
    slices_of,
    slots_wanted,
)
from flyte_nb.engine.dispatch.shipments import Shipment
from flyte_nb.engine.links.wire import WorkerInfo


def group_with(queued: int, *, is_async: bool = False) -> LaneGroup:
    group = LaneGroup("s", "e.t", is_async, {})
    shipment = Shipment("e.t", CodeVersion("v", b""))
    for n in range(queued):
        work = Work("r1", f"x{n}", 0, b"")
        group.queue.append(QueuedAttempt(RunInfo(name="r1"), work, lambda _outcome: None, group, shipment))
    return group


def open_lane(group: LaneGroup, name: str = "l1") -> Lane:
    lane = group.lanes[name] = Lane(name, group, "w1", 0.0)
    lane.opened = True
    return lane


def test_an_unknown_task_starts_alone():
    """Without evidence a lane gets one action."""
    group = group_with(100)
    lane = open_lane(group)

    assert 1 == len(next_bundle(group, lane, 1))
    assert 0 == group.room(lane)


def test_quick_actions_travel_in_growing_bundles():
    """Evidence of quick actions lets bundles grow, step by step, up to the limit."""
    group = group_with(20_000)
    lane = open_lane(group)
    sizes = []
    for _ in range(6):
        bundle = next_bundle(group, lane, 1)
        sizes.append(len(bundle))
        lane.attempts.clear()
        group.learn(lane, lane.started + len(bundle), lane.finished + len(bundle), lane.busy + len(bundle) * 1e-5)

    assert sizes == sorted(sizes)
    assert (1, 8) == tuple(sizes[:2])
    assert MAX_BUNDLE >= sizes[-1] > 500


def test_a_long_action_travels_alone():
    """A task that computes for seconds is never bundled."""
    group = group_with(100)
    lane = open_lane(group)
    next_bundle(group, lane, 1)
    lane.attempts.clear()
    group.learn(lane, 1, 1, 2.0)

    assert 1 == len(next_bundle(group, lane, 1))


def test_the_last_actions_are_spread_over_all_lanes():
    """No lane takes more than its share of what is left."""
    group = group_with(10)
    lane = open_lane(group)
    group.learn(lane, 1000, 1000, 0.001)

    assert 5 == group.share(lane, 2)


def test_a_blocked_lane_takes_nothing_and_does_not_count():
    """A sync parent that waits for a child frees its place for another lane."""
    group = group_with(1)
    lane = open_lane(group)
    lane.blocked = True

    assert 0 == group.room(lane)
    assert 1 == lanes_missing(group, 1, 0.0)


def test_a_lane_that_waits_for_its_slot_in_vain_is_replaced_on_another_worker():
    """Another task's long computation has the slot there: what came back runs where one is free; where none is, it waits."""
    group = group_with(1)
    workers = {address: WorkerInfo(address, 1) for address in ("tcp://busy", "tcp://idle")}
    for number, address in enumerate(workers):
        lane = group.lanes[address] = Lane(address, group, address, 0.0)
        lane.open(address, 0.0)
        lane.stalled = True
        assert 1 - number == lanes_missing(group, 2, 1.0, workers=workers)
    lane.stalled = False

    assert 0 == lanes_missing(group, 2, 1.0, workers=workers)


def test_workers_that_come_late_get_lanes_of_their_own():
    """Before any is there one lane waits for it; lanes beyond the slots of the first do not count once others are there."""
    group = group_with(10)
    assert 1 == lanes_missing(group, 1, 0.0, workers={})
    group.lanes["w:9"] = Lane("w:9", group, "", 0.0)
    assert 0 == lanes_missing(group, 1, 100.0, workers={})
    del group.lanes["w:9"]
    for number in range(3):
        lane = group.lanes[f"{number}"] = Lane(f"{number}", group, "", 0.0)
        lane.open("tcp://first", 0.0)
    workers = {address: WorkerInfo(address, 1) for address in ("tcp://first", "tcp://second", "tcp://third")}

    assert 2 == lanes_missing(group, 3, 1.0, workers=workers)


def test_slots_are_wanted_for_what_waits():
    """One for each of unknown cost; of known cost, what ends them in five seconds, and those that compute."""
    group = group_with(120)
    assert 120 == slots_wanted([group])
    group.cost = 0.25
    assert 6 == slots_wanted([group])
    group.cost = 0.001
    assert 1 == slots_wanted([group])
    group.queue.clear()
    assert 0 == slots_wanted([group])


def test_rows_that_come_back_are_at_one_place() -> None:
    """Sent, given back, and sent to the same lane again: each is there once, in the order in which it was sent."""
    rows = Rows(None, RunInfo(name="r1"), "a0", "", None, "", lambda _rows: None, lambda *_settled: None)  # type: ignore[arg-type]
    rows.seal(bytes(8 * 40), [b""] * 40, ("t", (), 1))
    group = group_with(0)
    lane = open_lane(group)
    queued = QueuedRows(rows, group, Shipment("e.t", CodeVersion("v", b"")), array("H", bytes(80)))
    group.queue.append(Slice(queued, 0, 40))
    group.learn(lane, 1_000, 1_000, 0.01)
    lane.started = lane.finished = lane.sent = 1_000

    assert sum(map(len, next_bundle(group, lane, 1))) == 40  # type: ignore[arg-type]
    back = [*range(10, 20), *range(30, 40)]
    lane.give_back(queued, frozenset(back))
    group.queue.prepend(slices_of(queued, back))
    assert (len(group.queue), lane.load) == (20, 20)
    rows.state[0] = 1
    lane.rows_ended(1)
    next_bundle(group, lane, 1)
    assert (len(group.queue), lane.load) == (0, 39)
    assert [row for _, found in lane.take_rows() for row in found] == [*range(1, 10), *range(20, 30), *back]


def test_a_far_lane_holds_what_would_else_wait_for_the_way():
    """Long actions travel alone where a message takes a millisecond, and ahead of their turn where it takes a hundred."""
    group = group_with(100)
    lane = open_lane(group)
    group.cost = 0.06
    assert group.room(lane) == 1
    lane.round_trip = 0.1
    assert group.room(lane) == 4
    group.cost = 10.0
    assert group.room(lane) == 2


def test_a_lane_with_a_device_has_one_attempt_beside_those_that_await_others():
    """Quick ones, too: each has the device for itself."""
    group = group_with(100, is_async=True)
    lane = open_lane(group)
    group.cost, lane.finished, lane.has_device = 1e-4, 100, True
    assert len(next_bundle(group, lane, 1)) == 1
    assert group.room(lane) == 0
    lane.awaiting = 1
    assert group.room(lane) == 1
