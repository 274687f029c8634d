"""The time axis."""

from __future__ import annotations

import array
import itertools

import pytest

from bench import synthetic as syn
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.history.store import RunStore
from flyte_nb.views.browser.timeline import MAX_SPANS, timeline
from flyte_nb.views.run_model import RunModel


@pytest.fixture
def model(store: RunStore) -> RunModel:
    store.extend(syn.mapped(1_000, 3))
    return RunModel(store.runs["r1"], lambda: syn.T0 + 60)


def spans_of(buffers: list[bytes]) -> list[tuple[float, ...]]:
    floats = array.array("f", buffers[0])
    return [tuple(floats[i : i + 7]) for i in range(0, len(floats), 7)]


async def test_time_axis_has_a_lane_per_slot(model: RunModel) -> None:
    """1,000 actions on 8 slots: 8 lanes, every action in one, none before its lane's previous one."""
    content, buffers = await timeline(model.record, model.clock())
    spans = spans_of(buffers)

    assert 8 == len(content["lanes"])
    assert 1_000 == sum(span[5] for span in spans)
    for lane in range(8):
        mine = [span for span in spans if span[0] == lane]
        assert all(a[2] <= b[1] + 1e-3 for a, b in itertools.pairwise(mine))


async def test_time_axis_of_a_huge_run_is_merged_but_keeps_failures(store: RunStore) -> None:
    """50,000 actions fit into the limit; every lane and each failure is still there."""
    store.extend(syn.mapped(50_000, 5, slots=32, bundle=50))
    content, buffers = await timeline(store.runs["r1"], syn.T0 + 60)
    spans = spans_of(buffers)

    assert len(spans) <= MAX_SPANS
    assert 0 == content["left_out"]
    assert set(range(32)) == {int(span[0]) for span in spans}
    assert 5 == sum(span[5] for span in spans if int(span[3]) == Phase.FAILED.code)


async def test_lanes_are_slots_whatever_workers_call_them(store: RunStore) -> None:
    """Two lanes of one worker that took turns are one slot in the model; parents that wait take none."""
    store.extend([syn.opened(), syn.root()])
    parent = syn.Actor("r1", "p", "a0", "parent()")
    parent.slot = "7fa"
    store.extend([parent.queued(syn.T0), parent.start(syn.T0)])
    for i in range(6):
        child = syn.Actor("r1", f"c{i}", "p", f"child({i})")
        child.slot = f"lane{i % 2}"
        store.extend(
            [
                child.queued(syn.T0),
                child.start(syn.T0 + i),
                child.attempt_ended(syn.T0 + i + 1),
                child.ended(syn.T0 + i + 1),
            ]
        )
    content, _ = await timeline(store.runs["r1"], syn.T0 + 6)

    assert [["tls://127.0.0.1:40001", "0"]] == content["lanes"]


async def test_retried_action_has_a_span_per_attempt(store: RunStore) -> None:
    """The attempt that failed is shown as failed beside the one that worked."""
    store.extend(syn.nested())
    action = next(a for a in store.runs["r1"].actions.values() if a.label.startswith("impute('apac'"))
    _, buffers = await timeline(store.runs["r1"], syn.T0 + 60)
    phases = [span[3] for span in spans_of(buffers) if span[4] == action.number]

    assert [Phase.FAILED.code, Phase.SUCCEEDED.code] == phases
