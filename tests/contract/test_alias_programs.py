"""The four programs of the asynchronous model as a user's file: under this package's name, and unchanged under Flyte's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEADS = {
    "flyte_nb": "import flyte_nb as flyte\n",
    "flyte": "import flyte_nb\nflyte_nb.install_as_flyte()\nimport flyte\nimport flyte.errors\nfrom flyte.io import File\n",
}

PROGRAM = """
import asyncio
from typing import List

env = flyte.TaskEnvironment("four")


@env.task
async def process_chunk(chunk_id: int, data: str) -> str:
    await asyncio.sleep(0.05)
    return f"Processed chunk {chunk_id}: {data}"


@env.task
async def parallel_pipeline(chunks: List[str]) -> List[str]:
    return await asyncio.gather(*[process_chunk(i, chunk) for i, chunk in enumerate(chunks)])


@env.task
def polynomial(x: int) -> int:
    return x * x + 2 * x + 1


@env.task
async def gathers_sync(n: int) -> List[int]:
    return await asyncio.gather(*[polynomial.aio(x) for x in range(1, n + 1)])


@env.task
def process_item(x: int) -> int:
    if x == 3:
        raise ValueError("three")
    return 10 * x


@env.task
def sync_map_example(n: int) -> List[int]:
    return [r for r in flyte.map(process_item, range(n))]


@env.task
async def async_map_example(n: int) -> List[str]:
    shown = []
    async for result in flyte.map.aio(process_item, range(n), return_exceptions=True):
        shown.append(f"failed: {result}" if isinstance(result, ValueError) else str(result))
    return shown


@env.task
async def main() -> list:
    return [
        await parallel_pipeline(["data1", "data2", "data3"]),
        await gathers_sync(5),
        sync_map_example(3),
        await async_map_example(4),
    ]


if __name__ == "__main__":
    run = flyte.with_runcontext(mode=MODE).run(main)
    first, squares, mapped, shown = run.outputs()[0]
    assert first == [f"Processed chunk {i}: data{i + 1}" for i in range(3)], first
    assert squares == [4, 9, 16, 25, 36], squares
    assert mapped == [0, 10, 20], mapped
    assert shown == ["0", "10", "20", "failed: three"], shown
    print("ALL FOUR")
"""


@pytest.mark.cluster
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("mode", ["local", "remote"])
def test_the_four_programs_run_under_both_names(tmp_path: Path, mode: str, name: str) -> None:
    """One file, two first lines; in this process and on the cluster."""
    path = tmp_path / "four.py"
    path.write_text(HEADS[name] + PROGRAM.replace("MODE", repr(mode)))
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.splitlines()[-1:] == ["ALL FOUR"], done.stdout + done.stderr
    assert "Traceback" not in done.stderr
