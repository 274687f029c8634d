"""Where a run's time went: the path covers the whole of it, follows what was waited for, and is never wrong about more slots."""

from __future__ import annotations

import random

import pytest

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Attempt, Phase
from flyte_nb.core.history.store import RunRecord, RunStore
from flyte_nb.core.history.timing import makespan, timing_of, with_more_slots


def record_of(calls: list[tuple[str, str, float, float, float]], end: float, kind: str = "cell") -> RunRecord:
    """A run from calls (name, parent, queued, started, ended)."""
    store = RunStore()
    store.append(ev.RunOpened("r1", "cell", kind, 0.0))
    if kind == "cell":
        store.append(ev.ActionQueued("r1", "a0", "", "cell", "cell", "", 0.0, "root"))
    for name, parent, queued, started, ended in calls:
        store.append(ev.ActionQueued("r1", name, parent, "t.f", f"f({name})", "", queued, "task"))
        attempt = Attempt(0, started, ended, "w", busy=ended - started, ok=True)
        store.append(ev.ActionEnded("r1", name, 1, Phase.SUCCEEDED, ended, attempt=attempt))
    store.append(ev.RunClosed("r1", Phase.SUCCEEDED, end))
    return store.runs["r1"]


def parts(record: RunRecord) -> list[tuple[str, str, float, float]]:
    timing = timing_of(record, 0.0)
    assert timing is not None
    return [(s.action.name if s.action else "", s.what, round(s.begin, 3), round(s.end, 3)) for s in timing.path]


def test_of_a_gather_the_last_to_end_is_the_path() -> None:
    """With its wait for a slot, and the cell's own code around it."""
    record = record_of([("x", "a0", 1.0, 1.5, 3.0), ("y", "a0", 1.0, 3.0, 6.0)], 7.0)
    assert [
        ("", "running", 0.0, 1.0),
        ("y", "slot", 1.0, 3.0),
        ("y", "running", 3.0, 6.0),
        ("", "running", 6.0, 7.0),
    ] == parts(record)


def test_who_waited_for_a_slot_waited_for_those_that_held_it() -> None:
    """The last of three on one slot was called with the others: each has its share, and most of it has the longest."""
    record = record_of([("x", "a0", 0.0, 0.0, 7.0), ("y", "a0", 0.0, 7.0, 8.0), ("z", "a0", 0.0, 8.5, 10.0)], 10.0)
    timing = timing_of(record, 0.0)
    assert timing is not None
    assert {"slot": 8.5, "running": 1.5} == timing.parts
    assert [("x", 7.0), ("z", 2.0), ("y", 1.0)] == [(action.name, seconds) for action, seconds in timing.longest]
    assert (2, 0.9) == timing.most()


def test_the_clusters_start_is_no_actions() -> None:
    """The first that waited for it is not what made the run last; all of the path together made less than most of it."""
    record = record_of([("x", "a0", 0.0, 8.0, 10.0)], 10.0)
    record.update(ready_at=8.0)
    timing = timing_of(record, 0.0)
    assert timing is not None
    assert {"cluster": 8.0, "running": 2.0} == timing.parts
    assert [("x", 2.0)] == [(action.name, seconds) for action, seconds in timing.longest]
    assert (1, 0.2) == timing.most()


def test_one_after_another_both_are_on_it() -> None:
    """A loop of awaits."""
    record = record_of([("x", "a0", 0.0, 0.0, 2.0), ("y", "a0", 2.0, 2.0, 5.0)], 5.0)
    assert [("x", "running", 0.0, 2.0), ("y", "running", 2.0, 5.0)] == parts(record)


def test_nested_calls_are_followed() -> None:
    """A parent's own code is its own; what it waited for is its child's."""
    record = record_of([("p", "", 0.0, 1.0, 9.0), ("c", "p", 2.0, 3.0, 8.0)], 9.0, kind="run")
    assert [
        ("p", "slot", 0.0, 1.0),
        ("p", "running", 1.0, 2.0),
        ("c", "slot", 2.0, 3.0),
        ("c", "running", 3.0, 8.0),
        ("p", "running", 8.0, 9.0),
    ] == parts(record)


@pytest.mark.parametrize("seed", range(25))
def test_whatever_happened_the_path_is_as_long_as_the_run(seed: int) -> None:
    """Random trees: stretches follow one another without gap or overlap from the beginning to the end."""
    rng = random.Random(seed)
    calls: list[tuple[str, str, float, float, float]] = []

    def grow(parent: str, begin: float, end: float, depth: int) -> None:
        for _ in range(rng.randint(0, 5)):
            queued = rng.uniform(begin, end)
            started = rng.uniform(queued, end)
            ended = rng.uniform(started, end)
            name = f"n{len(calls)}"
            calls.append((name, parent, queued, started, ended))
            if depth < 4:
                grow(name, started, ended, depth + 1)

    grow("a0", 0.0, 100.0, 0)
    calls.append(("only", "a0", 0.0, 0.0, 1.0))
    timing = timing_of(record_of(calls, 100.0), 0.0)
    assert timing is not None
    assert abs(sum(s.seconds for s in timing.path) - 100.0) < 0.2
    for before, after in zip(timing.path, timing.path[1:], strict=False):
        assert before.end <= after.begin + 0.001
    assert len(calls) == timing.actions


def test_more_slots_shorten_what_waited_and_never_lengthen() -> None:
    """Ten pieces of a second on two slots, then on four; more is never slower."""
    assert makespan([1.0] * 10, 2) == 5.0
    assert makespan([1.0] * 10, 4) == 3.0
    record = record_of([(f"n{i}", "a0", 0.0, i // 2, i // 2 + 1.0) for i in range(10)], 5.0)
    assert with_more_slots(record, 2) == (5.0, 3.0)
    assert timing_of(RunStore().runs.get("r1") or record_of([], 1.0, kind="run"), 0.0) is None
