"""Results of a run as data: its actions as values, as a table, beside those of another run."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
import pytest

import flyte_nb as flyte

env = flyte.TaskEnvironment("results")


@dataclass
class Config:
    """Of a fit."""

    lr: float
    depth: int = 2


class Fit(NamedTuple):
    """What a fit gives."""

    loss: float
    steps: int


@env.task
async def fit(config: Config, seed: int) -> Fit:
    """One of a sweep."""
    if config.lr > 1:
        raise ValueError("diverged")
    return Fit(config.lr * 10, seed)


@env.task
async def scale(x: int) -> int:
    """Not one of the sweep."""
    return x * 2


@env.task
async def sweep(limit: float) -> int:
    """Fits with several rates."""
    found = await asyncio.gather(*(fit(Config(lr), 7) for lr in (0.1, 0.5, limit)), return_exceptions=True)
    return await scale(len(found))


def test_a_run_is_a_table_of_its_calls(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments and results in columns of their own, one level deep; failures with their errors."""
    run = flyte.with_runcontext(mode=mode).run(sweep, 2.0)
    run.wait()
    table: Any = run.to_pandas(task="fit")
    assert list(table.columns)[:3] == ["id", "task", "group"]
    assert table["config.lr"].tolist() == [0.1, 0.5, 2.0]
    assert table["seed"].tolist() == [7, 7, 7]
    assert table["loss"].tolist()[:2] == [1.0, 5.0]
    assert pd.isna(table["loss"][2])
    assert table["phase"].tolist() == ["succeeded", "succeeded", "failed"]
    assert "diverged" in table["error"][2]
    assert (table["running"] >= 0).all()
    everything = run.to_pandas()
    assert everything["task"].tolist() == ["results.fit"] * 3 + ["results.scale"]
    assert everything["result"].tolist()[3] == 6
    assert run.to_pandas(group="none").empty
    monkeypatch.setitem(sys.modules, "polars", None)  # as where it is not installed
    with pytest.raises(ImportError, match="to_rows"):
        run.to_polars()


def test_actions_are_for_people(mode: str) -> None:
    """Names as the view has them, values as they were given, one readable line."""
    run = flyte.with_runcontext(mode=mode).run(sweep, 2.0)
    run.wait()
    action = next(a for a in run.actions if a.task == "results.scale")
    assert action.name == action.id == f"a{action.number}"
    assert (action.inputs, action.output, action.phase.value) == ({"x": 3}, 6, "succeeded")
    assert repr(action).startswith(f"<{action.name} scale(3) succeeded in")
    assert repr(action).endswith("-> 6>")
    failed = next(a for a in run.actions if a.phase.is_failure and a.task == "results.fit")
    assert failed.inputs["config"] == Config(2.0)
    assert "ValueError: diverged" in repr(failed)
    with pytest.raises(LookupError, match="has no output: it is failed"):
        assert failed.output


@env.task
async def study(limit: float, of: str) -> int:
    """A sweep, and a call of its own."""
    await scale(3)
    return await sweep(limit)


def test_below_a_parent_with_other_inputs_equal_calls_are_compared(mode: str) -> None:
    """`study` has other arguments, and so has `sweep`: what they call is what it was, but for one fit."""
    runs = [flyte.with_runcontext(mode=mode).run(study, limit, of=of) for limit, of in ((0.7, "a"), (0.9, "b"))]
    for run in runs:
        run.wait()
    found = runs[0].compare(runs[1])
    whats = {(d.what, d.label) for d in found.differences if d.what in {"gone", "new"}}
    assert {(what, label.partition("(")[0]) for what, label in whats} == {
        (what, task) for what in ("gone", "new") for task in ("sweep", "fit")
    }
    assert len(whats) == 4
    assert found.matched == 5  # study, two of scale, two of fit


def test_two_runs_are_compared_call_by_call(mode: str) -> None:
    """What failed and was mended, and what only one of them has."""
    runs = [flyte.with_runcontext(mode=mode).run(sweep, limit) for limit in (0.7, 2.0)]
    for run in runs:
        run.wait()
    found = runs[0].compare(runs[1])
    whats = sorted((d.what, d.label.partition("(")[0]) for d in found.differences if d.what not in {"slower", "faster"})
    assert whats == [("gone", "fit"), ("new", "fit")]
    assert "no difference" in str(runs[0].compare(runs[0]))
