"""Folding events: any order of arrival gives the same state."""

from __future__ import annotations

import dataclasses
import itertools

from hypothesis import given
from hypothesis import strategies as st

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import ErrorNote, Phase
from flyte_nb.core.history.store import RunStore

STORY = [
    ev.ActionQueued("r1", "x", "a0", "e.t", "t(1)", "", 1.0),
    ev.AttemptStarted("r1", "x", 0, 2.0, "w1", 7, "0"),
    ev.AttemptEnded("r1", "x", 0, 2.0, 3.0, False, "w1", 7, "0", 0.5, ErrorNote("user", "ValueError", "no")),
    ev.ActionNoted("r1", "x", 1, Phase.QUEUED, 3.1, "retrying", 1),
    ev.AttemptStarted("r1", "x", 1, 4.0, "w2", 8, "0"),
    ev.Progressed("r1", "x", 1, 4.5, 30.0, 100.0, 9.0, "loss 0.1", "items"),
    ev.AttemptEnded("r1", "x", 1, 4.0, 5.0, True, "w2", 8, "0", 0.5),
    ev.ActionEnded("r1", "x", 2, Phase.SUCCEEDED, 5.1),
]


def folded(events):
    store = RunStore()
    store.append(ev.RunOpened("r1", "t", "cell", 0.0))
    store.extend(events)
    return dataclasses.asdict(store.runs["r1"].actions["x"])


@given(st.permutations(STORY))
def test_order_of_arrival_does_not_matter(events):
    """Every permutation of a story folds to the same action."""
    assert folded(STORY) == folded(events)


def test_phases_along_the_story():
    """In order, the story reads queued, running, queued again for its retry, running, succeeded."""
    phases = [folded(STORY[: n + 1])["phase"] for n in range(len(STORY))]

    assert [
        Phase.QUEUED, Phase.RUNNING, Phase.RUNNING, Phase.QUEUED, Phase.RUNNING, Phase.RUNNING, Phase.RUNNING, Phase.SUCCEEDED,
    ] == phases  # fmt: skip


def test_events_of_unknown_runs_are_ignored():
    """A run that was dropped does not come back."""
    store = RunStore()
    store.append(STORY[0])  # type: ignore[arg-type]

    assert {} == store.runs


def test_groups_count_their_members():
    """The tally of a group equals a count over its members."""
    store = RunStore()
    store.append(ev.RunOpened("r1", "t", "cell", 0.0))
    for n, end in itertools.product(range(4), [False, True]):
        if not end:
            store.append(ev.ActionQueued("r1", f"x{n}", "a0", "e.t", f"t({n})", "g", 1.0))
        elif n % 2:
            store.append(ev.ActionEnded("r1", f"x{n}", 1, Phase.FAILED, 2.0))
    group = store.runs["r1"].groups["a0/g:g"]

    assert (2, 2, 4) == (group.count(Phase.FAILED), group.count(Phase.QUEUED), len(group.members))
