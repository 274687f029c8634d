"""The garbage collector does less while many actions are in flight, and all that it did before afterwards."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from flyte_nb.engine.dispatch import gc_pacing
from flyte_nb.engine.dispatch.gc_pacing import FEW, MANY, THRESHOLD, GcPacing


class Loop:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def pacing() -> Iterator[GcPacing]:
    before, callbacks = gc.get_threshold(), list(gc.callbacks)
    gc.unfreeze()
    gc.set_threshold(700, 10, 10)
    made = GcPacing()
    yield made
    made.load("a", 0)
    made.load("b", 0)
    assert gc.get_threshold() == (700, 10, 10)
    assert gc.get_freeze_count() == 0
    assert gc.callbacks == callbacks
    gc.set_threshold(*before)


def test_what_is_there_is_set_aside_until_few_are_in_flight(pacing: GcPacing) -> None:
    pacing.load("a", MANY - 1)
    assert gc.get_threshold()[0] == 700
    loop = Loop()
    gone = weakref.ref(loop)
    del loop
    pacing.load("b", 1)
    assert gc.get_threshold()[0] == THRESHOLD
    assert gc.get_freeze_count() > 1_000
    gc.collect()
    assert gone() is not None
    pacing.load("a", FEW - 1)
    assert gc.get_threshold()[0] == 700
    gc.collect()
    assert gone() is None


def test_cycles_that_are_made_meanwhile_are_collected(pacing: GcPacing) -> None:
    pacing.load("a", MANY)
    gone = weakref.ref(Loop())
    gc.collect()
    assert gone() is None


def test_the_survivors_of_a_long_walk_and_many_more_calls_are_set_aside(
    pacing: GcPacing, monkeypatch: pytest.MonkeyPatch
) -> None:
    pacing.load("a", MANY)
    kept = [[] for _ in range(1_000)]  # type: ignore[var-annotated]
    first = gc.get_freeze_count()
    pacing.load("a", MANY + 10)
    assert gc.get_freeze_count() == first
    pacing.load("a", 2 * MANY)
    second = gc.get_freeze_count()
    assert second >= first + len(kept)
    monkeypatch.setattr(gc_pacing, "LONG_S", 0.0)
    kept += [[] for _ in range(1_000)]
    gc.collect()
    assert gc.get_freeze_count() >= second + 1_000


def test_nothing_is_set_aside_where_something_was(pacing: GcPacing) -> None:
    gc.freeze()
    count = gc.get_freeze_count()
    pacing.load("a", MANY)
    kept = [[] for _ in range(1_000)]  # type: ignore[var-annotated]
    assert gc.get_threshold()[0] == THRESHOLD
    assert gc.get_freeze_count() <= count
    pacing.load("a", 0)
    assert gc.get_freeze_count() > count - 1_000 >= 0
    assert kept
    gc.unfreeze()
