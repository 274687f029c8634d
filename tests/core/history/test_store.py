"""The store: what its subscribers are told, and what a run's state becomes."""

from __future__ import annotations

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.history.store import Changes, RunStore


def store_with_run() -> RunStore:
    store = RunStore()
    store.append(ev.RunOpened("r1", "t", "cell", 0.0))
    return store


def taken(changes: Changes) -> tuple[bool, set[str], set[str]]:
    """What changed in the run, its actions and its groups; emptied."""
    found = (changes.run, set(changes.actions), set(changes.groups))
    changes.run = False
    changes.actions.clear()
    changes.groups.clear()
    return found


def test_each_subscriber_is_told_what_changed_until_it_leaves() -> None:
    """Actions by name, groups whose counts changed, and the run's own state."""
    store = store_with_run()
    record = store.runs["r1"]
    changes, other = record.subscribe(), record.subscribe()
    taken(changes)

    store.append(ev.ActionQueued("r1", "x", "a0", "env.f", "f(1)", "", 1.0))
    assert (False, {"x"}, {"a0/t:env.f"}) == taken(changes)
    store.append(ev.ActionNoted("r1", "x", 1, Phase.QUEUED, 2.0, "retrying"))
    assert (False, {"x"}, set()) == taken(changes)  # no count has changed
    store.append(ev.RunNoted("r1", "the cluster is starting"))
    assert (True, set(), set()) == taken(changes)

    record.unsubscribe(changes)
    store.append(ev.RunClosed("r1", Phase.SUCCEEDED, 3.0))
    assert (False, set(), set()) == taken(changes)
    assert (True, {"x"}, {"a0/t:env.f"}) == taken(other)


def test_a_run_that_is_closed_and_opened_again_is_announced() -> None:
    """Listeners hear of its end and of its new beginning, once the state says so."""
    store = store_with_run()
    heard = []
    store.listeners.append(lambda event: heard.append((type(event).__name__, store.runs["r1"].state.phase)))

    store.append(ev.RunNoted("r1", "waits"))
    store.append(ev.RunClosed("r1", Phase.FAILED, 3.0))
    store.append(ev.RunReopened("r1", 4.0))

    assert [("RunClosed", Phase.FAILED), ("RunReopened", Phase.RUNNING)] == heard
    assert ("", None) == (store.runs["r1"].state.note, store.runs["r1"].state.ended_at)


def test_events_of_a_run_that_is_not_known_are_ignored() -> None:
    """A run that was forgotten stays so."""
    store = store_with_run()

    store.append(ev.ActionQueued("r2", "x", "a0", "env.f", "f(1)", "", 1.0))

    assert ["r1"] == list(store.runs)
