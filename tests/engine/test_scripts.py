"""Plain scripts on the embedded cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

UNGUARDED = """
import asyncio
import flyte_nb as flyte
env = flyte.TaskEnvironment("unguarded")
print("TOP LEVEL", flush=True)

class Thing:
    def __init__(self, x):
        self.x = x

@env.task
async def child(x: int, thing: Thing) -> Thing:
    return Thing(thing.x + x)

@env.task
async def parent(n: int) -> int:
    return sum(thing.x for thing in await asyncio.gather(*(child(i, Thing(i)) for i in range(n))))

print("RESULT", flyte.run(parent, 10).outputs()[0])
"""


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    """``if __name__ == "__main__"`` is not needed: no worker executes the script again."""
    path = tmp_path / "script.py"
    path.write_text(UNGUARDED)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.splitlines() == ["TOP LEVEL", "RESULT 90"], done.stdout + done.stderr
