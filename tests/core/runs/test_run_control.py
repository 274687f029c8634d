"""The control of a run, its repr, and what only the run of a cell does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import flyte_nb as flyte
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.runs import run_registry
from flyte_nb.core.runs.engine import ROOT, Engine, cell_context
from flyte_nb.core.runs.run import Run
from flyte_nb.core.runs.run_control import CellRunControl, RunControl
from flyte_nb.core.runs.run_proxy import RunProxy
from flyte_nb.core.tasks.context import using
from flyte_nb.testing import run_cell

env = flyte.TaskEnvironment("control")


@env.task
async def double(x: int) -> int:
    return 2 * x


@env.task
async def forever() -> None:
    await asyncio.sleep(60)


@pytest.fixture
def cell() -> Iterator[CellRunControl]:
    """The open run of a cell, which is registered as the kernel's session does it."""
    engine = run_registry.engine_for("local")
    info = RunInfo(name=engine.new_run_name(), home=engine.home, mode="local")
    control = CellRunControl(engine, info)
    run_registry.register(Run(control))
    at = info.started_at.timestamp()
    for event in (
        ev.RunOpened(info.name, "cell", "cell", at),
        ev.ActionQueued(info.name, ROOT, "", "cell", "cell", "", at, "root"),
    ):
        engine.gateway.ask(engine.controller.emit, event)
    yield control
    control.finished.set()


def test_its_repr_shows_where_it_stands() -> None:
    """Name, task, phase, and whether all of it is over; a run shows the same."""
    run = flyte.with_runcontext(mode="local").run(double, 2)

    assert f"<RunControl {run.name} control.double SUCCEEDED, done>" == repr(run.control)
    assert f"<Run {run.name} control.double SUCCEEDED>" == repr(run)
    run.control.begin_again(1)
    assert f"<RunControl {run.name} control.double SUCCEEDED>" == repr(run.control)
    run.control.finished.set()


def test_the_engine_of_a_run_is_asked_for_it() -> None:
    """Its facts are found by name until the engine is closed."""
    run = flyte.with_runcontext(mode="local").run(double, 2)
    engine: Engine = run.control.engine

    assert run.control.info is engine.info_of(run.name) is run_registry.info_of(run.name)
    assert engine.info_of("nobody") is None
    assert (False, False) == (engine.is_open(run.name), engine.is_attended())


def test_a_cells_run_cannot_be_waited_for_in_its_own_cell(cell: CellRunControl) -> None:
    """It would wait for itself; each way of waiting says so."""
    run = run_registry.runs()[cell.name]

    with using(cell_context(cell.engine, cell.info)):
        for wait in (run.wait, run.results, run.outputs):
            with pytest.raises(RuntimeError, match="cannot wait for itself"):
                wait()
    assert {} == run.inputs()
    assert f"<CellRunControl {cell.name} {cell.phase.name}>" == repr(cell)


def test_aborting_a_cells_run_ends_its_actions(cell: CellRunControl) -> None:
    """What awaits them gets the error of an aborted action."""
    run = run_registry.runs()[cell.name]

    async def body() -> None:
        with using(cell_context(cell.engine, cell.info)):
            call = asyncio.ensure_future(forever())
            while len(run.actions) < 2:  # noqa: ASYNC110 - it is another thread that adds one
                await asyncio.sleep(0.005)
            await run.abort.aio("enough")
            with pytest.raises(flyte.errors.ActionAbortedError, match="enough"):
                await call
            while not run.actions[1].done():  # noqa: ASYNC110 - its body may take a moment to end
                await asyncio.sleep(0.005)

    asyncio.run(body())
    assert Phase.ABORTED is run.actions[1].phase


def test_a_run_that_is_forgotten_says_so() -> None:
    """Its record is gone."""
    control = RunControl(run_registry.engine_for("local"), RunInfo(name="gone"))
    control.finished.set()

    with pytest.raises(LookupError, match="gone is not kept any more"):
        Run(control).results()
    assert (Phase.QUEUED, None, []) == (Run(control).phase, Run(control).action, Run(control).actions)


def test_a_run_at_another_home_refuses_what_only_its_home_can_do() -> None:
    """A proxy is there to look at it and to wait."""
    run = Run(RunProxy(None, "r3"))  # type: ignore[arg-type]

    assert "<Run r3 >" == repr(run)
    for ask in (run.retry_failed, lambda: run.fail("a1"), run.results):
        with pytest.raises(RuntimeError, match="r3 has its home in another process"):
            ask()


def test_run_cell_runs_in_local_mode_too() -> None:
    """The public helper goes through the same engine."""

    async def body() -> list[int]:
        return list(await asyncio.gather(double(0), double(1)))

    assert [0, 2] == run_cell(body, mode="local")
