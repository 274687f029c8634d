"""Words of the views: every phase has them."""

from __future__ import annotations

import flyte_nb as flyte
from bench import synthetic as syn
from flyte_nb.core.history import events as ev
from flyte_nb.core.history import parts
from flyte_nb.core.history.facts import PHASES, ErrorNote, Phase
from flyte_nb.core.history.store import RunStore
from flyte_nb.views.browser.rows import Workers, row
from flyte_nb.views.words import (
    LOOKS,
    SEGMENTS,
    SIBLINGS,
    cut_middle,
    label_text,
    note_of,
    part_word,
    parts_text,
    summary,
    tally,
)


def test_every_phase_has_a_look_a_segment_and_a_word_for_siblings():
    """Each is in one segment; a failed action's siblings are told by one word, or failed as it did."""
    told = [phase for _, phases in SIBLINGS for phase in phases]

    assert set(PHASES) == set(LOOKS)
    assert sorted(PHASES) == sorted(phase for segment in SEGMENTS for phase in segment.phases)
    assert sorted(phase for phase in PHASES if not phase.is_failure) == sorted(told)


def test_segments_add_up():
    """A bar has all actions, in the order of `SEGMENTS`; phases of one segment are one number."""
    counts = [1] * len(PHASES)

    assert [segment.word for segment in SEGMENTS] == [segment.word for segment, _ in tally(counts)]
    assert len(PHASES) == sum(n for _, n in tally(counts))
    assert "2 done, 2 failed, 3 cancelled, 1 paused, 2 running, 2 queued" == summary(counts)


def test_labels_are_cut_in_their_middle_and_hide_secrets_before():
    """What differs stands at the end; half a secret is none that is recognised."""
    label = "crawl url='https://example.org/articles?page=12'"

    assert label == cut_middle(label, len(label))
    assert "crawl url='http…/some?page=12'" == cut_middle("crawl url='https://example.org/some?page=12'", 30)
    assert [1, 2, 3, 29, 30] == [len(label_text(label, limit)) for limit in (1, 2, 3, 29, 30)]
    assert "ghp_" not in label_text(f"push(token='ghp_{'a' * 40}')", 20)


def test_what_goes_on_again_says_how_far_it_is() -> None:
    """That it was retried is told until it begins, and no longer."""
    actor = syn.Actor("r1", "x", "a0", "f(1)")
    store = RunStore()
    again = actor.noted(syn.T0 + 1, Phase.QUEUED, "retrying (its worker was lost)", attempt=1)
    store.extend([syn.opened(), syn.root(), actor.queued(syn.T0), actor.start(syn.T0), again])
    action = store.runs["r1"].actions["x"]

    assert note_of(action) == "retrying (its worker was lost)"
    store.extend([actor.start(syn.T0 + 2, 1)])
    assert note_of(action) == ""
    store.extend([ev.Progressed("r1", "x", 1, syn.T0 + 3, 4, 10, 0.0, "", "items")])
    assert note_of(action) == "▰▰▰▰▱▱▱▱▱▱ 40%  4 / 10 items"


def test_a_row_does_not_count_what_a_person_took() -> None:
    """At a breakpoint its time stands still; it goes on from there; between two attempts it stands still, too."""
    actor = syn.Actor("r1", "x", "a0", "f(1)")
    steps: list[tuple[syn.Event, dict[str, float]]] = [
        (actor.start(syn.T0), {}),
        (actor.noted(syn.T0 + 3, Phase.PAUSED, "breakpoint at x:1"), {"ran": 3.0}),
        (actor.noted(syn.T0 + 3_603, Phase.RUNNING), {"away": 3_600.0}),
        (actor.attempt_ended(syn.T0 + 3_604, ErrorNote("user", "ValueError", "no")), {"ran": 4.0}),
        (actor.start(syn.T0 + 3_605, 1), {"away": 3_601.0}),
    ]
    events: list[syn.Event] = [syn.opened(), syn.root(), actor.queued(syn.T0)]
    for number, (_, told) in enumerate(steps):
        store = RunStore()
        store.extend([*events, *(event for event, _ in steps[: number + 1])])
        found = row(store.runs["r1"], store.runs["r1"].actions["x"], Workers())
        assert told == {key: found[key] for key in ("ran", "away") if key in found}


def test_who_waits_for_gpus_is_said_to():
    """A task that asks for them waits for more than a slot."""
    env = flyte.TaskEnvironment("words", resources=flyte.Resources(gpu=2))

    @env.task
    async def train() -> None: ...

    assert "waited for a slot with GPU=2" == part_word(parts.SLOT, "words.train")
    assert "waited for a slot" == part_word(parts.SLOT, "words.unknown")
    assert "running 2.00 s" == parts_text({parts.RUNNING: 2.0}, (), "words.train")
