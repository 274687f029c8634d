"""Threads that a body starts belong to its action, in this process as on a cluster."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import decimal
import threading
from collections.abc import Callable
from typing import Any

import pytest

import flyte_nb as flyte

env = flyte.TaskEnvironment("threads")


@env.task
def child(i: int) -> str:
    """The name of its action."""
    name = flyte.ctx().action
    return f"{i}:{name is not None}"


def _pool(function: Callable[[int], Any]) -> list[Any]:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(function, range(4)))


def _threads(function: Callable[[int], Any]) -> list[Any]:
    found: list[Any] = [None] * 4
    threads = [threading.Thread(target=lambda i=i: found.__setitem__(i, function(i))) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


async def _to_thread(function: Callable[[int], Any]) -> list[Any]:
    return await asyncio.gather(*(asyncio.to_thread(function, i) for i in range(4)))


async def _in_executor(function: Callable[[int], Any]) -> list[Any]:
    loop = asyncio.get_running_loop()
    return await asyncio.gather(*(loop.run_in_executor(None, function, i) for i in range(4)))


def _who(_i: int) -> str:
    return str(flyte.ctx().action.name)


_WHAT: dict[str, Callable[[int], Any]] = {"call": child, "context": _who}


@env.task
def in_threads(how: str, what: str) -> list[str]:
    """In threads of a plain body."""
    return {"pool": _pool, "threads": _threads}[how](_WHAT[what])


@env.task
async def in_threads_of_a_loop(how: str, what: str) -> list[str]:
    """In threads of an async one."""
    return await {"to_thread": _to_thread, "executor": _in_executor}[how](_WHAT[what])


@pytest.mark.parametrize("how", ["pool", "threads", "to_thread", "executor"])
@pytest.mark.parametrize("what", ["call", "context"])
def test_threads_are_their_actions(mode, how, what):
    """Calls are actions of the run; the context is that of the body."""
    task = in_threads if how in {"pool", "threads"} else in_threads_of_a_loop
    run = flyte.with_runcontext(mode=mode).run(task, how, what)

    expected = [f"{i}:True" for i in range(4)] if what == "call" else ["a0"] * 4
    assert expected == run.outputs()[0]
    assert (5 if what == "call" else 1) == len(list(run.actions))


@env.task
def fails_in_a_thread() -> str:
    """The error of a child, in a thread."""

    def call(_i: int) -> str:
        with contextlib.suppress(ZeroDivisionError):
            broken(0)
        return "caught"

    return _pool(call)[0]


@env.task
def broken(i: int) -> float:
    """Fails."""
    return 1 / i


def test_errors_arrive_in_threads(run):
    """As in the body itself."""
    assert "caught" == run(fails_in_a_thread)


@env.task
def precision() -> int:
    """Digits of decimal numbers."""
    return decimal.getcontext().prec


def test_the_decimal_context_arrives(run):
    """Of the calling code."""
    with decimal.localcontext() as context:
        context.prec = 41
        assert 41 == run(precision)
    assert 28 == run(precision)
