"""One meaning of phases: the browser's table is written from Python's, and every phase has its colours."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from flyte_nb.core.history.facts import PHASES, Phase
from flyte_nb.views.browser.timeline import PARENT
from flyte_nb.views.words import LOOKS, SEGMENTS

JS = Path(__file__).parents[2] / "js" / "src"


def table() -> dict[str, object]:
    """What the browser knows of phases; a word's position is its phase's code."""
    return {
        "words": {phase.name: LOOKS[phase].word for phase in PHASES},
        "terminal": [phase.name for phase in PHASES if phase.is_terminal],
        "failures": [phase.name for phase in PHASES if phase.is_failure],
        "segments": {word: [phase.name for phase in of] for word, _, of in SEGMENTS},
    }


def test_browser_knows_phases_as_python_does() -> None:
    """Names, codes, words, terminal phases, failures and segments; FLYTE_NB_RECORD=1 writes the file anew."""
    path = JS / "phases.json"
    if os.environ.get("FLYTE_NB_RECORD"):
        path.write_text(json.dumps(table(), indent=1) + "\n")

    # As text: the order of the keys is the order of the codes.
    assert json.dumps(table()) == json.dumps(json.loads(path.read_text()))


def test_codes_are_positions_and_fit_a_byte() -> None:
    """The wire sends a phase as one byte; the time axis adds `PARENT` to it."""
    assert list(range(len(Phase))) == [phase.code for phase in PHASES]
    assert len(Phase) <= PARENT


def test_every_phase_is_in_one_segment() -> None:
    """A bar's segments add up to its actions; the browser takes a segment's look from its first phase."""
    assert sorted(Phase) == sorted(phase for _, _, phases in SEGMENTS for phase in phases)


def test_every_phase_has_its_colours() -> None:
    """Of its word and icon, of a segment, and of a heat cell."""
    css = "\n".join(path.read_text() for path in JS.rglob("*.css"))
    for code in (phase.code for phase in PHASES):
        for name in (rf"\.fnb-c-{code}\b", rf"\.fnb-p-{code}\b", rf"\.fnb-b-{code}\b", rf"--fnb-h-{code}:"):
            assert re.search(name, css), name
