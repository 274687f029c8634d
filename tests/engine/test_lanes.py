"""Sizes of bundles, tested as numbers."""

from __future__ import annotations

from flyte_nb.core.control.work import Work
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.engine.lanes import MAX_BUNDLE, Item, Lane, Shape, lanes_missing, next_bundle


def shape_with(queued: int, *, is_async: bool = False) -> Shape:
    shape = Shape("s", "e.t", b"", is_async, {})
    for n in range(queued):
        shape.queue.append(Item(RunInfo(name="r1"), Work("r1", f"x{n}", 0, b""), lambda _outcome: None))
    return shape


def open_lane(shape: Shape, name: str = "l1") -> Lane:
    lane = shape.lanes[name] = Lane(name, "w1", 0.0)
    lane.opened = True
    return lane


def test_an_unknown_task_starts_alone():
    """Without evidence a lane gets one action."""
    shape = shape_with(100)
    lane = open_lane(shape)

    assert 1 == len(next_bundle(shape, lane, 1))
    assert 0 == shape.room(lane)


def test_quick_actions_travel_in_growing_bundles():
    """Evidence of quick actions lets bundles grow, step by step, up to the limit."""
    shape = shape_with(20_000)
    lane = open_lane(shape)
    sizes = []
    for _ in range(6):
        bundle = next_bundle(shape, lane, 1)
        sizes.append(len(bundle))
        lane.items.clear()
        shape.learn(lane, lane.started + len(bundle), lane.finished + len(bundle), lane.busy + len(bundle) * 1e-5)

    assert sizes == sorted(sizes)
    assert (1, 8) == tuple(sizes[:2])
    assert MAX_BUNDLE >= sizes[-1] > 500


def test_a_long_action_travels_alone():
    """A task that computes for seconds is never bundled."""
    shape = shape_with(100)
    lane = open_lane(shape)
    next_bundle(shape, lane, 1)
    lane.items.clear()
    shape.learn(lane, 1, 1, 2.0)

    assert 1 == len(next_bundle(shape, lane, 1))


def test_the_last_actions_are_spread_over_all_lanes():
    """No lane takes more than its share of what is left."""
    shape = shape_with(10)
    lane = open_lane(shape)
    shape.learn(lane, 1000, 1000, 0.001)

    assert 5 == shape.share(lane, 2)


def test_a_blocked_lane_takes_nothing_and_does_not_count():
    """A sync parent that waits for a child frees its place for another lane."""
    shape = shape_with(1)
    lane = open_lane(shape)
    lane.blocked = True

    assert 0 == shape.room(lane)
    assert 1 == lanes_missing(shape, 1, 0.0)
