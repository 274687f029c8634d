"""The orchestrator acts as an event loop: overlap, yielding, slots, order; shown by meetings, never by the clock."""

# Programs as users write them.
# mypy: disable-error-code="return-value,func-returns-value,misc,redundant-expr"

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

import flyte_nb as flyte
from tests.contract.journal import jot, lines, meet, meet_sync, until, until_sync

env = flyte.TaskEnvironment("loop")


@env.task
async def number(x: int) -> int:
    return x


@env.task
async def meets(path: str, name: str, count: int) -> str:
    await meet(path, name, count)
    return name


@env.task
def meets_sync(path: str, name: str, count: int) -> int:
    meet_sync(path, name, count)
    return os.getpid()


@env.task
async def gathers(path: str, n: int) -> list[str]:
    return await asyncio.gather(*(meets(path, str(i), n) for i in range(n)))


def test_t1_more_sleepers_than_slots_overlap(run, tmp_path):
    """Twenty that only end together, on two slots."""
    assert run(gathers, str(tmp_path / "m"), 20) == [str(i) for i in range(20)]


@env.task
async def waves(path: str, n: int) -> list[int]:
    return await asyncio.gather(*(meets_sync.aio(f"{path}{i // 2}", str(i), 1) for i in range(n)))


def test_t1_more_blocking_tasks_than_slots_end_in_waves(run, tmp_path):
    """Bodies that hold a slot take turns."""
    assert len(run(waves, str(tmp_path / "m"), 9)) == 9


@env.task
async def mixes(path: str) -> list:
    @flyte.trace
    async def traced() -> str:
        await meet(path, "trace", 5)
        return "trace"

    async def plain() -> str:
        await meet(path, "plain", 5)
        return "plain"

    return await asyncio.gather(
        meets(path, "task", 5),
        meets_sync.aio(path, "sync", 5),
        traced(),
        plain(),
        asyncio.to_thread(meet_sync, path, "thread", 5),
    )


def test_t2_tasks_traces_coroutines_and_threads_progress_together(run, tmp_path):
    """One gather holds anything that can be awaited."""
    assert run(mixes, str(tmp_path / "m"))[::2] == ["task", "trace", None]


@env.task
async def first_or_waits(path: str, i: int) -> int:
    if i:
        await until(lambda: "got 0" in lines(path))
    return i


@env.task
async def streams(path: str, how: str) -> list[int]:
    got = []
    if how == "map":
        async for value in flyte.map.aio(first_or_waits, [path] * 3, range(3)):
            got.append(value)
            jot(path, f"got {value}")
    else:
        for each in asyncio.as_completed([first_or_waits(path, i) for i in range(3)]):
            got.append(await each)
            jot(path, f"got {got[-1]}")
    return got


@pytest.mark.parametrize("how", ["map", "as_completed"])
def test_t3_results_stream(run, tmp_path, how):
    """The first result is there while the others cannot end before it has been seen."""
    got = run(streams, str(tmp_path / "j"), how)

    assert got[0] == 0
    assert sorted(got) == [0, 1, 2]


@env.task
async def prints_and_waits(path: str) -> int:
    print("half way")
    await until(lambda: lines(path))
    return 1


@pytest.mark.cluster
def test_t4_what_a_task_does_is_seen_while_it_runs(cluster, tmp_path):
    """Phase and log of an action are there before it ends."""
    path = str(tmp_path / "j")
    run = flyte.run(prints_and_waits, path)
    until_sync(lambda: run.phase == "running" and "half way" in list(run.get_logs()))
    jot(path, "seen")

    assert run.outputs()[0] == 1


@env.task
async def produces_late(path: str) -> str:
    await until(lambda: "needs_short" in lines(path))
    return "late"


@env.task
async def produces_soon() -> str:
    return "soon"


@env.task
async def needs(path: str, name: str, value: str) -> str:
    jot(path, name)
    return f"{name}({value})"


@env.task
async def diamond(path: str) -> list[str]:
    async def through(first, name: str) -> str:
        return await needs(path, name, await first)

    return await asyncio.gather(through(produces_late(path), "needs_long"), through(produces_soon(), "needs_short"))


def test_t5_there_is_no_barrier(run, tmp_path):
    """What needs the short producer runs before the long one can have ended."""
    assert run(diamond, str(tmp_path / "j")) == ["needs_long(late)", "needs_short(soon)"]


@env.task
async def busy_async(path: str, name: str, count: int) -> int:
    meet_sync(path, name, count)  # never awaits
    return os.getpid()


@env.task
async def spins(path: str, kind: str) -> list[int]:
    if kind == "def":
        return await asyncio.gather(*(meets_sync.aio(path, str(i), 2) for i in range(2)))
    return await asyncio.gather(*(busy_async(path, str(i), 2) for i in range(2)))


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_t6_t7_blocking_bodies_run_in_parallel(run, mode, tmp_path, kind):
    """Two that never await are at the same point at the same time: in two processes on a cluster."""
    pids = run(spins, str(tmp_path / "m"), kind)

    assert len(set(pids)) == (2 if mode == "remote" else 1)
    assert (os.getpid() in pids) == (mode == "local")


@env.task
async def ticks(path: str, kind: str) -> int:
    ticked = 0

    async def tick() -> None:
        nonlocal ticked
        while True:
            await asyncio.sleep(0.001)
            ticked += 1
            if ticked == 20:
                jot(path, "ticked")

    ticker = asyncio.create_task(tick())
    await (waits_sync.aio(path) if kind == "def" else waits_async(path))
    ticker.cancel()
    return ticked


@env.task
def waits_sync(path: str) -> int:
    until_sync(lambda: "ticked" in lines(path))
    return 1


@env.task
async def waits_async(path: str) -> int:
    await until(lambda: "ticked" in lines(path))
    return 1


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_t9_awaiting_a_task_yields_the_parents_loop(run, tmp_path, kind):
    """A sibling coroutine ticks, which is what the child waits for; also where the child holds its process's slot."""
    assert run(ticks, str(tmp_path / "j"), kind) >= 20


@env.task
async def spans(path: str, name: str) -> str:
    jot(path, f"in {name}")
    await asyncio.sleep(0.01)
    jot(path, f"out {name}")
    return name


@env.task
async def one_after_another(path: str) -> str:
    await spans(path, "a")
    await spans(path, "b")
    first, second = spans(path, "c"), spans(path, "d")
    return await first + await second


def test_t10_awaits_in_sequence_never_overlap(run, tmp_path):
    """Calls are lazy: two coroutines made together still run one after the other."""
    path = str(tmp_path / "j")

    assert run(one_after_another, path) == "cd"
    assert lines(path) == [f"{what} {name}" for name in "abcd" for what in ("in", "out")]


@env.task
async def pid_at(path: str, i: int) -> int:
    meet_sync(path, str(i), 2)
    return i * 1_000_000_000 + os.getpid()


@env.task
async def gather_mixed(path: str) -> list:
    return await asyncio.gather(pid_at(path, 0), fails(1), number(7), pid_at(path, 1), return_exceptions=True)


@env.task
async def fails(x: int) -> int:
    raise ValueError(f"no {x}")


def test_t11_gather_keeps_the_order_of_its_arguments(run, mode, tmp_path):
    """Tasks overlap, on different workers where there are any; an error is a value among the results."""
    first, error, seven, second = run(gather_mixed, str(tmp_path / "m"))

    assert isinstance(error, ValueError)
    assert (seven, first // 1_000_000_000, second // 1_000_000_000) == (7, 0, 1)
    assert (first % 1_000_000_000 != second % 1_000_000_000) == (mode == "remote")


@env.task
async def child_then_note(path: str, i: int) -> int:
    jot(path, f"ran {i}")
    return i


@env.task
async def blocks_its_loop(path: str) -> list[int]:
    children = [asyncio.create_task(child_then_note(path, i)) for i in range(3)]
    await asyncio.sleep(0)  # they are submitted
    until_sync(lambda: len(lines(path)) == 3)  # this loop stands still
    return await asyncio.gather(*children)


def test_t13_a_blocked_parent_delays_only_itself(run, tmp_path):
    """Children that were submitted end while their parent does not yield."""
    assert run(blocks_its_loop, str(tmp_path / "j")) == [0, 1, 2]


@env.task
async def fractal(depth: int, width: int) -> int:
    if not depth:
        return 1
    return sum(await asyncio.gather(*(fractal(depth - 1, width) for _ in range(width))))


@env.task
def sync_fractal(depth: int) -> int:
    return 1 if not depth else sync_fractal(depth - 1) + sum(flyte.map(sync_fractal, [depth - 1]))


@env.task
def sync_with_a_loop(depth: int) -> int:
    return asyncio.run(fractal(depth, 2))


@pytest.mark.parametrize(
    ("task", "args", "value"), [(fractal, (4, 3), 81), (sync_fractal, (5,), 32), (sync_with_a_loop, (4,), 16)]
)
def test_t14_waiting_parents_hold_no_slot(run, task, args, value):
    """Depth times width far beyond the slots completes."""
    assert run(task, *args) == value


@env.task
async def kills_its_worker_once(path: str, how: str) -> str:
    if not lines(path):
        jot(path, str(os.getpid()))
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(3)
    return "survived"


@env.task
async def awaits_a_killer(path: str, how: str) -> str:
    return await kills_its_worker_once(path, how)


@pytest.mark.cluster
@pytest.mark.parametrize("how", ["kill", "exit"])
def test_t15_a_lost_workers_tasks_run_elsewhere(cluster, tmp_path, how):
    """The parent's await returns, without a retry of the user's."""
    assert flyte.run(awaits_a_killer, str(tmp_path / "j"), how).outputs()[0] == "survived"


@env.task
def cpu(n: int) -> int:
    return sum(i * i for i in range(n))


@env.task
async def sleeps(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@env.task
def writes(path: str) -> int:
    return len(jot(path, "text") or lines(path))


@env.task
async def workloads(path: str) -> list:
    return await asyncio.gather(cpu.aio(1000), sleeps(0.01), writes.aio(path), cpu.aio(2000), number(5))


def test_t17_cpu_sleep_and_file_tasks_mix(run, tmp_path):
    """One gather call of unlike tasks."""
    assert run(workloads, str(tmp_path / "f")) == [332833500, 0.01, 1, 2664667000, 5]


@env.task
async def thousand() -> int:
    return sum(await asyncio.gather(*(number(i) for i in range(1000))))


def test_t31_a_thousand_at_once(run):
    """A gather of a thousand no-ops completes (bench/ has the cost per action)."""
    started = time.perf_counter()

    assert run(thousand) == 499500
    print(f"{(time.perf_counter() - started):.2f} ms an action")


@pytest.mark.cluster
def test_ten_thousand_keep_their_order(cluster):
    """A large map on bundles gives every result once."""

    @env.task
    async def maps() -> list[int]:
        return [r async for r in flyte.map.aio(number, range(10_000))]

    assert flyte.run(maps).outputs()[0] == list(range(10_000))
