"""Facts about phases: what other processes, saved runs and browsers rely on."""

from __future__ import annotations

import pickle

from flyte_nb.core.history.facts import PHASES, TERMINAL, Phase


def test_codes_of_phases_are_what_they_were():
    """A code is on the wire and in recorded runs: it keeps its phase, whatever the order of the enum."""
    assert {
        "queued": 0, "waiting_for_resources": 1, "initializing": 2, "running": 3, "paused": 4, "cancelling": 5,
        "succeeded": 6, "failed": 7, "aborted": 8, "timed_out": 9, "recovered": 10, "abandoned": 11,
    } == {phase.value: phase.code for phase in Phase}  # fmt: skip


def test_codes_are_indices():
    """Counts by code are lists: no code is missing, none is given twice."""
    assert list(range(len(Phase))) == [phase.code for phase in PHASES]
    assert set(Phase) == set(PHASES)


def test_a_phase_that_ended_did_so_in_one_way():
    """A result or an error only where nothing follows, and never both."""
    assert {phase for phase in Phase if phase.is_success or phase.is_failure} < TERMINAL
    assert not [phase for phase in Phase if phase.is_success and phase.is_failure]


def test_phases_are_their_values():
    """They look up, print, compare and travel as the strings that they are."""
    assert Phase.FAILED is Phase("failed")
    assert Phase.FAILED == "failed" == str(Phase.FAILED) == f"{Phase.FAILED}"  # type: ignore[comparison-overlap]
    assert Phase.FAILED is pickle.loads(pickle.dumps(Phase.FAILED, 5))
