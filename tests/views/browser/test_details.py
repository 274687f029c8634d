"""What is said of one action: times, the frames of its failure, what a session adds, all bounded."""

from __future__ import annotations

from typing import Any

import pytest

from bench import synthetic as syn
from flyte_nb.core.failures.capture import capture
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.history.parts import awaited
from flyte_nb.core.history.store import RunRecord, RunStore
from flyte_nb.views.browser.details import base_detail
from flyte_nb.views.browser.replies import answer_of, bounded_detail
from flyte_nb.views.browser.rows import Workers, asks
from flyte_nb.views.labels import Labels
from flyte_nb.views.printed.page import failure_text
from flyte_nb.views.words import location


@pytest.fixture
def nested(store: RunStore) -> RunRecord:
    store.extend(syn.nested())
    return store.runs["r1"]


def test_time_that_an_action_awaits_its_own_is_told(nested: RunRecord) -> None:
    """Overlapping children count once, gaps between them not; an action without children awaits none."""
    main = nested.find("m")
    assert main is not None

    assert 0.63 + 0.76 + 0.41 == pytest.approx(awaited(nested, main, syn.T0), abs=0.01)
    assert 0.0 == awaited(nested, nested.actions["l"], syn.T0)


def test_path_leads_from_the_top_to_the_parent(nested: RunRecord) -> None:
    """The implied root of a cell is no step of it."""
    assert [[1, "pipeline('2026-Q3')"], [6, "clean('apac')"]] == base_detail(
        nested, nested.actions["c10"], Labels(nested), Workers(), syn.T0
    )["path"]


def test_the_action_of_a_run_is_shown_and_a_cells_root_is_not(store: RunStore) -> None:
    """`flyte.run` executes its root; a cell's stands for the cell."""
    for run, kind in (("r1", "run"), ("r2", "cell")):
        store.append(ev.RunOpened(run, "work", kind, syn.T0))
        store.append(ev.ActionQueued(run, "a0", "", "demo.work", "work(1)", "", syn.T0, "root"))

    assert 1 == store.runs["r1"].count(Phase.QUEUED)
    assert 0 == store.runs["r2"].count(Phase.QUEUED)


def test_a_snapshot_reads_the_users_frames() -> None:
    """File, line and source of each, then the error; nonsense gives nothing."""

    def work(x: int) -> int:
        empty: dict[int, int] = {}
        return empty[x]

    try:
        work(1)
    except KeyError as exc:
        record = capture(exc, task="demo.work", action="x", label="work(1)", attempt=0, worker="")
    text = failure_text(record.dumps())

    assert "in work\n    return empty[x]\nKeyError: 1" in text
    assert "" == failure_text(b"nonsense")


def test_what_a_session_adds_is_bounded() -> None:
    """Tables, texts, pictures and hints of any size and type become small and of their type."""
    table = {"head": ["x" * 1_000] * 100, "rows": [["y" * 1_000] * 100] * 1_000, "said": 7, "index": 1}
    more: dict[str, Any] = {
        "inputs": [{"name": "n" * 1_000, "text": "t" * 10**6, "table": table, "png": "<script>", "html": 7}] * 100,
        "output": {"text": None, "table": {"head": 1, "rows": [[1], 2]}},
        "hints": [{"label": "l" * 1_000, "code": "c" * 10_000}] * 100,
        "other": object(),
    }
    out = bounded_detail(more)

    assert {"inputs", "output", "hints"} == set(out)
    assert {"name", "text", "table"} == set(out["inputs"][0])
    assert 10**6 > len(str(out["inputs"][0]))
    assert {"head": [], "rows": [["1"], []], "said": "", "index": False} == out["output"]["table"]
    assert 10 == len(out["hints"])


@pytest.mark.parametrize(
    ("result", "reply"),
    [
        (None, {"ok": True}),
        ("done", {"text": "done"}),
        ({"ok": True}, {"ok": True}),
        ({"ok": False, "error": "no"}, {"ok": False, "error": "no"}),
        ({"ok": False, "text": "no"}, {"ok": False, "error": "no"}),
    ],
)
def test_every_press_has_a_reply(result: object, reply: dict[str, Any]) -> None:
    """Whatever an operation returns."""
    assert reply == answer_of(result)


def test_a_refusal_without_words_gets_some() -> None:
    """A button that did nothing says so."""
    assert "nothing to do" in answer_of({"ok": False})["error"]


def test_a_condition_of_unknown_form_is_asked_for_text(store: RunStore) -> None:
    """Arguments that cannot be read do not keep its row from being shown."""
    store.append(syn.opened())
    actor = syn.Actor("r1", "q", "", "go: Now?", kind="condition", inputs=b"nonsense")
    store.extend([actor.queued(syn.T0), actor.noted(syn.T0, Phase.PAUSED, "waits")])

    assert {"type": "str", "prompt": "waits"} == asks(store.runs["r1"].actions["q"])


@pytest.mark.parametrize("where", ["etl.py:31 in impute", "", "123.py in x", "12345.py:3 in work"])
def test_places_that_are_no_known_cell_stay_as_they_are(where: str) -> None:
    """Only this kernel's cells have another name."""
    assert where == location(where)
    assert "Cell In[2]:20 in fit" == location("In [2]:20 in fit")
