"""How far the actions of a group are together, and their run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from bench import synthetic as syn
from flyte_nb.core.history import events as ev
from flyte_nb.views.run_model import RunModel

ModelOf = Callable[[Iterable[ev.Event]], RunModel]


def told(name: str, done: float, total: float | None, rate: float = 0.0, unit: str = "items") -> ev.Progressed:
    return ev.Progressed("r1", name, 0, syn.T0 + done / 1e6, done, total, rate, "", unit)


def fits(ended: int, *more: ev.Event) -> Iterator[ev.Event]:
    yield syn.opened()
    yield syn.root()
    actors = [syn.Actor("r1", f"f{i}", "a0", f"fit({i})") for i in range(10)]
    yield from (actor.queued(syn.T0) for actor in actors)
    yield from (actor.start(syn.T0) for actor in actors[:6])
    yield from more
    for actor in actors[:ended]:
        yield actor.attempt_ended(syn.T0 + 1)
        yield actor.ended(syn.T0 + 1)


def text(model: RunModel) -> str:
    [group] = model.record.groups.values()
    return model.progress.text(group)


def test_parts_of_what_goes_on_count(model_of: ModelOf) -> None:
    """Two have ended, two are half done, of ten; their items and rates add up."""
    model = model_of(fits(2, told("f1", 40, 40), told("f4", 20, 40, 10), told("f5", 20, 40, 5)))
    assert text(model) == "30% · 80 / 120 items · 15/s"
    assert model.progress.share() == pytest.approx(0.3)
    model.record.apply(told("f4", 40, 40, 12))
    assert model.take().groups
    assert text(model) == "35% · 100 / 120 items · 17/s"
    assert model.progress.summary(next(iter(model.record.groups.values()))).endswith("2 done, 4 running, 4 queued")


def test_what_cannot_be_added_is_not(model_of: ModelOf) -> None:
    """Different units, shares alone; nothing where none tells, or all have ended."""
    assert text(model_of(fits(1, told("f4", 20, 40), told("f5", 5, 10, 0, "B")))) == "20%"
    assert text(model_of(fits(1))) == ""
    assert text(model_of(fits(10, told("f1", 20, 40)))) == ""


def test_a_loop_of_single_calls_has_no_share(model_of: ModelOf) -> None:
    """Nobody knows how many follow; while one tells how far it is, that is known."""
    first = list(fits(10))
    one = syn.Actor("r1", "g", "a0", "fit(10)")
    model = model_of([*first, one.queued(syn.T0 + 2), one.start(syn.T0 + 2)])
    assert model.progress.share() is None
    model.record.apply(told("g", 1, 2))
    model.take()
    assert model.progress.share() == pytest.approx(10.5 / 11)
