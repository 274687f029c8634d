"""Errors cross actions as errors of Flyte and of their own type, whatever is raised; nothing a task can raise hangs a run."""

# Programs as users write them.
# mypy: disable-error-code="attr-defined,index,misc,assignment,arg-type,unused-ignore"

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import traceback
import urllib.error
from pathlib import Path

import cloudpickle
import pydantic
import pytest

import flyte_nb as flyte
from flyte_nb.testing import run_cell

env = flyte.TaskEnvironment("failures")


class NeedsArguments(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a}-{b}")
        self.a, self.b = a, b


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


class BadText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class OwnBase(BaseException):
    pass


class Model(pydantic.BaseModel):
    x: int


def recurse() -> None:
    recurse()


def chain() -> None:
    try:
        _ = 1 / 0
    except ZeroDivisionError as exc:
        raise ValueError("from") from exc


def local_class() -> None:
    class Local(Exception):
        pass

    raise Local("here")


def throw(exc: BaseException) -> None:
    raise exc


#: What is done, and the codes that the awaiting task may see.
FAULTS = {
    "value": (lambda: throw(ValueError("bad value")), "ValueError"),
    "key": (lambda: throw(KeyError("k")), "KeyError"),
    "arguments": (lambda: throw(NeedsArguments(1, 2)), "NeedsArguments"),
    "unpicklable": (lambda: throw(Unpicklable()), "Unpicklable"),
    "bad text": (lambda: throw(BadText()), "BadText"),
    "exit": (lambda: sys.exit(3), "SystemExit"),
    "exit text": (lambda: sys.exit("bye"), "SystemExit"),
    "interrupt": (lambda: throw(KeyboardInterrupt()), "KeyboardInterrupt"),
    "generator exit": (lambda: throw(GeneratorExit()), "GeneratorExit"),
    "own base": (lambda: throw(OwnBase("base")), "OwnBase"),
    "stop": (lambda: throw(StopIteration(5)), "StopIteration RuntimeError"),
    "async stop": (lambda: throw(StopAsyncIteration(5)), "StopAsyncIteration RuntimeError"),
    "group": (lambda: throw(ExceptionGroup("many", [ValueError("a"), TypeError("b")])), "ExceptionGroup"),
    "base group": (lambda: throw(BaseExceptionGroup("many", [KeyboardInterrupt()])), "BaseExceptionGroup"),
    "huge": (lambda: throw(ValueError("x" * 5_000_000)), "ValueError"),
    "recursion": (recurse, "RecursionError"),
    "assertion": (lambda: throw(AssertionError("nope")), "AssertionError"),
    "unicode": (lambda: "\ud800".encode(), "UnicodeEncodeError"),  # noqa: PLW0108
    "file": (lambda: Path("/nonexistent/file").read_text(), "FileNotFoundError"),
    "chain": (chain, "ValueError"),
    "local": (local_class, "Local"),
    "timeout": (lambda: throw(TimeoutError("t")), "TimeoutError"),
    "memory": (lambda: throw(MemoryError("m")), "MemoryError"),
    "model": (lambda: Model(x="a"), "ValidationError"),  # type: ignore[arg-type]
    "import": (lambda: __import__("does_not_exist_x"), "ModuleNotFoundError"),
    "syntax": (lambda: compile("1+", "", "eval"), "SyntaxError"),
    "json": (lambda: json.loads("{"), "JSONDecodeError"),
    "http": (lambda: throw(urllib.error.HTTPError("http://x", 404, "gone", {}, None)), "404"),  # type: ignore[arg-type]  # its own code stays
    "process": (lambda: subprocess.run(["false"], check=True), "CalledProcessError"),
    "custom": (lambda: throw(flyte.errors.CustomError("MYCODE", "mine")), "MYCODE"),
    "never": (lambda: throw(flyte.errors.NonRecoverableError("never")), "NonRecoverableError"),
    "system": (lambda: throw(flyte.errors.RuntimeSystemError("simulated", "sys")), "simulated"),
    "result": (threading.Lock, "UnpicklableError"),
}


@env.task
async def async_fault(kind: str) -> object:
    return FAULTS[kind][0]() if kind != "none" else 1


@env.task
def sync_fault(kind: str) -> object:
    return FAULTS[kind][0]() if kind != "none" else 1


@env.task
async def above(kind: str) -> object:
    return await async_fault(kind)


@env.task
def sync_above(kind: str) -> object:
    return sync_fault(kind)


@env.task
async def sees(kind: str) -> list[str]:
    codes = []
    for awaitable in (async_fault(kind), sync_fault.aio(kind), above(kind), sync_above.aio(kind)):
        try:
            await awaitable
        except flyte.errors.BaseRuntimeError as exc:
            codes.append(str(exc.code))
    codes += [str(r.code) async for r in flyte.map.aio(async_fault, ["none", kind, "none"]) if r != 1]
    return codes


@pytest.mark.parametrize("kind", FAULTS)
def test_t27_any_exception_reaches_the_parent_as_flytes(run, kind):
    """With the origin's code through every level, from sync and async bodies and maps; nothing hangs."""
    codes = run(sees, kind)

    assert len(codes) == 5
    assert set(codes) <= set(FAULTS[kind][1].split())


@pytest.mark.parametrize("kind", FAULTS)
def test_an_uncaught_error_is_raised_by_outputs(mode, kind):
    """It can be shown, and pickled again."""
    with pytest.raises(flyte.errors.BaseRuntimeError) as caught:
        flyte.with_runcontext(mode=mode).run(async_fault, kind).outputs()

    assert str(caught.value.code) in FAULTS[kind][1].split()
    assert repr(caught.value)
    assert traceback.format_exception(caught.value)
    assert cloudpickle.loads(cloudpickle.dumps(caught.value)).code == caught.value.code


CAUGHT = [
    ("value", ValueError), ("key", KeyError), ("arguments", NeedsArguments), ("assertion", AssertionError), ("file", OSError),
    ("file", FileNotFoundError), ("import", ImportError), ("timeout", TimeoutError), ("recursion", RecursionError),
    ("json", ValueError), ("custom", flyte.errors.CustomError), ("never", flyte.errors.NonRecoverableError),
    ("system", flyte.errors.RuntimeSystemError), ("unpicklable", Exception), ("process", Exception),
]  # fmt: skip


@env.task
async def catches_by_type() -> list:
    missed: list = []
    for kind, kind_of_error in CAUGHT:
        try:
            await async_fault(kind)
        except kind_of_error as exc:
            if kind == "arguments":
                missed.append((exc.a, exc.b, str(exc)))  # type: ignore[attr-defined]
        except BaseException as exc:
            missed.append(f"{kind}: {type(exc).__mro__}")
    parts = []
    try:
        await async_fault("group")
    except* ValueError:
        parts.append("ValueError")
    except* TypeError:
        parts.append("TypeError")
    return [missed, parts]


def test_t27_errors_are_caught_by_their_own_type(run):
    """With their attributes and text; groups by ``except*``."""
    assert run(catches_by_type) == [[(1, 2, "1-2")], ["ValueError", "TypeError"]]


@env.task
async def falls_back() -> list:
    results: list = await asyncio.gather(async_fault("value"), async_fault("none"), return_exceptions=True)
    try:
        await async_fault("key")
    except KeyError:
        results.append(await async_fault("none"))
    return [type(results[0]).__name__, *results[1:]]


def test_t27_siblings_are_unaffected_and_a_parent_may_go_on(run):
    """It catches, and falls back to another task."""
    assert run(falls_back) == ["RuntimeUserError", 1, 1]


@env.task
async def cancels_itself() -> list[str]:
    seen = []
    for awaitable in (async_cancel(), sync_cancel.aio()):
        try:
            await awaitable
        except asyncio.CancelledError:
            seen.append("cancelled")
    return seen


@env.task
async def async_cancel() -> int:
    raise asyncio.CancelledError("by itself")


@env.task
def sync_cancel() -> int:
    raise asyncio.CancelledError("by itself")


def test_a_cancelled_error_of_the_childs_own_arrives_as_one(run):
    """As in asyncio."""
    assert run(cancels_itself) == ["cancelled", "cancelled"]


@env.task
async def wraps() -> int:
    try:
        await async_fault("value")
    except ValueError as exc:
        raise RuntimeError("wrapped") from exc
    return 0


def test_a_wrapped_error_is_its_own(mode):
    """Code and text are those of the outer one."""
    with pytest.raises(RuntimeError, match=r"^wrapped") as caught:
        flyte.with_runcontext(mode=mode).run(wraps).outputs()

    assert caught.value.code == "RuntimeError"  # type: ignore[attr-defined]


@env.task
async def tells_type(error: Exception) -> str:
    return type(error).__name__


@env.task
async def passes_an_error_on() -> list[str]:
    errors = [r async for r in flyte.map.aio(async_fault, ["value", "arguments", "group"])]
    return [await tells_type(error) for error in errors]


def test_errors_are_values_that_travel(run):
    """A parent may hand what it got to another task."""
    assert run(passes_an_error_on) == ["RuntimeUserError"] * 3


class BadReduce:
    def __reduce__(self):
        return (throw, (RuntimeError("cannot be rebuilt"),))


@env.task
async def takes_anything(value: object) -> int:
    return 1


@env.task
async def gives_bad() -> object:
    return BadReduce()


@env.task
async def meets_bad_values() -> list[str]:
    seen = []
    for awaitable in (takes_anything(BadReduce()), gives_bad(), takes_anything(threading.Lock())):
        try:
            await awaitable
        except RuntimeError as exc:
            seen.append(type(exc).__name__ if "rebuilt" not in str(exc) else "rebuilt")
    return seen


def test_values_that_break_on_the_way_fail_their_call_only(run):
    """Those that cannot be pickled, and those that cannot be unpickled."""
    assert run(meets_bad_values) == ["rebuilt", "rebuilt", "UnpicklableError"]


@env.task
async def leaves(how: str) -> int:
    os._exit(1)


@env.task
async def loses_children() -> str:
    try:
        await leaves("exit")
    except flyte.errors.RuntimeSystemError as exc:
        return exc.kind
    return "?"


@pytest.mark.cluster
def test_a_task_that_ends_its_process_fails_as_the_systems_error(cluster):
    """After it was tried again elsewhere; whoever awaits it gets a RuntimeSystemError."""
    assert flyte.run(loses_children).outputs()[0] == "system"


def test_a_cell_gets_the_same_errors(mode):
    """SystemExit and KeyboardInterrupt of a task do not end the kernel."""
    for kind in ("exit", "interrupt", "value"):

        async def cell(kind: str = kind) -> object:
            return await async_fault(kind)

        with pytest.raises(flyte.errors.RuntimeUserError):
            run_cell(cell, mode=mode)


@env.task(retries=4)
async def crashes_often() -> int:
    attempt = flyte.ctx().attempt_number or 0
    if attempt < 4:
        os._exit(7)
    return attempt


@pytest.mark.cluster
@pytest.mark.slow
def test_retries_serve_a_task_that_goes_on_ending_its_process(cluster):
    """After two that cost nothing, a lost process uses up a retry."""
    assert flyte.run(crashes_often).outputs()[0] == 4
