"""Labels by what differs: arguments that a group shares are said once, dictionaries and dataclasses one level deep."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from bench import synthetic as syn
from flyte_nb.core.history.facts import ErrorNote, Phase
from flyte_nb.core.results.label_parts import parts_of, split
from flyte_nb.views.browser.rows import error_row
from flyte_nb.views.labels import Shared
from flyte_nb.views.printed.html import render
from flyte_nb.views.printed.text import screen
from flyte_nb.views.run_model import RunModel


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1, 'a, b', [1, 2], {'k': (1, 2)}", ["1", "'a, b'", "[1, 2]", "{'k': (1, 2)}"]),
        ("", []),
        ("'it\\'s, so', x", ["'it\\'s, so'", "x"]),
        ("<DataFrame 3x4>, y=<Series 3>", ["<DataFrame 3x4>", "y=<Series 3>"]),
        ("'never closed, x", ["'never closed, x"]),
        (")), a", ["))", "a"]),
    ],
)
def test_a_text_is_split_at_its_own_commas(text: str, parts: list[str]) -> None:
    """Not at those in quotes or brackets."""
    assert parts == split(text)


@pytest.mark.parametrize(
    ("label", "names", "parts"),
    [
        ("f(1, b=2)", ("a", "b"), [("a", "1"), ("b", "2")]),
        ("f(1, 2)", (), [("#0", "1"), ("#1", "2")]),
        ("f({'depth': 6, 'lr': 0.1}, fold=2)", ("params", "fold"), [("depth", "6"), ("lr", "0.1"), ("fold", "2")]),
        ("f(Point(x=1, y=[1, 2]))", ("p",), [("x", "1"), ("y", "[1, 2]")]),
        ("f({1: 2})", ("d",), [("d", "{1: 2}")]),
        ("f({'not a name': 2})", ("d",), [("d", "{'not a name': 2}")]),
        ("f('a=b')", ("s",), [("s", "'a=b'")]),
        ("f()", (), []),
        ("sleep", (), None),
    ],
)
def test_a_label_is_its_arguments_by_name(label: str, names: tuple[str, ...], parts: object) -> None:
    """Those by position have the names of the parameters; what is inside of dictionaries and dataclasses, its own."""
    assert parts == parts_of(label, names)


def shared(labels: list[str], names: tuple[str, ...] = ()) -> Shared:
    """Of calls."""
    found = Shared(names)
    found.look(labels)
    return found


def test_a_sweep_shows_its_parameters() -> None:
    """Constants once, what varies in the row."""
    labels = [
        f"fit(<DataFrame 569x30>, <Series 569>, {{'depth': {d}, 'trees': 20}}, {fold})"
        for d in (2, 4)
        for fold in (0, 1)
    ]
    found = shared(labels, ("X", "y", "params", "fold"))
    assert "X=<DataFrame 569x30>, y=<Series 569>, trees=20" == found.text
    assert ["depth=2  fold=0", "depth=2  fold=1", "depth=4  fold=0", "depth=4  fold=1"] == [
        found.differing(x) for x in labels
    ]
    assert "X=<DataFrame 3x3>  depth=9  fold=7" == found.differing(
        "fit(<DataFrame 3x3>, <Series 569>, {'depth': 9, 'trees': 20}, 7)"
    )


def test_what_stands_alone_or_shares_nothing_is_whole() -> None:
    """One call, calls that are equal, and calls that differ in everything."""
    assert "f(1)" == shared(["f(1)"], ("x",)).differing("f(1)")
    same = shared(["f(1)", "f(1)"], ("x",))
    assert ("f(1)", "x=1") == (same.differing("f(1)"), same.text)
    differ = shared(["f(1)", "f(2)"], ("x",))
    assert ("f(2)", "") == (differ.differing("f(2)"), differ.text)
    assert "nap" == shared(["nap", "f(1)"]).differing("nap")
    cut = shared(["f('a long text that is cu...', 1)"] * 2, ("text", "x"))
    assert ("x=1", "f('a long text that is cu...', 1)") == (
        cut.text,
        cut.differing("f('a long text that is cu...', 1)"),
    )


def test_a_long_nasty_label_takes_no_time() -> None:
    """Linear, whatever it is made of."""
    began = time.perf_counter()
    for nasty in ("(" * 1_000_000, "'" * 1_000_001, "f(" + "{'a': " * 200_000 + ")", ",".join("x" * 500_000)):
        split(nasty)
        parts_of(nasty)
    assert time.perf_counter() - began < 20


def test_what_failed_calls_have_in_common_and_no_other(model_of: Callable[..., RunModel]) -> None:
    """Said of equal errors: the argument that all of them have and no call that succeeded; not one that others have, too."""
    error = ErrorNote("user", "ValueError", "one class")
    actors = {
        (depth, fold): syn.Actor("r1", f"{depth}{fold}", "a0", f"fit(depth={depth}, fold={fold}, seed={depth * fold % 2})")
        for depth in (2, 4, 6) for fold in range(4)
    }  # fmt: skip
    events: list[syn.Event] = [syn.opened(), syn.root(), *(actor.queued(syn.T0) for actor in actors.values())]
    for (_, number), actor in actors.items():
        events += [actor.start(syn.T0), actor.attempt_ended(syn.T0 + 1, error if number == 3 else None)]
        events.append(actor.ended(syn.T0 + 1, *((Phase.FAILED, error) if number == 3 else ())))
    model = model_of(events)
    (fold,) = model.errors.most()
    assert "fold=3" == model.labels.in_common(fold)
    assert "all with fold=3" in screen(model)
    assert "all with fold=3" in render(model)
    assert "fold=3" == error_row(fold, model.labels)["common"]
