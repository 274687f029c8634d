"""The store: what its subscribers are told, and what a run's state becomes."""

from __future__ import annotations

import pytest

from flyte_nb.core.history import events as ev
from flyte_nb.core.history import store as history
from flyte_nb.core.history.facts import LogLine, Phase
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


def test_old_runs_are_forgotten_by_what_they_take_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go, the latest stays whatever it takes; logs, inputs and reports count."""
    monkeypatch.setattr(history, "MAX_BYTES", 450_000)
    store = RunStore()

    def run(name: str, inputs: bytes, line: str) -> None:
        store.append(ev.RunOpened(name, "t", "cell", 0.0))
        store.append(ev.ActionQueued(name, "x", "a0", "env.f", "f(1)", "", 1.0, inputs=inputs))
        store.append(ev.Logged(name, "x", 0, (LogLine(1.0, "stdout", line),) * 100))
        store.append(ev.Reported(name, "x", "main", line))
        store.append(ev.RunClosed(name, Phase.SUCCEEDED, 2.0))

    for number in range(1, 6):
        run(f"r{number}", b"i" * 50_000, "l" * 1_000)
    assert ["r3", "r4", "r5"] == list(store.runs)
    run("r6", b"i" * 500_000, "")
    store.append(ev.RunOpened("r7", "t", "cell", 0.0))

    assert ["r6", "r7"] == list(store.runs)
    assert store.missing("r2").startswith("r2 is not kept any more: old runs go once")
    assert store.missing("r2/a1") == store.missing("r2")
    assert "There is no action a9; `%flyte status` shows the latest run." == store.missing("a9")
    assert "There is no run or action r99; `%flyte runs` lists the runs." == store.missing("r99")


def test_names_of_forgotten_runs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered of them does not grow either."""
    monkeypatch.setattr(history, "MAX_RUNS", 2)
    monkeypatch.setattr(history, "MAX_FORGOTTEN", 3)
    store = RunStore()
    for number in range(1, 10):
        store.append(ev.RunOpened(f"r{number}", "t", "cell", 0.0))
        store.append(ev.RunClosed(f"r{number}", Phase.SUCCEEDED, 1.0))

    assert ["r8", "r9"] == list(store.runs)
    assert ["r5", "r6", "r7"] == list(store.forgotten)
