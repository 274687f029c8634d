"""Columns tell what an event for each action would tell."""

from __future__ import annotations

import pickle
from array import array
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.columns import BATCH_BITS, DIGEST
from flyte_nb.core.history.facts import Attempt, Phase
from flyte_nb.core.history.store import RunRecord, RunStore
from flyte_nb.core.journal.format import decoded, encoded

PLACE = ("tcp://w", 7, "ab")
N = 40
NAMES = [f"{row:016x}c0de" for row in range(N)]
INPUTS = [pickle.dumps(((row,), {}), 5) for row in range(N)]
OPENED = ev.RunOpened("r1", "cell", "cell", 1.0)


def queued_together() -> list[ev.Event]:
    names = b"".join(bytes.fromhex(name[:16]) for name in NAMES)
    call = ev.CallsQueued("r1", 3, "a0", "e.t", "t_map", 2.0, 1, names, "c0de", INPUTS, ("t", ("x",), 1))
    return [call]


def queued_one_by_one() -> list[ev.Event]:
    return [
        ev.ActionQueued("r1", name, "a0", "e.t", f"t({row})", "t_map", 2.0, "task", 1, INPUTS[row])
        for row, name in enumerate(NAMES)
    ]


def ended_together(rows: list[int], phase: Phase) -> list[ev.Event]:
    started, ended = array("d", [row + 3.0 for row in rows]), array("d", [row + 4.0 for row in rows])
    outputs: list[bytes | None] = [pickle.dumps(row, 5) for row in rows]
    ends = (array("I", rows).tobytes(), started.tobytes(), ended.tobytes(), array("f", [0.5] * len(rows)).tobytes())
    return [ev.CallsEnded("r1", 3, phase, 60.0, *ends, outputs, {}, PLACE)] if rows else []


def used(row: int) -> tuple[float, int, int, int, float, float]:
    """What is known without measuring."""
    return 0.0, 0, len(INPUTS[row]), len(pickle.dumps(row, 5)), 0.0, 0.0


def ended_one_by_one(rows: list[int], phase: Phase) -> list[ev.Event]:
    return [
        ev.ActionEnded(
            "r1", NAMES[row], 1, phase, 60.0, None, False, pickle.dumps(row, 5), str(row),
            Attempt(0, row + 3.0, row + 4.0, *PLACE, 0.5, phase.is_success, None, used(row)),
        )
        for row in rows
    ]  # fmt: skip


def record_of(events: list[ev.Event]) -> RunRecord:
    store = RunStore()
    store.extend(events)
    return store.runs["r1"]


lists = st.lists(st.integers(0, N - 1), unique=True).map(sorted)


@settings(max_examples=60, deadline=None)
@given(lists, lists, lists, st.booleans(), st.booleans())
def test_rows_and_objects_are_the_same(
    first: list[int], alone: list[int], aborted: list[int], recorded: bool, early: bool
) -> None:
    """Whichever end together, one by one, or after events of their own, also ahead of their owner's; also from the journal."""
    others = [row for row in range(N) if row not in alone]
    done = [row for row in others if row in first]
    stopped = [row for row in others if row in aborted and row not in first]
    began: list[ev.Event] = [ev.AttemptStarted("r1", NAMES[row], 0, 3.5, *PLACE) for row in alone]
    noted: list[ev.Event] = [ev.ActionNoted("r1", NAMES[row], 1, Phase.QUEUED, 5.0, "retrying", 1) for row in alone]
    before, after = (began, noted) if early else ([], began + noted)
    together = (
        queued_together() + ended_together(done, Phase.SUCCEEDED) + after + ended_together(stopped, Phase.ABORTED)
    )
    single = (
        queued_one_by_one() + ended_one_by_one(done, Phase.SUCCEEDED) + after + ended_one_by_one(stopped, Phase.ABORTED)
    )
    together, single = before + together, before + single
    if recorded:
        together = decoded(encoded(together), "r1")
    one, other = record_of([OPENED, *together]), record_of([OPENED, *single])

    assert list(one.numbered) == list(other.numbered) == NAMES
    assert [one.actions[name] for name in NAMES] == [other.actions[name] for name in NAMES]
    assert list(one.actions.values()).sort(key=lambda a: a.number) == list(other.actions.values()).sort(
        key=lambda a: a.number
    )
    assert {a.number for a in one.actions.unended()} == {a.number for a in other.actions.unended()}
    (group,), (like,) = one.groups.values(), other.groups.values()
    assert (group.phases, group.counts, list(group.members)) == (like.phases, like.counts, list(like.members))
    assert one.last_end(group) == other.last_end(like)
    assert [one.group_of(name)[1] for name in NAMES] == list(range(N))  # type: ignore[index]
    assert group.members[3:7] == NAMES[3:7]
    assert one.find("a17") == other.find("a17")
    one.measure()
    assert one.nbytes < other.nbytes or other.nbytes == 0


def test_a_row_that_was_looked_at_goes_on() -> None:
    """It becomes an object, which follows what happens; one that has ended is a picture of it."""
    record = record_of([OPENED, *queued_together()])
    seen = record.actions[NAMES[5]]
    store = RunStore()
    store.runs["r1"] = record
    store.extend(ended_together(list(range(N)), Phase.SUCCEEDED))

    assert seen.phase is Phase.SUCCEEDED
    assert seen is record.actions[NAMES[5]]
    assert replace(record.actions[NAMES[6]]) == record.actions[NAMES[6]]
    assert pickle.loads(pickle.dumps(record.actions[NAMES[6]].name)) == NAMES[6]


def test_rows_that_another_owner_calls_again_are_there_once() -> None:
    """Their parent was executed again elsewhere under the same number, as its first owner was lost."""
    call: Any = queued_together()[0]
    again = call._replace(batch=3 + (1 << BATCH_BITS), inputs=INPUTS[:30], names=call.names[: 30 * DIGEST])
    ends: Any = ended_together(list(range(30)), Phase.SUCCEEDED)[0]
    some = ended_together(list(range(10)), Phase.SUCCEEDED)[0]
    parent = ev.ActionQueued("r1", "a0", "", "e.p", "p()", "", 1.5)
    events = [OPENED, parent, call, some, again, ends._replace(batch=again.batch)]
    record = record_of(events)

    assert list(record.numbered) == ["a0", *NAMES]
    assert len(record.actions) == N + 1
    assert [record.actions[name].phase.is_success for name in NAMES] == [True] * 30 + [False] * 10
    (group,) = (group for group in record.groups.values() if group.parent == "a0")
    assert group.count(Phase.SUCCEEDED) == 30
    assert len(group.members) == N
