"""Search and sort."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from bench import synthetic as syn
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.history.store import RunStore
from flyte_nb.views.browser import query
from flyte_nb.views.run_model import RunModel


@pytest.fixture
def model(store: RunStore) -> RunModel:
    store.extend(syn.mapped(1_000, 3))
    return RunModel(store.runs["r1"], lambda: syn.T0 + 60)


async def labels(model: RunModel, **args: object) -> list[str]:
    model.take(last=True)
    found = await query.search(model.record, query.parse_query(args), model.errors, model.clock())
    names = [model.record.actions[model.record.numbered[n]].label for n in found.numbers]
    assert found.total >= len(names)
    return names


async def test_words_must_all_occur(model: RunModel) -> None:
    """Filtering by text looks at label, task and error, whatever the case."""
    assert ["score(331, 'model-2')"] == await labels(model, text="SCORE(331 model-2")
    assert 3 == len(await labels(model, text="keyerror"))
    assert ["score(16, 'model-2')"] == await labels(model, text="a17")


async def test_filter_by_state_and_error(model: RunModel) -> None:
    """A state's chip and an error's count list the same three actions here."""
    failed = [Phase.FAILED.code]
    by_state = await labels(model, states=failed)
    key = model.errors.most()[0].key

    assert by_state == await labels(model, error=key)
    assert 3 == len(by_state)


async def test_filter_by_task_and_duration(model: RunModel) -> None:
    """``task:`` and comparisons stand beside words, each in its unit; a bare word that looks like neither is text."""
    actions = [a for n in model.record.numbered if (a := model.record.actions[n]).kind != "root"]
    slow = [a.label for a in actions if a.ended_at - a.started_at > 0.025]  # type: ignore[operator]
    assert 0 < len(slow) < len(actions)

    assert slow == await labels(model, text=">25ms")
    assert len(actions) - len(slow) == len(await labels(model, text="<0.025s"))
    assert len(actions) == len(await labels(model, text="task:score"))
    assert [] == await labels(model, text="task:other")
    assert [label for label in slow if "(9" in label] == await labels(model, text="(9 >25ms task:SCORE")


async def test_failed_first_and_slowest_first(model: RunModel) -> None:
    """Sorting by state puts failures on top, by duration the longest; what each took comes along."""
    assert await labels(model, text="keyerror") == (await labels(model, sort="state"))[:3]
    found = await query.search(model.record, query.Query(sort="duration", descending=True), model.errors, 0)
    took = [a.ended_at - a.started_at for a in (model.record.actions[model.record.numbered[n]] for n in found.numbers)]  # type: ignore[operator]
    assert sorted(took, reverse=True) == took == pytest.approx(list(found.took), abs=1e-5)


async def test_who_awaits_slow_actions_is_not_slow_itself(model_of: Callable[..., RunModel]) -> None:
    """Slowest first: a parent counts its own time, an action somebody looked at for an hour its own, a wait for anything counts."""
    parent, child, parked = (
        syn.Actor("r1", n, p, f"{n}()") for n, p in (("parent", "a0"), ("child", "parent"), ("parked", "a0"))
    )
    model = model_of([
        syn.opened(), syn.root(), parent.queued(syn.T0), parked.queued(syn.T0), parent.start(syn.T0), parked.start(syn.T0),
        child.queued(syn.T0 + 1), child.start(syn.T0 + 1), child.attempt_ended(syn.T0 + 9), child.ended(syn.T0 + 9),
        parent.attempt_ended(syn.T0 + 10), parent.ended(syn.T0 + 10), parked.noted(syn.T0 + 3, Phase.PAUSED, "breakpoint at x:1"),
        parked.noted(syn.T0 + 3_603, Phase.RUNNING), parked.attempt_ended(syn.T0 + 3_604), parked.ended(syn.T0 + 3_604),
    ])  # fmt: skip
    found = await query.search(model.record, query.Query(sort="duration", descending=True), model.errors, 0)
    assert ["child", "parked", "parent"] == [model.record.numbered[n] for n in found.numbers]
    assert [8.0, 4.0, 2.0] == pytest.approx(list(found.took))


async def test_search_gives_way_to_others(store: RunStore) -> None:
    """Looking through many actions lets the loop run in between."""
    store.extend(syn.mapped(20_000, 0, bundle=100))
    model = RunModel(store.runs["r1"])
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(tick())
    await query.search(model.record, query.Query(text="nothing"), model.errors, 0)
    other.cancel()

    assert ticks >= 20_000 // query.SLICE


async def test_log_search_finds_lines_of_all_actions_by_time(store: RunStore) -> None:
    """Colours don't hide a word; an action's label finds its lines, raw or as it is shown, and its id; levels go upwards."""
    store.extend(syn.nested())
    record = store.runs["r1"]
    labels = RunModel(record).labels
    loads = next(action for action in record.actions.values() if action.label.startswith("load_sales"))
    both = ["read 1,204,332 rows", "\x1b[32mschema ok\x1b[0m"]

    async def texts(wanted: str, level: str = "") -> list[str]:
        return [line.text for _, line in (await query.search_log(record, labels, wanted, level))[0]]

    assert await texts("SCHEMA OK") == both[1:]
    assert await texts("load_sales") == await texts(loads.id) == both
    assert not await texts("nowhere")
    warned = [line.text for name in record.logs.actions() for line in record.logs.of(name) if line.stream == "warning"]
    assert warned
    assert sorted(warned) == sorted(await texts("", "warning"))


async def test_log_search_finds_labels_as_they_are_shown(store: RunStore) -> None:
    """In a group they are said by what differs: "score batch=3" is nowhere in "score(batch=3, model='a')"."""
    store.extend([syn.opened(), syn.root()])
    for i in range(3):
        actor = syn.Actor("r1", f"s{i}", "a0", f"score(batch={i}, model='a')", task="demo.score", group="g")
        store.extend([actor.queued(syn.T0), actor.start(syn.T0), actor.logged(syn.T0, f"said {i}")])
    labels = RunModel(store.runs["r1"]).labels

    found, total = await query.search_log(store.runs["r1"], labels, "score batch=2")
    assert (["said 2"], 1) == ([line.text for _, line in found], total)
