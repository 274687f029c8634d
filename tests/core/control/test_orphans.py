"""Orphans: actions whose owner is lost, whoever executed their parent meanwhile."""

from __future__ import annotations

from flyte_nb.core.control import orphans
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.history.store import RunStore


def store_of(*owners: str) -> RunStore:
    """A run with a parent whose attempt is on "b", and a child that these workers have announced."""
    store = RunStore()
    queued = ev.ActionQueued("r1", "child", "parent", "t", "t()", "", 2.0)
    for event in (
        ev.RunOpened("r1", "cell", "cell", 1.0),
        ev.ActionQueued("r1", "parent", "", "t", "t()", "", 1.0),
        ev.AttemptStarted("r1", "parent", 0, 1.5, "a", 1, "0"),
        queued,
        ev.AttemptStarted("r1", "parent", 0, 2.5, "b", 1, "0"),  # its owner took it for one that had not begun
    ):
        store.append(event)
    for owner in owners:
        orphans.own(store, queued, owner)
    return store


def lost(store: RunStore, worker: str) -> list[str]:
    """Names of the orphans that this worker leaves."""
    return [action.name for _, action in orphans.orphans(store, worker)]


def test_what_a_lost_worker_announced_is_an_orphan_wherever_its_parent_is_now() -> None:
    """The parent's latest attempt is elsewhere, under the same number."""
    assert ["child"] == lost(store_of("a"), "a")
    assert [] == lost(store_of("a"), "b")


def test_what_two_workers_announced_is_the_others_until_both_are_lost() -> None:
    """The parent was executed again, and called it again."""
    store = store_of("a", "b")
    assert [[], ["child"]] == [lost(store, "a"), lost(store, "b")]


def test_neither_what_has_ended_nor_what_nobody_else_announced_is_an_orphan() -> None:
    """The home's own actions, and those of runs that it has dropped."""
    store = store_of("a")
    store.append(ev.ActionEnded("r1", "child", 1, Phase.SUCCEEDED, 3.0))
    orphans.own(store, ev.ActionQueued("gone", "child", "", "t", "t()", "", 1.0), "a")
    assert [] == lost(store, "a") == lost(store_of(), "a")
