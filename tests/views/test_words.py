"""Words of the views: every phase has them."""

from __future__ import annotations

from flyte_nb.core.history.facts import PHASES
from flyte_nb.views.words import LOOKS, SEGMENTS, SIBLINGS, cut_middle, label_text, summary, tally


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
