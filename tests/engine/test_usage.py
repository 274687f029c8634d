"""What attempts use, what queued actions wait for, and what the machine does: on a cluster of two processes of 600 MB."""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import flyte_nb as flyte
from flyte_nb.core.history.facts import Action
from flyte_nb.core.history.parts import parts_of
from flyte_nb.kernel.operations.cluster import cluster_text
from flyte_nb.kernel.operations.why import reason
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell
from tests.contract.journal import until_sync
from tests.engine.session import started

pytestmark = pytest.mark.cluster

env = flyte.TaskEnvironment("usage")
LIMIT = 600_000_000


def compute(seconds: float) -> None:
    """Compute for so much time of this thread's."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


@env.task
def computes(seconds: float) -> bytes:
    compute(seconds)
    return b"x" * 5_000


@env.task
def sleeps(seconds: float, ballast: bytes = b"") -> int:
    time.sleep(seconds)
    return len(ballast)


@env.task
async def steps(seconds: float) -> None:
    for _ in range(10):
        compute(seconds / 10)
        await asyncio.sleep(0.02)


@env.task
def one_long(x: int) -> int:
    if x == 100:
        compute(0.3)
    return x


@env.task
async def all_kinds() -> None:
    await asyncio.gather(computes.aio(0.3), sleeps.aio(0.3, b"y" * 20_000), steps(0.2))


@env.task
def fills(share: float, mark: str) -> int:
    """Make this process so large, for as long as it takes."""
    ballast = b"z" * max(0, int(share * LIMIT) - psutil.Process().memory_info().rss)
    while not Path(mark).exists():
        time.sleep(0.02)
    return len(ballast)


@env.task
def waits_for(mark: str, number: int) -> int:
    while not Path(mark).exists():
        time.sleep(0.02)
    return number


@env.task
async def many(mark: str) -> list[int]:
    return list(await asyncio.gather(*(waits_for.aio(mark, n) for n in range(6))))


@env.task
def imports(folder: str, end: str) -> None:
    sys.path.insert(0, folder)
    importlib.import_module("slow_package")
    while not Path(end).exists():
        time.sleep(0.02)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with started(n_workers=2, memory_limit=LIMIT) as session:
        yield session


def actions(session: Session, run: Any, task: str) -> list[Action]:
    record = session.store.runs.get(run.name)
    if record is None:
        return []
    return session.gateway.ask(lambda: [a for a in record.actions.values() if a.task.endswith(task)])


def test_an_attempt_tells_what_it_used(session: Session) -> None:
    """CPU of what computes and not of what sleeps; memory; bytes; of a map what went on for long; where it ran."""
    run = flyte.run(all_kinds)
    run.wait()
    busy, idle, stepping = (run.to_rows(task=name)[0] for name in ("computes", "sleeps", "steps"))
    assert 0.29 < busy["cpu"] < 0.45
    assert (idle["cpu"] or 0.0) < 0.15
    assert 0.19 < stepping["cpu"] < 0.35
    assert all(30_000_000 < row["memory"] < LIMIT for row in (busy, idle, stepping))
    assert 5_000 < busy["bytes_out"] < 5_200
    assert 20_000 < idle["bytes_in"] < 20_300
    assert {row["worker"] for row in (busy, idle, stepping)} <= {"w0", "w1"}


def test_of_a_map_what_takes_long_is_measured(session: Session) -> None:
    """The others are rows, of which only the bytes are known."""

    async def cell() -> list[Any]:
        return [x async for x in flyte.map.aio(one_long, range(300))]

    assert list(range(300)) == run_cell(cell)
    record = next(reversed(session.store.runs.values()))
    found = session.gateway.ask(lambda: [a for a in record.actions.values() if a.task.endswith("one_long")])
    usages = {action.label: action.attempt.usage for action in found}
    measured = [label for label, usage in usages.items() if usage.memory]
    assert "one_long(100)" in measured
    assert [action.label.partition("(")[2][:-1] for action in found] == [action.preview for action in found]
    assert 10 > len(measured)
    assert 0.25 < usages["one_long(100)"].cpu < 0.45
    assert {usage.taken for usage in usages.values()} < set(range(1, 200))


def test_parts_of_a_real_action_are_its_time(session: Session) -> None:
    """What was slept is not running; what was awaited is its children's."""
    run = flyte.run(all_kinds)
    run.wait()
    record = session.store.runs[run.name]
    for action in (*actions(session, run, "all_kinds"), *actions(session, run, "steps")):
        found = session.gateway.ask(parts_of, record, action, 0.0)
        assert (action.ended_at or 0.0) - action.queued_at == pytest.approx(sum(found.values()))
        assert found["running"] < 0.8
        assert found["idle" if action.task.endswith("steps") else "children"] > 0.15


def test_a_queued_action_says_what_it_waits_for(session: Session, tmp_path: Path) -> None:
    """Slots, how many are before it, a limit of its run; and nothing once it runs."""
    mark = tmp_path / "mark"
    run = flyte.run(many, str(mark))

    def why(number: int) -> str:
        found = [a for a in actions(session, run, "waits_for") if a.label.endswith(f", {number})")]
        return str(session.engine.call(reason, session, found[0])) if found else ""

    until_sync(lambda: "2 of 2 slots busy, 3 before it" in why(5))
    assert "2 of 2 slots busy" in why(2)
    until_sync(lambda: why(0) == "")
    text = cluster_text(session)
    assert "w0   " in text
    assert "1 of 1 slot busy: " + run.name in text
    assert "of 600 MB (" in text
    mark.touch()
    run.wait()
    mark.unlink()
    limited = flyte.with_runcontext(max_action_concurrency=1).run(many, str(mark))
    run = limited
    until_sync(lambda: why(4) == "the limit max_action_concurrency=1, 3 before it")
    mark.touch()
    limited.wait()
    assert why(4) == ""


def test_what_is_imported_for_long_is_said_meanwhile(session: Session, tmp_path: Path) -> None:
    """By the name of the outermost package; and not any more once it is there."""
    mark = tmp_path / "mark"
    inner = f"import time, pathlib\nwhile not pathlib.Path({str(mark)!r}).exists():\n    time.sleep(0.01)\n"
    (tmp_path / "slow_inside.py").write_text(inner)
    (tmp_path / "slow_package.py").write_text("import slow_inside\n")
    run = flyte.run(imports, str(tmp_path), str(tmp_path / "end"))

    def notes() -> list[str]:
        return [action.note for action in actions(session, run, "imports")]

    until_sync(lambda: notes() in (["importing slow_package on w0"], ["importing slow_package on w1"]))
    mark.touch()
    until_sync(lambda: notes() == [""])
    (tmp_path / "end").touch()
    run.wait()


def test_what_grows_says_so_before_its_process_is_ended(session: Session, tmp_path: Path) -> None:
    """At 80 % of the worker's memory, in the log of the action under which it grew; the list of workers tells which it is."""
    mark = tmp_path / "mark"
    run = flyte.run(fills, 0.86, str(mark))

    def full() -> list[str]:
        loads = session.engine.call(session.engine.machine.look)
        return [load.name for load in loads if load.memory > 0.8 * LIMIT]

    until_sync(lambda: len(full()) == 1)
    until_sync(lambda: "It is paused, since it is short of memory" in cluster_text(session))
    (name,) = full()
    (line,) = [line for line in cluster_text(session).splitlines() if "paused, since it is short of memory" in line]
    assert line.split()[0] == name
    assert f"{run.name}/a0 fills(" in line
    mark.touch()
    run.wait()
    record = session.store.runs[run.name]
    lines = [line.text for line in record.logs.of("a0")]
    assert lines[0].startswith(f"{name} uses")
    assert "more than when this action began; its process is ended at 95%" in lines[0]
