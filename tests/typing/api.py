"""Usual Flyte code, as type checkers see it. Never run: checked by `test_api.py` and by `make types`.

Under strict rules an ignored error that does not occur is an error itself: each ``type: ignore`` here says that the line must
be refused.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Coroutine
from typing import Any, assert_type

import flyte_nb as flyte
from flyte_nb.core.tasks.task import Task

env = flyte.TaskEnvironment("typed")


@env.task
async def double(x: int, scale: float = 1.0) -> float:
    return 2 * x * scale


@env.task(retries=3, cache="auto")
def describe(text: str, *, times: int = 1) -> str:
    return text * times


@env.task
async def nothing() -> None: ...


async def calls() -> None:
    """Calls, in both colours, keep parameters and results."""
    coroutine: Coroutine[Any, Any, float] = double(1)
    await coroutine
    assert_type(await double(1, scale=2.0), float)
    assert_type(describe("a"), str)
    assert_type(await describe.aio("a", times=2), str)
    assert_type(await double.aio(3), float)
    assert_type(describe.forward("a"), str)
    assert_type(await double.forward(1), float)
    await nothing()
    await double("a")  # type: ignore[arg-type]
    await double()  # type: ignore[call-arg]
    await double(1, y=2)  # type: ignore[call-arg]
    describe(1)  # type: ignore[arg-type]
    await describe.aio("a", times="b")  # type: ignore[arg-type]
    describe("a", 2)  # type: ignore[call-arg]


async def gathers() -> None:
    """asyncio's tools see coroutines."""
    assert_type(await asyncio.gather(double(1), nothing()), tuple[float, None])
    assert_type(await asyncio.gather(*(double(i) for i in range(3))), list[float])
    assert_type(await asyncio.gather(*(describe.aio(str(i)) for i in range(3))), list[str])
    assert_type(await asyncio.wait_for(double(1), 5), float)
    async with asyncio.TaskGroup() as group:
        assert_type(group.create_task(double(1)), asyncio.Task[float])


async def overrides() -> None:
    """An overridden task is called as the original."""
    assert_type(await double.override(retries=3, short_name="d")(1), float)
    assert_type(describe.override(cache="disable")("a"), str)
    await double.override(retries=1)("a")  # type: ignore[arg-type]


async def maps() -> None:
    """Results, or errors where those are yielded as values."""
    for text in flyte.map(describe, ["a", "b"]):
        assert_type(text, str)
    for either in flyte.map(describe, ["a", "b"], return_exceptions=True):
        assert_type(either, str | Exception)
    for number in flyte.map(double, range(3), return_exceptions=False):
        assert_type(number, float)
    assert_type(list(flyte.map(functools.partial(double, scale=2.0), range(3))), list[float])
    async for number in flyte.map.aio(double, range(3), return_exceptions=False, concurrency=2):
        assert_type(number, float)
    async for either_number in flyte.map.aio(double, range(3), group_name="g"):
        assert_type(either_number, float | Exception)
    async for partial in flyte.map.aio(functools.partial(describe, times=2), ["a"], return_exceptions=False):
        assert_type(partial, str)
    results = flyte.map.aio(double, range(3))
    await results.aclose()
    flyte.map(3, [1])  # type: ignore[call-overload]


def passes_tasks_on(task: Task[[str], str]) -> str:
    """Tasks are values with a type."""
    return task("a")


async def runs() -> None:
    """Runs, in both forms; what surrounds tasks."""
    run = flyte.run(double, 1)
    assert_type(run, flyte.Run[float])
    assert_type(await run, float)
    assert_type(await (await flyte.run.aio(describe, "a")), str)
    flyte.run(double, "a")  # type: ignore[call-overload]
    run = flyte.with_runcontext(mode="local", env_vars={"A": "1"}).run(double, x=1)
    outputs = run.outputs()
    outputs.named_outputs["o0"]
    (await run.outputs.aio())[0]
    run.wait()
    await run.wait.aio(quiet=True)
    with flyte.group("g"), flyte.custom_context(a="b"):
        await double(1)
    if flyte.ctx():
        flyte.ctx().action.name.upper()
    try:
        await double(1)
    except flyte.errors.RuntimeUserError as exc:
        exc.code.upper()


settings = env.clone_with("other", resources=flyte.Resources(cpu=1, memory="1Gi"), reusable=None)


@settings.task(timeout=flyte.Timeout(max_runtime=5), short_name="s")
async def in_a_clone(values: list[int]) -> dict[str, int]:
    return {str(value): value for value in values}


@flyte.trace
async def traced(x: int) -> str:
    return str(x)


async def uses_traces() -> None:
    """Traces keep their function's type."""
    assert_type(await traced(1), str)
    assert_type(await in_a_clone([1]), dict[str, int])
    await traced("a")  # type: ignore[arg-type]


async def results_of_maps() -> None:
    """A map of an async task gives what its calls give, not coroutines: as a list, awaited, and as an iterator."""
    assert_type(list(flyte.map(double, range(3))), list[float])
    assert_type(await flyte.map(double, range(3)), list[float])
    assert_type([text async for text in flyte.map(describe, ["a"])], list[str])
    assert_type(await double.override(retries=1).aio(3), float)
    assert_type(flyte.last_run(), flyte.Run)
