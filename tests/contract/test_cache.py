"""Results are kept on disk and found again: by content, for equal code, under the rules of ``Cache``."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

import flyte_nb as flyte
from flyte_nb.core.cache import location
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.values.value_hash import HashFunction
from flyte_nb.io import File

env = flyte.TaskEnvironment("cachecontract")


@pytest.fixture(autouse=True)
def folder(tmp_path):
    """A cache of the test's own."""
    location.configure(tmp_path / "cache")
    yield tmp_path / "cache"
    location.configure(None)


@pytest.fixture
def marks(tmp_path):
    """Counts executions across processes: a task appends to the file, the test counts lines."""
    path = tmp_path / "executed"
    path.write_text("")
    return path


def mark(path: str, text: str = "x") -> None:
    with Path(path).open("a") as file:
        file.write(text + "\n")


def executed(path: Path) -> list[str]:
    return path.read_text().split()


@pytest.fixture
def start(mode):
    """Start a run with options; returns the run."""

    def start(task, *args, **options):
        run = flyte.with_runcontext(mode=mode, **options).run(task, *args)
        run.wait()
        return run

    return start


def cached_of(run):
    return [action.cached for action in run.actions if action.kind == "task"]


@env.task(cache=flyte.Cache("auto", ignored_inputs="path"))
async def double(x: int, path: str) -> int:
    mark(path)
    return 2 * x


@env.task
async def twice(x: int, path: str) -> list[int]:
    return [await double(x, path), await double(x, path)]


def test_the_second_call_does_not_execute(start, marks):
    """Within a run and across runs; the hit is marked, and succeeded."""
    first = start(twice, 3, str(marks))
    second = start(twice, 3, str(marks))

    assert [6, 6] == first.outputs()[0] == second.outputs()[0]
    assert [[False, True], [True, True]] == [cached_of(first), cached_of(second)]
    assert {Phase.SUCCEEDED} == {action.phase for action in second.actions}
    assert 1 == len(executed(marks))


def test_other_inputs_are_another_entry(start, marks):
    """Equal inputs are told by content, and by name."""
    start(twice, 3, str(marks))

    assert [8, 8] == start(twice, 4, str(marks)).outputs()[0]
    assert 2 == len(executed(marks))


def test_a_root_is_cached_too(start, marks):
    """A hit ends the run without executing anything."""
    start(double, 5, str(marks))
    run = start(double, 5, str(marks))

    assert 10 == run.outputs()[0]
    assert run.action.cached
    assert 1 == len(executed(marks))


@env.task
async def mapped(n: int, path: str) -> list:
    return [r async for r in flyte.map.aio(double, range(n), [path] * n)]


def test_each_item_of_a_map_is_looked_up(start, marks):
    """What an earlier map computed is not computed again; the rest is."""
    start(mapped, 3, str(marks))
    run = start(mapped, 5, str(marks))

    assert [0, 2, 4, 6, 8] == run.outputs()[0]
    assert [True, True, True, False, False] == cached_of(run)
    assert 5 == len(executed(marks))


def test_run_level_switches(start, marks):
    """overwrite_cache executes and keeps; disable_run_cache does neither."""
    start(double, 1, str(marks))
    start(double, 1, str(marks), overwrite_cache=True)
    assert 2 == len(executed(marks))
    start(double, 1, str(marks), disable_run_cache=True)
    assert 3 == len(executed(marks))
    start(double, 1, str(marks))
    assert 3 == len(executed(marks))


@env.task(cache=flyte.Cache("override", version_override="v1", ignored_inputs="path"))
async def pinned(x: int, path: str) -> int:
    mark(path)
    return x


def test_a_pinned_version_is_looked_up(start, marks):
    """``override`` keeps and finds, under the version given; another version is another entry."""
    start(pinned, 1, str(marks))
    start(pinned, 1, str(marks))
    assert 1 == len(executed(marks))
    other = pinned.override(cache=flyte.Cache("override", version_override="v2", ignored_inputs="path"))
    start(other, 1, str(marks))
    assert 2 == len(executed(marks))


@env.task(cache=flyte.Cache("auto", ignored_inputs="path"))
async def failing(x: int, path: str) -> int:
    mark(path)
    raise ValueError("no")


def test_failures_are_not_kept(start, marks):
    """A failed call executes again."""
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            start(failing, 1, str(marks)).outputs()

    assert 2 == len(executed(marks))


@env.task(cache=flyte.Cache("auto", ignored_inputs="path", max_age=3600))
async def aging(x: int, path: str) -> int:
    mark(path)
    return x


def test_max_age(start, marks):
    """A result older than ``max_age`` is computed anew."""
    start(aging, 1, str(marks))
    start(aging, 1, str(marks))
    young = aging.override(cache=flyte.Cache("auto", ignored_inputs="path", max_age=0))
    start(young, 1, str(marks))

    assert 2 == len(executed(marks))


def make(source: str, **names):
    scope = {"flyte": flyte, "env": env, "mark": mark, "__name__": "__main__", **names}
    exec(source, scope)
    return scope


CELL = """
LIMIT = 3
def helper(x):
    return x + 1
@env.task(cache=flyte.Cache("auto", ignored_inputs="path"))
async def uses_helper(x: int, path: str) -> int:
    mark(path)
    return helper(x) * LIMIT
"""


def test_an_edited_helper_or_constant_is_another_version(start, marks):
    """What the code uses counts; running the same cell again does not."""
    start(make(CELL)["uses_helper"], 1, str(marks))
    start(make(CELL)["uses_helper"], 1, str(marks))
    assert 1 == len(executed(marks))
    assert 9 == start(make(CELL.replace("x + 1", "x + 2"))["uses_helper"], 1, str(marks)).outputs()[0]
    assert 8 == start(make(CELL.replace("LIMIT = 3", "LIMIT = 4"))["uses_helper"], 1, str(marks)).outputs()[0]
    assert 3 == len(executed(marks))


def test_a_helper_redefined_alone_is_another_version(start, marks):
    """As when only the helper's cell is run again."""
    scope = make(CELL)
    start(scope["uses_helper"], 1, str(marks))
    exec("def helper(x):\n    return x - 1", scope)

    assert 0 == start(scope["uses_helper"], 1, str(marks)).outputs()[0]


def test_what_a_helper_uses_is_of_the_moment(start, marks):
    """The code that is executed, and the code that is the version, are the same: those of now."""
    deep = CELL.replace("return x + 1", "return sum(deeper(i) for i in [x])") + "def deeper(x):\n    return x + 1\n"
    scope = make(deep)
    assert 6 == start(scope["uses_helper"], 1, str(marks)).outputs()[0]
    exec("def deeper(x):\n    return x + 2", scope)

    assert 9 == start(scope["uses_helper"], 1, str(marks)).outputs()[0]


def test_closures_are_told_apart(start, marks):
    """Two tasks of one factory differ by what they closed over."""

    def factory(n):
        @env.task(cache=flyte.Cache("auto", ignored_inputs="path"))
        async def times(x: int, path: str) -> int:
            return int(x * n)

        return times

    assert [2, 3] == [start(factory(n), 1, str(marks)).outputs()[0] for n in (2, 3)]


class Dated:
    """A policy of the user's."""

    def __init__(self, day: str) -> None:
        self.day = day

    def get_version(self, salt, params):
        return f"{salt}{self.day}"


def test_a_policy_of_the_users_decides(start, marks):
    """Another version from it is another entry."""
    for day in ("mon", "mon", "tue"):
        task = pinned.override(cache=flyte.Cache("auto", ignored_inputs="path", policies=Dated(day)))
        start(task, 1, str(marks))

    assert 2 == len(executed(marks))


def by_first(items: list[int]) -> str:
    return str(items[0])


@env.task(cache=flyte.Cache("auto", ignored_inputs="path"))
async def hashed(items: Annotated[list[int], HashFunction.from_fn(by_first)], path: str) -> int:
    mark(path)
    return sum(items)


def test_a_hash_function_says_what_counts(start, marks):
    """``Annotated[..., HashFunction.from_fn(f)]`` tells inputs apart by f."""
    assert [3, 3, 7] == [start(hashed, items, str(marks)).outputs()[0] for items in ([1, 2], [1, 5], [2, 5])]
    assert 2 == len(executed(marks))


@env.task(cache=flyte.Cache("auto", serialize=True, ignored_inputs=("path", "fails")))
async def slow(x: int, path: str, fails: int = 0) -> int:
    mark(path)
    await asyncio.sleep(0.3)
    if len(executed(Path(path))) <= fails:
        raise ValueError("the first fails")
    return x


@env.task
async def nested_slow(x: int, path: str, fails: int) -> int:
    return await slow(x, path, fails)


@env.task
async def at_once(n: int, path: str, fails: int) -> list:
    calls = [nested_slow(7, path, fails) for _ in range(n)]
    return [str(r) for r in await asyncio.gather(*calls, return_exceptions=True)]


def test_serialized_calls_execute_once(start, marks):
    """Identical calls at the same time: one executes, the others, on whichever worker, wait for its result."""
    assert ["7"] * 4 == start(at_once, 4, str(marks), 0).outputs()[0]
    assert 1 == len(executed(marks))


def test_when_the_holder_fails_another_takes_over(start, marks):
    """The failure is its own; the next executes, and the rest have its result."""
    found = start(at_once, 4, str(marks), 1).outputs()[0]

    assert 3 == found.count("7")
    assert 2 == len(executed(marks))


@env.task
async def dies_once(path: str) -> int:
    call = asyncio.create_task(slow(9, path))
    await asyncio.sleep(0.1)
    if not Path(path + ".died").exists():
        Path(path + ".died").touch()
        os._exit(1)
    return await call


@env.task
async def one_dies(path: str) -> list[int]:
    first = asyncio.create_task(dies_once(path))
    await asyncio.sleep(0.05)
    return list(await asyncio.gather(first, *(nested_slow(9, path, 0) for _ in range(3))))


@pytest.mark.cluster
def test_when_the_holders_worker_dies_another_takes_over(cluster, marks):
    """Nobody waits for ever for a call whose process is gone."""
    run = flyte.with_runcontext(mode="remote").run(one_dies, str(marks))

    assert [9] * 4 == run.outputs()[0]
    assert len(executed(marks)) <= 3


@env.task
async def impatient(path: str) -> list:
    first = asyncio.create_task(slow(1, path))
    second = asyncio.create_task(slow(1, path))
    await asyncio.sleep(0.1)
    second.cancel()
    await asyncio.wait([second])
    return [await first, second.cancelled()]


def test_a_waiting_call_can_be_cancelled(start, marks):
    """It ends at once, and the executing one goes on."""
    assert [1, True] == start(impatient, str(marks)).outputs()[0]
    assert 1 == len(executed(marks))


@env.task(cache=flyte.Cache("auto", serialize=True, ignored_inputs=("depth", "path")))
async def into_itself(x: int, depth: int, path: str) -> int:
    mark(path)
    return x if depth == 0 else await into_itself(x, depth - 1, path)


def test_a_call_does_not_wait_for_its_own_parent(start, marks):
    """Equal calls inside one another, told apart by an ignored input only, do not wait for ever."""
    assert 1 == start(into_itself, 1, 1, str(marks)).outputs()[0]


@dataclass
class Point:
    x: int
    more: list[int]


@env.task(cache="auto")
async def point(x: int) -> Point:
    return Point(x, [x])


@env.task(cache="auto")
async def shifted(p: Point) -> Point:
    return Point(p.x + 1, p.more)


@env.task
async def points() -> Point:
    return await shifted(await point(1))


def test_classes_survive(start, folder):
    """An object from the cache is of its class, also after the store was opened anew."""
    start(points)
    location.configure(folder)
    run = start(points)

    assert Point(2, [1]) == run.outputs()[0]
    assert [True, True] == cached_of(run)


@env.task(cache="auto")
async def large(n: int) -> dict:
    import numpy as np

    return {"array": np.arange(n), "name": "large"}


@env.task
async def sums(n: int) -> int:
    return int((await large(n))["array"].sum())


@pytest.mark.parametrize("n", [10, 20_000, 200_000], ids=["small", "apart", "buffer"])
def test_arrays_of_every_size(start, folder, n):
    """Small ones, pickles read apart, and buffers that travel beside their pickle."""
    start(sums, n)
    location.configure(folder)
    run = start(sums, n)

    assert n * (n - 1) // 2 == run.outputs()[0]
    assert [True] == cached_of(run)


@env.task(cache=flyte.Cache("auto", ignored_inputs="path"))
async def written(x: int, path: str) -> File:
    mark(path)
    file = File.new_remote()
    with file.open_sync("wb") as stream:
        stream.write(b"content")
    return file


@env.task
async def read(x: int, path: str) -> tuple[str, str]:
    file = await written(x, path)
    with file.open_sync("rb") as stream:
        return stream.read().decode(), file.path


def test_a_reference_to_a_file_that_is_gone_is_no_result(start, marks, folder):
    """A file below the session's own folder goes with the session."""
    for _ in range(2):
        content, address = start(read, 1, str(marks)).outputs()
        assert "content" == content
        location.configure(folder)
    assert 1 == len(executed(marks))
    Path(address).unlink()

    assert "content" == start(read, 1, str(marks)).outputs()[0]
    assert 2 == len(executed(marks))
