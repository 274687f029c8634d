"""The least cluster, one process with one thread: nothing that waits may hold its only slot."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, os, sys, time
import flyte_nb as flyte

env = flyte.TaskEnvironment("one-slot")


@env.task
async def fractal(depth: int, width: int) -> int:
    if not depth:
        return 1
    return sum(await asyncio.gather(*(fractal(depth - 1, width) for _ in range(width))))


@env.task
def sync_fractal(depth: int) -> int:
    return 1 if not depth else sync_fractal(depth - 1) + sum(flyte.map(sync_fractal, [depth - 1]))


@env.task
def with_a_loop(depth: int) -> int:
    return asyncio.run(fractal(depth, 2))


@env.task
def spins(path: str) -> bool:
    end = time.monotonic() + 60
    while time.monotonic() < end and not os.path.exists(path):
        pass
    return os.path.exists(path)


@env.task
async def gives_up() -> str:
    try:
        return str(await asyncio.wait_for(spins.aio("/nowhere"), 0.3))
    except TimeoutError:
        return "gave up"


@env.task
async def ticks(path: str) -> bool:
    ticked = 0

    async def tick():
        nonlocal ticked
        while True:
            await asyncio.sleep(0.001)
            ticked += 1
            if ticked == 10:
                open(path, "w").close()

    ticker = asyncio.create_task(tick())
    seen = await spins.aio(path)
    ticker.cancel()
    return seen


@env.task
def folder_and_variable() -> list:
    return [os.getcwd() == "/", os.environ.get("MINE")]


@env.task
async def blocks_and_goes_on() -> list:
    os.chdir("/")
    os.environ["MINE"] = "its own"
    other = folder_and_variable()
    return [other, [os.getcwd() == "/", os.environ.get("MINE")]]


@env.task
async def main(path: str) -> list:
    found = [await fractal(4, 3), await sync_fractal.aio(5), await with_a_loop.aio(4), await ticks(path), await gives_up()]
    return [*found, await blocks_and_goes_on()]


if __name__ == "__main__":
    flyte.init(n_workers=1)
    print("RESULT", flyte.run(main, sys.argv[1]).outputs()[0])
"""


@pytest.mark.cluster
def test_t14_one_slot_is_enough(tmp_path, root):
    """Recursion of any depth, sync and async; a parent ticks, and times out a child that computes in its own process.

    One that blocks in the middle of a step goes on there in the process as it has left it.
    """
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "ticked")], env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip

    kept = "[[False, None], [True, 'its own']]"
    assert f"RESULT [81, 32, 16, True, 'gave up', {kept}]" in done.stdout, done.stdout + done.stderr
