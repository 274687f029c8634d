"""Calls of a map as rows: whatever some of them do, each has its own result, attempts, lines and end, once."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import io
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import Phase as Step
from hypothesis import strategies as st

import flyte_nb as flyte
from flyte_nb.core.history.columns import RowName
from flyte_nb.core.history.facts import Action, Phase
from flyte_nb.core.history.store import RunRecord
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell
from tests.engine.session import started

pytestmark = pytest.mark.cluster

env = flyte.TaskEnvironment("rows")


@env.task
async def double(x: int) -> int:
    """Called by some."""
    return 2 * x


#: What rows leave behind, each for itself.
LEFT: list[int] = []
SET = contextvars.ContextVar("rows", default=0)


def leave(x: int, does: str) -> None:
    """Change what belongs to the process, to the task or to the context; first find nothing of another row's."""
    assert (LEFT, SET.get(), os.environ.get("ROW")) == ([], 0, None), (x, does)
    assert not any(entry.startswith("row-") for entry in sys.path)
    assert not isinstance(sys.stdout, io.StringIO)
    if does == "globals":
        LEFT.append(x)
    if does == "variable":
        SET.set(x)
    if does == "environ":
        os.environ["ROW"] = str(x)
    if does == "stdout":
        sys.stdout = io.StringIO()
    if does == "path":
        sys.path.append(f"row-{x}")
    if does == "stream":
        sys.stdout = io.StringIO()


def behave(x: int, does: str, folder: str) -> None:
    """What a row does beside returning."""
    leave(x, does)
    if does == "fail" or (does == "flaky" and flyte.ctx().attempt_number == 0):
        raise ValueError(f"row {x}")
    if does == "print":
        print("row", x)
    if does == "fork" and (child := os.fork()):  # which goes on, and ends as it comes to our code
        os.waitpid(child, 0)
    if does == "echo":  # by way of a file descriptor
        os.write(1, f"row {x}\n".encode())
    if does == "slow":
        time.sleep(0.06)
    if does == "kill" and not (flag := Path(folder, f"{x}")).exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)


@env.task(retries=1)
def one(x: int, does: str, folder: str) -> int:
    """A synchronous row."""
    behave(x, does, folder)
    return asyncio.run(double(x)) if does == "child" else x


@env.task(retries=1)
async def another(x: int, does: str, folder: str) -> int:
    """An asynchronous row."""
    behave(x, does, folder)
    if does == "uncancelled" and (task := asyncio.current_task()) is not None:
        task.cancel()
    return await double(x) if does == "child" else x


@env.task(retries=1)
async def inside(kinds: list[str], folder: str, is_async: bool, gathers: bool) -> list[Any]:
    """A map, or a gather, whose owner is a worker."""
    n = len(kinds)
    task: Any = another if is_async else one
    if gathers:
        calls = (task.aio(x, kind, folder) for x, kind in enumerate(kinds))
        return list(await asyncio.gather(*calls, return_exceptions=True))
    return [v async for v in flyte.map.aio(task, range(n), kinds, [folder] * n)]


@env.task
async def marks(x: int, folder: str) -> None:
    """Waits; leaves a mark as it begins and as it ends."""
    Path(folder, f"{x}").touch()
    try:
        await asyncio.sleep(600)
    finally:
        Path(folder, f"{x}.end").touch()


@env.task
async def blocks(folder: str) -> None:
    """Stands still on its loop right after its calls, until all have begun; once it has cancelled them, until all have ended."""
    calls = [asyncio.ensure_future(marks(x, folder)) for x in range(300)]
    await asyncio.sleep(0)
    until(lambda: len(list(Path(folder).iterdir())) == 300)
    for each in calls:
        each.cancel()
    await asyncio.sleep(0)
    until(lambda: len(list(Path(folder).iterdir())) == 600)


warm = flyte.TaskEnvironment("warm-rows", reusable=flyte.ReusePolicy(replicas=1))


@warm.task
async def leaf(x: int) -> int:
    """Needs the replica that its parent has."""
    return x


@warm.task
async def root_of(n: int, gathers: bool) -> int:
    """Has the only replica of its environment, and gives it back as it waits."""
    found: list[Any]
    if gathers:
        found = await asyncio.gather(*map(leaf, range(n)))
    else:
        found = [x async for x in flyte.map.aio(leaf, range(n))]
    return sum(found)


@env.task
def waits(x: int) -> int:
    """Those from 300 on never end by themselves."""
    while x >= 300:
        time.sleep(0.01)
    return x


@pytest.fixture(scope="module")
def cluster() -> Iterator[Session]:
    """Two workers with one slot."""
    with started(n_workers=2, threads_per_worker=1) as session:
        yield session
        # Whatever became of them, their arguments are not kept, and the garbage collector is as it was.
        until(lambda: repr(session.engine.executor.rows) == "<RowDispatch [0 on their way]>")
        until(lambda: not gc.get_freeze_count())


def looked_at(session: Session) -> tuple[RunRecord, list[Action]]:
    """The latest run, and its actions but for its root, once all has arrived."""
    record = next(reversed(session.store.runs.values()))
    engine = session.engine
    assert not session.gateway.ask(engine.controller.is_busy, record.state.run)
    found = session.gateway.ask(lambda: [record.actions[name] for name in record.numbered])[1:]
    assert all(action.phase.is_terminal for action in found)
    assert [action.number for action in found] == list(range(1, len(found) + 1))
    assert len({action.name for action in found}) == len(found)
    counts = Counter(action.phase for action in found)
    assert all(record.count(phase) == counts[phase] for phase in Phase)
    for name in record.numbered:  # in whichever form one asks
        assert record.actions[str(name)] == record.actions[name]
    return record, found


def until(condition: Any) -> None:
    """Wait for something that comes with a worker's next events."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


KINDS = [
    "fail",
    "flaky",
    "print",
    "echo",
    "slow",
    "child",
    "fork",
    "uncancelled",
    "globals",
    "variable",
    "environ",
    "path",
    "stdout",
    "stream",
]
special = st.dictionaries(st.integers(0, 299), st.sampled_from(KINDS), max_size=10)


def test_rows_give_what_the_model_says(cluster: Session, tmp_path: Path) -> None:
    """Values and errors in order, names, labels, attempts and lines, whatever some of the rows do."""
    rounds = iter(range(1_000))

    @settings(
        max_examples=14,
        deadline=None,
        phases=[Step.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=True,
    )
    @given(special, st.sampled_from([one, another]), st.integers(300, 700), st.sampled_from(["", "map", "gather"]))
    def check(does: dict[int, str], task: Any, n: int, nested: str) -> None:
        folder = tmp_path / str(next(rounds))
        kinds = [does.get(x, "ok") for x in range(n)]
        if nested or "child" in kinds:  # what is written by way of a descriptor is then nobody's
            kinds = ["ok" if kind == "echo" else kind for kind in kinds]

        async def cell() -> list[Any]:
            if nested:
                return await inside(kinds, str(folder), task is another, nested == "gather")
            return [v async for v in flyte.map.aio(task, range(n), kinds, [str(folder)] * n)]

        found = run_cell(cell)
        assert [v for v in found if isinstance(v, int)] == [
            2 * x if kind == "child" else x for x, kind in enumerate(kinds) if kind != "fail"
        ]
        assert [(type(v).__name__, str(v)) for v in found if not isinstance(v, int)] == [
            ("RetriesExhaustedError", f"row {x}") for x, kind in enumerate(kinds) if kind == "fail"
        ]
        record, actions = looked_at(cluster)
        # What a row calls may be heard of before the last of its siblings. The first call of a gather goes at once.
        rows = [action for action in actions if action.task == task.name]
        assert sum(type(name) is RowName for name in record.numbered) == n - (nested == "gather")
        others = [action for action in actions if action.task == double.name]
        assert len(rows) == n
        labels = [f"{task.short_name}({x}, {kind!r}, '/" for x, kind in enumerate(kinds)]
        assert labels == [action.label[: len(label)] for action, label in zip(rows, labels, strict=True)]
        for x, (action, kind) in enumerate(zip(rows, kinds, strict=True)):
            assert action.phase is (Phase.FAILED if kind == "fail" else Phase.SUCCEEDED)
            assert action.attempt is not None
            assert action.attempt.ok is (kind != "fail"), action
            assert action.attempt.number == (kind in {"fail", "flaky"}) == len(action.earlier), (action, action.earlier)
            assert all(action.queued_at <= (a.started_at or 0) <= (a.ended_at or 0) for a in action.earlier)
            assert (action.error.message if action.error else "") == (f"row {x}" if kind == "fail" else "")
            assert action.queued_at <= (action.started_at or 0) <= (action.ended_at or 0) + 0.01
            assert action.preview == ("" if kind == "fail" else str(2 * x if kind == "child" else x))
        assert len(others) == kinds.count("child")
        printed = {rows[x].name: [f"row {x}"] for x in range(n) if kinds[x] in {"print", "echo"}}
        until(lambda: record.logs.total >= len(printed))
        assert {name: [line.text for line in record.logs.of(name)] for name in record.logs.actions()} == printed

    check()


@pytest.mark.parametrize(
    ("task", "gathers"), [(one, False), (another, False), (inside, False), (inside, True)],
    ids=["one", "another", "map inside", "gather inside"],
)  # fmt: skip
def test_a_worker_killed_in_the_middle_costs_no_result(
    cluster: Session, tmp_path: Path, task: Any, gathers: bool
) -> None:
    """What it had not begun runs elsewhere, once; what it had is tried again. It may be the owner, too."""

    async def cell() -> list[Any]:
        kinds = ["kill" if x == 400 else "fail" if x == 7 else "ok" for x in range(600)]
        if task is inside:
            return await inside(kinds, str(tmp_path), False, gathers)
        return [v async for v in flyte.map.aio(task, range(600), kinds, [str(tmp_path)] * 600)]

    found = run_cell(cell)
    assert [v for v in found if isinstance(v, int)] == [x for x in range(600) if x != 7]
    _, actions = looked_at(cluster)
    assert Counter(action.phase for action in actions) == {Phase.SUCCEEDED: 599 + (task is inside), Phase.FAILED: 1}


def test_what_a_map_leaves_is_cancelled_and_one_can_be_aborted(cluster: Session) -> None:
    """An early end, one that is aborted while it waits and one while it executes, and the whole run."""

    async def early() -> int:
        count = 0
        async for _ in flyte.map.aio(waits, range(2_000)):
            count += 1
            if count == 200:
                break
        return count

    assert run_cell(early) == 200
    _, actions = looked_at(cluster)
    assert Counter(action.phase for action in actions).keys() == {Phase.SUCCEEDED, Phase.ABORTED}

    async def aborted() -> list[Any]:
        async def intervene() -> None:
            record = next(reversed(cluster.store.runs.values()))
            run = record.state.run
            going: list[str] = []
            while not going:
                await asyncio.sleep(0.02)
                going = [action.name for action in record.actions.unended() if action.phase is Phase.RUNNING]
            for name in (record.numbered[1_500], going[0]):
                cluster.gateway.ask(cluster.abort_action, run, name, "just this one")
            until(lambda: record.actions[record.numbered[1_500]].phase is Phase.ABORTED)
            cluster.gateway.ask(cluster.abort_run, run, "all of it")

        helper = asyncio.ensure_future(intervene())
        found = [v async for v in flyte.map.aio(waits, range(2_000))]
        await helper
        return found

    found = run_cell(aborted)
    # Those that end by themselves have, unless all lanes were held by others before their turn.
    ended = [v for v in found if type(v) is int]
    assert ended == [i for i, v in enumerate(found) if type(v) is int]
    assert {type(v).__name__ for v in found if type(v) is not int} == {"ActionAbortedError"}
    assert Counter(map(str, found))["just this one"] == 2
    assert str(found[1_499]) == "just this one"
    _, actions = looked_at(cluster)
    assert Counter(action.phase for action in actions)[Phase.SUCCEEDED] == len(ended)
    assert 0 < len(ended) <= 300


def test_calls_of_a_body_are_under_way_whatever_it_does_next(cluster: Session, tmp_path: Path) -> None:
    """It stands still on its loop; it has the only replica that its calls need."""
    run_cell(lambda: blocks(str(tmp_path)))
    record, actions = looked_at(cluster)
    assert sum(type(name) is RowName for name in record.numbered) >= 256
    assert Counter(action.phase for action in actions) == {Phase.SUCCEEDED: 1, Phase.ABORTED: 300}
    for gathers in (True, False):
        assert run_cell(functools.partial(root_of, 300, gathers)) == sum(range(300))


def test_rows_that_are_cancelled_before_any_was_sent_are_let_go(cluster: Session) -> None:
    """Both slots are held by others all the time."""
    rows = cluster.engine.executor.rows

    async def cell() -> None:
        holders = [asyncio.ensure_future(waits.aio(1_000 + i)) for i in range(2)]
        running: list[Action] = []
        while len(running) < 2:
            await asyncio.sleep(0.02)
            latest = list(cluster.store.runs.values())[-1:]
            running = [a for record in latest for a in record.actions.unended() if a.phase is Phase.RUNNING]
        waiting = [asyncio.ensure_future(one.aio(i, "slow", "")) for i in range(600)]
        while repr(rows) == "<RowDispatch [0 on their way]>":  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
        for each in (*waiting, *holders):
            each.cancel()
        await asyncio.gather(*waiting, *holders, return_exceptions=True)

    run_cell(cell)
    until(lambda: repr(rows) == "<RowDispatch [0 on their way]>")


def test_forms_of_a_large_map(cluster: Session) -> None:
    """Equal calls, generators, a bound on concurrency, large and odd inputs among plain ones; names are those of single calls."""

    async def cell() -> list[Any]:
        numbers = range(600)
        found: list[Any] = [[v async for v in flyte.map.aio(double, [3] * 600)] == [6] * 600]
        found.append(
            [v async for v in flyte.map.aio(double, (n for n in range(9_000)))] == [2 * n for n in range(9_000)]
        )
        found.append([v async for v in flyte.map.aio(double, numbers, concurrency=500)] == [2 * n for n in numbers])
        mixed: list[Any] = [*range(300), "x" * 200_000, {1, 2}, b"\x93", *range(300), object]
        found.append([v async for v in flyte.map.aio(size, mixed)] == [len(repr(value)) for value in mixed])
        wrong = [v async for v in flyte.map.aio(double, [*range(400), "no"])]
        found += [wrong[:400] == [2 * n for n in range(400)], type(wrong[400]).__name__]
        return found

    assert run_cell(cell) == [True, True, True, True, True, "ArgumentError"]
    record, actions = looked_at(cluster)
    again = [action for action in actions if action.label == "double(3)"]
    assert len(again) == 603  # the equal ones, and one in each of three maps
    assert record.find("a600") == again[599]

    async def together() -> list[int]:
        return await asyncio.gather(*map(double, range(600)))

    async def alone() -> list[int]:
        return [await double(n) for n in (142, 143, 145)]  # with bytes that mean sets elsewhere in a pickle

    names = []
    for each in (together, alone):
        run_cell(each)
        names.append({action.label: action.name for action in looked_at(cluster)[1]})
    assert len(names[1]) == 3
    assert names[1].items() <= names[0].items()


@env.task
def size(value: Any) -> int:
    """Of anything."""
    return len(repr(value))


@env.task
async def first_of(x: int, y: int = 0) -> int:
    """Plain inputs, or with a keyword, which no row has."""
    return x + y


@env.task
async def length(data: bytes) -> int:
    """An input that is too large for a row."""
    return len(data)


def test_actions_are_numbered_as_they_were_called(cluster: Session) -> None:
    """Also where some of one gather are rows, or wait for the turn's end, and others are made alone."""
    calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (first_of, (0,), {}), (first_of, (1,), {}), (first_of, (2,), {"y": 1}), (first_of, (3,), {}),
        (length, (b"x" * 400_000,), {}), (first_of, (4,), {}), (length, (b"y",), {}), (length, (b"z",), {}), (first_of, (5,), {}),
        *((first_of, (10 + i,), {}) for i in range(600)), (length, (b"last",), {}),
    ]  # fmt: skip

    async def cell() -> list[int]:
        return await asyncio.gather(*(task(*args, **kwargs) for task, args, kwargs in calls))

    run_cell(cell)
    record = next(reversed(cluster.store.runs.values()))
    labels = [record.actions[name].label for name in record.numbered][1:]
    assert [task.short_name for task, _, _ in calls] == [label.partition("(")[0] for label in labels]
    numbers = [label.partition("(")[2].split(",")[0].rstrip(")") for label in labels if label.startswith("first_of")]
    assert [str(args[0]) for task, args, _ in calls if task is first_of] == numbers
