"""What failures cost on a real cluster: 1,000 failing actions, seconds and memory; and what keeping records costs successes.

    python bench/failure_cluster.py

A cell's code is played by this process: it gathers actions of an embedded cluster, as `await asyncio.gather(...)` in a notebook
does. The marks: 1,000 failing actions under 2 s and 200 MB; less than 1 % for actions that succeed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import pickle
import sys
import time
import timeit
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import flyte_nb as flyte
from flyte_nb.core.failures import traceback_text
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.runs import engine
from flyte_nb.core.tasks import context as ctx
from flyte_nb.core.tasks.prepare import prepare
from flyte_nb.kernel import session as sessions
from flyte_nb.kernel.cells.names import CellNames
from flyte_nb.kernel.cells.unawaited import UnawaitedCalls

env = flyte.TaskEnvironment("bench")


@env.task
async def fails(number: int) -> int:
    config = {"rate": 0.5, "names": ["a", "b", "c"]}
    rows = [{"id": n, "value": n * 0.5} for n in range(50)]
    text = "line\n" * 100
    return rows[number % 50]["missing"] + len(config) + len(text)


@env.task
async def succeeds(number: int) -> int:
    return number


def cell(session: Any) -> Any:
    """The context of a fresh cell, whose run is open."""
    info = RunInfo(name=session.new_run_name(), home=session.home)
    now = time.time()
    opened = ev.RunOpened(info.name, "bench", "cell", now)
    root = ev.ActionQueued(info.name, engine.ROOT, "", "bench", "bench", "", now, "root")
    session.gateway.ask(session.store.extend, [opened, root])
    return engine.cell_context(session, info)


def gather(session: Any, task: Any, count: int) -> tuple[float, list[Any]]:
    """Seconds, and what the calls gave."""

    async def calls() -> list[Any]:
        with ctx.using(cell(session)):
            return await asyncio.gather(*(task(n) for n in range(count)), return_exceptions=True)

    gc.collect()
    began = time.perf_counter()
    found = asyncio.run(calls())
    return time.perf_counter() - began, found


def cost_of_success(session: Any) -> tuple[float, float]:
    """Seconds that an action which succeeds costs more: in the controller, and for a call in a cell.

    Measured alone: on a shared machine the whole varies by more than these parts are.
    """
    with ctx.using(cell(session)):
        call = prepare(ctx.current(), succeeds, (1,), {})
    controller, output, number = session.engine.controller, pickle.dumps(1, 5), 200_000
    keep = (
        min(
            timeit.repeat(
                lambda: controller.retained.ended(call, Phase.SUCCEEDED, output, False), number=number, repeat=5
            )
        )
        / number
    )
    watch = UnawaitedCalls(None, CellNames(None))
    frame = sys._getframe()

    async def coroutine() -> None: ...

    waiting = coroutine()

    def watched() -> None:
        token = watch.token()
        watch.made(succeeds, waiting, token, frame)
        watch.begun(token)

    seen = min(timeit.repeat(watched, number=number, repeat=5)) / number
    waiting.close()
    return keep, seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--failing", type=int, default=1_000)
    parser.add_argument("--succeeding", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    session = sessions.ensure()
    session.wait_ready(60)
    gather(session, succeeds, 1_000)
    gather(session, fails, 100)

    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    seconds, errors = gather(session, fails, options.failing)
    assert all(isinstance(error, KeyError) for error in errors)
    shown = time.perf_counter()
    text = traceback_text.render(errors[0])
    shown = time.perf_counter() - shown
    grown = (process.memory_info().rss - before) / 1e6
    print(f"{options.failing:,} failing actions: {seconds:.2f} s, {grown:.0f} MB more in this process")
    print(f"the short text of one: {shown * 1e3:.1f} ms, {len(text)} lines")

    per_action = (
        min(gather(session, succeeds, options.succeeding)[0] for _ in range(options.rounds)) / options.succeeding
    )
    keep, watch = cost_of_success(session)
    print(
        f"an action that succeeds: {per_action * 1e6:.0f} us; of that {keep * 1e9:.0f} ns for what a retry would need "
        f"({keep / per_action * 100:.2f} %), and in a cell {watch * 1e9:.0f} ns to see that it is awaited "
        f"({watch / per_action * 100:.2f} %)"
    )
    session.close()


if __name__ == "__main__":
    main()
