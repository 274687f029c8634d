"""Parts of an action's time: named, in sum its duration whatever happened, and a person's time in none of the others."""

from __future__ import annotations

import random

import pytest

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import BY_HAND, NOTHING_USED, Phase, Used
from flyte_nb.core.history.parts import parts_of, spans_of
from flyte_nb.core.history.store import RunRecord, RunStore
from flyte_nb.views import words

#: CPU, memory, bytes in and out; seconds of loading code, and arguments.
USED: Used = (1.5, 1_000_000, 10, 20, 0.5, 0.25)


def run_of(*events: ev.Event, ready_at: float | None = None) -> RunRecord:
    """A run with one call at 1.0, and what happened to it."""
    store = RunStore()
    store.append(ev.RunOpened("r1", "cell", "cell", 0.0))
    if ready_at is not None:
        store.append(ev.RunNoted("r1", "", ready_at))
    store.append(ev.ActionQueued("r1", "x", "a0", "t.f", "f(1)", "", 1.0))
    store.extend(events)
    return store.runs["r1"]


def ran(number: int, start: float, end: float, busy: float, ok: bool = True, used: Used = USED) -> ev.AttemptEnded:
    """An attempt."""
    return ev.AttemptEnded("r1", "x", number, start, end, ok, "tcp://w", 1, "0", busy, None, used)


def noted(seq: int, phase: Phase, at: float, note: str = "", attempt: int = 0) -> ev.ActionNoted:
    """A state."""
    return ev.ActionNoted("r1", "x", seq, phase, at, note, attempt)


def parts(record: RunRecord, now: float = 0.0) -> dict[str, float]:
    """Seconds by part."""
    return {part: round(seconds, 3) for part, seconds in parts_of(record, record.actions["x"], now).items()}


def test_each_part_has_its_name() -> None:
    """The cluster, a slot, code, arguments, the body, what it slept, and the way back."""
    record = run_of(ran(0, 5.0, 9.0, 3.0), ev.ActionEnded("r1", "x", 1, Phase.SUCCEEDED, 9.5), ready_at=2.0)
    expected = {"cluster": 1.0, "slot": 2.5, "loading": 0.75, "running": 2.75, "idle": 1.0, "result": 0.5}
    assert expected == parts(record)
    assert "children" not in parts(record)


def test_a_person_is_in_no_other_part() -> None:
    """Parked from 4 to 34, retried by hand, and failed for good until somebody retried it a minute later."""
    record = run_of(
        ran(0, 2.0, 4.0, 2.0, ok=False), noted(1, Phase.PAUSED, 4.0), noted(2, Phase.QUEUED, 34.0, BY_HAND, 1),
        ran(1, 35.0, 36.0, 1.0, ok=False), ev.ActionEnded("r1", "x", 3, Phase.FAILED, 36.0),
        noted(4, Phase.QUEUED, 96.0, BY_HAND, 2), ran(2, 96.5, 97.0, 0.5), ev.ActionEnded("r1", "x", 5, Phase.SUCCEEDED, 97.0),
    )  # fmt: skip
    found = parts(record)
    assert 90.0 == found["person"]
    assert 1.5 == found["between"]
    assert 96.0 == pytest.approx(sum(found.values()))


def test_at_a_breakpoint_it_does_not_run() -> None:
    """Three of its ten seconds were somebody's, at the debugger's prompt."""
    record = run_of(
        noted(1, Phase.PAUSED, 3.0, "breakpoint"), noted(2, Phase.RUNNING, 6.0), ran(0, 1.0, 11.0, 2.0, used=NOTHING_USED),
        ev.ActionEnded("r1", "x", 3, Phase.SUCCEEDED, 11.0),
    )  # fmt: skip
    assert {"running": 2.0, "idle": 5.0, "person": 3.0} == parts(record)


def test_an_attempt_that_was_lost_ended_before_the_next_began() -> None:
    """Nobody tells its end: else it went on for ever, and its time was counted twice."""
    record = run_of(ev.AttemptStarted("r1", "x", 0, 2.0, "tcp://w"), ev.AttemptStarted("r1", "x", 1, 5.0, "tcp://v"))
    assert {"slot": 1.0, "running": 7.0} == parts(record, now=9.0)
    action = record.actions["x"]
    assert [(2.0, 5.0, False), (5.0, None, None)] == [(a.started_at, a.ended_at, a.ok) for a in action.all_attempts]
    assert 7.0 == words.ran(action, 9.0)


def test_what_goes_on_grows_up_to_now() -> None:
    """Queued; then under way, where all is running that is awaiting nothing."""
    assert {"cluster": 1.0, "slot": 3.0} == parts(run_of(ready_at=2.0), now=5.0)
    assert {"slot": 1.0, "running": 4.0} == parts(run_of(ev.AttemptStarted("r1", "x", 0, 2.0, "tcp://w")), now=6.0)


@pytest.mark.parametrize("seed", range(40))
def test_the_sum_is_the_duration_whatever_happened(seed: int) -> None:
    """Random attempts, pauses, retries by hand, clocks that differ; also in any order of arrival."""
    rng = random.Random(seed)
    events: list[ev.Event] = []
    at, seq = 1.0, 1
    for number in range(rng.randint(0, 4)):
        at += rng.random() * 3
        start, at = at, at + rng.random() * 5
        used = (rng.random(), 1, 1, 1, rng.random() * 4, rng.random() * 4)
        events.append(
            ran(
                number,
                start + rng.uniform(-0.1, 0.1),
                at,
                rng.choice([0.0, rng.random() * 6]),
                rng.random() < 0.5,
                used,
            )
        )
        for _ in range(rng.randint(0, 3)):
            at += rng.random()
            events.append(
                noted(
                    seq, rng.choice([Phase.PAUSED, Phase.QUEUED, Phase.RUNNING]), at, rng.choice(["", BY_HAND]), number
                )
            )
            seq += 1
    at += rng.random()
    if ended := rng.random() < 0.7:
        events.append(ev.ActionEnded("r1", "x", seq, rng.choice([Phase.SUCCEEDED, Phase.FAILED, Phase.RECOVERED]), at))
    ready_at = rng.choice([None, rng.random() * 10])
    record = run_of(*events, ready_at=ready_at)
    action = record.actions["x"]
    assert at - 1.0 == pytest.approx(sum(parts_of(record, action, at).values()))
    spans = spans_of(action, at, ready_at)
    assert [1.0, *(span.end for span in spans)] == pytest.approx([*(span.begin for span in spans), at])
    assert ended == action.phase.is_terminal
    rng.shuffle(events)
    again = run_of(*events, ready_at=ready_at)
    assert parts_of(record, action, at) == parts_of(again, again.actions["x"], at)
